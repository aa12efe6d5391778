# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Key matrix: properties for all combinations of keys, and the table for people."""

from __future__ import annotations

import dataclasses as dc
import json
import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.keyops.utrust.plugins.filter.key_matrix import key_matrix as filter_key_matrix
from ansible_collections.keyops.utrust.plugins.filter.select_keys import select_keys
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.matrix import cell, key_matrix
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._keys import compare, keys_digest
from ansible_collections.keyops.utrust.plugins.plugin_utils._report import select as _selection
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.table import MANY_NODES, format_table
from hypothesis import given
from hypothesis import strategies as st

from tests.support.factories import fingerprint, key
from tests.support.readings import Keys, cluster_reading

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


@st.composite
def clusters(draw: st.DrawFn) -> dict[str, list[HsmKey]]:
    """Return a source and other nodes, which often have the same keys."""
    source = draw(KEY_LISTS)
    same = st.permutations(source).map(lambda keys: [dc.replace(each) for each in keys])
    others = draw(st.lists(st.one_of(same, KEY_LISTS), min_size=1, max_size=3))
    return {"source": source, **{f"node{number}": hsm_keys for number, hsm_keys in enumerate(others, 1)}}


def matrix_of(keys_of: t.Mapping[str, Keys], **options: t.Any) -> dict[str, t.Any]:
    return key_matrix(cluster_reading(keys_of), **options)


def full_rows(matrix: dict[str, t.Any]) -> list[dict[str, str]]:
    """Return the cells of all nodes for each row."""
    return [{node: cell(row, node) for node in matrix["nodes"]} for row in matrix["rows"]]


def cells(matrix: dict[str, t.Any], name: str) -> dict[Identity, str]:
    return {identity(row): cell(row, name) for row in matrix["rows"]}


Identity = tuple[t.Any, ...]


def identity(row: t.Mapping[str, t.Any]) -> Identity:
    return tuple(row[field] for field in ("slot", "label", "id", "type", "size", "curve", "fingerprint"))


def identities(hsm_keys: t.Iterable[HsmKey]) -> set[Identity]:
    return {identity(one.to_dict()) for one in hsm_keys}


@given(KEY_LISTS, KEY_LISTS)
def test_swapping_source_and_target_swaps_the_cells(ours: list[HsmKey], theirs: list[HsmKey]) -> None:
    """From the other side, a missing key is extra or duplicate. Mismatched and moved keys stay what they are."""
    # A key that one side lists twice in the same place has one row, which shows one state only.
    ours, theirs = list(dict.fromkeys(ours)), list(dict.fromkeys(theirs))
    there, back = (
        cells(matrix_of({"a": ours, "b": theirs}), "b"),
        cells(matrix_of({"b": theirs, "a": ours}), "a"),
    )
    assert there.keys() == back.keys()
    swapped = {"missing": "only here", "extra": "only there", "duplicate": "only there"}
    returned = {"missing": "only there", "extra": "only here", "duplicate": "only here"}
    kept = {"mismatched": "mismatched", "moved": "moved"}
    assert {one: (swapped | kept)[cell] for one, cell in there.items() if cell in swapped | kept} == {
        one: (returned | kept)[cell] for one, cell in back.items() if cell in returned | kept
    }


@given(clusters(), st.randoms(use_true_random=False))
def test_order_of_nodes_and_keys_does_not_matter(keys_of: dict[str, list[HsmKey]], chance: random.Random) -> None:
    before = matrix_of(keys_of)
    names = list(keys_of)[1:]
    chance.shuffle(names)
    after = matrix_of({name: chance.sample(keys_of[name], len(keys_of[name])) for name in ("source", *names)})
    for field in ("rows", "in_sync", "check_value_only"):
        assert before[field] == after[field]
    for field in ("drift", "unknown"):
        assert sorted(before[field], key=str) == sorted(after[field], key=str)
    assert sorted(before["in_sync_nodes"]) == sorted(after["in_sync_nodes"])


@given(clusters(), st.data())
def test_in_sync_means_same_usable_keys(keys_of: dict[str, list[HsmKey]], data: st.DataObject) -> None:
    """A node is in sync if and only if it has the keys of the source and can use them."""
    read = {name: name == "source" or data.draw(st.booleans()) for name in keys_of}
    matrix = matrix_of({name: hsm_keys if read[name] else "no response" for name, hsm_keys in keys_of.items()})
    digest = keys_digest(keys_of["source"])
    good = [
        name
        for name, hsm_keys in keys_of.items()
        if read[name] and keys_digest(hsm_keys) == digest and all(one.usable for one in hsm_keys)
    ]
    assert matrix["in_sync_nodes"] == good
    assert matrix["in_sync"] == (good == list(keys_of))
    assert [one["node"] for one in matrix["unknown"]] == [name for name, known in read.items() if not known]


@given(clusters())
def test_cells_agree_with_the_keys_of_each_node(keys_of: dict[str, list[HsmKey]]) -> None:
    """A cell never shows a key that the node does not have as present, and never hides a key that the node has."""
    matrix = matrix_of(keys_of)
    assert {identity(row) for row in matrix["rows"]} == identities(key for keys in keys_of.values() for key in keys)
    for name, hsm_keys in keys_of.items():
        of_source = identities(hsm_keys)
        for one, shown in cells(matrix, name).items():
            if shown in ("present", "unusable", "extra", "duplicate"):
                assert one in of_source
            if shown in ("missing", "absent") and one in of_source:
                # The source lists the row more often than the node.
                assert [identity(key.to_dict()) for key in keys_of["source"]].count(one) > 1


@given(clusters(), st.sets(st.sampled_from(["a", "b"]), min_size=1))
def test_predicate_hides_only_other_keys(keys_of: dict[str, list[HsmKey]], labels: set[str]) -> None:
    """A predicate removes rows, but never hides a difference of a selected key."""
    everything = matrix_of(keys_of)
    selected = matrix_of(keys_of, predicate=lambda one: one.label in labels)
    assert [identity(row) for row in selected["rows"]] == [
        identity(row) for row in everything["rows"] if row["label"] in labels
    ]
    for name, hsm_keys in keys_of.items():
        difference = compare(
            [one for one in keys_of["source"] if one.label in labels],
            [one for one in hsm_keys if one.label in labels],
        )
        assert (name in selected["in_sync_nodes"]) == difference.in_sync


def test_rows_name_only_nodes_that_differ() -> None:
    """A row stays small with many nodes."""
    matrix = matrix_of({"a": [key()], "b": [key(), key("extra")], "c": [key()]})
    assert [(row["state"], row["nodes"]) for row in matrix["rows"]] == [("absent", {"b": "extra"}), ("present", {})]
    assert full_rows(matrix) == [
        {"a": "absent", "b": "extra", "c": "absent"},
        {"a": "present", "b": "present", "c": "present"},
    ]
    assert matrix["in_sync_nodes"] == ["a", "c"]


def test_mismatch_is_shown_in_both_rows() -> None:
    impostor = key(fingerprint=fingerprint("impostor"))
    matrix = matrix_of({"a": [key()], "b": [impostor]})
    assert {row["fingerprint"]: {node: cell(row, node) for node in "ab"} for row in matrix["rows"]} == {
        key().fingerprint: {"a": "present", "b": "mismatched"},
        impostor.fingerprint: {"a": "absent", "b": "mismatched"},
    }
    assert sorted(line.split()[-2:] for line in format_table(matrix)[1:3]) == [["-", "MISMATCH"], ["yes", "MISMATCH"]]


def test_moved_key_is_shown_in_both_rows() -> None:
    matrix = matrix_of({"a": [key()], "b": [key(slot=1)], "c": [key()]})
    assert full_rows(matrix) == [
        {"a": "present", "b": "moved", "c": "present"},
        {"a": "absent", "b": "moved", "c": "absent"},
    ]
    lines = format_table(matrix)
    assert [line.split()[-3:] for line in lines[1:3]] == [["yes", "MOVED", "yes"], ["-", "MOVED", "-"]]
    assert lines[-1] == "DRIFT: b against a: 1 moved"


@pytest.mark.parametrize("copy", [key(), key(slot=1)], ids=["same place", "other slot"])
def test_key_listed_twice_is_a_duplicate(copy: HsmKey) -> None:
    """A key that a node has twice is neither missing nor at risk."""
    lines = format_table(matrix_of({"a": [key()], "b": [key(), copy]}))
    assert lines[-2].split()[-1] == "DUPLICATE"
    assert lines[-1] == "DRIFT: b against a: 1 duplicate"


def test_source_with_unusable_key_is_not_in_sync() -> None:
    matrix = matrix_of({"a": [key(usable=False)], "b": [key()]})
    assert not matrix["in_sync"]
    assert [one["node"] for one in matrix["drift"]] == ["a"]
    assert format_table(matrix)[-1] == "DRIFT: a itself: 1 unusable"


def test_secret_keys_are_marked_check_value_only() -> None:
    matrix = matrix_of({"a": [key(), SECRET], "b": [key(), SECRET]})
    assert [row["check_value_only"] for row in matrix["rows"]] == [True, False]
    assert format_table(matrix)[-1] == ("in sync: a, b hold the same 2 key(s), 1 by check value only")


def test_unknown_node_is_never_in_sync() -> None:
    matrix = matrix_of({"a": [key()], "b": "no response"})
    assert not matrix["in_sync"]
    assert matrix["in_sync_nodes"] == ["a"]
    assert [cell(row, "b") for row in matrix["rows"]] == ["unknown"]
    lines = format_table(matrix, only_drift=True)
    assert lines[1].endswith("?")
    assert lines[-1] == "UNKNOWN: b: no response"


def test_unknown_source_raises() -> None:
    with pytest.raises(UtrustError, match="source a") as caught:
        key_matrix(dc.replace(cluster_reading({"a": [key()], "b": [key()]}), hsm_keys=None))
    assert caught.value.code == "source_unknown"


def test_equal_nodes_share_a_column_in_large_table() -> None:
    nodes = {f"node{number}": [key()] for number in range(1, MANY_NODES + 2)} | {"late": []}
    lines = format_table(matrix_of(nodes))
    assert lines[0].endswith(f"node1 and {MANY_NODES} more  late")
    assert lines[1].split()[-2:] == ["yes", "MISSING"]
    few = {name: nodes[name] for name in ("node1", "node2", "late")}
    assert lines[0] != format_table(matrix_of(few))[0]
    assert format_table(matrix_of(few))[1].split()[-3:] == ["yes", "yes", "MISSING"]


def test_drift_table_omits_keys_of_all_nodes() -> None:
    lines = format_table(matrix_of({"a": [key(), key("new")], "b": [key()]}), only_drift=True)
    assert [line.split()[1] for line in lines[:-1]] == ["label", "new"]
    in_sync = matrix_of({"a": [key()], "b": [key()]})
    assert format_table(in_sync, only_drift=True) == ["in sync: a, b hold the same 1 key(s)"]


def test_hostile_label_is_escaped_in_table() -> None:
    """A label cannot move the cursor or forge a line."""
    hostile = key("\x1b[2Jgone\nin sync: everything\u202e")
    (head, line, verdict) = format_table(matrix_of({"a": [hostile], "b": []}))
    assert r"\x1b[2Jgone\nin sync: everything\u202e" in line
    assert (head[:4], verdict[:6]) == ("slot", "DRIFT:")


# The filters


def result_of(keys_of: t.Mapping[str, Keys]) -> dict[str, t.Any]:
    """Return a result of utrust_cluster_info."""
    document = {"changed": False, "executed_on": "here", **cluster_reading(keys_of).to_dict()}
    return t.cast("dict[str, t.Any]", json.loads(json.dumps(document)))


@given(clusters())
def test_filter_returns_the_matrix_of_the_reading(keys_of: dict[str, list[HsmKey]]) -> None:
    """A reading survives its way through a result, also behind a bastion."""
    assert filter_key_matrix(result_of(keys_of)) == {**matrix_of(keys_of), "ejbca_view": None}


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"failed": True, "msg": "no response"}, "not a successful result of utrust_cluster_info"),
        ({}, "not a successful result"),
        ([], "not a successful result"),
        ("", "not a successful result"),
        (None, "not a successful result"),
        ({**result_of({"a": [key()]}), "source": "b"}, "not a successful result"),
        ({**result_of({"a": [key()]}), "hsm_keys": [{"label": "no key"}]}, "not a successful result"),
        (
            {**result_of({"a": [key()]}), "hsm_keys": None},
            r"the keys were not read\. Read the keys of the source, then run again \[source_unknown\]",
        ),
    ],
)
def test_filter_names_error_of_its_input(result: t.Any, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        filter_key_matrix(result)


def test_filter_compares_selected_keys_only() -> None:
    result = result_of({"a": [key(), key("new")], "b": [key()]})
    assert filter_key_matrix(result, select="[?label=='signKey']")["in_sync"]
    narrowed = filter_key_matrix(result, select="[?label=='new']")
    assert ([row["label"] for row in narrowed["rows"]], narrowed["in_sync"]) == (["new"], False)
    for blank in (None, "", " "):
        assert len(filter_key_matrix(result, select=blank)["rows"]) == 2


def test_filter_selects_keys_that_one_node_cannot_use() -> None:
    result = result_of({"a": [key(), key("new")], "b": [key(usable=False), key("new")]})
    narrowed = filter_key_matrix(result, select="[?usable==`false`]")
    assert [row["label"] for row in narrowed["rows"]] == ["signKey"]
    assert [one["node"] for one in narrowed["drift"]] == ["b"]


def test_filter_with_empty_selection_raises() -> None:
    with pytest.raises(AnsibleFilterError, match="no node holds a key that"):
        filter_key_matrix(result_of({"a": [key()], "b": [key()]}), select="[?label=='signkey']")


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
    result = result_of({"a": [key()]})
    with pytest.raises(AnsibleFilterError, match=r"key_matrix: .*pip install"):
        filter_key_matrix(result, select="[?check_value_only]")
    assert filter_key_matrix(result)["in_sync"], "without a selection nothing is needed"
