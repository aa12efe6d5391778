# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading a cluster: fake nodes, one of which may hang, fail, or not have joined."""

from __future__ import annotations

import dataclasses as dc
import json
import threading
import time
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Member
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.node_job import NodeJob
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.parallel import Job, Limits, run_all
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import (
    ClusterReading,
    NodeAddress,
    read_cluster,
)
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_read import AdminWebView
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UnreachableError, UtrustError

from tests.support.ejbca_pages import html_response
from tests.support.factories import fingerprint, key, node
from tests.support.fake_admin_web import BASE, LIST, FakeAdminWeb
from tests.support.fakes import FakeAppliance
from tests.support.views import fingerprint_of, unread, view_key, view_token
from tests.support.views import reading as view_reading

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey, Node
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_read import ViewReading

OLD, NEW = key("old"), key("new")
NAMES = ("node1", "node2", "node3")
LIMITS = Limits(max_parallel=4, timeout=30.0)


def member(name: str, *, joined: bool = True) -> Member:
    return Member(name, "127.0.0.2", 443, joined, "connected" if joined else "disconnected")


def cluster_node(*hsm_keys: HsmKey, name: str = "node1", joined: t.Collection[str] = NAMES, **changes: t.Any) -> Node:
    members = tuple(member(each, joined=each in joined) for each in NAMES)
    return node(*hsm_keys, name=name, members=members, **changes)


def fake(of: Node | Exception, hsm_keys: t.Sequence[HsmKey] | Exception | None = None) -> FakeAppliance:
    responses: dict[str, t.Any] = {"node": of, "close": None, "abort": None}
    if hsm_keys is not None:
        responses["list_keys"] = hsm_keys if isinstance(hsm_keys, Exception) else tuple(hsm_keys)
    return FakeAppliance(**responses)


def address(host: str, fake: FakeAppliance) -> NodeAddress:
    return NodeAddress(host, host, lambda: fake.appliance)


def read(source: FakeAppliance, limits: Limits = LIMITS, **others: FakeAppliance) -> ClusterReading:
    other_addresses = [address(host, fake) for host, fake in others.items()]
    return read_cluster(address("node1", source), other_addresses, limits)


class FakeView:
    """An EJBCA that counts its readings. It hangs until `abort` if there is no reading."""

    def __init__(self, found: ViewReading | None) -> None:
        self.found, self.readings, self.aborted = found, 0, threading.Event()
        self.listed = False

    def read(self) -> ViewReading:
        self.readings += 1
        if self.found is None:
            self.aborted.wait(30)
            return unread("aborted")
        return self.found

    def abort(self) -> None:
        self.aborted.set()


def read_with_views(
    nodes: t.Mapping[str, FakeAppliance], views: t.Mapping[str, FakeView], limits: Limits = LIMITS
) -> ClusterReading:
    source, *others = (NodeAddress(host, host, opener(fake), views[host]) for host, fake in nodes.items())
    return read_cluster(source, others, limits)


def opener(fake: FakeAppliance) -> t.Callable[[], t.Any]:
    return lambda: fake.appliance


def shown(host: str, *aliases: str) -> FakeView:
    return FakeView(view_reading(host, view_token(*map(view_key, aliases))))


def test_view_is_read_after_the_node_and_compared() -> None:
    """A key in the HSM that EJBCA does not show is stale, although nobody listed the keys of node2."""
    old = dc.replace(OLD, fingerprint=fingerprint_of("old"))
    nodes = {name: fake(cluster_node(old, name=name), [old]) for name in NAMES}
    views = {"node1": shown("node1", "old"), "node2": shown("node2"), "node3": shown("node3", "old")}
    reading = read_with_views(nodes, views)
    assert reading.view is not None
    assert [[key.state for key in node.different] for node in reading.view.nodes] == [[], ["stale"], []]
    assert nodes["node2"].calls == ["node", "close"]
    assert ClusterReading.from_dict(json.loads(json.dumps(reading.to_dict()))) == reading


@pytest.mark.parametrize(
    ("of", "readings"),
    [
        (cluster_node(OLD, name="node2"), 1),
        (UnreachableError("no response", code="node_unreachable"), 1),
        (cluster_node(OLD, name="impostor"), 0),
        (cluster_node(OLD, name="node2", hsm_family="other"), 0),
    ],
)
def test_view_is_not_read_of_another_node(of: t.Any, readings: int) -> None:
    """The view of a node without a response is read. Nobody knows whether a node with another name has joined."""
    nodes = {"node1": fake(cluster_node(OLD), [OLD]), "node2": fake(of)}
    views = {"node1": shown("node1", "old"), "node2": shown("node2", "old")}
    reading = read_with_views(nodes, views)
    assert views["node2"].readings == readings
    assert reading.view is not None
    assert (reading.view.nodes[1].in_sync, reading.view.nodes[1].read) == (True if readings else None, bool(readings))


def test_view_of_a_node_that_has_not_joined_is_not_read() -> None:
    nodes = {"node1": fake(cluster_node(OLD, joined=("node1",)), [OLD]), "node2": fake(cluster_node(name="node2"))}
    views = {"node1": shown("node1", "old"), "node2": shown("node2", "old")}
    reading = read_with_views(nodes, views)
    assert (views["node2"].readings, nodes["node2"].calls) == (0, [])
    assert reading.view is not None
    assert [problem.code for problem in reading.view.nodes[1].problems] == ["node_not_joined"]


def test_no_view_is_read_if_the_source_fails() -> None:
    views = {"node1": shown("node1", "old"), "node2": shown("node2", "old")}
    failing = fake(UnreachableError("no response", code="node_unreachable"))
    with pytest.raises(UnreachableError):
        read_with_views({"node1": failing, "node2": fake(cluster_node(OLD, name="node2"))}, views)
    assert [view.readings for view in views.values()] == [0, 0]


@pytest.mark.parametrize("hanging", ["node1", "node2"])
def test_view_that_hangs_keeps_the_keys_of_its_node(hanging: str) -> None:
    nodes = {name: fake(cluster_node(OLD, name=name), [OLD]) for name in ("node1", "node2")}
    views = {name: FakeView(None) if name == hanging else shown(name, "old") for name in nodes}
    reading = read_with_views(nodes, views, Limits(max_parallel=1, timeout=0.5))
    assert views[hanging].aborted.is_set()
    assert [each.in_sync for each in reading.readings] == [True, True]
    assert reading.view is not None
    [found] = [node for node in reading.view.nodes if node.host == hanging]
    assert [problem.code for problem in found.problems][:1] == ["node_read_timeout"]


@pytest.mark.parametrize("listed", [False, True])
def test_view_that_hangs_after_the_list_is_marked(listed: bool) -> None:
    """The list can have tried a PIN, so nobody may read it again only to wait."""
    views = {"node1": shown("node1", "old"), "node2": FakeView(None)}
    views["node2"].listed = listed
    nodes = {name: fake(cluster_node(OLD, name=name), [OLD]) for name in views}
    reading = read_with_views(nodes, views, Limits(max_parallel=1, timeout=0.5))
    assert reading.view is not None
    assert [node.listed for node in reading.view.nodes] == [False, listed]


@pytest.mark.parametrize(("place", "listed"), [(BASE, False), (LIST, True), (None, True)])
def test_view_shows_whether_the_list_was_requested(
    monkeypatch: pytest.MonkeyPatch, place: str | None, listed: bool
) -> None:
    web = FakeAdminWeb()
    web.respond = lambda path, dummy: html_response("<html></html>", 503) if path == place else None
    found = AdminWebView(lambda: web.use(monkeypatch), 443).read()
    assert (found.view is None, found.listed) == (place is not None, listed)


def test_aborted_node_does_not_contact_its_ejbca() -> None:
    """The deadline ended the reading of the HSM. The thread that still runs starts no view."""
    released = threading.Event()

    class Hanging(FakeAppliance):
        def node(self) -> Node:
            released.wait(30)
            return cluster_node(OLD, name="node2")

        def abort(self) -> None:
            released.set()

    view = shown("node2", "old")
    job = NodeJob(opener(Hanging(close=None)), lambda appliance: appliance.node(), view)
    thread = threading.Thread(target=job.run)
    thread.start()
    while job.partial() is None and not released.is_set():
        job.abort()
    thread.join(10)
    assert view.readings == 0


def test_node_with_the_digest_of_the_source_is_read_once() -> None:
    second = fake(cluster_node(OLD, NEW, name="node2"))
    reading = read(fake(cluster_node(OLD, NEW), [OLD, NEW]), node2=second)
    assert second.calls == ["node", "close"]
    assert [each.in_sync for each in reading.readings] == [True, True]


def test_node_with_another_digest_is_compared_key_by_key() -> None:
    second = fake(cluster_node(OLD, name="node2"), [OLD])
    [found] = read(fake(cluster_node(OLD, NEW), [OLD, NEW]), node2=second).others
    assert found.difference is not None
    assert (found.in_sync, found.difference.missing) == (False, (NEW,))


@pytest.mark.parametrize("unusable", [1, 2])
def test_node_that_cannot_use_keys_is_not_in_sync(unusable: int) -> None:
    """The digest does not cover which keys are usable."""
    keys = [dc.replace(OLD, usable=False), dc.replace(NEW, usable=unusable == 1)]
    second = fake(cluster_node(OLD, NEW, name="node2", unusable_key_count=unusable), keys)
    [found] = read(fake(cluster_node(OLD, NEW), [OLD, NEW]), node2=second).others
    assert found.difference is not None
    assert (found.in_sync, len(found.difference.unusable)) == (False, unusable)


def test_node_that_has_not_joined_is_never_contacted() -> None:
    third = fake(cluster_node(name="node3"))
    reading = read(fake(cluster_node(OLD, joined=("node1",)), [OLD]), node3=third)
    assert third.calls == []
    assert [each.problem.code for each in reading.others if each.problem] == ["node_not_joined"]


@pytest.mark.parametrize(
    ("of", "code"),
    [
        (UnreachableError("no response", code="node_unreachable"), "node_unreachable"),
        (cluster_node(OLD, name="impostor"), "node_name_mismatch"),
        (cluster_node(OLD, name="node2", hsm_family="other"), "hsm_not_supported"),
    ],
)
def test_failed_reading_is_a_result_of_its_node(of: t.Any, code: str) -> None:
    third = fake(cluster_node(OLD, name="node3"))
    reading = read(fake(cluster_node(OLD), [OLD]), node2=fake(of), node3=third)
    second, good = reading.others
    assert second.problem is not None
    assert (second.problem.code, second.node, second.in_sync) == (code, None, None)
    assert good.in_sync is True


@pytest.mark.parametrize("broken", ["node1", "node2"])
def test_keys_that_cannot_be_listed_leave_the_facts(broken: str) -> None:
    """The facts of this node and of all other nodes are still checked, so that every problem is reported at once."""
    failure = UtrustError("listing keys of the node: the response is invalid", code="response_invalid")
    nodes = {
        name: fake(cluster_node(*keys, name=name), failure if name == broken else keys)
        for name, keys in (("node1", [OLD, NEW]), ("node2", [OLD]), ("node3", [OLD]))
    }
    reading = read(nodes["node1"], node2=nodes["node2"], node3=nodes["node3"])
    assert all(each.node is not None for each in reading.readings)
    assert [each.host for each in reading.readings if each.problem is not None] == [broken]
    compared = {each.host for each in reading.readings if each.in_sync is not None}
    assert compared == ({"node1", "node3"} if broken == "node2" else set())
    assert f"Keys UNKNOWN: {failure}" in "".join(reading.summary())
    assert ClusterReading.from_dict(json.loads(json.dumps(reading.to_dict()))) == reading


def test_source_that_cannot_be_read_is_an_error() -> None:
    second = fake(cluster_node(OLD, name="node2"))
    with pytest.raises(UnreachableError):
        read(fake(UnreachableError("no response", code="node_unreachable")), node2=second)
    assert second.calls == []


def test_node_that_hangs_is_aborted_and_stops_nobody_else() -> None:
    released = threading.Event()

    class Hanging(FakeAppliance):
        def node(self) -> Node:
            released.wait(30)
            return cluster_node(OLD, name="node2")

        def abort(self) -> None:
            released.set()

    hanging = Hanging(close=None)
    third = fake(cluster_node(OLD, name="node3"))
    began = time.monotonic()
    reading = read(fake(cluster_node(OLD), [OLD]), Limits(max_parallel=1, timeout=0.5), node2=hanging, node3=third)
    second, good = reading.others
    assert second.problem is not None
    assert second.problem.code == "node_read_timeout"
    assert released.is_set()
    assert good.in_sync is True
    assert time.monotonic() - began < 20


def test_parallel_jobs_stay_within_the_limit() -> None:
    lock, running, most = threading.Lock(), [0], [0]

    def run() -> int:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.01)
        with lock:
            running[0] -= 1
        return 7

    results = run_all([Job(str(number), run, lambda: None) for number in range(12)], Limits(3, 30.0))
    assert results == {str(number): 7 for number in range(12)}
    assert most[0] <= 3


def test_unexpected_exception_of_a_job_is_not_swallowed(capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_all([Job("a", run, lambda: None)], LIMITS)


def test_reading_survives_the_way_from_a_bastion() -> None:
    """What the module returns on a bastion is the same reading on the controller."""
    other = key("new", fingerprint=fingerprint("other"))
    second = fake(cluster_node(OLD, other, name="node2"), [OLD, other])
    third = fake(UtrustError("why", code="node_unreachable"))
    reading = read(fake(cluster_node(OLD, NEW), [OLD, NEW]), node2=second, node3=third)
    assert ClusterReading.from_dict(reading.to_dict()) == reading


@pytest.mark.parametrize("bridge", ["node1", "node2"])
def test_bridge_without_key_list_leaves_the_facts(bridge: str) -> None:
    """The keys of the node are unknown, and everything else is read. Its list is not requested."""
    unknown: dict[str, t.Any] = dict.fromkeys(("keys_digest", "key_count", "unusable_key_count"))
    nodes = {
        name: fake(cluster_node(OLD, name=name, **(unknown if name == bridge else {})), [OLD])
        for name in ("node1", "node2", "node3")
    }
    nodes[bridge].capabilities = frozenset()
    reading = read(nodes["node1"], node2=nodes["node2"], node3=nodes["node3"])
    assert "list_keys" not in nodes[bridge].calls
    assert {each.host: each.problem.code for each in reading.readings if each.problem} == {bridge: "keys_unknown"}
    line = next(line for line in reading.summary() if line.startswith(bridge))
    assert "an unknown number of keys" in line
    assert "Keys UNKNOWN: reading the keys of" in line
    assert "None" not in line
    assert ClusterReading.from_dict(reading.to_dict()) == reading
