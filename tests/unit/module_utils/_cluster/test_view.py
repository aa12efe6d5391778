# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The EJBCA views of a cluster: folded into differences, as a matrix, and as a table. Properties of every cluster of views."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.matrix import cell
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view import ClusterView
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_matrix import DRIFT, view_matrix
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import ViewProblem, compare_views
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.view_table import CELLS, format_view
from hypothesis import given
from hypothesis import strategies as st

from tests.support.views import cluster_view, fingerprint_of, reading, unread, view_key, view_token

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_read import ViewReading

A, B = view_key("a"), view_key("b")
BOTH = view_token(A, B)

_key = st.builds(
    view_key,
    st.sampled_from("abcd"),
    st.sampled_from("abcd"),
    problem=st.sampled_from([None, None, "the download failed"]),
)
_token = st.builds(
    lambda keys, active, problem: view_token(
        *keys, active=active, keys=keys if active and problem is None else None, problem=problem
    ),
    st.lists(_key, max_size=4, unique_by=lambda key: key.alias).map(tuple),
    st.booleans(),
    st.sampled_from([None, None, ViewProblem("key_listing_failed", "the listing failed")]),
)


@st.composite
def _readings(draw: t.Any) -> dict[str, ViewReading]:
    def one(host: str) -> ViewReading:
        kind = draw(st.sampled_from(["view", "view", "view", "unread", "left_out", "shared"]))
        if kind in ("unread", "left_out"):
            return unread(left_out=kind == "left_out")
        return reading(host, draw(_token), **({"host_name": "shared"} if kind == "shared" else {}))

    return {host: one(host) for host in ("node1", "node2", "node3")}


def matrix_of(view: ClusterView, **options: t.Any) -> dict[str, t.Any]:
    return view_matrix(view, **{"hsm_keys_known": True, **options})


def codes(view: ClusterView) -> list[tuple[str, str]]:
    return [(problem["node"], problem["code"]) for problem in matrix_of(view)["problems"]]


@given(_readings())
def test_cluster_view_survives_a_result(readings: dict[str, ViewReading]) -> None:
    view = cluster_view(**readings)
    assert ClusterView.from_dict(json.loads(json.dumps(view.to_dict()))) == view


@given(_readings())
def test_view_matrix_agrees_with_the_comparison(readings: dict[str, ViewReading]) -> None:
    """Every cell is the state of the whole views, and a node in sync has no other cell than present."""
    view = cluster_view(**readings)
    matrix = matrix_of(view)
    source = readings["node1"].view
    for node in view.nodes:
        cells = {(row["token_id"], row["alias"]): cell(row, node.host) for row in matrix["rows"]}
        other = readings[node.host].view
        if source is None or other is None:
            assert node.in_sync is None
            assert set(cells.values()) <= {"unknown", "not_read"}
        elif not node.identity_unknown and not view.nodes[0].identity_unknown:
            found = {(key.token_id, key.alias): key.state for key in compare_views(source, other).keys}
            assert cells == found
        if node.in_sync:
            assert set(cells.values()) <= {"present"}
        if node.identity_unknown:
            assert node.in_sync is None
        assert (node.host in matrix["in_sync_nodes"]) == (node.in_sync is True)


@given(_readings(), st.booleans(), st.booleans())
def test_view_table_names_each_node_that_is_not_in_sync(
    readings: dict[str, ViewReading], only_drift: bool, known: bool
) -> None:
    """Nobody has to guess why a view differs or is unknown, and no line claims the sync of such a node. One line names a problem of the source."""
    matrix = matrix_of(cluster_view(**readings), hsm_keys_known=known)
    lines = format_view(matrix, only_drift=only_drift)
    named = {line.split(": ")[1] for line in lines if line.startswith("VIEW ")}
    if not any("[source_view_incomplete]" in line for line in lines):
        assert set(matrix["nodes"]) - set(matrix["in_sync_nodes"]) <= named
    [claimed] = [line for line in lines if line.startswith("view in sync")] or [""]
    assert not [node for node in matrix["nodes"] if node in claimed and node not in matrix["in_sync_nodes"]]
    assert ("The keys of the HSMs are unknown" in lines[0]) == (not known)
    assert "scope: ejbca" in lines[0]


def test_states_have_a_cell() -> None:
    assert {*DRIFT, "present", "inactive", "unknown", "not_read"} == set(CELLS)


@pytest.mark.parametrize(("hsm", "state"), [(["a", "b"], "stale"), (["a"], "absent"), (None, "absent")])
def test_key_not_shown_is_stale_only_if_the_hsm_has_it(hsm: list[str] | None, state: str) -> None:
    known = {"node2": [fingerprint_of(name) for name in hsm]} if hsm is not None else {}
    view = cluster_view(known, node1=reading("node1", BOTH), node2=reading("node2", view_token(A)))
    assert [key.state for key in view.nodes[1].different] == [state]
    assert codes(view) == [("node2", "ejbca_view_differs")]


@pytest.mark.parametrize("fact", ["address", "certificate_fingerprint", "host_name"])
def test_shared_identity_makes_both_nodes_unknown(fact: str) -> None:
    """The third node is compared, unless it shares the identity with the source."""
    same = {fact: "same"}
    nodes = {"node1": reading("node1", BOTH), "node2": reading("node2", BOTH, **same)}
    view = cluster_view(**nodes, node3=reading("node3", BOTH, **same))
    assert [node.in_sync for node in view.nodes] == [True, None, None]
    assert codes(view) == [("node2", "ejbca_identity_unknown"), ("node3", "ejbca_identity_unknown")]
    with_source = cluster_view(node1=reading("node1", BOTH, **same), node2=nodes["node2"], node3=reading("node3", BOTH))
    assert with_source.unknown_nodes == ["node1", "node2", "node3"]


def test_address_of_a_failed_view_counts_for_the_identity() -> None:
    """A view that failed after the connection still shows that two hosts have one address."""
    failed = unread()._replace(identity=reading("node2", address="address of node1").identity)
    view = cluster_view(node1=reading("node1", BOTH), node2=failed)
    assert view.unknown_nodes == ["node1", "node2"]


def test_other_token_ids_are_a_diverged_database() -> None:
    view = cluster_view(node1=reading("node1", BOTH), node2=reading("node2", BOTH._replace(id=8)))
    assert codes(view) == [("node2", "database_diverged")]
    assert view.unknown_nodes == ["node2"]


def test_failing_activation_is_one_line_with_the_variable() -> None:
    problem = ViewProblem("token_activation_failing", "cannot be activated")
    failing = BOTH._replace(active=False, keys=None, problem=problem)
    view = cluster_view(node1=reading("node1", BOTH), node2=reading("node2", failing))
    [found] = matrix_of(view)["problems"]
    assert (found["node"], found["code"]) == ("node2", "token_activation_failing")
    assert "set the variable utrust_ejbca_view of node2 to false" in found["remedy"]


def test_problem_of_the_source_is_named_once() -> None:
    listing = ViewProblem("key_listing_failed", "failed")
    broken = view_token(number=9, name="Other", keys=None, problem=listing)
    view = cluster_view(
        node1=reading("node1", BOTH, broken),
        node2=reading("node2", BOTH, view_token(number=9, name="Other")),
        node3=reading("node3", BOTH, view_token(number=9, name="Other")),
    )
    assert codes(view) == [("node1", "source_view_incomplete"), ("node1", "key_listing_failed")]
    assert view.unknown_nodes == ["node1", "node2", "node3"]


def test_left_out_node_is_not_read_and_not_unknown() -> None:
    view = cluster_view(node1=reading("node1", BOTH), node2=unread("ejbca_view_left_out", left_out=True))
    matrix = matrix_of(view)
    assert (view.unknown_nodes, matrix["left_out"], matrix["in_sync"]) == ([], ["node2"], False)
    assert {cell(row, "node2") for row in matrix["rows"]} == {"not_read"}
    assert "VIEW NOT READ: node2" in " ".join(format_view(matrix))


def test_selected_fingerprints_narrow_rows_and_drift() -> None:
    view = cluster_view(node1=reading("node1", BOTH), node2=reading("node2", view_token(A)))
    matrix = matrix_of(view, fingerprints={A.fingerprint})
    assert ([row["alias"] for row in matrix["rows"]], matrix["drift"], matrix["problems"]) == (["a"], [], [])


def test_many_keys_are_one_line_and_all_rows() -> None:
    keys = [view_key(f"key-{number}") for number in range(9)]
    view = cluster_view(node1=reading("node1", view_token(*keys)), node2=reading("node2", view_token()))
    matrix = matrix_of(view)
    [problem] = matrix["problems"]
    assert "key-0, key-1, key-2 and 6 more in crypto token SigningToken" in problem["text"]
    assert len(matrix["drift"][0]["absent"]) == len(matrix["rows"]) == 9
    assert sum(line.endswith("NOT SHOWN") for line in format_view(matrix)) == 9


def test_table_has_every_key_only_if_the_hsms_are_unknown() -> None:
    view = cluster_view(node1=reading("node1", BOTH), node2=reading("node2", BOTH))
    known, unknown = (format_view(matrix_of(view, hsm_keys_known=known)) for known in (True, False))
    assert known[1:] == ["view in sync: EJBCA of node1, node2 shows the same 2 key pair(s)"]
    assert len(unknown) == len(known) + 3
    assert format_view(matrix_of(view, hsm_keys_known=False), only_drift=True)[1:] == known[1:]
