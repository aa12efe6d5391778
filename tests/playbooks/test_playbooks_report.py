# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`ansible-playbook keyops.utrust.report` as a user runs it."""

from __future__ import annotations

import json
import typing as t

import pytest
import yaml
from utrust_appliance.testing import cluster

from tests.support.playbook import ROOT, inventories, methods, play

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

REPORT = "keyops.utrust.report"
COMMANDS = (
    "{{ 7 * 191 }}",
    "{{ lookup('pipe', 'touch $VICTIM') }}",
    "{% set x = lookup('pipe', 'touch $VICTIM') %}<b>",
)


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    """Node2 lacks the key of a CA, and node3 is in Factory Reset Mode."""
    with cluster(nodes=3, restored=2, faults=True) as control:
        control.generate_key("node1", "signKey-2026")
        yield control


def report(control: Control, folder: Path, *arguments: str, **options: t.Any) -> t.Any:
    page = folder / "out" / "report.html"
    page.parent.mkdir(exist_ok=True)
    return play(REPORT, control, "-e", f"key_report_page={page}", *arguments, **options), page


def test_html_and_json_agree_and_no_node_changes(control: Control, tmp_path: Path) -> None:
    """Both files have the same content, and the playbook sends only GET requests."""
    cas = [{"name": "IssuingCA", "label": "signKey-2026"}]
    control.clear_log()
    before = inventories(control)

    run, page = report(control, tmp_path, "-e", json.dumps({"key_report_cas": cas}))

    assert run.status == 0, run.output
    assert methods(control) == {"GET"}
    assert inventories(control) == before
    assert f"DRIFT: {page}" in run.text
    data = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert (data["verdict"], data["source"], data["history"]) == ("drift", "node1", None)
    assert data["cas"][0]["would_fail_on"] == ["node2", "node3"]
    assert data["cas"][0]["nodes"]["node3"]["reason"] == "the HSM is in the state Factory Reset Mode"
    assert [node["hsm_serial"] for node in data["nodes"]] == [node["serial"] for node in control.status()["nodes"]]
    text = page.read_text(encoding="utf-8")
    for row in data["matrix"]["rows"]:
        assert row["label"] in text
        assert row["fingerprint"][:23] in text
    assert data["nodes"][0]["mbk"]["check_value"] in text
    assert [f"{path.stat().st_mode & 0o777:o}" for path in sorted(page.parent.iterdir())] == ["640", "640"]


def test_relative_path_begins_at_the_working_directory(control: Control, tmp_path: Path) -> None:
    """Relative paths never lead into the collection. PWD is not used, because ansible-runner does not set it."""
    collection = ROOT / "playbooks"
    before = sorted(collection.iterdir())
    for arguments, names in (
        ((), ["key_report.html", "key_report.json"]),
        (("-e", "key_report_page=keys.html"), ["keys.html", "keys.json"]),
    ):
        folder = tmp_path / names[0]
        folder.mkdir()
        run = play(REPORT, control, *arguments, cwd=folder, env={"PWD": "/"})
        assert run.status == 0, run.output
        assert f"{folder / names[0]}, {folder / names[1]}" in run.text
        assert sorted(path.name for path in folder.iterdir()) == names
    assert sorted(collection.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"page": "/nonexistent/keys.html"}, "report_not_written"),
        ({"data": "/nonexistent/keys.json"}, "report_not_written"),
        ({"page": "/tmp"}, "report_not_written"),
        ({"page": "keys.json"}, "option_invalid"),
        ({"mode": 0o644}, "option_invalid"),
        ({"max_parallel": 0}, "option_invalid"),
        ({"source": "node33"}, "host_unknown"),
    ],
    ids=str,
)
@pytest.mark.parametrize("check", [(), ("--check",)], ids=["run", "check"])
def test_wrong_option_is_found_before_reading(
    control: Control, tmp_path: Path, options: dict[str, t.Any], code: str, check: tuple[str, ...]
) -> None:
    control.clear_log()
    survey = {f"key_report_{name}": value for name, value in options.items()}
    run = play(REPORT, control, "-e", json.dumps(survey), *check, cwd=tmp_path)
    assert run.status != 0
    assert f"code: {code}" in run.text
    assert methods(control) == set()
    assert list(tmp_path.iterdir()) == []


def test_options_of_the_inventory_and_blank_values(control: Control, tmp_path: Path) -> None:
    """Group variables are used, and blank answers of a survey count as not set."""
    inventory = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))
    inventory["utrust"]["vars"] = {"key_report_page": str(tmp_path / "keys.html"), "key_report_mode": "0604"}
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
    for blank in ("", " ", None):
        survey = dict.fromkeys(
            (f"key_report_{name}" for name in ("data", "cas", "audit_file", "max_parallel", "node_timeout")), blank
        )
        run = play(REPORT, control, "-e", json.dumps(survey), inventory=tmp_path / "inventory.yml")
        assert run.status == 0, run.output
        data = json.loads((tmp_path / "keys.json").read_text(encoding="utf-8"))
        assert (data["cas"], data["history"]) == ([], None)
        assert f"{(tmp_path / 'keys.html').stat().st_mode & 0o777:o}" == "604"


def test_check_mode_writes_nothing(control: Control, tmp_path: Path) -> None:
    run, page = report(control, tmp_path, "--check", "--diff")
    assert run.status == 0, run.output
    assert list(page.parent.iterdir()) == []
    assert "signKey-2026" not in run.output


def test_unreachable_and_excluded_nodes_are_in_the_report(control: Control, tmp_path: Path) -> None:
    """The report lists an unreachable node and a member outside of the run, each with the reason."""
    control.fault("node_down", node="node2")
    run, page = report(control, tmp_path, "--limit", "node2", env={"UTRUST_RETRIES": "0"})
    control.clear_faults()
    assert run.status == 0, run.output
    data = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert data["verdict"] == "incomplete"
    problems = {node["host"]: node["problem"] for node in data["nodes"]}
    assert problems["node1"] is None
    assert "GET /api/v1/node" in problems["node2"]
    assert problems["node3"] == "the joined member was not part of this run"


def test_report_shows_history_of_the_audit_file(tmp_path: Path) -> None:
    """The report shows earlier synchronizations from the audit file."""
    audit = tmp_path / "audit.jsonl"
    with cluster(nodes=2, restored=2) as control:
        control.generate_key("node1", "signKey-2026")
        audited = {"UTRUST_AUDIT_FILE": str(audit), "ANSIBLE_CALLBACKS_ENABLED": "keyops.utrust.audit"}
        synchronized = play("keyops.utrust.key_sync", control, "-e", "key_sync_allow_outage=true", env=audited)
        assert synchronized.status == 0, synchronized.output

        run, page = report(control, tmp_path, "-e", f"key_report_audit_file={audit}", env=audited)

    assert run.status == 0, run.output
    data = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert (data["verdict"], data["history"]["problem"]) == ("in_sync", None)
    (event,) = data["history"]["events"]
    assert (event["node"], event["operation"], event["playbook"]) == ("node2", "key synchronization", "key_sync.yml")
    assert event["detail"] == "1 added, 0 replaced, verified"
    assert "1 added, 0 replaced, verified" in page.read_text(encoding="utf-8")


def test_label_is_not_evaluated_as_template(control: Control, tmp_path: Path) -> None:
    """A label with Jinja code is only text in the report and in the table."""
    victim = tmp_path / "victim"
    for label in COMMANDS:
        control.generate_key("node1", label)

    run, page = report(control, tmp_path, env={"VICTIM": str(victim)})
    shown = play("keyops.utrust.status", control, env={"VICTIM": str(victim)})

    assert (run.status, shown.status) == (0, 0), run.output + shown.output
    assert not victim.exists()
    data = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert set(COMMANDS) <= {row["label"] for row in data["matrix"]["rows"]}
    assert "{{ 7 * 191 }}" in page.read_text(encoding="utf-8")
    assert "{{ 7 * 191 }}" in shown.output
