# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The data of awx/ against playbooks, roles and modules: each question of a survey sets an option of its type, and asks for no secret."""

from __future__ import annotations

import importlib
import re
import subprocess
import typing as t

import pytest
import yaml

from tests.awx.conftest import ROOT, write_project
from tests.support import awx_api
from tests.support.awx_template import read
from tests.support.playbook import BIN, environment

if t.TYPE_CHECKING:
    from pathlib import Path

OPERATIONS = "ansible_collections.keyops.utrust.plugins.module_utils._operations"
ACTIONS = "ansible_collections.keyops.utrust.plugins.action"
#: Where a role hands its options over.
SPECS = {
    "key_sync": ["ksp_import", "utrust_sync_plan"],
    "key_report": ["utrust_key_report"],
    "key_status": [],
    "preflight": ["utrust_preflight"],
    "readiness": ["utrust_readiness"],
    "guided_restore": ["hsm_restore", "utrust_preflight"],
    "renew_ca": ["ejbca_key", "key_proof"],
}
#: Options that a role or a playbook reads itself, or hands over under another name.
OF_TASKS: dict[str, dict[str, t.Any]] = {
    "key_status_select": {"type": "str"},
    "key_status_only_drift": {"type": "bool"},
    "key_status_fail_on_drift": {"type": "bool"},
    "key_status_ejbca_view": {"type": "bool"},
    "guided_restore_timeout": {"type": "float"},
    "key_sync_confirmations": {"type": "list"},
    "renew_ca_name": {"type": "str"},
    "renew_ca_proof_ca": {"type": "str"},
    "renew_ca_reactivate": {"type": "bool"},
    "renew_ca_out_of_traffic": {"type": "list"},
    "audit_file": {"type": "path"},
    "audit_public_key": {"type": "path"},
    "audit_count": {"type": "int"},
    "audit_head": {"type": "str"},
    "utrust_change_reference": {"type": "str"},
}
QUESTIONS = {"int": {"integer"}, "float": {"integer", "float"}, "bool": {"multiplechoice"}}
TEXTS = {"str": {"text", "textarea"}, "path": {"text"}, "list": {"textarea"}, "dict": {"textarea"}, "raw": {"text"}}


TEMPLATES: dict[str, dict[str, t.Any]] = {item["name"]: item for item in read("job_templates.yml")["job_templates"]}
CASES = [
    pytest.param(name, question, id=f"{name}-{question['variable']}")
    for name, template in TEMPLATES.items()
    for question in template["survey"]["spec"]
]
questions = pytest.mark.parametrize(("name", "question"), CASES)


def playbooks() -> list[str]:
    return sorted({path.stem for path in (ROOT / "playbooks").glob("*.yml")} - {"require_nodes"})


def texts(name: str) -> str:
    """Return a playbook with the task files of its roles."""
    text = (ROOT / f"playbooks/{name}.yml").read_text(encoding="utf-8")
    roles = re.findall(r"(?:name|role): keyops\.utrust\.(\w+)", text)
    files = [
        path for role in roles if (ROOT / "roles" / role).is_dir() for path in (ROOT / "roles" / role).rglob("*.yml")
    ]
    return text + "".join(path.read_text(encoding="utf-8") for path in files)


def spec_of(variable: str) -> dict[str, t.Any]:
    """Return the specification of the option that a variable sets."""
    if variable in OF_TASKS:
        return OF_TASKS[variable]
    role = next(name for name in SPECS if variable.startswith(f"{name}_"))
    known: dict[str, t.Any] = {"source": {"type": "str"}}
    for name in SPECS[role]:
        folder, attribute = (ACTIONS, "ActionModule") if name.startswith("utrust_") else (OPERATIONS, "ARGUMENT_SPEC")
        found = getattr(importlib.import_module(f"{folder}.{name}"), attribute)
        known |= found.spec if attribute == "ActionModule" else found
    return t.cast("dict[str, t.Any]", known[variable.removeprefix(f"{role}_")])


def test_each_playbook_has_a_job_template() -> None:
    assert sorted(item["playbook"] for item in TEMPLATES.values()) == [f"{name}.yml" for name in playbooks()]
    assert sorted(TEMPLATES) == playbooks()


def test_project_has_each_playbook_and_no_other(project: dict[str, str]) -> None:
    """Job templates cannot name a playbook of a collection."""
    assert sorted(project) == [f"{name}.yml" for name in playbooks()]
    assert sorted(awx_api.playbooks_of(project)) == sorted(project)
    for name, text in project.items():
        (play,) = yaml.safe_load(text)
        assert play["ansible.builtin.import_playbook"] == f"keyops.utrust.{name.removesuffix('.yml')}"


def test_project_second_run_changes_nothing(tmp_path: Path) -> None:
    """A file of the site in the same folder stays."""
    (tmp_path / "switch_ca.yml").write_text("[]\n", encoding="utf-8")
    assert "changed=1 " in write_project(tmp_path)
    assert "changed=0 " in write_project(tmp_path)
    assert (tmp_path / "switch_ca.yml").read_text(encoding="utf-8") == "[]\n"


def test_project_playbooks_are_found_by_ansible(project: dict[str, str], tmp_path: Path) -> None:
    for name, text in project.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    command = [str(BIN / "ansible-playbook"), "--list-tasks", "-i", "node1,", *map(str, tmp_path.iterdir())]
    done = subprocess.run(command, env=environment(), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("playbook: ") == len(playbooks())


@questions
def test_survey_variable_is_an_option(name: str, question: dict[str, t.Any]) -> None:
    """A misspelled variable would be ignored."""
    variable = question["variable"]
    if variable == "utrust_change_reference":  # the callback reads it
        assert variable in (ROOT / "plugins/plugin_utils/_audit/events.py").read_text(encoding="utf-8")
        return
    assert re.search(rf"\b{variable}\b", texts(name)), variable
    if name == "verify_audit":
        return
    roles = [role for role in SPECS if variable.startswith(f"{role}_")]
    spec = yaml.safe_load((ROOT / f"roles/{roles[0]}/meta/argument_specs.yml").read_text(encoding="utf-8"))
    assert variable in spec["argument_specs"]["main"]["options"]


@questions
def test_survey_question_has_the_type_of_its_option(name: str, question: dict[str, t.Any]) -> None:
    spec = spec_of(question["variable"])
    kind = spec.get("type", "str")
    if spec.get("choices"):
        assert question["type"] == "multiplechoice"
        assert set(question["choices"]) <= set(spec["choices"])
        return
    if question["type"] == "multiplechoice" and kind == "str":
        assert question["variable"] == "renew_ca_key_alg"  # EJBCA knows the algorithms
        return
    assert question["type"] in {**QUESTIONS, **TEXTS}[kind]
    if kind == "bool":
        assert question["choices"] == ["false", "true"]


@questions
def test_survey_question_with_choices_has_a_default(name: str, question: dict[str, t.Any]) -> None:
    """AWX rejects a blank reply to such a question, and a required question without a default stops a schedule."""
    if question["type"] == "multiplechoice":
        assert question["required"]
        assert question["default"] in question["choices"]
    else:
        assert question["type"] in ("integer", "float") or "choices" not in question


@questions
def test_survey_asks_for_no_secret(name: str, question: dict[str, t.Any]) -> None:
    assert question["type"] != "password"
    asked = " ".join(question[key] for key in ("question_name", "question_description", "variable")).lower()
    harmless = asked.replace("_", " ").replace("pin pad", "").replace("crypto token", "")
    assert (
        re.findall(r"\b(pins?|password|passphrase|passcode|secret|token|credential|private key|share)\b", harmless)
        == []
    )


@pytest.mark.parametrize("name", TEMPLATES)
def test_survey_names_each_variable_once(name: str) -> None:
    names = [question["variable"] for question in TEMPLATES[name]["survey"]["spec"]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ["key_sync", "initial_sync", "cancel_restore", "renew_ca"])
def test_template_that_changes_asks_for_a_reference(name: str) -> None:
    template = TEMPLATES[name]
    assert template["survey"]["spec"][0]["variable"] == "utrust_change_reference"
    assert (template["ask_job_type"], template["ask_limit"]) == (True, name != "renew_ca")


def test_templates_never_ask_for_policy() -> None:
    """Who may approve, and which keys may be replaced, is not a matter of the person who starts a job."""
    variables = {question["variable"] for template in TEMPLATES.values() for question in template["survey"]["spec"]}
    policy = {"approvals_required", "approvers", "allow_replace", "destroyed_keys", "audit", "requested_by", "dest"}
    assert variables & {f"key_sync_{name}" for name in policy} == set()


def test_credential_types_inject_what_the_collection_reads() -> None:
    argspec = importlib.import_module("ansible_collections.keyops.utrust.plugins.module_utils._argspec")
    environment = {spec["fallback"][1][0] for spec in argspec.CONNECTION_SPEC.values() if "fallback" in spec}
    of_account = importlib.import_module("ansible_collections.keyops.utrust.plugins.filter.ejbca_options")
    logins = {
        account: {f"utrust_ejbca_{account}_{name}" for name in of_account.OF_ACCOUNT} for account in of_account.ACCOUNTS
    }
    injected = []
    for item in read("credential_types.yml")["credential_types"]:
        assert set(item["injectors"].get("env", {})) <= environment - {"UTRUST_BEARER_TOKEN"}, item["name"]
        injected += [set(item["injectors"]["extra_vars"])] if "extra_vars" in item["injectors"] else []
    assert injected == list(logins.values())
