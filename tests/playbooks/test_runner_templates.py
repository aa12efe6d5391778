# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every job template of awx/ as a job: its survey, its credentials, and the inventory of a site. AWX keeps no secret of them."""

from __future__ import annotations

import base64
import json
import re
import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.awx_template import APPLIANCE, TemplateController
from tests.support.ejbca_client import CA, TOKEN
from tests.support.playbook import ROOT, card_holders, changing_methods, inventories

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

Replies = dict[str, t.Any]
EXAMPLES = ROOT / "molecule/renew_ca/tasks"
RENEW: t.Final = {
    "renew_ca_name": CA,
    "renew_ca_crypto_token": TOKEN,
    "renew_ca_alias": "signKey-2027",
    "renew_ca_key_alg": "EC",
    "renew_ca_key_spec": "P-256",
}
#: Replies to questions that have no default, numbers as text, and the end of each job on nodes with the same keys.
TEMPLATES: t.Final[dict[str, tuple[Replies, Replies, str]]] = {
    "status": ({}, {}, "in sync: node1, node2, node3 hold the same 1 key(s)"),
    "report": ({}, {}, "Nobody can read the files after the job"),
    "preflight": (
        {},
        {"preflight_max_backup_hours": "24", "preflight_cards_available": "3"},
        "no problems found on node1, node2, node3",
    ),
    "key_sync": (
        {},
        {"key_sync_batch_size": "1", "key_sync_settle_time": "0"},
        "node3 up to date: 1 key(s) as on the source",
    ),
    "initial_sync": (
        {},
        {
            "guided_restore_cards_required": "2",
            "guided_restore_cards_total": "3",
            "guided_restore_cards_available": "2",
            "guided_restore_timeout": "600",
        },
        "node3 up to date: 1 key(s), same as the source",
    ),
    "cancel_restore": ({}, {}, "node3"),
    "renew_ca": (RENEW, {"renew_ca_slot": "0"}, f"{CA} would use signKey-2027"),
    "verify_audit": ({}, {"audit_count": "1"}, "intact"),
}


@pytest.fixture(scope="module")
def shared() -> Iterator[Control]:
    """Three nodes with the same keys. No test changes a node."""
    with cluster(nodes=3, restored=3, keys=1, ejbca=True) as control:
        for node in ("node1", "node2", "node3"):
            control.backup(node)
        yield control


def controller_of(control: Control, folder: Path, **changes: t.Any) -> TemplateController:
    paths = {"site_report_page": str(folder / "report.html"), "site_switch_tasks": str(EXAMPLES / "switch_ca.yml")}
    return TemplateController(control, folder / "jobs", **paths, **changes)


def audit_environment(folder: Path) -> dict[str, str]:
    return {
        "ANSIBLE_CALLBACKS_ENABLED": "keyops.utrust.audit",
        "UTRUST_AUDIT_FILE": str(folder / "audit.jsonl"),
        "UTRUST_AUDIT_ASSUME_PERSISTENT": "true",
    }


@pytest.fixture(scope="module")
def audit(shared: Control, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an audit file of one job."""
    folder = tmp_path_factory.mktemp("audit")
    controller = controller_of(shared, folder)
    controller.env = audit_environment(folder)
    assert controller.launch("status", user="cleo").status == "successful"
    (line,) = [line for line in (folder / "audit.jsonl").read_text(encoding="utf-8").splitlines() if '"cleo"' in line]
    assert "job_started" in line
    return folder / "audit.jsonl"


CASES: t.Final = [
    (name, replies)
    for name, (dummy, numbers, end) in TEMPLATES.items()
    for replies in ("default", "empty", "null", "text")
    if numbers or replies != "text"
]


@pytest.mark.parametrize(("name", "replies"), CASES)
def test_template_as_a_job(shared: Control, audit: Path, tmp_path: Path, name: str, replies: str) -> None:
    """The job type is that of the template, so that no job changes a node."""
    required, numbers, end = TEMPLATES[name]
    controller = controller_of(shared, tmp_path, site_audit_file=str(audit))
    survey = controller.templates[name]["survey"]["spec"]
    assert set(numbers) == {question["variable"] for question in survey if question["type"] == "integer"}
    optional = [question["variable"] for question in survey if not question["required"]]
    given: dict[str, Replies] = {
        "default": {},
        "empty": dict.fromkeys(optional, ""),
        "null": dict.fromkeys(optional),
        "text": numbers,
    }
    run = controller.launch(name, {**required, **given[replies]})
    assert run.status == "successful", run.output
    assert end in run.text
    assert changing_methods(shared) == set()


def search(job: Path, *patterns: bytes) -> list[str]:
    """Return the files of a job that have one of the patterns. AWX encrypts the files of credentials, and deletes them with the job."""
    files = [path for path in job.rglob("*") if path.is_file() and not path.is_symlink() and path.parent.name != "env"]
    assert any("job_events" in path.parts for path in files)
    return [str(path) for path in files if any(re.search(pattern, path.read_bytes()) for pattern in patterns)]


@pytest.mark.parametrize(
    ("login", "verbosity"), [("certificate", "-vvvvv"), ("token", "-vvvv"), ("token_in_inventory", "-vvvvv")]
)
def test_artifacts_of_a_job_have_no_secret(tmp_path: Path, login: str, verbosity: str) -> None:
    """AWX keeps artifacts and events. Neither a token nor a key nor a package is there, also after a failure."""
    with cluster(nodes=2, restored=2, keys=1, key_mix={"ec-p256": 1}, faults=True, claim_second=0.05) as control:
        control.generate_key("node1", "newKey")
        kind = "u.trust client certificate" if login == "certificate" else "u.trust bearer token"
        controller = controller_of(control, tmp_path)
        controller.site["site_credentials"][0]["type"] = kind
        if login == "token":
            controller.secrets[APPLIANCE] = {"bearer_token": control.token + "\n"}
        if login == "token_in_inventory":
            (tmp_path / "token").write_text(control.token + "\n", encoding="utf-8")
            lookup = f"{{{{ lookup('ansible.builtin.file', '{tmp_path / 'token'}') }}}}"
            controller.host_vars = {"utrust_bearer_token": lookup}
            controller.templates["key_sync"]["credentials"] = []
        control.fault("lost_response_before", node="node2", method="POST", path="/apply$", count=1)
        replies = {"key_sync_allow_outage": "true"}
        failed = controller.launch("key_sync", replies, verbosity, job_type="run")
        control.clear_faults()
        applied = controller.launch("key_sync", replies, verbosity, job_type="run")
        assert (failed.status, applied.status) == ("failed", "successful"), applied.output
        assert applied.changed == 1
        lines = control.client()[1].read_text(encoding="utf-8").splitlines()
        package = (b"KSP-SIMULATOR", base64.b64encode(b"KSP-SIMULATOR"))
        secrets = [
            re.escape(text) for text in (control.token.encode(), *(line.encode() for line in lines[1:3]), *package)
        ]
        assert all(len(secret) > 8 for secret in secrets)
        for job in (failed, applied):
            assert search(job.folder, *secrets) == []
            # The output of the job is in these files, so the search finds what is there.
            assert search(job.folder, b"newKey") != []


def test_ceremony_with_confirmations_as_data(tmp_path: Path) -> None:
    """People present the cards at the PIN pad. The survey of the site also asks for a confirmation."""
    with cluster(nodes=2, restored=1, keys=1, key_mix={"ec-p256": 1}) as control:
        controller = controller_of(control, tmp_path)
        controller.env = audit_environment(tmp_path)
        template = controller.templates["initial_sync"]
        template["extra_vars"] = {"guided_restore_max_backup_hours": 0, "guided_restore_confirm_serial": True}
        confirmations = "guided_restore_manual_confirmations"
        template["survey"]["spec"] += [
            {"variable": confirmations, "type": "textarea", "required": False, "default": ""}
        ]
        backup = {"subject": "backup", "node": "node1", "confirmed_by": "Ada", "reason": "tape 7"}
        replies = {
            "guided_restore_hsm_serials": "node2=UT000002",
            confirmations: json.dumps([backup, {**backup, "node": "node2"}]),
            "guided_restore_cards_available": 2,
        }
        wrong = controller.launch(
            "initial_sync", {**replies, "guided_restore_hsm_serials": "node2=UT000009"}, job_type="run"
        )
        assert wrong.status == "failed"
        assert "hsm_serial_mismatch" in wrong.text
        preview = controller.launch("initial_sync", replies)
        assert preview.status == "successful", preview.output
        with card_holders(control, "node2"):
            run = controller.launch("initial_sync", replies, "-vvvv", job_type="run")
        assert run.status == "successful", run.output
        assert "PIN pad front-usb" in run.text
        assert "card 2 of 2" in run.text
        records = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text(encoding="utf-8").splitlines()]
        assert "tape 7" in json.dumps(records)
        assert '"hsm_serial_was_read": true' in json.dumps(records)
        assert len(set(inventories(control).values())) == 1
        pins = [rf"(?<![\d.]){control.pin_of(card['card'])}(?!\d)".encode() for card in control.cards()]
        assert search(run.folder, *pins) == []


def test_ca_is_renewed_in_a_job(tmp_path: Path) -> None:
    """The template has the tasks of the site, the survey has the names, and the credential has the certificate of EJBCA."""
    with cluster(nodes=3, restored=3, keys=1, ejbca=True) as control:
        controller = controller_of(control, tmp_path)
        controller.templates["renew_ca"]["extra_vars"] |= {
            # The tasks of the site use modules, which need a directory.
            "ansible_remote_tmp": str(tmp_path / "remote"),
            "renew_ca_proof_tasks": str(EXAMPLES / "make_proof_ca.yml"),
            "renew_ca_reactivation_affects": {"crypto_tokens": [], "cas": [CA], "key_bindings": []},
        }
        replies = {
            **RENEW,
            "renew_ca_proof_ca": "Gate-2027",
            "renew_ca_proof_certificates": "true",
            "renew_ca_ejbca_view": "true",
            "renew_ca_reactivate": "true",
            "renew_ca_out_of_traffic": "node2\nnode3",
        }
        run = controller.launch("renew_ca", replies, job_type="run")
        assert run.status == "successful", run.output
        assert f"{CA} uses signKey-2027" in run.text
