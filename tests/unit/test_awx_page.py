# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of docs/awx.md with which people approve a plan."""

from __future__ import annotations

import base64
import datetime
import re
import subprocess
import typing as t
from pathlib import Path

import yaml
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster import approval_file, plan_file
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.approvals import check_approvals, load_approvers
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.plan import make_plan

PAGE = (Path(__file__).resolve().parents[2] / "docs/awx.md").read_text(encoding="utf-8")


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


def test_workflow_of_the_page_is_closed() -> None:
    """Each node leads to a node of the workflow, and the job that applies follows both approvals."""
    [block] = [block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "workflow_nodes" in block]
    tasks = yaml.safe_load(block)
    nodes = {node["identifier"]: node for node in tasks[-1]["awx.awx.workflow_job_template"]["workflow_nodes"]}
    path = ["plan"]
    while following := nodes[path[-1]].get("related", {}).get("success_nodes"):
        [only] = following
        path.append(only["identifier"])
    assert path == ["plan", "first", "second", "apply", "report"]
    assert (nodes["plan"]["job_type"], nodes["apply"]["job_type"]) == ("check", "run")
