# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read one member of a JSON document: its type, its length, its pattern. Private to keyops.utrust.

Every function raises ApiError (`response_invalid`) that names the member. The message shows an invalid value shortened and escaped.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError
from ansible_collections.keyops.utrust.plugins.module_utils._printable import unescape_printable

T = t.TypeVar("T")
REQUIRED: t.Final[t.Any] = object()

#: Patterns of appliance API v1.
NAME: t.Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9 ._-]{0,62}[A-Za-z0-9._-])?")
OBJECT_ID: t.Final = re.compile(r"[0-9a-f]{32}")
IDEMPOTENCY_KEY: t.Final = re.compile(r"[A-Za-z0-9_-]{16,64}")
DIGEST: t.Final = re.compile(r"sha256:[0-9a-f]{64}")
FINGERPRINT: t.Final = re.compile(r"sha256:[0-9a-f]{64}|kcv:[0-9a-f]{6}|unknown")
KEY_TYPE: t.Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}")
CURVE: t.Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
CKA_ID: t.Final = re.compile(r"([0-9a-f]{2}){0,64}")
CHECK_VALUE: t.Final = re.compile(r"[0-9a-f]{16,64}")
CURSOR: t.Final = re.compile(r"[A-Za-z0-9_.~=-]{1,200}")
API_VERSION: t.Final = re.compile(r"\d{1,4}\.\d{1,4}", re.ASCII)
TIME: t.Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([.]\d{1,9})?(Z|[+]00:00)", re.ASCII)
#: A value of an enumeration. A later minor version may add values, and a value that is not known never equals a known one.
WORD: t.Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
CAPABILITY: t.Final = re.compile(r"[a-z0-9_]{1,32}")


def invalid(name: str, reason: str) -> ApiError:
    return ApiError(f"reading a response: {name!r} {reason}", code="response_invalid")


def _shown(value: t.Any) -> str:
    return ascii(value)[:80]


def get_field(document: t.Any, name: str, kind: type[T] | tuple[type, ...], default: t.Any = REQUIRED) -> T:
    if not isinstance(document, dict):
        raise ApiError(
            f"reading a response: expected an object with {name!r}, got {type(document).__name__}",
            code="response_invalid",
        )
    value = document.get(name, default)
    if value is REQUIRED:
        raise invalid(name, "is missing")
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if value is not default and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
        raise invalid(name, f"is {_shown(value)}, which has the wrong type")
    return t.cast(T, value)


def get_str(document: t.Any, name: str, limit: int = limits.MAX_TEXT, *, least: int = 0) -> str:
    value = get_field(document, name, str)
    length = len(unescape_printable(value))
    if not least <= length <= limit:
        raise invalid(name, f"has {length} characters, expected {least} to {limit}")
    return value


def get_optional_str(document: t.Any, name: str, limit: int = limits.MAX_TEXT, *, least: int = 0) -> str | None:
    value: str | None = get_field(document, name, (str, type(None)))
    return get_str(document, name, limit, least=least) if value is not None else None


def get_match(document: t.Any, name: str, pattern: re.Pattern[str]) -> str:
    value = get_field(document, name, str)
    if not pattern.fullmatch(value):
        raise invalid(name, f"is {_shown(value)}, which does not follow the contract")
    return value


def get_optional_match(document: t.Any, name: str, pattern: re.Pattern[str], default: t.Any = REQUIRED) -> str | None:
    value: str | None = get_field(document, name, (str, type(None)), default)
    return get_match(document, name, pattern) if value is not None else None


def get_int(document: t.Any, name: str, limit: int = limits.MAX_NUMBER, *, least: int = 0) -> int:
    value: int = get_field(document, name, int)
    if not least <= value <= limit:
        raise invalid(name, f"is {value}, expected a number from {least} to {limit}")
    return value


def get_optional_int(
    document: t.Any, name: str, limit: int = limits.MAX_NUMBER, *, least: int = 0, default: t.Any = REQUIRED
) -> int | None:
    value: int | None = get_field(document, name, (int, type(None)), default)
    return get_int(document, name, limit, least=least) if value is not None else None


def get_bool(document: t.Any, name: str) -> bool:
    return get_field(document, name, bool)


def get_optional_bool(document: t.Any, name: str) -> bool | None:
    return get_bool(document, name) if get_field(document, name, (bool, type(None))) is not None else None


def get_object(document: t.Any, name: str) -> dict[str, t.Any]:
    return get_field(document, name, dict)


def get_optional_object(document: t.Any, name: str, default: t.Any = REQUIRED) -> dict[str, t.Any] | None:
    return get_field(document, name, (dict, type(None)), default)


def get_list(document: t.Any, name: str, limit: int) -> list[t.Any]:
    value: list[t.Any] = get_field(document, name, list)
    if len(value) > limit:
        raise invalid(name, f"has {len(value)} entries, at most {limit} are accepted")
    return value
