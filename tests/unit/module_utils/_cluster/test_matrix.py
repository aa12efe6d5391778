# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Key matrix: properties for all combinations of keys, and the table for people."""

from __future__ import annotations

import dataclasses as dc
import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.keyops.utrust.plugins.filter.key_matrix import key_matrix as filter_key_matrix
from ansible_collections.keyops.utrust.plugins.filter.select_keys import select_keys
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.matrix import NodeKeys, key_matrix
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._keys import compare, keys_digest
from ansible_collections.keyops.utrust.plugins.plugin_utils._report import select as _selection
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.table import MANY_NODES, format_table
from hypothesis import given
from hypothesis import strategies as st

from tests.support.factories import fingerprint, key, node

if t.TYPE_CHECKING:
    import random

# Few values, so that equal slots, labels, ids and fingerprints are frequent.
KEYS = st.builds(
    HsmKey,
    slot=st.integers(0, 1),
    label=st.sampled_from(["a", "b"]),
    id=st.sampled_from(["01", "02"]),
    type=st.just("ec"),
    size=st.just(256),
    curve=st.just("P-256"),
    fingerprint=st.sampled_from([fingerprint("1"), fingerprint("2"), "kcv:3fa2b1"]),
    usable=st.booleans(),
)
KEY_LISTS = st.lists(KEYS, max_size=5)
SECRET = key("secret", type="aes", curve=None, fingerprint="kcv:3fa2b1")


def node_keys(listed: t.Iterable[HsmKey], *, read: bool = True) -> NodeKeys:
    """Return a node with these keys. Without `read` only its digest is known."""
    hsm_keys = tuple(listed)
    unusable = sum(not one.usable for one in hsm_keys)
    return NodeKeys(keys_digest(hsm_keys), len(hsm_keys), unusable, hsm_keys if read else None)


@st.composite
def clusters(draw: st.DrawFn) -> dict[str, list[HsmKey]]:
    """Return a source and other nodes, which often have the same keys."""
    source = draw(KEY_LISTS)
    others = draw(st.lists(st.one_of(st.just(source), KEY_LISTS), min_size=1, max_size=3))
    return {"source": source, **{f"node{number}": hsm_keys for number, hsm_keys in enumerate(others, 1)}}


def cells(matrix: dict[str, t.Any], name: str) -> dict[tuple[t.Any, ...], str]:
    return {
        tuple(value for field, value in row.items() if field != "nodes"): row["nodes"][name] for row in matrix["rows"]
    }


@given(KEY_LISTS, KEY_LISTS)
def test_swapping_source_and_target_swaps_missing_and_extra(ours: list[HsmKey], theirs: list[HsmKey]) -> None:
    nodes = {"a": node_keys(ours), "b": node_keys(theirs)}
    there, back = cells(key_matrix(nodes, "a"), "b"), cells(key_matrix(nodes, "b"), "a")
    assert there.keys() == back.keys()
    swapped = {"missing": "extra", "extra": "missing", "mismatched": "mismatched"}
    assert {identity: swapped[cell] for identity, cell in there.items() if cell in swapped} == {
        identity: cell for identity, cell in back.items() if cell in swapped
    }


@given(clusters(), st.randoms(use_true_random=False))
def test_order_of_nodes_and_keys_does_not_matter(keys_of: dict[str, list[HsmKey]], chance: random.Random) -> None:
    before = key_matrix({name: node_keys(hsm_keys) for name, hsm_keys in keys_of.items()}, "source")
    names = list(keys_of)
    chance.shuffle(names)
    after = key_matrix({name: node_keys(chance.sample(keys_of[name], len(keys_of[name]))) for name in names}, "source")
    for field in ("rows", "in_sync", "check_value_only"):
        assert before[field] == after[field]
    for field in ("drift", "unknown"):
        assert sorted(before[field], key=str) == sorted(after[field], key=str)
    assert sorted(before["in_sync_nodes"]) == sorted(after["in_sync_nodes"])


@given(clusters(), st.data())
def test_in_sync_means_same_usable_keys(keys_of: dict[str, list[HsmKey]], data: st.DataObject) -> None:
    """A node is in sync if and only if it has the keys of the source and can use them."""
    read = {name: name == "source" or data.draw(st.booleans()) for name in keys_of}
    matrix = key_matrix({name: node_keys(hsm_keys, read=read[name]) for name, hsm_keys in keys_of.items()}, "source")
    digest = keys_digest(keys_of["source"])
    good = [
        name
        for name, hsm_keys in keys_of.items()
        if keys_digest(hsm_keys) == digest and all(one.usable for one in hsm_keys)
    ]
    assert matrix["in_sync_nodes"] == good
    assert matrix["in_sync"] == (good == list(keys_of))
    # A node with unknown keys is unknown. A cell never shows a missing key as present.
    for name, hsm_keys in keys_of.items():
        assert {one["node"] for one in matrix["unknown"]} <= {name for name, known in read.items() if not known}
        present = [row for row in matrix["rows"] if row["nodes"][name] == "present"]
        assert {(row["slot"], row["label"], row["id"], row["fingerprint"]) for row in present} <= {
            (one.slot, one.label, one.id, one.fingerprint) for one in hsm_keys
        }


@given(clusters())
def test_digests_give_same_result_as_keys_or_unknown(
    keys_of: dict[str, list[HsmKey]],
) -> None:
    """A node without its keys gets the same cells as with its keys, or is unknown."""
    full = key_matrix({name: node_keys(hsm_keys) for name, hsm_keys in keys_of.items()}, "source")
    short = key_matrix(
        {name: node_keys(hsm_keys, read=name == "source") for name, hsm_keys in keys_of.items()}, "source"
    )
    unknown = {one["node"] for one in short["unknown"]}
    for name, hsm_keys in keys_of.items():
        needed = node_keys(hsm_keys).digest != full_digest(keys_of) or 0 < node_keys(hsm_keys).unusable_count < len(
            hsm_keys
        )
        assert (name in unknown) == (needed and name != "source")
        if name not in unknown:
            shared = cells(short, name)
            assert {identity: cells(full, name)[identity] for identity in shared} == shared
    assert not (short["in_sync"] and not full["in_sync"])


def full_digest(keys_of: dict[str, list[HsmKey]]) -> str:
    return keys_digest(keys_of["source"])


@given(clusters(), st.sets(st.sampled_from(["a", "b"]), min_size=1))
def test_predicate_hides_only_other_keys(keys_of: dict[str, list[HsmKey]], labels: set[str]) -> None:
    """A predicate removes rows, but never hides a difference of a selected key."""
    nodes = {name: node_keys(hsm_keys) for name, hsm_keys in keys_of.items()}
    everything = key_matrix(nodes, "source")
    predicate = key_matrix(nodes, "source", predicate=lambda one: one.label in labels)
    assert predicate["rows"] == [row for row in everything["rows"] if row["label"] in labels]
    for name, hsm_keys in keys_of.items():
        difference = compare(
            [one for one in keys_of["source"] if one.label in labels],
            [one for one in hsm_keys if one.label in labels],
        )
        assert (name in predicate["in_sync_nodes"]) == difference.in_sync


def test_extra_key_does_not_affect_other_nodes() -> None:
    matrix = key_matrix({"a": node_keys([key()]), "b": node_keys([key(), key("extra")]), "c": node_keys([key()])}, "a")
    assert [row["nodes"] for row in matrix["rows"]] == [
        {"a": "absent", "b": "extra", "c": "absent"},
        {"a": "present", "b": "present", "c": "present"},
    ]
    assert matrix["in_sync_nodes"] == ["a", "c"]


def test_mismatch_is_shown_in_both_rows() -> None:
    impostor = key(fingerprint=fingerprint("impostor"))
    matrix = key_matrix({"a": node_keys([key()]), "b": node_keys([impostor])}, "a")
    assert {row["fingerprint"]: row["nodes"] for row in matrix["rows"]} == {
        key().fingerprint: {"a": "present", "b": "mismatched"},
        impostor.fingerprint: {"a": "absent", "b": "mismatched"},
    }
    assert sorted(line.split()[-2:] for line in format_table(matrix)[1:3]) == [["-", "MISMATCH"], ["yes", "MISMATCH"]]


def test_source_with_unusable_key_is_not_in_sync() -> None:
    matrix = key_matrix({"a": node_keys([key(usable=False)]), "b": node_keys([key()])}, "a")
    assert not matrix["in_sync"]
    assert [one["node"] for one in matrix["drift"]] == ["a"]
    assert format_table(matrix)[-1] == "DRIFT: a itself: 1 unusable"


def test_secret_keys_are_marked_check_value_only() -> None:
    matrix = key_matrix({"a": node_keys([key(), SECRET]), "b": node_keys([key(), SECRET], read=False)}, "a")
    assert [row["check_value_only"] for row in matrix["rows"]] == [True, False]
    assert format_table(matrix)[-1] == ("in sync: a, b hold the same 2 key(s), 1 by check value only")


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (NodeKeys(), "was not read"),
        (node_keys([key("other")], read=False), "and the keys were not read"),
        (NodeKeys(node_keys([key()]).digest, 2, 1), "some keys are unusable"),
        (dc.replace(node_keys([key()]), hsm_keys=()), "changed while they were read"),
    ],
    ids=["unread", "differs", "partly unusable", "changed meanwhile"],
)
def test_unknown_node_is_never_in_sync(other: NodeKeys, reason: str) -> None:
    matrix = key_matrix({"a": node_keys([key()]), "b": other}, "a")
    assert not matrix["in_sync"]
    assert matrix["in_sync_nodes"] == ["a"]
    assert [row["nodes"]["b"] for row in matrix["rows"]] == ["unknown"]
    lines = format_table(matrix)
    assert lines[1].endswith("?")
    assert lines[-1].startswith("UNKNOWN: b: ")
    assert reason in lines[-1]


@pytest.mark.parametrize(
    "source", [NodeKeys(), node_keys([key()], read=False), dc.replace(node_keys([key()]), hsm_keys=())], ids=str
)
def test_unknown_source_raises(source: NodeKeys) -> None:
    with pytest.raises(UtrustError, match="source a") as caught:
        key_matrix({"a": source, "b": node_keys([key()])}, "a")
    assert caught.value.code == "source_unknown"


def test_equal_nodes_share_a_column_in_large_table() -> None:
    nodes = {f"node{number}": node_keys([key()]) for number in range(1, MANY_NODES + 2)} | {"late": node_keys([])}
    lines = format_table(key_matrix(nodes, "node1"))
    assert lines[0].endswith(f"node1 and {MANY_NODES} more  late")
    assert lines[1].split()[-2:] == ["yes", "MISSING"]
    few = {name: nodes[name] for name in ("node1", "node2", "late")}
    assert lines[0] != format_table(key_matrix(few, "node1"))[0]
    assert format_table(key_matrix(few, "node1"))[1].split()[-3:] == ["yes", "yes", "MISSING"]


def test_drift_table_omits_keys_of_all_nodes() -> None:
    nodes = {"a": node_keys([key(), key("new")]), "b": node_keys([key()])}
    assert [line.split()[1] for line in format_table(key_matrix(nodes, "a"), only_drift=True)[:-1]] == ["label", "new"]
    in_sync = key_matrix({"a": node_keys([key()]), "b": node_keys([key()])}, "a")
    assert format_table(in_sync, only_drift=True) == ["in sync: a, b hold the same 1 key(s)"]


def test_hostile_label_is_escaped_in_table() -> None:
    """A label cannot move the cursor or forge a line."""
    hostile = key("\x1b[2Jgone\nin sync: everything\u202e")
    (head, line, verdict) = format_table(key_matrix({"a": node_keys([hostile]), "b": node_keys([])}, "a"))
    assert r"\x1b[2Jgone\nin sync: everything\u202e" in line
    assert (head[:4], verdict[:6]) == ("slot", "DRIFT:")


# The filters


def info(*hsm_keys: HsmKey, read: bool = True) -> dict[str, t.Any]:
    """Return a result of utrust_hsm_info."""
    facts: dict[str, t.Any] = {"changed": False, "node": node(*hsm_keys, unusable_key_count=0).to_dict()}
    return facts | ({"hsm_keys": [one.to_dict() for one in hsm_keys]} if read else {})


def test_filter_accepts_results_lists_and_failures() -> None:
    """The input may be a module result, a list of keys, a failed result or null."""
    nodes = {
        "a": info(key()),
        "b": info(key(), read=False),
        "c": [key().to_dict()],
        "d": {"failed": True, "msg": "no response"},
        "e": None,
    }
    matrix = filter_key_matrix(nodes, source="a")
    assert (matrix["in_sync_nodes"], [one["node"] for one in matrix["unknown"]]) == (["a", "b", "c"], ["d", "e"])


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ({"b": info(key())}, "'a' is not among the nodes b"),
        (
            {"a": info(key(), read=False)},
            r"the keys were not read\. Read the keys of the source, then run again \[source_unknown\]",
        ),
        ({"a": [{"label": "no key"}]}, r"'slot' is missing \[response_invalid\]"),
        ({"a": info(key()), "b": {"node": {}}}, "'keys_digest' is missing"),
    ],
    ids=["no source", "source not read", "no key", "no node"],
)
def test_filter_names_error_of_its_input(nodes: dict[str, t.Any], message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        filter_key_matrix(nodes, source="a")


def test_filter_compares_selected_keys_only() -> None:
    nodes = {"a": info(key(), key("new")), "b": info(key())}
    assert filter_key_matrix(nodes, source="a", select="[?label=='signKey']")["in_sync"]
    narrowed = filter_key_matrix(nodes, source="a", select="[?label=='new']")
    assert ([row["label"] for row in narrowed["rows"]], narrowed["in_sync"]) == (["new"], False)


def test_filter_with_empty_selection_raises() -> None:
    with pytest.raises(AnsibleFilterError, match="no node holds a key that"):
        filter_key_matrix({"a": info(key()), "b": info(key())}, source="a", select="[?label=='signkey']")


@pytest.mark.parametrize(
    ("expression", "labels"),
    [
        ("[?slot==`0`]", ["signKey", "secret"]),
        ("[?check_value_only]", ["secret"]),
        ("[?type=='ec' && curve=='P-256']", ["signKey"]),
        ("[?starts_with(label, 'sign')]", ["signKey"]),
        ("sort_by(@, &label)[:1]", ["secret"]),
        ("[?slot==`7`]", []),
    ],
)
def test_select_keys_accepts_any_expression_for_keys(expression: str, labels: list[str]) -> None:
    class Tagged(str):
        """Ansible uses subclasses of str."""

    keys = [{**one.to_dict(), "label": Tagged(one.label), "type": Tagged(one.type)} for one in (key(), SECRET)]
    assert [one["label"] for one in select_keys(keys, Tagged(expression))] == labels


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("[?slot==", "is invalid"),
        ("[?starts_with(slot, 's')]", "is invalid"),
        ("[].label", "does not return a list of keys"),
        ("[0]", "does not return a list of keys"),
        ("label", "does not return a list of keys"),
        ("length(@)", "does not return a list of keys"),
    ],
)
def test_select_keys_rejects_other_expressions(expression: str, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        select_keys([key().to_dict()], expression)


def test_filter_without_jmespath_names_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_selection, "JMESPATH_MISSING", ImportError("No module named 'jmespath'"))
    with pytest.raises(AnsibleFilterError, match=r"select_keys: .*pip install 'jmespath>=1\.0\.1'"):
        select_keys([key().to_dict()], "[?check_value_only]")
    nodes = {"a": info(key())}
    with pytest.raises(AnsibleFilterError, match=r"key_matrix: .*pip install"):
        filter_key_matrix(nodes, source="a", select="[?check_value_only]")
    assert filter_key_matrix(nodes, source="a")["in_sync"], "without a selection nothing is needed"
