# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`ansible-playbook keyops.utrust.readiness` (action utrust_readiness), and the commissioning record that it signs."""

from __future__ import annotations

import typing as t

import pytest
import yaml
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning import record_file
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from utrust_appliance.testing import cluster

from tests.support.assisted import CLUSTER, Rehearsal, api_requests
from tests.support.commissioning import CANARY, EJBCA_VERSION, edit, write_keys
from tests.support.playbook import changing_methods, methods, play
from tests.support.readiness import READINESS, SWAPS, Site, expired_certificate, row

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

    from tests.support.playbook import Run

SYNC, RESTORE, PREFLIGHT = "keyops.utrust.key_sync", "keyops.utrust.initial_sync", "keyops.utrust.preflight"
JOINED = ("node1", "node2", "node3")


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=3, restored=3, keys=2, ejbca=True, faults=True) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    """The cluster without counts and without faults."""
    for node in JOINED:
        running.ejbca(node, "end_sessions")
        running.ejbca(node, "counters", clear=True)
    running.clear_log()
    yield running
    running.clear_faults()
    for node in JOINED:
        running.ejbca(node, "flags", reset=True)


@pytest.fixture
def site(control: Control, tmp_path: Path) -> Site:
    return Site(control, tmp_path)


def test_ready_cluster_gets_a_record(control: Control, site: Site) -> None:
    """Check mode shows the difference and writes nothing. A second run keeps the record. Each run is one login and one view a node."""
    shown = site.check("--check", "--diff", record=True)
    assert shown.status == 0, shown.output
    assert shown.changed == 1
    assert '+ "made_by": "Ada",' in shown.text
    assert f"would be written (check mode): {site.record}" in shown.text
    assert not site.record.exists()

    run = site.check(record=True)
    assert run.status == 0, run.output
    assert run.changed == 1
    assert "0 refused" in run.text
    assert row(run, "node2", "tls").startswith("observed TLSv1.3, 1 pin(s), certificate sha256:")
    assert row(run, "node2", "identity").startswith("observed node node2, HSM UT000002, EJBCA host name node2")
    assert row(run, "this machine", "swap").startswith("observed swap is off")

    record = record_file.read(str(site.record))
    assert f"The commissioning record {record['digest']} was written: {site.record}" in run.text
    assert (record["made_by"], record["canary_key"]["alias"]) == ("Ada", "canaryKey")
    assert set(record["nodes"]) == set(JOINED)
    content = site.record.read_text(encoding="ascii")
    assert str(control.folder) not in content, "the record has no path"

    again = site.check(record=True)
    assert (again.status, again.changed) == (0, 0)
    assert record_file.read(str(site.record)) == record
    assert f"{record['digest']} is unchanged: {site.record}" in again.text
    assert methods(control) == {"GET"}
    for node in JOINED:
        counts = control.ejbca(node, "counters")
        assert (counts["logins"], counts["health_checks"], counts.get("method_POST", 0)) == (3, 3, 0)


def test_access_that_does_not_work_is_refused(control: Control, site: Site) -> None:
    """A wrong pin, an expired client certificate and a port without a server: a line each, and no record."""
    certificate, key = expired_certificate(site.folder)
    hosts: dict[str, dict[str, t.Any]] = {
        "node1": {"utrust_client_cert": str(control.client()[0]), "utrust_client_key": str(control.client()[1])},
        "node2": {"utrust_tls_fingerprint": ["sha256:" + "ab" * 32]},
        "node3": {"utrust_client_cert": certificate, "utrust_client_key": key},
    }

    run = site.check(record=True, hosts=hosts)
    unreachable = site.check(record=True, hosts={"node3": {"utrust_port": 1}})

    assert run.status != 0
    assert "[not_ready]" in run.text
    assert row(run, "node1", "tls").startswith("observed")
    assert row(run, "node2", "route").startswith("observed")
    assert row(run, "node2", "tls").startswith("REFUSED")
    assert "[tls_fingerprint_mismatch]" in row(run, "node2", "tls")
    assert row(run, "node3", "client_certificate").startswith("REFUSED")
    assert "[client_certificate_expired]" in row(run, "node3", "client_certificate")
    assert row(run, "node3", "login").startswith("REFUSED")
    assert "The commissioning record was not written" in run.text
    assert unreachable.status != 0
    assert row(unreachable, "node3", "route").startswith("REFUSED")
    assert "[node_unreachable]" in row(unreachable, "node3", "route")
    assert row(unreachable, "node3", "versions").startswith("not checked")
    assert not site.record.exists()


def test_two_hosts_behind_one_server_are_refused(control: Control, site: Site) -> None:
    """Two hosts behind one address, and a virtual address of EJBCA."""
    node2 = control.node("node2")
    same = {
        "utrust_host": node2["address"],
        "utrust_port": node2["port"],
        "utrust_tls_fingerprint": [node2["tls_fingerprint"]],
    }
    control.ejbca("node1", "flags", roles={"ejbca-reader": "administrator"})

    run = site.check(hosts={"node3": same})
    control.ejbca("node1", "flags", reset=True)
    control.ejbca("node2", "flags", vip="node1")
    virtual = site.check()

    assert run.status != 0
    for node in ("node2", "node3"):
        assert row(run, node, "identity").startswith("REFUSED it has the same address as ")
        assert "[node_duplicate]" in row(run, node, "identity")
    assert row(run, "node1", "rights").startswith("REFUSED")
    assert "[ejbca_rights_excessive]" in row(run, "node1", "rights")
    assert virtual.status != 0
    assert "[ejbca_identity_unknown]" in row(virtual, "node2", "identity")


def test_facts_that_forbid_a_change_are_refused(control: Control, site: Site) -> None:
    """A clock, an old backup, swap and core dumps. A person can confirm a backup and swap."""
    control.fault("clock_skew", node="node2")
    for node in JOINED:
        control.backup(node)
    site.kernel(core_pattern="|/bin/crash %P\n", swaps=f"{SWAPS}/dev/sda2 partition 1 0 -2\n")
    confirmed = [
        {"subject": "backup", "node": "node3", "confirmed_by": "Ada", "reason": "tape 17"},
        {"subject": "swap", "confirmed_by": "Ada", "reason": "dm-crypt with a random key"},
    ]

    run = site.check(record=True, max_backup_hours=0, manual_confirmations=confirmed)

    assert run.status != 0
    assert "[clock_skew]" in row(run, "node2", "clock")
    assert row(run, "node1", "clock").startswith("observed")
    assert "[backup_too_old]" in row(run, "node1", "backup")
    assert row(run, "node3", "backup").startswith("declared Ada confirms: tape 17")
    assert "[core_dumps_on]" in row(run, "this machine", "core_dumps")
    assert row(run, "this machine", "swap").startswith("declared swap is on (/dev/sda2)")
    assert not site.record.exists()
    plain = site.check()
    assert "[swap_on]" in row(plain, "this machine", "swap")


def test_failing_token_gets_no_health_check(control: Control, site: Site) -> None:
    """Each health check and each view of the crypto token tries its PIN again."""
    control.ejbca("node2", "slot_pin", code="another code")
    control.ejbca("node2", "deactivate")
    before = control.ejbca("node2", "pin_state")["wrong"]
    try:
        run = site.check()
        tries = control.ejbca("node2", "pin_state")["wrong"] - before
        health_checks = control.ejbca("node2", "counters").get("health_checks", 0)
    finally:
        control.ejbca("node2", "slot_pin")
        control.ejbca("node2", "activate")
    assert run.status != 0
    assert "[token_activation_failing]" in row(run, "node2", "ejbca_view")
    assert row(run, "node2", "health_check").startswith("not checked")
    assert row(run, "node3", "health_check").startswith("observed")
    assert (tries, health_checks) == (1, 0)


def test_unreadable_source_leaves_other_nodes_alone(control: Control, site: Site) -> None:
    """Nobody knows then which nodes have joined. A node that was contacted can no longer join."""
    run = site.check(hosts={"node1": {"utrust_port": 1}})
    assert run.status != 0
    assert row(run, "node1", "route").startswith("REFUSED")
    assert row(run, "node2", "joined").startswith("not checked")
    assert control.connections("node2") == control.connections("node3") == 0
    assert not control.ejbca("node2", "counters")


def test_node_that_has_not_joined_is_left_alone(tmp_path: Path) -> None:
    with cluster(nodes=3, joined=2, restored=2, keys=2, ejbca=True) as control:
        run = Site(control, tmp_path).check()
        assert run.status != 0
        assert row(run, "node3", "joined").startswith("REFUSED")
        assert "[node_not_joined]" in row(run, "node3", "joined")
        assert row(run, "node2", "route").startswith("observed")
        assert control.connections("node3") == 0


def test_options_and_bastion_are_checked_before_reading(control: Control, site: Site) -> None:
    dummy, public = site.signing_key, site.public_key
    for options, code in (
        ({"record_dest": str(site.record)}, "option_invalid"),
        ({"record_dest": str(site.record), "signing_key": public}, "commissioning_signing_key_invalid"),
        ({"max_clock_skew": "-1"}, "option_invalid"),
        ({"manual_confirmations": [{"subject": "backup", "confirmed_by": "Ada", "reason": "x"}]}, "option_invalid"),
    ):
        run = site.check(**options)
        assert run.status != 0
        assert code in run.text
    bastion = play(READINESS, control, "-e", "utrust_bastion=localhost")
    assert "readiness_needs_controller" in bastion.text
    assert all(control.connections(node) == 0 for node in JOINED)


def test_blank_fields_count_as_not_set(control: Control, site: Site) -> None:
    """A survey sends every field. A text for a list is a JSON list."""
    names = ("max_backup_hours", "record_dest", "signing_key", "made_by", "declared_by", "canary_key", "max_parallel")
    blank: dict[str, t.Any] = {**dict.fromkeys(names, " "), "node_timeout": None, "min_certificate_days": "7"}
    confirmed = '[{"subject": "swap", "confirmed_by": "Ada", "reason": "x"}]'

    run = site.check(**blank, manual_confirmations=confirmed)

    assert run.status == 0, run.output
    assert "readiness of node1, node2, node3: " in run.text
    assert not site.record.exists()


def test_change_makes_the_record_stale(control: Control, site: Site) -> None:
    """A run that changes something compares each node with the record. A new record allows the run again."""
    assert site.check(record=True).status == 0
    control.generate_key("node1", "newKey")
    control.clear_log()
    try:
        variables = site.variables()
        record = record_file.read(str(site.record))
        plan = play(SYNC, control, *variables, "--check", "--diff")
        assert plan.status == 0, plan.output
        assert f"commissioning record: {record['digest']}" in plan.text

        with_page_map = site.inventory(node2={"utrust_page_map": "b"})
        stale = play(SYNC, control, *variables, inventory=with_page_map)
        checked = play(PREFLIGHT, control, *variables, inventory=with_page_map)
        restore = play(RESTORE, control, *variables, inventory=with_page_map, warnings=("node2 holds", "node3 holds"))
        for run in (stale, checked, restore):
            assert run.status != 0
            assert "node2: commissioning_stale: page_map was unknown in the record of" in run.text
            assert run.text.count("commissioning_stale: ") == 1
        assert changing_methods(control) == set()

        assert site.check(record=True, hosts={"node2": {"utrust_page_map": "b"}}).changed == 1
        assert play(SYNC, control, *variables, inventory=site.inventory(node2={"utrust_page_map": "b"})).status == 0
    finally:
        for node in JOINED:
            if any(key["label"] == "newKey" for key in control.keys(node)):
                control.delete_key(node, "newKey")


def test_record_of_others_is_not_accepted(control: Control, site: Site) -> None:
    """A wrong key, an edited record, a record in another form, and a record that is missing."""
    assert site.check(record=True).status == 0
    (site.folder / "other").mkdir()
    dummy, other = write_keys(site.folder / "other", Ed25519PrivateKey.generate())

    def refusal(**changes: t.Any) -> str:
        run = play(PREFLIGHT, control, *site.variables(**changes))
        assert run.status != 0
        return run.text

    assert ": commissioning_signature_invalid: " in refusal(utrust_commissioning_public_key=other)
    assert ": commissioning_missing: " in refusal(utrust_commissioning_record=str(site.folder / "none.json"))
    assert ": commissioning_public_key_invalid: " in refusal(utrust_commissioning_public_key="")
    edit(site.record, lambda record: record["nodes"]["node2"].update(hsm_serial="UT000009"))
    edited = refusal()
    assert ": commissioning_invalid: the record was edited" in edited
    assert "commissioning_stale" not in edited
    site.record.write_bytes(site.record.read_bytes() + b"\n")
    assert ": commissioning_invalid: " in refusal()
    assert changing_methods(control) == set()


@pytest.fixture
def without_api(tmp_path: Path) -> Iterator[Rehearsal]:
    """Nodes without an API, with a commissioning record. The targets lack the key of the CA of the source."""
    with cluster(nodes=3, restored=3, **CLUSTER) as control:
        yield Rehearsal(control, tmp_path)


@pytest.fixture
def in_sync(tmp_path: Path) -> Iterator[Rehearsal]:
    """The same, and each CA has its key."""
    with cluster(nodes=3, restored=3, keys=2, ejbca=True, no_api=True) as control:
        yield Rehearsal(control, tmp_path)


def test_assisted_transport_needs_a_record(in_sync: Rehearsal, tmp_path: Path) -> None:
    """The playbook makes the record of nodes without an API, from what people declare. A change without a fitting record is refused."""
    control, site = in_sync.control, Site(in_sync.control, tmp_path)
    site.record.unlink()
    in_sync.new_key("realKey")
    missing = in_sync.sync()
    control.ejbca("node2", "counters", clear=True)
    backups = [
        {"subject": "backup", "node": node, "confirmed_by": "Ada", "reason": "Webconf, page Backup"} for node in JOINED
    ]
    run = site.check(record=True, inventory=in_sync.inventory, manual_confirmations=backups, declared_by="Grace")
    assert run.status == 0, run.output
    assert row(run, "node2", "login").startswith("not checked with transport assisted")
    assert row(run, "node2", "tls").startswith("observed")
    assert row(run, "node2", "page_map").startswith("declared Webconf has the words of page map b")
    assert row(run, "node2", "identity").startswith("declared node node2, HSM UT000002, EJBCA host name node2")
    assert row(run, "node2", "import_behavior").startswith("declared effect of an import: overwriting")
    assert row(run, "node2", "jobs").startswith("not checked whether a backup runs is unknown")
    assert row(run, "node2", "backup").startswith("declared Ada confirms")
    record = record_file.read(str(site.record))
    assert record["declared_by"] == "Grace"
    assert record["nodes"]["node2"]["ejbca"]["version"] == EJBCA_VERSION
    assert control.ejbca("node2", "counters")["logins"] == 1, "one view serves the keys and the table"

    first = in_sync.sync()
    changed = yaml.safe_load(in_sync.inventory.read_text(encoding="utf-8"))
    changed["utrust"]["hosts"]["node2"]["utrust_declared"] |= {"hsm_serial": "UT000009", "restart": "node"}
    in_sync.inventory.write_text(yaml.safe_dump(changed), encoding="utf-8")
    stale = in_sync.sync()

    assert "commissioning record: commissioning_missing: " in missing.text
    assert "node1: canary_key_first: the source has no key canaryKey" in first.text
    assert 'node2: commissioning_stale: hsm_serial was "UT000002" in the record of' in stale.text
    assert 'node2: commissioning_stale: restart was "nothing" in the record of' in stale.text
    assert stale.text.count("commissioning_stale: ") == 2
    for refused in (missing, first, stale):
        assert refused.status != 0
        assert "confirmation_missing" not in refused.text
    assert api_requests(control) == []


def test_canary_key_is_synchronized_first(without_api: Rehearsal, tmp_path: Path) -> None:
    """Other keys follow when each target has the canary key."""
    site = Site(without_api.control, tmp_path)

    def sync_with(canary: str) -> Run:
        edit(site.record, lambda record: record.update(canary_key={**CANARY, "alias": canary}))
        site.sign_again()
        return without_api.sync()

    alone = sync_with("signKey-2025")
    without_api.new_key("realKey")
    both = sync_with("signKey-2025")
    after = sync_with("key-0001")

    assert "node2: canary_key_first: the canary key signKey-2025 was never synchronized to node2" in both.text
    assert "confirmation_missing" not in both.text
    for run in (alone, after):
        assert "canary_key_first" not in run.text
        assert "confirmation_missing" in run.text
