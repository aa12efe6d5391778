# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The key matrix: properties that hold for any inventories, and what people read of it."""

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

# So few values that the same slot, label, id and fingerprint meet again and again.
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
INVENTORIES = st.lists(KEYS, max_size=5)
SECRET = key("secret", type="aes", curve=None, fingerprint="kcv:3fa2b1")


def told(hsm_keys: t.Iterable[HsmKey], *, read: bool = True) -> NodeKeys:
    """What a node says that holds these keys, and its inventory if that is read."""
    held = tuple(hsm_keys)
    unusable = sum(not one.usable for one in held)
    return NodeKeys(keys_digest(held), len(held), unusable, held if read else None)


@st.composite
def clusters(draw: st.DrawFn) -> dict[str, list[HsmKey]]:
    """A source and other nodes, which often hold the same keys."""
    source = draw(INVENTORIES)
    others = draw(st.lists(st.one_of(st.just(source), INVENTORIES), min_size=1, max_size=3))
    return {"source": source, **{f"node{number}": held for number, held in enumerate(others, 1)}}


def cells(matrix: dict[str, t.Any], name: str) -> dict[tuple[t.Any, ...], str]:
    return {
        tuple(value for field, value in row.items() if field != "nodes"): row["nodes"][name] for row in matrix["rows"]
    }


@given(INVENTORIES, INVENTORIES)
def test_swapping_source_and_target_swaps_missing_and_extra(ours: list[HsmKey], theirs: list[HsmKey]) -> None:
    nodes = {"a": told(ours), "b": told(theirs)}
    there, back = cells(key_matrix(nodes, "a"), "b"), cells(key_matrix(nodes, "b"), "a")
    assert there.keys() == back.keys()
    swapped = {"missing": "extra", "extra": "missing", "mismatched": "mismatched"}
    assert {identity: swapped[cell] for identity, cell in there.items() if cell in swapped} == {
        identity: cell for identity, cell in back.items() if cell in swapped
    }


@given(clusters(), st.randoms(use_true_random=False))
def test_the_order_of_nodes_and_keys_does_not_matter(
    inventories: dict[str, list[HsmKey]], chance: random.Random
) -> None:
    before = key_matrix({name: told(held) for name, held in inventories.items()}, "source")
    names = list(inventories)
    chance.shuffle(names)
    after = key_matrix(
        {name: told(chance.sample(inventories[name], len(inventories[name]))) for name in names}, "source"
    )
    for field in ("rows", "in_sync", "check_value_only"):
        assert before[field] == after[field]
    for field in ("drift", "unknown"):
        assert sorted(before[field], key=str) == sorted(after[field], key=str)
    assert sorted(before["in_sync_nodes"]) == sorted(after["in_sync_nodes"])


@given(clusters(), st.data())
def test_in_sync_is_said_exactly_of_nodes_that_hold_the_sources_keys_and_can_use_them(
    inventories: dict[str, list[HsmKey]], data: st.DataObject
) -> None:
    read = {name: name == "source" or data.draw(st.booleans()) for name in inventories}
    matrix = key_matrix({name: told(held, read=read[name]) for name, held in inventories.items()}, "source")
    wanted = keys_digest(inventories["source"])
    good = [
        name for name, held in inventories.items() if keys_digest(held) == wanted and all(one.usable for one in held)
    ]
    assert matrix["in_sync_nodes"] == good
    assert matrix["in_sync"] == (good == list(inventories))
    # Where not all is known, it says so; never that a key is there which is not.
    for name, held in inventories.items():
        assert {one["node"] for one in matrix["unknown"]} <= {name for name, known in read.items() if not known}
        present = [row for row in matrix["rows"] if row["nodes"][name] == "present"]
        assert {(row["slot"], row["label"], row["id"], row["fingerprint"]) for row in present} <= {
            (one.slot, one.label, one.id, one.fingerprint) for one in held
        }


@given(clusters())
def test_digests_alone_tell_the_same_as_full_inventories_or_that_they_cannot(
    inventories: dict[str, list[HsmKey]],
) -> None:
    full = key_matrix({name: told(held) for name, held in inventories.items()}, "source")
    short = key_matrix({name: told(held, read=name == "source") for name, held in inventories.items()}, "source")
    unknown = {one["node"] for one in short["unknown"]}
    for name, held in inventories.items():
        needed = told(held).digest != full_digest(inventories) or 0 < told(held).unusable_count < len(held)
        assert (name in unknown) == (needed and name != "source")
        if name not in unknown:
            shared = cells(short, name)
            assert {identity: cells(full, name)[identity] for identity in shared} == shared
    assert not (short["in_sync"] and not full["in_sync"])


def full_digest(inventories: dict[str, list[HsmKey]]) -> str:
    return keys_digest(inventories["source"])


@given(clusters(), st.sets(st.sampled_from(["a", "b"]), min_size=1))
def test_choosing_keys_leaves_out_rows_and_never_hides_a_difference_of_a_chosen_key(
    inventories: dict[str, list[HsmKey]], labels: set[str]
) -> None:
    nodes = {name: told(held) for name, held in inventories.items()}
    everything = key_matrix(nodes, "source")
    predicate = key_matrix(nodes, "source", predicate=lambda one: one.label in labels)
    assert predicate["rows"] == [row for row in everything["rows"] if row["label"] in labels]
    for name, held in inventories.items():
        difference = compare(
            [one for one in inventories["source"] if one.label in labels],
            [one for one in held if one.label in labels],
        )
        assert (name in predicate["in_sync_nodes"]) == difference.in_sync


def test_a_key_that_one_node_has_beyond_the_source_is_no_fault_of_the_others() -> None:
    matrix = key_matrix({"a": told([key()]), "b": told([key(), key("extra")]), "c": told([key()])}, "a")
    assert [row["nodes"] for row in matrix["rows"]] == [
        {"a": "absent", "b": "extra", "c": "absent"},
        {"a": "present", "b": "present", "c": "present"},
    ]
    assert matrix["in_sync_nodes"] == ["a", "c"]


def test_another_key_under_the_label_is_told_in_both_rows() -> None:
    impostor = key(fingerprint=fingerprint("impostor"))
    matrix = key_matrix({"a": told([key()]), "b": told([impostor])}, "a")
    assert {row["fingerprint"]: row["nodes"] for row in matrix["rows"]} == {
        key().fingerprint: {"a": "present", "b": "mismatched"},
        impostor.fingerprint: {"a": "absent", "b": "mismatched"},
    }
    assert sorted(line.split()[-2:] for line in format_table(matrix)[1:3]) == [["-", "MISMATCH"], ["yes", "MISMATCH"]]


def test_a_source_that_cannot_use_its_own_key_is_not_in_sync() -> None:
    matrix = key_matrix({"a": told([key(usable=False)]), "b": told([key()])}, "a")
    assert not matrix["in_sync"]
    assert [one["node"] for one in matrix["drift"]] == ["a"]
    assert format_table(matrix)[-1] == "DRIFT: a itself: 1 unusable"


def test_secret_keys_are_marked_check_value_only_and_the_verdict_says_so() -> None:
    matrix = key_matrix({"a": told([key(), SECRET]), "b": told([key(), SECRET], read=False)}, "a")
    assert [row["check_value_only"] for row in matrix["rows"]] == [True, False]
    assert format_table(matrix)[-1] == ("in sync: a, b hold the same 2 key(s), 1 by check value only")


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (NodeKeys(), "was not read"),
        (told([key("other")], read=False), "its inventory was not read"),
        (NodeKeys(told([key()]).digest, 2, 1), "cannot use some of its keys"),
        (dc.replace(told([key()]), hsm_keys=()), "changed while they were read"),
    ],
    ids=["unread", "differs", "partly unusable", "changed meanwhile"],
)
def test_what_is_not_known_is_never_in_sync(other: NodeKeys, reason: str) -> None:
    matrix = key_matrix({"a": told([key()]), "b": other}, "a")
    assert not matrix["in_sync"]
    assert matrix["in_sync_nodes"] == ["a"]
    assert [row["nodes"]["b"] for row in matrix["rows"]] == ["unknown"]
    lines = format_table(matrix)
    assert lines[1].endswith("?")
    assert lines[-1].startswith("UNKNOWN: b: ")
    assert reason in lines[-1]


@pytest.mark.parametrize(
    "source", [NodeKeys(), told([key()], read=False), dc.replace(told([key()]), hsm_keys=())], ids=str
)
def test_a_source_whose_keys_are_not_known_is_an_error(source: NodeKeys) -> None:
    with pytest.raises(UtrustError, match="source a") as caught:
        key_matrix({"a": source, "b": told([key()])}, "a")
    assert caught.value.code == "source_unknown"


def test_nodes_that_hold_the_same_share_a_column_where_there_are_many() -> None:
    nodes = {f"node{number}": told([key()]) for number in range(1, MANY_NODES + 2)} | {"late": told([])}
    lines = format_table(key_matrix(nodes, "node1"))
    assert lines[0].endswith(f"node1 and {MANY_NODES} more  late")
    assert lines[1].split()[-2:] == ["yes", "MISSING"]
    few = {name: nodes[name] for name in ("node1", "node2", "late")}
    assert lines[0] != format_table(key_matrix(few, "node1"))[0]
    assert format_table(key_matrix(few, "node1"))[1].split()[-3:] == ["yes", "yes", "MISSING"]


def test_a_table_of_differences_leaves_out_what_every_node_holds() -> None:
    nodes = {"a": told([key(), key("new")]), "b": told([key()])}
    assert [line.split()[1] for line in format_table(key_matrix(nodes, "a"), only_drift=True)[:-1]] == ["label", "new"]
    in_sync = key_matrix({"a": told([key()]), "b": told([key()])}, "a")
    assert format_table(in_sync, only_drift=True) == ["in sync: a, b hold the same 1 key(s)"]


def test_a_label_cannot_move_the_cursor_or_forge_a_line() -> None:
    hostile = key("\x1b[2Jgone\nin sync: everything\u202e")
    (head, line, verdict) = format_table(key_matrix({"a": told([hostile]), "b": told([])}, "a"))
    assert r"\x1b[2Jgone\nin sync: everything\u202e" in line
    assert (head[:4], verdict[:6]) == ("slot", "DRIFT:")


# The filters


def info(*hsm_keys: HsmKey, read: bool = True) -> dict[str, t.Any]:
    """As utrust_hsm_info returns it."""
    facts: dict[str, t.Any] = {"changed": False, "node": node(*hsm_keys, unusable_key_count=0).to_dict()}
    return facts | ({"hsm_keys": [one.to_dict() for one in hsm_keys]} if read else {})


def test_the_filter_takes_results_of_the_module_lists_of_keys_and_nodes_that_could_not_be_read() -> None:
    nodes = {
        "a": info(key()),
        "b": info(key(), read=False),
        "c": [key().to_dict()],
        "d": {"failed": True, "msg": "no answer"},
        "e": None,
    }
    matrix = filter_key_matrix(nodes, source="a")
    assert (matrix["in_sync_nodes"], [one["node"] for one in matrix["unknown"]]) == (["a", "b", "c"], ["d", "e"])


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ({"b": info(key())}, "'a' is not among the nodes b"),
        ({"a": info(key(), read=False)}, r"its inventory was not read \[source_unknown\]"),
        ({"a": [{"label": "no key"}]}, r"'slot' is missing \[response_invalid\]"),
        ({"a": info(key()), "b": {"node": {}}}, "'keys_digest' is missing"),
    ],
    ids=["no source", "source not read", "no key", "no node"],
)
def test_the_filter_says_what_is_wrong_with_its_input(nodes: dict[str, t.Any], said: str) -> None:
    with pytest.raises(AnsibleFilterError, match=said):
        filter_key_matrix(nodes, source="a")


def test_the_filter_judges_the_selected_keys_only() -> None:
    nodes = {"a": info(key(), key("new")), "b": info(key())}
    assert filter_key_matrix(nodes, source="a", select="[?label=='signKey']")["in_sync"]
    narrowed = filter_key_matrix(nodes, source="a", select="[?label=='new']")
    assert ([row["label"] for row in narrowed["rows"]], narrowed["in_sync"]) == (["new"], False)


def test_a_selection_that_no_key_fits_is_not_in_sync_but_an_error() -> None:
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
def test_keys_are_selected_by_any_expression_that_leaves_keys(expression: str, labels: list[str]) -> None:
    class Tagged(str):
        """Ansible's texts are of types of their own."""

    keys = [{**one.to_dict(), "label": Tagged(one.label), "type": Tagged(one.type)} for one in (key(), SECRET)]
    assert [one["label"] for one in select_keys(keys, Tagged(expression))] == labels


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("[?slot==", "is invalid"),
        ("[?starts_with(slot, 's')]", "is invalid"),
        ("[].label", "does not return a list of keys"),
        ("[0]", "does not return a list of keys"),
        ("label", "does not return a list of keys"),
        ("length(@)", "does not return a list of keys"),
    ],
)
def test_an_expression_that_leaves_something_else_is_refused(expression: str, said: str) -> None:
    with pytest.raises(AnsibleFilterError, match=said):
        select_keys([key().to_dict()], expression)


def test_without_jmespath_the_filter_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_selection, "JMESPATH_MISSING", ImportError("No module named 'jmespath'"))
    with pytest.raises(AnsibleFilterError, match=r"select_keys: .*pip install 'jmespath>=1\.0\.1'"):
        select_keys([key().to_dict()], "[?check_value_only]")
    nodes = {"a": info(key())}
    with pytest.raises(AnsibleFilterError, match=r"key_matrix: .*pip install"):
        filter_key_matrix(nodes, source="a", select="[?check_value_only]")
    assert filter_key_matrix(nodes, source="a")["in_sync"], "without a selection nothing is needed"
