# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Defaults of a run that changes keys, and values that are weaker than these defaults: pure functions. Private to keyops.utrust.

The defaults depend only on the transports of the nodes of the run. Where nobody can list all keys of an HSM, the defaults are strict.
A weaker value then needs a reason, and is recorded.
"""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.transports import INCOMPLETE_TRANSPORTS
from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem, UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_LONG_TEXT
from ansible_collections.keyops.utrust.plugins.module_utils._printable import make_printable

#: Values of options that are not set, for transports that list all keys.
USUAL: t.Final[dict[str, t.Any]] = {
    "approvals_required": 0,
    "audit": "optional",
    "batch_size": None,
    "settle_time": 0.0,
    "max_backup_hours": None,
    "health_check": False,
    "ejbca_view": False,
}
#: The same for a run with a node whose keys cannot all be listed.
STRICT: t.Final[dict[str, t.Any]] = {
    "approvals_required": 2,
    "audit": "required",
    "batch_size": 1,
    "settle_time": 60.0,
    "max_backup_hours": 24.0,
    "health_check": True,
    "ejbca_view": True,
}
#: Options whose strict default is a minimum, and options whose strict default is a maximum.
_MINIMA: t.Final = ("approvals_required", "settle_time")
_MAXIMA: t.Final = ("batch_size", "max_backup_hours")
#: The reference is a variable of the run and not an option, so nothing but a missing reference is weaker.
CHANGE_REFERENCE: t.Final = "change_reference"
#: The commissioning record names the canary key. A reason allows other keys before this key was synchronized.
CANARY_KEY: t.Final = "canary_key"
#: Names that a reason can have.
REASONS: t.Final = frozenset({*STRICT, CHANGE_REFERENCE, CANARY_KEY})


class WeakerValue(t.NamedTuple):
    """An option that is weaker than its strict default, and the reason of the operator. `value` None means that the value is not set."""

    option: str
    value: t.Any
    default: t.Any
    reason: str

    @property
    def line(self) -> str:
        """The value as a line for people."""
        shown = "not set" if self.value is None else str(self.value).lower()
        return f"weaker_value: {self.option} is {shown} instead of {str(self.default).lower()}. Reason: {self.reason}"


class Defaults(t.NamedTuple):
    """`options` are the options of a run with their defaults. `weaker` are the values that a reason allows, `problems` those without a reason."""

    strict: bool
    options: dict[str, t.Any]
    weaker: tuple[WeakerValue, ...]
    problems: tuple[Problem, ...]


def is_strict(transports: t.Iterable[str]) -> bool:
    """Whether any node of the run has a transport that does not list all keys."""
    return not INCOMPLETE_TRANSPORTS.isdisjoint(transports)


def with_defaults(
    given: t.Mapping[str, t.Any],
    transports: t.Iterable[str],
    *,
    change_reference: str | None,
    reasons: t.Mapping[str, t.Any],
    prefix: str,
) -> Defaults:
    """Complete the options of a run. `given` has the options of STRICT that the role knows, with None for an option that is not set.

    `reasons` are the reasons of the operator by option, and `prefix` is the prefix of the options of the role.
    Raises UtrustError (`option_invalid`) for a reason without text, or for an unknown option.
    """
    known = {*given, CHANGE_REFERENCE, CANARY_KEY}
    _check_reasons(reasons, prefix)
    strict = is_strict(transports)
    defaults = STRICT if strict else USUAL
    options = {name: defaults[name] if value is None else value for name, value in given.items()}
    if not strict:
        return Defaults(strict, options, (), ())
    values: dict[str, t.Any] = {
        **options,
        CHANGE_REFERENCE: change_reference,
        CANARY_KEY: "any key" if CANARY_KEY in reasons else _default(CANARY_KEY),
    }
    weak = [name for name in sorted(known) if _is_weaker(name, values[name])]
    weaker = tuple(
        WeakerValue(name, values[name], _default(name), make_printable(str(reasons[name]).strip())[:MAX_LONG_TEXT])
        for name in weak
        if name in reasons
    )
    return Defaults(
        strict, options, weaker, tuple(_refusal(name, values[name], prefix) for name in weak if name not in reasons)
    )


def _check_reasons(reasons: t.Mapping[str, t.Any], prefix: str) -> None:
    for name, reason in reasons.items():
        if name not in REASONS:
            raise UtrustError(
                f"{prefix}reasons: {name!s:.80} is not an option that needs a reason. Nothing was done. Name one of {', '.join(sorted(REASONS))}",
                code="option_invalid",
            )
        if reason is None or not str(reason).strip():
            raise UtrustError(
                f"{prefix}reasons: the reason for {name} is blank. Nothing was done. State the reason",
                code="option_invalid",
            )


def _is_weaker(name: str, value: t.Any) -> bool:
    if name == CHANGE_REFERENCE:
        return not value
    if name == CANARY_KEY:
        return bool(value != _default(name))
    if name in _MINIMA:
        return bool(value < STRICT[name])
    if name in _MAXIMA:
        return bool(value > STRICT[name])
    return bool(value != STRICT[name])


def _default(name: str) -> t.Any:
    return {CHANGE_REFERENCE: "required", CANARY_KEY: "first", **STRICT}[name]


def _refusal(name: str, value: t.Any, prefix: str) -> Problem:
    how = f"or state why in {prefix}reasons: {{{name}: REASON}}"
    if name == CHANGE_REFERENCE:
        text = "the nodes of this run do not list all keys, so the run requires a change reference, but utrust_change_reference is not set"
        return Problem("change_reference_missing", "options", text, f"set utrust_change_reference, {how}")
    text = f"{prefix}{name} is {str(value).lower()}, which is weaker than {str(STRICT[name]).lower()}, and no reason is stated"
    return Problem("reason_missing", "options", text, f"set {prefix}{name} to {str(STRICT[name]).lower()}, {how}")
