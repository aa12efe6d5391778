# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a cluster is still as its commissioning record says."""

from __future__ import annotations

import copy
import datetime
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.plugin_utils._canonical import leaves
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.check import check_commissioning
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.record import make_record
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tests.support.commissioning import MADE_AT, content, facts_of, maker, public_pem, record

NOW = datetime.datetime.fromisoformat(MADE_AT) + datetime.timedelta(hours=1)
FACTS = facts_of("node1")
PATHS = sorted(leaves(FACTS))
#: Signing is slow, so the record is made once.
RECORD = record()


def codes(document: t.Any, nodes: t.Any = None, *, key: str | None = None, now: datetime.datetime = NOW) -> list[str]:
    return [problem.code for problem in check_commissioning(document, key or public_pem(), nodes or {}, now)]


def changed(facts: dict[str, t.Any], path: tuple[str, ...], value: t.Any) -> dict[str, t.Any]:
    copied = copy.deepcopy(facts)
    inner = copied
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return copied


def test_record_of_an_unchanged_cluster_is_no_problem() -> None:
    nodes = {name: facts_of(name) for name in ("node1", "node2")}
    assert codes(RECORD, nodes) == []


@given(path=st.sampled_from(PATHS), value=st.one_of(st.none(), st.text(min_size=1), st.integers(0, 65535)))
def test_each_single_change_is_stale_and_named(path: tuple[str, ...], value: t.Any) -> None:
    """A fact that changes, that becomes unknown or that becomes known is one problem with the path of the fact."""
    now = changed(FACTS, path, value)
    problems = check_commissioning(RECORD, public_pem(), {"node1": now, "node2": facts_of("node2")}, NOW)
    if now == FACTS:
        assert problems == []
        return
    (problem,) = problems
    assert (problem.code, problem.node) == ("commissioning_stale", "node1")
    assert problem.text.startswith(".".join(path) + " was ")
    assert problem.text.isprintable()


@given(paths=st.sets(st.sampled_from(PATHS), min_size=1, max_size=6))
def test_several_changes_are_one_problem_each(paths: set[tuple[str, ...]]) -> None:
    now = FACTS
    for path in paths:
        now = changed(now, path, "another value")
    problems = check_commissioning(RECORD, public_pem(), {"node1": now}, NOW)
    assert {problem.text.partition(" was ")[0] for problem in problems} == {".".join(path) for path in paths}


def test_node_that_is_not_in_the_record_is_stale() -> None:
    (problem,) = check_commissioning(RECORD, public_pem(), {"node9": facts_of("node9")}, NOW)
    assert (problem.code, problem.node) == ("commissioning_stale", "node9")
    assert "node9 is not in the record" in problem.text


def test_node_that_the_run_does_not_have_is_not_compared() -> None:
    assert codes(RECORD, {"node2": facts_of("node2")}) == []


def test_fact_that_the_caller_omits_is_not_compared() -> None:
    facts = {name: fact for name, fact in FACTS.items() if name != "mbk_check_value"}
    assert codes(RECORD, {"node1": facts}) == []


def test_ejbca_that_is_not_set_any_more_is_stale() -> None:
    assert set(codes(RECORD, {"node1": {**FACTS, "ejbca": None}})) == {"commissioning_stale"}


@given(
    name=st.sampled_from(["made_by", "account", "made_at", "public_key_sha256", "declared_by", "canary_key", "steps"])
)
def test_edited_record_is_invalid(name: str) -> None:
    assert codes({**RECORD, name: "edited"}) == ["commissioning_invalid"]


def test_edited_record_with_a_new_digest_has_no_signature() -> None:
    forged = make_record(content(declared_by="Mallory"), maker())
    assert codes({**forged, "signature": RECORD["signature"]}) == ["commissioning_signature_invalid"]


@pytest.mark.parametrize("signature", ["", "!", "AAAA", "é"])
def test_signature_of_another_form_is_invalid(signature: str) -> None:
    assert codes({**RECORD, "signature": signature}) == ["commissioning_signature_invalid"]


@pytest.mark.parametrize(
    "key", [public_pem(Ed25519PrivateKey.generate()), "not a key", ""], ids=["other", "text", "empty"]
)
def test_record_of_another_key_is_not_accepted(key: str) -> None:
    (problem,) = check_commissioning(RECORD, key or " ", {}, NOW)
    assert problem.code == "commissioning_signature_invalid"


@pytest.mark.parametrize("made_at", ["2026-11-26T13:00:00+00:00", "2026-11-26T11:00:00", "yesterday"])
def test_record_of_the_future_or_without_a_time_is_invalid(made_at: str) -> None:
    assert codes(make_record(content(), maker(made_at=made_at))) == ["commissioning_invalid"]
