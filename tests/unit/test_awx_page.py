# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page docs/awx.md: the commands with which people approve a plan, the fields of the surveys, and the files of the setup."""

from __future__ import annotations

import base64
import datetime
import re
import subprocess
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster import approval_file, plan_file
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.approvals import check_approvals, load_approvers
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.plan import make_plan

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/awx.md").read_text(encoding="utf-8")


def commands(beginning: str, **replaced: str) -> list[str]:
    """Return the commands of the block that begins with this command."""
    [block] = [block for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL) if block.startswith(beginning)]
    for old, new in replaced.items():
        assert old in block
        block = block.replace(old, new)
    return [line.removeprefix("$ ") for line in block.splitlines()]


def run(folder: Path, *lines: str) -> str:
    return subprocess.run(
        ["bash", "-e"], cwd=folder, input="\n".join(lines), text=True, capture_output=True, check=True
    ).stdout


def test_commands_of_the_page_make_approvals_that_count(tmp_path: Path) -> None:
    changes: dict[str, t.Any] = {"targets": {}, "label": "ümlaut \u2028"}
    plan = make_plan(changes, requested_by="Änna", requester_account="anna", requested_at="2026-11-26T05:32:27+00:00")
    (tmp_path / "plan.base64").write_text(plan_file.to_base64(plan), encoding="ascii")
    assert run(tmp_path, *commands("$ base64 -d plan.base64")).strip() == plan["digest"]

    people = []
    for name in ("Ben", "Cleo"):
        files = {"ben.pem": f"{name}.pem"}
        shown = run(tmp_path, *commands("$ openssl genpkey", **files))
        people.append({"name": name, "accounts": [name.lower()], "public_key": shown})
        given = {"sha256:9621…d027": plan["digest"], "NAME=Ben": f"NAME={name}", **files}
        run(tmp_path, *commands("$ DIGEST=", **given))
    collected = run(tmp_path, *commands("$ printf '[%s,%s]'"))

    problems = check_approvals(
        plan,
        approval_file.read_base64(collected),
        required=2,
        approvers=load_approvers(people),
        launchers=["dora"],
        now=datetime.datetime.now(datetime.UTC),
    )
    assert problems == []
    assert base64.b64decode(collected).decode().count("Ben") == 1


#: Fields of several templates, and the end of their variable if each role has its own.
SHARED: t.Final = {
    "Change reference": "utrust_change_reference",
    "Source node": "_source",
    "Manual confirmations": "_manual_confirmations",
}
TEMPLATES: t.Final[list[dict[str, t.Any]]] = yaml.safe_load(
    (ROOT / "awx/job_templates.yml").read_text(encoding="utf-8")
)["job_templates"]


def fields(heading: str) -> list[tuple[str, str]]:
    """Return field and variable of each row of the table that follows a line of the page."""
    found = re.search(rf"^{re.escape(heading)}\n\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    rows = found[1].splitlines()[2:] if found else []
    cells = [[cell.strip().strip("`") for cell in row.split("|")] for row in rows]
    return [(row[1], row[2]) for row in cells]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: str(template["name"]))
def test_page_has_each_field_of_a_survey(template: dict[str, t.Any]) -> None:
    """The rows have the order of the survey. A field of several templates is in a table of its own."""
    asked = [(question["question_name"], question["variable"]) for question in template["survey"]["spec"]]
    assert [each for each in asked if each[0] not in SHARED] == fields(f"`{template['name']}`:")
    for name, variable in asked:
        assert variable.endswith(SHARED.get(name, ""))


def test_page_has_the_fields_of_several_templates() -> None:
    rows = {name: text for name, text in fields("Fields of several templates:") if text}
    assert {name: text.partition("`")[0].removeprefix("…") for name, text in rows.items()} == SHARED


def test_page_has_each_list_of_manual_confirmations() -> None:
    [block] = re.findall(r"^\| template \| variable \| JSON list \|\n.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    rows = [[cell.strip().strip("`") for cell in row.split("|")[1:3]] for row in block.splitlines()]
    asked = [
        [template["name"], question["variable"]]
        for template in TEMPLATES
        for question in template["survey"]["spec"]
        if question["question_name"] == "Manual confirmations"
    ]
    assert rows == asked


def test_files_of_the_page_exist() -> None:
    """The commands of the setup name files of the folder awx."""
    named = set(re.findall(r"(?<![\w/.-])([a-z-]+\.yml)\b", "\n".join(re.findall(r"\$ (.*)", PAGE))))
    assert {"setup.yml", "project.yml", "site.yml", "execution-environment.yml", "requirements.yml"} <= named
    assert [name for name in named if not (ROOT / "awx" / name).exists()] == []
