# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps that people do at Webconf, and their confirmations. Private to keyops.utrust.

A step is data: an operation states the step, and an implementation of `People` shows it and waits. What people type is foreign text.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._limits import (
    MAX_NAME,
    MAX_PACKAGE_BYTES,
    MAX_PEOPLE_TIME,
    MAX_TEXT,
    MAX_TIMEOUT,
)
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable

PACKAGE_DOWNLOADED: t.Final = "package_downloaded"
PACKAGE_UPLOADED: t.Final = "package_uploaded"
HSM_RESTORED: t.Final = "hsm_restored"
PACKAGE_DESTROYED: t.Final = "package_destroyed"
STEP_IDS: t.Final = (PACKAGE_DOWNLOADED, PACKAGE_UPLOADED, HSM_RESTORED, PACKAGE_DESTROYED)
#: Option of the operations that people take part in. docs: fragment _people.
PEOPLE_SPEC: t.Final[dict[str, t.Any]] = {
    "confirmations": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "node": {"type": "str", "required": True},
            "step": {"type": "str", "required": True, "choices": list(STEP_IDS)},
            "confirmed_by": {"type": "str", "required": True},
            "sha256": {"type": "str"},
            "size": {"type": "str"},
            "hsm_serial": {"type": "str"},
        },
    },
    "people_timeout": {"type": "float", "default": MAX_PEOPLE_TIME},
}
#: Names that each confirmation has, besides the fields of its step.
COMMON_FIELDS: t.Final = ("node", "step", "confirmed_by")
#: What a field means, for people.
FIELDS: t.Final[dict[str, str]] = {
    "sha256": "SHA-256 of the package, 64 hexadecimal digits",
    "size": "size of the package in bytes",
    "hsm_serial": "serial number of the HSM on the front display",
}


class Step(t.NamedTuple):
    """One step of people at one node. `fields` are the values that people give.

    `expected` has the values that are known before. Another value raises UtrustError (`confirmation_mismatch`).
    """

    id: str
    node: str
    lines: tuple[str, ...]
    fields: tuple[str, ...]
    expected: t.Mapping[str, str] = {}


class Confirmation(t.NamedTuple):
    """Who did a step, and the values that this person gave: `sha256` with its prefix, `size` as decimal digits."""

    confirmed_by: str
    values: t.Mapping[str, str]


class People(t.Protocol):
    """People who do a step at Webconf."""

    def confirm(self, step: Step, timeout: float) -> Confirmation:
        """Show the step, and return its confirmation. `timeout` is in seconds.

        Raises UtrustError (`confirmation_missing`, `confirmation_invalid`, `confirmation_mismatch`, `confirmation_timeout`, `confirmation_refused`).
        """


def people_timeout(params: t.Mapping[str, t.Any]) -> float:
    """Return the seconds that one step of people may take. Raises UtrustError (`option_invalid`)."""
    seconds = params.get("people_timeout")
    seconds = MAX_PEOPLE_TIME if seconds is None else float(seconds)
    if not 0 < seconds <= MAX_TIMEOUT:
        raise UtrustError(
            f"people_timeout: {seconds:g} is invalid. Nothing was done. Set more than 0 and at most {MAX_TIMEOUT:g} seconds",
            code="option_invalid",
        )
    return seconds


def make_confirmation(step: Step, given: t.Mapping[str, t.Any]) -> Confirmation:
    """Return the confirmation of a step, with escaped text. Raises UtrustError (`confirmation_invalid`, `confirmation_mismatch`)."""
    unknown = sorted(str(name) for name in given if name not in (*COMMON_FIELDS, *FIELDS))
    if unknown:
        raise _invalid(step, f"{', '.join(map(_shown, unknown))} is unknown")
    confirmed_by = parse_field(step, "confirmed_by", given.get("confirmed_by"))
    values = {name: parse_field(step, name, given.get(name)) for name in step.fields}
    return Confirmation(confirmed_by, values)


def parse_field(step: Step, name: str, given: t.Any) -> str:
    """Return one value of a confirmation in its normal form. Raises UtrustError (`confirmation_invalid`, `confirmation_mismatch`)."""
    text = "" if given is None or isinstance(given, bool) else str(given).strip()
    if not text:
        raise _invalid(step, f"{name} is missing")
    value = _NORMALIZE[name](text)
    if value is None:
        raise _invalid(step, f"{name} is {_shown(text)}, and must be the {FIELDS.get(name, 'name of a person')}")
    expected = step.expected.get(name)
    if expected is not None and value != _NORMALIZE[name](expected):
        raise UtrustError(
            f"confirmation of step {step.id} on {step.node}: {name} is {value}, but {expected} was expected. "
            "Nothing else was done. Do not go on with this file or this HSM. Find out where the other value comes from",
            code="confirmation_mismatch",
            step=step.id,
            node=step.node,
        )
    return value


def example(step: Step) -> dict[str, str]:
    """Return the confirmation that people give for a step, with a placeholder for each value."""
    return {
        "node": step.node,
        "step": step.id,
        "confirmed_by": "NAME",
        **{name: name.upper() for name in step.fields},
    }


def _invalid(step: Step, reason: str) -> UtrustError:
    return UtrustError(
        f"confirmation of step {step.id} on {step.node}: {reason}. Correct the confirmation",
        code="confirmation_invalid",
        step=step.id,
        node=step.node,
    )


def _shown(text: str) -> str:
    shown = escape_unprintable(text[:MAX_NAME])
    return repr(shown + "...") if len(text) > MAX_NAME else repr(shown)


def _digest(text: str) -> str | None:
    found = re.fullmatch(r"(?:sha256:)?([0-9a-f]{64})", text.casefold())
    return f"sha256:{found[1]}" if found else None


def _size(text: str) -> str | None:
    valid = re.fullmatch(r"[0-9]{1,16}", text) is not None and 0 < int(text) <= MAX_PACKAGE_BYTES
    return str(int(text)) if valid else None


def _serial(text: str) -> str | None:
    return escape_unprintable(text) if len(text) <= MAX_NAME else None


def _person(text: str) -> str | None:
    return escape_unprintable(text) if len(text) <= MAX_TEXT else None


_NORMALIZE: t.Final[dict[str, t.Callable[[str], str | None]]] = {
    "sha256": _digest,
    "size": _size,
    "hsm_serial": _serial,
    "confirmed_by": _person,
}
