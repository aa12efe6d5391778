# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Defaults that depend on the transports of a run, and weaker values."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.defaults import (
    CANARY_KEY,
    CHANGE_REFERENCE,
    REASONS,
    STRICT,
    USUAL,
    Defaults,
    is_strict,
    with_defaults,
)
from hypothesis import given
from hypothesis import strategies as st

WEAKER: t.Final[dict[str, t.Any]] = {
    "approvals_required": 1,
    "audit": "optional",
    "batch_size": 2,
    "settle_time": 59.0,
    "max_backup_hours": 25.0,
    "health_check": False,
    "ejbca_view": False,
}
STRONGER: t.Final[dict[str, t.Any]] = {"approvals_required": 3, "settle_time": 61.0, "max_backup_hours": 1.0}
UNSET: t.Final[dict[str, t.Any]] = dict.fromkeys(STRICT)
transports = st.sets(st.sampled_from(["rest", "assisted", "webconf"]), min_size=1)
options = st.fixed_dictionaries(
    {name: st.sampled_from([None, WEAKER[name], STRICT[name], STRONGER.get(name, STRICT[name])]) for name in STRICT}
)
reasons = st.dictionaries(st.sampled_from(sorted(REASONS)), st.just("because"))


def defaults(
    transport: str = "assisted", *, reference: str | None = "CHG-1", why: t.Any = None, **values: t.Any
) -> Defaults:
    given_options = {**UNSET, **values}
    return with_defaults(
        given_options, ["rest", transport], change_reference=reference, reasons=why or {}, prefix="key_sync_"
    )


def test_one_node_makes_the_defaults_strict() -> None:
    assert defaults("assisted").options == STRICT
    assert defaults("webconf").options == STRICT
    assert defaults("rest", reference=None) == Defaults(False, USUAL, (), ())
    assert is_strict(["rest", "webconf"])
    assert not is_strict(["rest"])


@pytest.mark.parametrize(("name", "value"), WEAKER.items())
def test_weaker_value_needs_a_reason(name: str, value: t.Any) -> None:
    [problem] = defaults(**{name: value}).problems
    assert problem.code == "reason_missing"
    assert f"key_sync_{name} is {str(value).lower()}, which is weaker" in problem.text
    found = defaults(why={name: " we tried it\n"}, **{name: value})
    assert found.problems == ()
    assert [(each.option, each.value, each.default, each.reason) for each in found.weaker] == [
        (name, value, STRICT[name], "we tried it")
    ]
    assert found.options[name] == value
    assert found.weaker[0].line.startswith(f"weaker_value: {name} is {str(value).lower()} instead of ")


@pytest.mark.parametrize(("name", "value"), STRONGER.items())
def test_stronger_value_needs_no_reason(name: str, value: t.Any) -> None:
    found = defaults(**{name: value})
    assert (found.options[name], found.weaker, found.problems) == (value, (), ())


def test_missing_change_reference_needs_a_reason() -> None:
    assert [problem.code for problem in defaults(reference=None).problems] == ["change_reference_missing"]
    found = defaults(reference=None, why={CHANGE_REFERENCE: "a test"})
    assert (found.problems, [each.option for each in found.weaker]) == ((), [CHANGE_REFERENCE])
    assert "change_reference is not set instead of required. Reason: a test" in found.weaker[0].line


@pytest.mark.parametrize("why", [{"settel_time": "x"}, {"settle_time": " "}, {"settle_time": None}, {"": "x"}])
@pytest.mark.parametrize("transport", ["rest", "assisted"])
def test_invalid_reason_is_refused(why: dict[str, t.Any], transport: str) -> None:
    with pytest.raises(UtrustError) as caught:
        defaults(transport, why=why)
    assert caught.value.code == "option_invalid"


@given(transports, options, reasons, st.sampled_from([None, "CHG-1"]))
def test_only_transports_decide_the_defaults(
    kinds: set[str], values: dict[str, t.Any], why: dict[str, str], reference: str | None
) -> None:
    """No option makes the defaults usual, every weaker value is refused or recorded, and nothing else is."""
    found = with_defaults(values, kinds, change_reference=reference, reasons=why, prefix="p_")
    assert found.strict == (kinds != {"rest"})
    base = STRICT if found.strict else USUAL
    assert found.options == {name: base[name] if value is None else value for name, value in values.items()}
    if not found.strict:
        assert (found.weaker, found.problems) == ((), ())
        return
    weak = {name for name, value in values.items() if value is not None and value == WEAKER[name]}
    weak |= {CHANGE_REFERENCE} if reference is None else set()
    weak |= {CANARY_KEY} & set(why)
    assert {each.option for each in found.weaker} == weak & set(why)
    assert len(found.problems) == len(weak - set(why))
