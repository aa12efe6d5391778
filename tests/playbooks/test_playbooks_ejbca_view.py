# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The EJBCA view in the playbooks `status` and `report`, as a user runs them."""

from __future__ import annotations

import json
import socket
import typing as t

import pytest
import yaml
from utrust_appliance.testing import cluster

from tests.support.ejbca_client import TOKEN
from tests.support.playbook import Run, own_playbook, play

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

STATUS, REPORT, SYNC = "keyops.utrust.status", "keyops.utrust.report", "keyops.utrust.key_sync"
JOINED = ("node1", "node2", "node3")
VIEW = ("-e", "key_status_ejbca_view=true")
READER = ("utrust_ejbca_reader_client_cert", "utrust_ejbca_reader_client_key")


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    """Three nodes with the same keys. A secret key is not part of any view."""
    with cluster(nodes=3, restored=3, keys=7, ejbca=True, faults=True) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    """The cluster with the views in sync and without counts."""
    for node in JOINED:
        reset(running, node)
    running.clear_log()
    yield running
    running.clear_faults()


def reset(control: Control, node: str) -> None:
    control.ejbca(node, "flags", reset=True)
    control.ejbca(node, "slot_pin")
    control.ejbca(node, "set", auto_activation=True)
    control.ejbca(node, "certificate_object", label="signKey-2025", certificate="signKey-2025")
    reactivate(control, node)
    control.ejbca(node, "end_sessions")
    control.ejbca(node, "counters", clear=True)


def reactivate(control: Control, node: str) -> None:
    control.ejbca(node, "deactivate")
    control.ejbca(node, "activate")


def counted(control: Control, node: str, name: str) -> int:
    return int(control.ejbca(node, "counters").get(name, 0))


def contacted(control: Control, node: str) -> bool:
    """Return whether EJBCA of a node has counted anything."""
    return bool(control.ejbca(node, "counters"))


def inventory(control: Control, folder: Path, *without: str, **changes: dict[str, t.Any]) -> Path:
    """Write the inventory with other variables of hosts, and without the variables `without` of node2."""
    content = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))
    hosts = content["utrust"]["hosts"]
    for host, variables in changes.items():
        hosts[host].update(variables)
    for name in without:
        del hosts["node2"][name]
    path = folder / "inventory.yml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def row(run: Run, alias: str) -> list[str]:
    """Return the cells of the view of a key."""
    [line] = [
        line for line in run.output.splitlines() if f" {TOKEN} " in line and f" {alias} " in line and "VIEW" not in line
    ]
    return line.split()[6:] if "NOT SHOWN" not in line else line.replace("NOT SHOWN", "NOT-SHOWN").split()[6:]


def lists_key(run: Run) -> bool:
    """Return whether the keys of the HSMs are shown as usual."""
    return "in sync: node1, node2, node3 hold the same 7 key(s)" in run.text


def test_views_in_sync_are_one_login_a_node(control: Control) -> None:
    """The heading names the scope. Each node is read by one login without POST, and nothing is changed."""
    run = play(STATUS, control, *VIEW, "-e", "key_status_fail_on_drift=true")

    assert run.status == 0, run.output
    assert lists_key(run)
    assert "EJBCA view: keys as EJBCA of each node shows them, scope: ejbca" in run.text
    assert "view in sync: EJBCA of node1, node2, node3 shows the same 6 key pair(s)" in run.text
    assert "VIEW" not in run.text.replace("EJBCA view", "")
    for node in JOINED:
        assert (counted(control, node, "logins"), counted(control, node, "method_POST")) == (1, 0)


@pytest.mark.parametrize("value", ["", " ", None, "false", False], ids=repr)
@pytest.mark.parametrize("playbook", [STATUS, REPORT])
def test_ejbca_is_not_contacted_without_the_option(
    control: Control, tmp_path: Path, playbook: str, value: t.Any
) -> None:
    """A blank of a survey counts as not set. No line claims anything about EJBCA."""
    names = ("key_status_ejbca_view", "key_report_ejbca_view")
    survey = {**dict.fromkeys(names, value), "key_report_page": str(tmp_path / "keys.html")}

    run = play(playbook, control, "-e", json.dumps(survey))

    assert run.status == 0, run.output
    assert not any(contacted(control, node) for node in JOINED)
    assert "view" not in run.text.lower().replace(str(tmp_path), "")
    if playbook == REPORT:
        assert json.loads((tmp_path / "keys.json").read_text("utf-8"))["ejbca_view"] is None


def test_invalid_option_is_rejected_before_reading(control: Control) -> None:
    run = play(STATUS, control, "-e", "key_status_ejbca_view=maybe")
    assert run.status != 0
    assert "option_invalid" in run.text
    assert control.requests("node1") == []


def test_stale_view_ends_with_the_reactivation(control: Control) -> None:
    """After an import, a Sun token shows the new key only after it was activated again."""
    control.generate_key("node1", "newKey")
    reactivate(control, "node1")
    try:
        assert play(SYNC, control).status == 0
        reactivate(control, "node3")

        run = play(STATUS, control, *VIEW)
        failing = play(STATUS, control, *VIEW, "-e", "key_status_fail_on_drift=true")

        assert run.status == 0, run.output
        assert "in sync: node1, node2, node3 hold the same 8 key(s)" in run.text
        assert row(run, "newKey") == ["yes", "STALE", "yes"]
        assert "VIEW DRIFT: node2: STALE: newKey in crypto token SigningToken: the key is in the HSM" in run.text
        assert "view in sync: EJBCA of node1, node3 shows the same 7 key pair(s)" in run.text
        assert failing.status != 0
        assert (
            "The EJBCA view of some nodes differs from that of node1. See the lines VIEW DRIFT [ejbca_view_differs]."
            in failing.text
        )

        reactivate(control, "node2")
        assert "VIEW DRIFT" not in play(STATUS, control, *VIEW, "-e", "key_status_fail_on_drift=true").text
    finally:
        for node in JOINED:
            control.delete_key(node, "newKey")


def test_key_missing_in_the_hsm_is_not_shown(control: Control) -> None:
    """The HSM shows the reason, so the key is not stale. `key_status_select` narrows both tables."""
    control.generate_key("node1", "lateKey")
    reactivate(control, "node1")
    try:
        run = play(STATUS, control, *VIEW)
        narrow = ("-e", "key_status_select=[?label=='signKey-2025']", "-e", "key_status_fail_on_drift=true")
        narrowed = play(STATUS, control, *VIEW, *narrow)
    finally:
        control.delete_key("node1", "lateKey")
    assert row(run, "lateKey") == ["yes", "NOT-SHOWN", "NOT-SHOWN"]
    assert "EJBCA does not show the key, and the HSM does not list it" in run.text
    assert narrowed.status == 0, narrowed.output
    assert "shows the same 1 key pair(s)" in narrowed.text


def test_moved_alias_is_found_although_hsms_agree(control: Control) -> None:
    """The label of the certificate object decides which alias EJBCA shows. A CA finds its key by the alias."""
    control.ejbca("node2", "certificate_object", label="signKey-2025", certificate="signKey-2025 <b>\u202e old")
    reactivate(control, "node2")

    run = play(STATUS, control, *VIEW)

    assert lists_key(run)
    assert row(run, "signKey-2025") == ["yes", "MOVED", "yes"]
    assert (
        r"node2: MOVED: signKey-2025 in crypto token SigningToken: the node shows this public key with alias signKey-2025 <b>\u202e old"
        in run.text.replace("\\\\", "\\")
    )


def test_other_key_under_an_alias_is_a_mismatch(control: Control) -> None:
    for node in ("node1", "node2"):
        control.generate_key(node, "twin")
        reactivate(control, node)
    try:
        run = play(STATUS, control, *VIEW)
    finally:
        for node in ("node1", "node2"):
            control.delete_key(node, "twin")
    assert row(run, "twin") == ["yes", "MISMATCH", "NOT-SHOWN"]


def test_inactive_token_is_unknown_and_keeps_the_hsm_keys(control: Control) -> None:
    """Without auto-activation, no view tries a PIN. The keys of the other nodes are compared."""
    control.ejbca("node1", "set", auto_activation=False)
    control.ejbca("node3", "deactivate")

    run = play(STATUS, control, *VIEW)

    assert run.status != 0
    assert lists_key(run)
    assert row(run, "signKey-2025") == ["yes", "yes", "INACTIVE"]
    assert (
        "VIEW UNKNOWN: node3: INACTIVE: auditKey-2025, crlKey-2025, ocspKey-2025 and 3 more in crypto token SigningToken"
        in run.text
    )
    assert "Activate the crypto token on this node [crypto_token_inactive]" in run.text
    assert "The EJBCA view of node3 is unknown. See the lines VIEW UNKNOWN [ejbca_view_unknown]." in run.text
    assert counted(control, "node3", "auto_activations") == 0


def test_failing_activation_is_named_and_can_be_left_out(control: Control, tmp_path: Path) -> None:
    """Two tasks of one run try the PIN once. The message names the variable, and with the variable EJBCA is not contacted."""
    control.ejbca("node2", "slot_pin", code="another code")
    control.ejbca("node2", "deactivate")
    before = control.ejbca("node2", "pin_state")["wrong"]
    playbook = own_playbook(
        tmp_path,
        *(
            {"tasks": [{"ansible.builtin.import_role": {"name": f"keyops.utrust.{role}"}}]}
            for role in ("key_report", "key_report", "key_status")
        ),
    )
    page = ("-e", "key_report_ejbca_view=true", "-e", f"key_report_page={tmp_path / 'keys.html'}")

    run = play(playbook, control, *VIEW, *page)

    assert run.status != 0
    assert lists_key(run)
    assert "VIEW UNKNOWN: node2: " in run.text
    assert "an earlier task of this run found a crypto token of this node that cannot be activated" in run.text
    assert "Set the variable utrust_ejbca_view of node2 to false" in run.text
    tries = control.ejbca("node2", "pin_state")["wrong"] - before
    assert tries <= 1, f"{tries} PIN tries"

    control.ejbca("node2", "counters", clear=True)
    for value in (False, "no", "nein"):
        left_out = play(
            STATUS, control, *VIEW, inventory=inventory(control, tmp_path, node2={"utrust_ejbca_view": value})
        )
        assert left_out.status == 0, left_out.output
        assert "VIEW NOT READ: node2: the variable utrust_ejbca_view of node2 is false" in left_out.text
        assert "view in sync: EJBCA of node1, node3 shows the same 6 key pair(s)" in left_out.text
    assert not contacted(control, "node2")


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        ({"response": "redirect"}, "ejbca_redirected"),
        ({"response": "bad_gateway"}, "ejbca_page_refused"),
        ({"response": "truncated"}, "ejbca_unreachable"),
        ({"roles": {"ejbca-reader": "nothing"}}, "ejbca_page_unrecognized"),
        ({"roles": {"ejbca-reader": "administrator"}}, "ejbca_rights_excessive"),
        ({"token_ids": {TOKEN: 77}}, "database_diverged"),
        ({"vip": "node1"}, "ejbca_identity_unknown"),
        ({"host_name": "node1"}, "ejbca_identity_unknown"),
    ],
    ids=str,
)
def test_view_problem_of_one_node_hides_nothing_else(control: Control, flags: dict[str, t.Any], code: str) -> None:
    """The keys of the HSMs and the views of the other nodes are shown. A shared identity makes both nodes unknown."""
    control.ejbca("node2", "flags", **flags)

    run = play(STATUS, control, *VIEW)

    assert run.status != 0
    assert lists_key(run)
    assert f"[{code}]" in run.text
    assert "[ejbca_view_unknown]" in run.text
    unknown = "node1, node2, node3" if code == "ejbca_identity_unknown" else "node2"
    assert f"The EJBCA view of {unknown} is unknown" in run.text
    assert ("view in sync: EJBCA of node1, node3" in run.text) == (unknown == "node2")


def test_source_view_unknown_leaves_nothing_to_compare(control: Control) -> None:
    control.ejbca("node1", "flags", response="unavailable")
    run = play(STATUS, control, *VIEW)
    assert run.status != 0
    assert lists_key(run)
    assert "VIEW UNKNOWN: node2: the EJBCA view of the source node1 is unknown, so nothing was compared" in run.text
    assert "view in sync" not in run.text


@pytest.mark.parametrize("client", ["guest", None])
def test_refused_or_missing_reader_is_named(control: Control, tmp_path: Path, client: str | None) -> None:
    """A certificate without a role is refused by a page with status 200. A node without an account is not contacted."""
    if client is None:
        run = play(STATUS, control, *VIEW, inventory=inventory(control, tmp_path, *READER))
        assert "Set the variable utrust_ejbca_reader_client_cert of this host [credentials_missing]" in run.text
        assert not contacted(control, "node2")
    else:
        files = dict(zip(READER, map(str, control.client(client)), strict=True))
        run = play(STATUS, control, *VIEW, inventory=inventory(control, tmp_path, node2=files))
        assert "VIEW UNKNOWN: node2: reading " in run.text
    assert run.status != 0
    assert lists_key(run)
    assert "The EJBCA view of node2 is unknown" in run.text


def test_two_nodes_at_one_address_are_never_in_sync(control: Control, tmp_path: Path) -> None:
    hosts = yaml.safe_load(control.inventory_file.read_text("utf-8"))["utrust"]["hosts"]
    names = ("utrust_ejbca_host", "utrust_ejbca_port", "utrust_ejbca_tls_fingerprint")
    same = {name: hosts["node2"][name] for name in names}

    run = play(STATUS, control, *VIEW, inventory=inventory(control, tmp_path, node3=same))

    assert run.status != 0
    assert "EJBCA of node2, node3 has the same address" in run.text
    assert "The EJBCA view of node2, node3 is unknown" in run.text
    assert "Set utrust_ejbca_host of node3 to the address of the node itself" in run.text


def test_view_is_shown_without_the_keys_of_the_hsms(control: Control, tmp_path: Path) -> None:
    """The heading says that nothing but the view is known, and every key pair has a row. The report says the same."""
    control.fault("not_json", node="node1", path="/hsm/keys", count=1000)
    page = tmp_path / "keys.html"

    run = play(STATUS, control, *VIEW)
    report = play(REPORT, control, "-e", "key_report_ejbca_view=true", "-e", f"key_report_page={page}")

    assert run.status != 0
    assert "scope: ejbca. The keys of the HSMs are unknown" in run.text
    assert row(run, "signKey-2025") == ["yes", "yes", "yes"]
    assert "[keys_unknown]" in run.text
    assert report.status == 0, report.output
    assert "INCOMPLETE" in report.text
    data = json.loads(page.with_suffix(".json").read_text("utf-8"))["ejbca_view"]
    assert (data["scope"], data["hsm_keys_known"], data["in_sync"]) == ("ejbca", False, True)
    assert "scope: ejbca. The keys of the HSMs are unknown</h2>" in page.read_text("utf-8")


def test_node_without_a_response_still_shows_its_view(control: Control) -> None:
    """The HSM of node2 cannot be read, and its EJBCA can."""
    control.fault("not_json", node="node2", path="/api/v1/node", count=1000)
    run = play(STATUS, control, *VIEW)
    assert run.status != 0
    assert "[keys_unknown]" in run.text
    assert "view in sync: EJBCA of node1, node2, node3 shows the same 6 key pair(s)" in run.text


def test_node_that_has_not_joined_is_not_contacted(tmp_path: Path) -> None:
    """Neither the node nor its EJBCA is contacted, because a node that was contacted can no longer join."""
    with (
        cluster(nodes=2, joined=1, restored=1, keys=1, ejbca=True) as single,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        listener.settimeout(0)
        hosts = yaml.safe_load(single.inventory_file.read_text("utf-8"))["utrust"]["hosts"]
        ejbca = {name: value for name, value in hosts["node1"].items() if name.startswith("utrust_ejbca_")}
        place = {"utrust_ejbca_host": "127.0.0.1", "utrust_ejbca_port": listener.getsockname()[1]}

        run = play(STATUS, single, *VIEW, inventory=inventory(single, tmp_path, node2={**ejbca, **place}))

        assert "VIEW UNKNOWN: node2: node2 is not a joined member" in run.text
        assert single.connections("node2") == 0
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert run.status != 0


def test_deadline_of_a_node_keeps_its_hsm_keys(control: Control) -> None:
    """EJBCA of node2 sends no response. The time of the node ends its view only."""
    control.fault("latency", node="node2", path="/ejbca/adminweb", seconds=60)
    run = play(STATUS, control, *VIEW, "-e", "key_status_node_timeout=4")
    assert lists_key(run)
    assert "VIEW UNKNOWN: node2: the EJBCA of this node did not send its view within the time for the node" in run.text
    assert "view in sync: EJBCA of node1, node3" in run.text


def test_bastion_reads_the_views(control: Control, tmp_path: Path) -> None:
    """The module runs on the bastion, and shows the same as the controller."""
    content = yaml.safe_load(control.inventory_file.read_text("utf-8"))
    content["utrust"]["vars"] = {"utrust_bastion": "bastion"}
    content["all"] = {"hosts": {"bastion": {"ansible_connection": "local"}}}
    path = tmp_path / "inventory.yml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")

    run = play(STATUS, control, *VIEW, inventory=path)

    assert run.status == 0, run.output
    assert "view in sync: EJBCA of node1, node2, node3 shows the same 6 key pair(s)" in run.text
    assert counted(control, "node2", "logins") == 1


def test_report_has_views_in_both_files(control: Control, tmp_path: Path) -> None:
    """Drift of a view is drift of the report. The text of EJBCA is shown as text."""
    hostile = "<script>alert(1)</script>{{ 7 * 7 }}"
    control.ejbca("node2", "certificate_object", label="signKey-2025", certificate=hostile)
    reactivate(control, "node2")
    page = tmp_path / "keys.html"

    run = play(REPORT, control, "-e", "key_report_ejbca_view=true", "-e", f"key_report_page={page}")

    assert run.status == 0, run.output
    assert f"DRIFT: {page}" in run.text
    data = json.loads(page.with_suffix(".json").read_text("utf-8"))
    assert (data["verdict"], data["matrix"]["drift"], data["ejbca_view"]["scope"]) == ("drift", [], "ejbca")
    assert [entry["node"] for entry in data["ejbca_view"]["drift"]] == ["node2"]
    text = page.read_text("utf-8")
    assert "EJBCA view: keys as EJBCA of each node shows them, scope: ejbca</h2>" in text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;{{ 7 * 7 }}" in text
