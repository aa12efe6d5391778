# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Removal of secrets from everything that leaves a task: results, errors, progress. Private to keyops.utrust."""

from __future__ import annotations

import base64
import json
import re
import typing as t
import urllib.parse

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable, make_printable

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Spec

#: The text with which Ansible replaces a secret.
REPLACEMENT: t.Final = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"

#: A shorter secret occurs in words of a result by chance, and its removal would garble the result.
MINIMUM_LENGTH: t.Final = 16


def check_lengths(spec: Spec, params: t.Any) -> None:
    """Reject a secret that is too short to be removed from results. Raises UtrustError (`secret_too_short`)."""
    for secret in secret_values(spec, params):
        check_length(secret, "bearer_token")


def check_length(secret: str, option: str) -> None:
    """Reject a secret that is too short to be removed from results. Raises UtrustError (`secret_too_short`)."""
    if len(secret.strip()) < MINIMUM_LENGTH:
        raise UtrustError(
            f"{option}: the token has fewer than {MINIMUM_LENGTH} characters, so it cannot be removed from results. Nothing was sent. Set a longer token",
            code="secret_too_short",
        )


def is_header_token(token: str) -> bool:
    """Whether the header of a request can carry the token."""
    return re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", token) is not None


def secret_values(spec: Spec, params: t.Any) -> list[str]:
    """Return the texts of all options that state `no_log`, at any depth. The parameters can be those of an invalid task."""
    if not isinstance(params, t.Mapping):
        return []
    found: list[str] = []
    for name, option in spec.items():
        value = params.get(name)
        if option.get("no_log"):
            found += _texts(value)
        for item in value if isinstance(value, list) else [value]:
            found += secret_values(option.get("options") or {}, item)
    return found


def cleaned(leaving: t.Any, secrets: t.Sequence[str]) -> t.Any:
    """Return a result or a line of progress without secrets, and printable. All that leaves a task passes here."""
    return make_printable(without_secrets(leaving, secrets))


def without_secrets(value: t.Any, secrets: t.Sequence[str]) -> t.Any:
    """Return the value with every secret replaced in each of its spellings, also in names of members."""
    if not secrets:
        return value
    spellings = {spelling for secret in secrets for spelling in _spellings(secret)}
    return _replace(value, re.compile("|".join(map(re.escape, sorted(spellings, key=len, reverse=True)))))


def _replace(value: t.Any, secret: re.Pattern[str]) -> t.Any:
    if isinstance(value, str):
        return secret.sub(REPLACEMENT, value) if secret.search(value) else value
    if isinstance(value, t.Mapping):
        return {_replace(name, secret): _replace(item, secret) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replace(item, secret) for item in value]
    return value


def _spellings(secret: str) -> t.Iterator[str]:
    """Yield the forms in which an exception or a server can quote a secret: escaped, percent-encoded, in Base64, in hexadecimal."""
    content = secret.encode("utf-8", "surrogatepass")
    yield from (secret, content.decode("latin-1"), content.hex(), content.hex().upper())
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
    yield from (repr(secret)[1:-1], ascii(secret)[1:-1], repr(content)[2:-1], escape_unprintable(secret))
    for safe in ("", "/"):
        quoted = urllib.parse.quote(content, safe=safe)
        yield from (quoted, quoted.replace("%20", "+"), re.sub("%..", lambda code: code[0].lower(), quoted))
    for shift in range(3):  # Other bytes before the secret shift its Base64, and share characters at its ends.
        first, last = (0, 2, 3)[shift], -1 if (shift + len(content)) % 3 else None
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(bytes(shift) + content).decode("ascii").rstrip("=")[first:last]


def _texts(value: t.Any) -> list[str]:
    """Return the text of a secret as written, without the blanks around it, and each of its lines: messages can quote all of them."""
    if isinstance(value, t.Mapping):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in _texts(item)]
    stripped = str(value).strip() if value is not None else ""
    lines = {line for line in stripped.splitlines() if len(line) >= MINIMUM_LENGTH}
    return list({str(value), stripped, *lines}) if stripped else []
