# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the playbooks report for each cause of docs/operations.md: things that changed, things that lie, people, network, history.

Each test names the section of the page, so that the page has each code that a playbook reports there.
"""

from __future__ import annotations

import json
import re
import threading
import typing as t

import pytest
import yaml
from utrust_appliance.testing import Api, cluster

from tests.support.assisted import REASONS, WEAKER
from tests.support.playbook import ROOT, changing_methods, play
from tests.support.readiness import Site
from tests.support.wait import wait_for
from tests.support.webconf_client import WebconfClient

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

    from tests.support.playbook import Run

PREFLIGHT, STATUS, SYNC = "keyops.utrust.preflight", "keyops.utrust.status", "keyops.utrust.key_sync"
INITIAL = "keyops.utrust.initial_sync"
VIEW = ("-e", "key_status_ejbca_view=true")
NODES = ("node1", "node2", "node3")
PAGE = ROOT / "docs/operations.md"


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=3, restored=3, keys=3, ejbca=True, faults=True, card_timeout=2) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    running.clear_log()
    yield running
    running.clear_faults()
    for node in NODES:
        running.ejbca(node, "flags", reset=True)
    pin_current_certificates(running)


def pin_current_certificates(control: Control) -> None:
    """Remove the pins of renewed certificates from the inventory, as people do after a renewal."""
    content = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))
    for name, host in content["utrust"]["hosts"].items():
        fingerprint = control.node(name)["tls_fingerprint"]
        host.update(utrust_tls_fingerprint=[fingerprint], utrust_ejbca_tls_fingerprint=[fingerprint])
    control.inventory_file.write_text(yaml.safe_dump(content), encoding="utf-8")


def declared(control: Control, node: str, **changes: t.Any) -> dict[str, t.Any]:
    """Return what people declare of a node with transport `assisted`."""
    mbk = control.node("node1")["mbk"]
    usual = {"hsm_serial": control.node(node)["serial"], "hsm_firmware": "6.0.0", "appliance_version": "5.1.0"}
    mbk_facts = {"mbk_name": mbk["name"], "mbk_check_value": mbk["check_value"], "mbk_required": 2, "mbk_total": 3}
    return {"cluster_id": "rack4", **usual, **mbk_facts, **changes}


def section(title: str) -> str:
    """Return a section of the run book, without its subsections."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found, f"{PAGE} has no section {title}"
    return found[1]


def assert_reported(run: Run, title: str, *words: str) -> None:
    """Check that a playbook fails with these codes and quotations, and that the section has each of them."""
    assert run.status != 0, run.output
    assert [each for each in words if each not in run.text] == [], run.output
    page = " ".join(section(title).split())
    assert [each for each in words if (each if " " in each else f"`{each}`") not in page] == []


def inventory(control: Control, folder: Path, **changes: dict[str, t.Any]) -> Path:
    """Write the inventory with other variables of hosts."""
    content = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))
    for host, variables in changes.items():
        content["utrust"]["hosts"][host].update(variables)
    path = folder / "inventory.yml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


# Something changed


def test_update_of_some_nodes(control: Control) -> None:
    control.fault("version_skew", node="node2", version="5.2.0")
    control.fault("firmware_skew", node="node3")

    run = play(PREFLIGHT, control)

    title = "The appliance was updated on some nodes"
    assert_reported(run, title, "appliance_version_mismatch", "hsm_firmware_mismatch")
    assert (
        "node2: appliance_version_mismatch: the appliance version of node2 is 5.2.0, but the source node1" in run.text
    )


def test_ejbca_update_of_some_nodes(control: Control) -> None:
    """A version whose list has no ids is unknown, and the views of the other nodes are still read."""
    control.ejbca("node2", "flags", list_links="none")

    run = play(STATUS, control, *VIEW)

    assert_reported(run, "EJBCA was updated on some nodes", "crypto_token_id_missing", "VIEW UNKNOWN: node2")
    assert "EJBCA of node1, node3 shows the same" in run.text


def test_replaced_hsm(control: Control, tmp_path: Path) -> None:
    """A plan belongs to the HSMs for which it was made."""
    control.generate_key("node1", "plannedKey")
    plan = tmp_path / "plan.json"
    try:
        planned = play(SYNC, control, "--check", "-e", f"key_sync_plan_dest={plan}")
        assert planned.status == 0, planned.output
        control.fault("hsm_serial", node="node2", serial="UT000999")

        run = play(SYNC, control, "-e", f"key_sync_plan={plan}")
    finally:
        control.delete_key("node1", "plannedKey")

    assert_reported(run, "The HSM of a node was replaced", "plan_outdated")
    assert changing_methods(control) == set()


def test_replaced_node(control: Control, tmp_path: Path) -> None:
    """Nothing is sent to a server with another certificate. With its pin, the node is one that must be restored."""
    title = "A node was replaced"
    new = control.renew_certificate("node3")
    control.factory_reset("node3")
    try:
        refused = play(PREFLIGHT, control)
        pinned = inventory(control, tmp_path, node3={"utrust_tls_fingerprint": [new]})
        read = play(PREFLIGHT, control, inventory=pinned)
    finally:
        control.restore("node3")

    assert_reported(refused, title, "tls_fingerprint_mismatch")
    assert_reported(read, title, "hsm_not_operational")


def test_renewed_certificate_with_two_pins(control: Control, tmp_path: Path) -> None:
    """With both pins, the run before and the run after the renewal pass. With the old pin alone, nothing is sent."""
    old = control.node("node2")["tls_fingerprint"]
    new = control.renew_certificate("node2")
    pins = {"utrust_tls_fingerprint": [old, new], "utrust_ejbca_tls_fingerprint": [old, new]}

    both = play(STATUS, control, *VIEW, inventory=inventory(control, tmp_path, node2=pins))
    one = play(PREFLIGHT, control)

    assert both.status == 0, both.output
    assert_reported(one, "The TLS certificate of Webconf was renewed", "tls_fingerprint_mismatch")


def test_renewed_certificate_of_the_robot(control: Control, tmp_path: Path) -> None:
    """Node2 does not know the new certificate yet, and its EJBCA does not have it in the role of the reader."""
    client = control.folder / "clients"
    changes = {
        "utrust_client_cert": str(client / "guest.pem"),
        "utrust_client_key": str(client / "guest.key"),
        "utrust_ejbca_reader_client_cert": str(client / "guest.pem"),
        "utrust_ejbca_reader_client_key": str(client / "guest.key"),
    }

    run = play(STATUS, control, *VIEW, inventory=inventory(control, tmp_path, node2=changes))

    assert_reported(run, "The certificate of the robot was renewed", "forbidden", "ejbca_page_unrecognized")


def test_changed_mbk(control: Control) -> None:
    control.fault("other_mbk", node="node3")

    run = play(SYNC, control)

    assert_reported(run, "The MBK was changed", "mbk_mismatch")
    assert changing_methods(control) == set()


def test_changes_since_the_commissioning_record(control: Control, tmp_path: Path) -> None:
    """Without a complete list of keys, every changed fact refuses a run before people download a package."""
    hosts: dict[str, t.Any] = {
        node: {"utrust_declared": declared(control, node), "utrust_page_map": "b"} for node in NODES
    }
    hosts["utrust"] = {"utrust_transport": "assisted", "utrust_lock_dir": str(tmp_path)}
    backups = [{"subject": "backup", "node": node, "confirmed_by": "Ada", "reason": "tape 17"} for node in NODES]
    site = Site(control, tmp_path)
    made = site.check(record=True, hosts=hosts, manual_confirmations=backups)
    assert made.status == 0, made.output

    hosts["node1"]["utrust_ejbca_operator_client_cert"] = str(control.folder / "clients/guest.pem")
    hosts["node2"]["utrust_declared"] = declared(control, "node2", hsm_serial="UT000999", appliance_version="5.2.0")
    hosts["node3"]["utrust_tls_fingerprint"] = [control.node("node3")["tls_fingerprint"], "sha256:" + "ab" * 32]
    weaker = ["-e", json.dumps({**WEAKER, "key_sync_reasons": REASONS})]
    run = play(SYNC, control, *site.variables(), *weaker, inventory=site.inventory(**hosts))

    for title in (
        "The appliance was updated on some nodes",
        "A node was replaced",
        "The HSM of a node was replaced",
        "The TLS certificate of Webconf was renewed",
        "The certificate of the robot was renewed",
    ):
        assert_reported(run, title, "commissioning_stale")
    for change in (
        "node1: commissioning_stale: accounts.ejbca_operator was",
        'node2: commissioning_stale: hsm_serial was "UT000002"',
        'node2: commissioning_stale: appliance_version was "5.1.0"',
        "node3: commissioning_stale: tls_fingerprint",
    ):
        assert change in run.text


# Something lies


def test_clock_that_jumped(control: Control) -> None:
    control.fault("clock_skew", node="node2", seconds=-7200)

    run = play(SYNC, control)

    assert_reported(run, "A clock jumped", "clock_skew")
    assert re.search(r"the clock of node2 differs by 72\d\d s from this machine", run.text)


def test_split_database(control: Control) -> None:
    """The keys of the HSMs agree, but the nodes do not share one database any more."""
    control.ejbca("node3", "flags", token_ids={"SigningToken": 4711})

    run = play(STATUS, control, *VIEW)

    assert_reported(run, "The database of the cluster is split", "database_diverged", "VIEW UNKNOWN: node3")


# People


def test_node_in_maintenance(control: Control) -> None:
    """The other nodes can be synchronized before the end of the maintenance."""
    control.fault("hsm_state", node="node3", state="maintenance")

    run = play(SYNC, control)
    others = play(SYNC, control, "--limit", "!node3", "-e", "key_sync_ignore_members=node3")

    assert_reported(run, "A node is in maintenance", "hsm_not_operational")
    assert "the HSM of node3 is in maintenance" in run.text
    assert others.status == 0, others.output


def test_person_at_work_in_webconf(control: Control) -> None:
    """A person uploads a package, and the node is still busy."""
    package = Api(control, "node1").package()
    control.fault("hold_apply", node="node2")
    person = WebconfClient(control, "node2")
    person.log_in()
    upload = threading.Thread(target=person.upload, args=(package,))
    upload.start()
    try:
        wait_for(lambda: control.node("node2")["running"] is not None)
        control.clear_log()
        run = play(SYNC, control)
    finally:
        control.clear_faults()
        upload.join()

    assert_reported(run, "Somebody else works in Webconf", "import_in_progress")
    assert [each["path"] for each in control.requests("node2") if each["method"] == "POST"] == ["/security/import"]


def test_absent_card_holder(control: Control) -> None:
    """Nobody presents a card, so the restore ends without a change."""
    control.factory_reset("node3")
    try:
        run = play(INITIAL, control, "--limit", "node3")
        state = control.node("node3")["state"]
    finally:
        control.restore("node3")

    assert_reported(run, "A card holder is absent", "card_timeout")
    assert state == "factory_reset"


# The network


def test_node_unreachable_from_the_controller_only(control: Control) -> None:
    """The members see the node, so the cluster has its quorum. The run cannot read the node, and changes no other node."""
    control.fault("route_cut", node="node3")

    run = play(SYNC, control)

    assert_reported(run, "A node is unreachable from the controller only", "node_unreachable")
    assert "member_disconnected" not in run.text
    assert changing_methods(control) == set()


# History


def test_first_run_on_a_cluster_with_old_drift(control: Control) -> None:
    """Every difference is listed before anything is changed."""
    control.generate_key("node1", "neverCopied")
    control.generate_key("node2", "onlyHere")
    for node in ("node1", "node3"):
        control.generate_key(node, "madeTwice")
    try:
        shown = play(STATUS, control, "-e", "key_status_only_drift=true")
        run = play(SYNC, control)
    finally:
        for node, label in (
            ("node1", "neverCopied"),
            ("node2", "onlyHere"),
            ("node1", "madeTwice"),
            ("node3", "madeTwice"),
        ):
            control.delete_key(node, label)

    assert [word for word in ("MISSING", "EXTRA", "MISMATCH") if word not in shown.text] == []
    assert_reported(run, "The first run on a cluster with old drift", "extra_keys", "key_mismatch")
    assert changing_methods(control) == set()
