# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decode JSON of a server. Private to keyops.utrust.

`json.loads` accepts more than JSON, and raises errors that are not a ValueError. This decoder accepts only JSON with one meaning.
"""

from __future__ import annotations

import itertools
import json
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits


def decode(body: bytes) -> t.Any:
    """Return the document. Raises ValueError with the reason, and no other error.

    Rejects other encodings than UTF-8, duplicate members, numbers that Python cannot hold, lone surrogates, deep nesting, and too many values.
    """
    # Counted in the bytes, because every array and object of the document costs much more memory than its text.
    if body.count(b",") > limits.MAX_JSON_COMMAS:
        raise ValueError(f"it has more than {limits.MAX_JSON_COMMAS} commas")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise ValueError(f"byte {exc.start} is not UTF-8") from exc
    try:
        document = _DECODER.decode(text)
    except RecursionError:
        # Without the context, because its traceback is as deep as the document.
        raise ValueError(_TOO_DEEP) from None
    _check(document)
    return document


_TOO_DEEP: t.Final = f"arrays and objects are nested more than {limits.MAX_JSON_DEPTH} times"


def _parse_int(digits: str) -> int:
    _check_digits(digits)
    return int(digits)


def _parse_float(digits: str) -> float:
    _check_digits(digits)
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {digits} is too large")
    return value


def _check_digits(digits: str) -> None:
    if len(digits) > limits.MAX_NUMBER_DIGITS:
        raise ValueError(f"a number has more than {limits.MAX_NUMBER_DIGITS} digits")


def _parse_constant(name: str) -> t.NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _make_object(members: list[tuple[str, t.Any]]) -> dict[str, t.Any]:
    made = dict(members)
    if len(made) != len(members):
        seen: set[str] = set()
        for name, dummy in members:
            if name in seen:
                raise ValueError(f"the member {name[:40]!a} occurs more than once")
            seen.add(name)
    return made


_DECODER: t.Final = json.JSONDecoder(
    object_pairs_hook=_make_object, parse_int=_parse_int, parse_float=_parse_float, parse_constant=_parse_constant
)


def _check(document: t.Any) -> None:
    """Raise ValueError for nesting that is too deep, and for text that cannot be encoded."""
    level: list[t.Any] = [document]
    for depth in itertools.count():
        containers = [value for value in level if isinstance(value, (dict, list))]
        if depth >= limits.MAX_JSON_DEPTH and containers:
            raise ValueError(_TOO_DEEP)
        for value in level:
            if isinstance(value, str) and not value.isascii():
                _check_text(value)
        if not containers:
            return
        level = []
        for value in containers:
            level += [*value.keys(), *value.values()] if isinstance(value, dict) else value


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise ValueError(f"the text {text[:40]!a} has half of a surrogate pair") from exc
