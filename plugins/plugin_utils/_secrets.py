# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Removal of secrets from everything that leaves an action: results, errors, progress. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Spec

#: The text with which Ansible replaces a secret.
REPLACEMENT: t.Final = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"

#: A shorter secret occurs in words of a result by chance, and its removal would garble the result.
MINIMUM_LENGTH: t.Final = 16


def check_lengths(spec: Spec, params: t.Any) -> None:
    """Reject a secret that is too short to be removed from results. Raises UtrustError (`secret_too_short`)."""
    if any(len(secret.strip()) < MINIMUM_LENGTH for secret in secret_values(spec, params)):
        raise UtrustError(
            f"bearer_token: the token has fewer than {MINIMUM_LENGTH} characters, so it cannot be removed from results. Nothing was sent. Set a longer token",
            code="secret_too_short",
        )


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


def without_secrets(value: t.Any, secrets: t.Sequence[str]) -> t.Any:
    """Return the value with every secret replaced, also in names of members."""
    if not secrets:
        return value
    if isinstance(value, str):
        for secret in sorted(secrets, key=len, reverse=True):
            value = value.replace(secret, REPLACEMENT) if secret in value else value
        return value
    if isinstance(value, t.Mapping):
        return {without_secrets(name, secrets): without_secrets(item, secrets) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_secrets(item, secrets) for item in value]
    return value


def _texts(value: t.Any) -> list[str]:
    """Return the text of a secret as written and without the blanks around it: messages can quote both."""
    if isinstance(value, t.Mapping):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in _texts(item)]
    stripped = str(value).strip() if value is not None else ""
    return list({str(value), stripped}) if stripped else []
