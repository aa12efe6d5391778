# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Summaries of a rollout and of guided restores, as utrust_cluster_summary returns them."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading, NodeReading
from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem, UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._keys import compare, keys_digest
from ansible_collections.keyops.utrust.plugins.module_utils._package.manifest import make_manifest
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.preflight import node_states
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.summary import (
    keys_needed,
    summarize_restores,
    summarize_sync,
)

from tests.support.factories import KEYOPS, key, node
from tests.support.factories import OTHER as OTHER_MBK

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey

OLD, NEW, OTHER = key("old"), key("new"), key("other")


def planned(*, members_not_in_play: t.Sequence[str] = (), **node_keys: t.Sequence[HsmKey]) -> dict[str, t.Any]:
    """The plan for targets that hold these keys. The source holds OLD and NEW."""
    return {
        "plan": {
            "changes": {
                "source": {"keys_digest": keys_digest([OLD, NEW])},
                "targets": {
                    host: {
                        "host": host,
                        "keys_digest": keys_digest(keys),
                        "keys_digest_after": keys_digest([OLD, NEW]),
                        "add": [] if NEW in keys else [NEW.to_dict()],
                        "replace": [],
                        "unchanged": len(keys),
                    }
                    for host, keys in node_keys.items()
                },
            }
        },
        "targets": {host: {"difference": compare([OLD, NEW], keys).to_dict()} for host, keys in node_keys.items()},
        "pending": [host for host, keys in node_keys.items() if NEW not in keys],
        "members_not_in_play": members_not_in_play,
    }


def reading(source: t.Sequence[HsmKey] = (OLD, NEW), **node_keys: t.Sequence[HsmKey] | None) -> ClusterReading:
    """The cluster after the run. A node with None as its keys could not be read."""
    problem = Problem("node_unreachable", "n", "no response", "check the network")
    others = tuple(
        NodeReading(host, host, problem=problem)
        if keys is None
        else NodeReading(host, host, node(*keys, name=host), clock_skew=0.0)
        for host, keys in node_keys.items()
    )
    return ClusterReading(NodeReading("node1", "node1", node(*source), clock_skew=0.0), others, None)


def outcomes(result: dict[str, t.Any]) -> dict[str, str]:
    return dict(line.partition(":")[0].split("  ", 1) for line in result["summary"])


def test_summarize_sync_failed_run_names_every_node() -> None:
    """The summary of a failed run names the outcome of each node."""
    plan = planned(node2=[OLD], node3=[OLD], node4=[OLD], node5=[OLD, NEW], members_not_in_play=["node7"])
    result = summarize_sync(plan, reading(node2=[OLD, NEW], node3=[OLD, OTHER], node4=[OLD], node5=[OLD, NEW]))
    assert outcomes(result) == {
        "node2": "synchronized now",
        "node3": "FAILED",
        "node4": "not touched",
        "node5": "up to date",
        "node7": "MUST BE GATED before use",
    }
    assert "node2  synchronized now: 1 key(s) added, 0 replaced. Make a new backup" in result["summary"]
    assert "node7  MUST BE GATED before use: keys changed without this node" in result["summary"]
    assert (result["failed"], result["code"]) == (True, "sync_incomplete")
    assert "2 target(s)" in result["msg"]
    assert "node3, node4" in result["msg"]


@pytest.mark.parametrize("after", [[OLD], [OLD, NEW, OTHER], [], None])
def test_summarize_sync_node_with_other_keys_failed(after: t.Sequence[HsmKey] | None) -> None:
    """A node whose keys are not the planned keys at the end is not called up to date."""
    result = summarize_sync(planned(node2=[OLD], node3=[OLD, NEW]), reading(node2=[OLD, NEW], node3=after))
    assert outcomes(result) == {"node2": "synchronized now", "node3": "FAILED"}
    assert result["failed"]


DESTROYED, COPY = key("destroyed"), key("copy", fingerprint=OLD.fingerprint)


def compared(plan: dict[str, t.Any], source: t.Sequence[HsmKey] = (OLD, NEW), **node_keys: t.Sequence[HsmKey]) -> t.Any:
    """Return the summary of a run whose targets hold these keys afterwards. Their keys are read, because their digests are not as planned."""
    plan["manifest"] = make_manifest(node(OLD, NEW), (OLD, NEW)).to_dict()
    plan["import_options"] = {"destroyed_keys": [DESTROYED.fingerprint]}
    others = tuple(
        NodeReading(host, host, node(*keys, name=host), clock_skew=0.0, difference=compare(source, keys))
        for host, keys in node_keys.items()
    )
    found = ClusterReading(NodeReading("node1", "node1", node(*source), clock_skew=0.0), others, tuple(source))
    assert keys_needed(plan, found)
    return summarize_sync(plan, found)


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ([OLD], [OLD, NEW, OTHER], ["other"]),
        ([OLD], [OLD, NEW, OTHER, DESTROYED], ["destroyed", "other"]),
        ([OLD], [OLD, OTHER], ["other"]),
        ([OLD], [OTHER], ["other"]),
        ([OLD, OTHER], [OLD, NEW, OTHER, OTHER], ["other"]),
        ([OLD, OTHER], [OLD, NEW, OTHER, DESTROYED], ["destroyed"]),
        ([OLD, NEW], [OLD, NEW, DESTROYED], ["destroyed"]),
        ([OLD, NEW], [OLD, NEW, COPY], ["copy"]),
        ([OLD, NEW, OTHER], [OLD, NEW, OTHER, DESTROYED], ["destroyed"]),
    ],
    ids=lambda value: "-".join(str(getattr(each, "label", each)) for each in value),
)
def test_summarize_sync_names_keys_that_nobody_predicted(
    before: t.Sequence[HsmKey], after: t.Sequence[HsmKey], named: list[str]
) -> None:
    """Also on a node that had nothing to do. A destroyed key is first."""
    result = compared(planned(node2=before, node3=[OLD]), node2=after, node3=[OLD, NEW])
    assert (result["failed"], result["code"]) == (True, "unexpected_keys")
    assert [(found["node"], found["label"]) for found in result["unexpected"]] == [("node2", label) for label in named]
    assert "node2: slot 0" in result["msg"]
    assert ("which is in destroyed_keys" in result["msg"]) == ("destroyed" in named)
    assert outcomes(result) == {"node2": "FAILED", "node3": "synchronized now"}
    assert named[0] in result["summary"][0]


def test_summarize_sync_unexpected_key_before_source_changed() -> None:
    """A target must not have a key that the source got during the run."""
    result = compared(planned(node2=[OLD]), (OLD, NEW, OTHER), node2=[OLD, NEW, OTHER])
    assert result["code"] == "unexpected_keys"


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        ([OLD, COPY], [OLD, NEW], "synchronized now"),
        ([OLD, OTHER], [OLD, NEW], "FAILED"),
        ([OLD, NEW, COPY], [OLD, NEW], "FAILED"),
        ([OLD, OTHER], [OLD], "FAILED"),
    ],
    ids=["a copy that the import may remove", "a lost key", "a copy without an import", "nothing imported"],
)
def test_summarize_sync_judges_keys_that_are_gone(
    before: t.Sequence[HsmKey], after: t.Sequence[HsmKey], outcome: str
) -> None:
    plan = planned(node2=before, node3=[OLD])
    # In this test, the planned keys are those that stay on a node that removes nothing.
    plan["plan"]["changes"]["targets"]["node2"]["keys_digest_after"] = keys_digest({*before, NEW})
    result = compared(plan, node2=after, node3=[OLD, NEW])
    assert outcomes(result)["node2"] == outcome
    assert "unexpected" not in result


def test_keys_are_read_again_only_if_a_digest_is_not_as_planned() -> None:
    plan = planned(node2=[OLD], node3=[OLD, NEW])
    assert not keys_needed(plan, reading(node2=[OLD, NEW], node3=[OLD, NEW]))
    assert not keys_needed(plan, reading(node2=[OLD], node3=None))
    assert keys_needed(plan, reading(node2=[OLD, NEW], node3=[OLD]))


def test_summarize_sync_source_that_changed_is_a_failure() -> None:
    result = summarize_sync(planned(node2=[OLD]), reading(source=[OLD, NEW, OTHER], node2=[OLD, NEW]))
    assert (result["failed"], result["code"]) == (True, "source_changed")


def test_summarize_sync_check_mode() -> None:
    """Without a reading, as in check mode, the summary does not report changes."""
    result = summarize_sync(planned(node2=[OLD], node3=[OLD, NEW], members_not_in_play=["node4"]), None)
    assert result["summary"] == [
        "node2  would be synchronized: 1 key(s) to add, 0 to replace",
        "node3  up to date: 2 key(s) as on the source",
        "node4  MUST BE GATED before use: this node was not part of the run, so its keys are unknown",
    ]
    assert "failed" not in result


# Guided restores


RESTORED_KEYS = (key("signKey"), key("other"))


def read(host: str, **changes: t.Any) -> NodeReading:
    """Return the reading of a node that is restored, except for the changes."""
    return NodeReading(host, host, node(*RESTORED_KEYS, name=host, **changes))


FACTORY_RESET: dict[str, t.Any] = {
    "hsm_state": "factory_reset",
    "mbk": None,
    "key_count": 0,
    "keys_digest": keys_digest(()),
}


def before(*others: NodeReading) -> dict[str, t.Any]:
    """Return the result of utrust_preflight before the restores."""
    reading = ClusterReading(read("node1"), others, None)
    return {"source": reading.source_node.to_dict(), "nodes": node_states(reading)}


def after(*others: NodeReading) -> ClusterReading:
    return ClusterReading(read("node1"), others, None)


def unread(host: str) -> NodeReading:
    return NodeReading(host, host, problem=Problem("node_unreachable", host, "no response", "see the text"))


@pytest.mark.parametrize(
    ("earlier", "later", "line"),
    [
        (read("node2", **FACTORY_RESET), read("node2"), "restored now: 2 key(s) under MBK KEYOPS. Make a new backup"),
        (
            read("node2", **{**FACTORY_RESET, "hsm_state": "alarm", "alarm": "external_erase"}),
            read("node2"),
            "restored now: 2 key(s) under MBK KEYOPS. Make a new backup",
        ),
        (read("node2"), read("node2"), "up to date: 2 key(s), same as the source"),
        (unread("node2"), read("node2"), "up to date: 2 key(s), same as the source"),
        (
            read("node2", **FACTORY_RESET),
            read("node2", **FACTORY_RESET),
            "not restored: the HSM is in Factory Reset Mode",
        ),
        (
            read("node2", **FACTORY_RESET),
            read("node2", **{**FACTORY_RESET, "running": ("restore", "1")}),
            "not restored: the HSM is in Factory Reset Mode, and a guided restore is running",
        ),
        (
            read("node2", **FACTORY_RESET),
            read("node2", keys_digest=keys_digest(())),
            "not restored: the HSM is operational, but its keys differ from the source. Run key_sync",
        ),
        (
            read("node2", **FACTORY_RESET),
            read("node2", mbk=OTHER_MBK),
            f"not restored: the HSM has MBK {OTHER_MBK}, the source {KEYOPS}",
        ),
        (read("node2"), unread("node2"), "UNKNOWN: no response"),
    ],
)
def test_restore_summary_compares_before_and_after(earlier: NodeReading, later: NodeReading, line: str) -> None:
    """The line of a node follows from its states before and after the restores."""
    assert summarize_restores(before(earlier), after(later))["summary"] == [f"node2  {line}"]


def test_restore_summary_names_a_node_without_an_earlier_state() -> None:
    lines = summarize_restores(before(), after(read("node2"), read("node3", **FACTORY_RESET)))["summary"]
    assert [line.partition(":")[0] for line in lines] == ["node2  up to date", "node3  not restored"]


def test_restore_summary_source_that_cannot_be_read() -> None:
    """Without the source, the state of every node is unknown."""
    error = UtrustError("no response", code="node_unreachable")
    result = summarize_restores(before(read("node2"), read("node3", **FACTORY_RESET)), error)
    assert result["summary"] == [f"node{number}  UNKNOWN: the source was not read: no response" for number in (2, 3)]


def test_restore_summary_check_mode() -> None:
    """Check mode predicts from the states before the restores."""
    states = before(
        read("node2", **FACTORY_RESET), read("node3"), read("node4", keys_digest="sha256:0"), unread("node5")
    )
    assert summarize_restores(states, None)["summary"] == [
        "node2  would be restored: MBK and keys pending",
        "node3  up to date: 2 key(s), same as the source",
        "node4  not restored: the HSM is operational, but its keys differ from the source. Run key_sync",
        "node5  UNKNOWN: the node was not read",
    ]
