# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Jobs as AWX runs them: ansible-runner with a private directory of each job, and nothing else of this machine.

Variables of a launch are `!unsafe` text. The job has no PWD, cannot write to its home directory, and its user has no entry in passwd.
"""

from __future__ import annotations

import dataclasses as dc
import json
import subprocess
import sys
import typing as t
from pathlib import Path

import yaml

from tests.support.ansible_warnings import assert_no_warning
from tests.support.playbook import environment

if t.TYPE_CHECKING:
    from collections.abc import Mapping

    from utrust_appliance.control import Control

RUNNER: t.Final = str(Path(sys.executable).parent / "ansible-runner")
#: A user that no file names, as in an execution environment.
UID: t.Final = 4711
#: A job that AWX marks as failed has the status `failed` and ends with this exit status.
FAILED: t.Final = 2
#: Every node of a job is reached by the controller only, so these must not matter.
CONNECTION: t.Final = {"ansible_connection": "ssh", "ansible_host": None, "ansible_user": "root"}


#: ansible-core itself wants to write to the home directory.
EXPECTED: t.Final = ("Failed to create the directory",)


class Unsafe(str):
    """Text of a survey, of an artifact, or of the user who starts a job. Ansible must not evaluate this text."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: t.Any) -> bool:
        return True


_Dumper.add_representer(Unsafe, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text)))


def dump(value: t.Any) -> str:
    """Return the value as YAML, in which marked text stays marked."""
    return yaml.dump(value, Dumper=_Dumper)


def unsafe(value: t.Any) -> t.Any:
    """Return the value with every text marked, as AWX writes it."""
    if isinstance(value, dict):
        return {Unsafe(name): unsafe(part) for name, part in value.items()}
    if isinstance(value, list):
        return [unsafe(part) for part in value]
    return Unsafe(value) if isinstance(value, str) else value


@dc.dataclass(frozen=True)
class JobResult:
    """`status` is AWX's word for the result, `output` what the page of the job shows, and `artifacts` what the next job gets."""

    status: str
    output: str
    artifacts: dict[str, t.Any]
    events: list[dict[str, t.Any]]
    folder: Path

    @property
    def text(self) -> str:
        return " ".join(self.output.split())

    @property
    def changed(self) -> int:
        return sum(self._stats().get("changed", {}).values())

    def _stats(self) -> dict[str, t.Any]:
        return next((each["event_data"] for each in self.events if each["event"] == "playbook_on_stats"), {})


class Controller:
    """A substitute for AWX that starts jobs. Its templates hold variables that are not marked, because administrators write them."""

    def __init__(self, control: Control, folder: Path) -> None:
        self.folder = folder
        self.host_vars: dict[str, t.Any] = {}
        self.group_vars: dict[str, t.Any] = {"utrust_source": "node1"}
        self.env: dict[str, str] = {}
        #: Number of this slice, and number of slices. AWX gives each job of a sliced template a part of the hosts.
        self.slice = (1, 1)
        self._inventory = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))
        self._jobs = 40

    def prepare(
        self,
        playbook: str,
        survey: Mapping[str, t.Any] | None = None,
        *,
        user: str | None = "anna",
        template: Mapping[str, t.Any] | None = None,
    ) -> Path:
        """Write the private directory of a job. `survey` is also what a workflow hands over. Without `user`, a schedule starts the job."""
        self._jobs += 1
        private = self.folder / f"job-{self._jobs}"
        for name in ("env", "inventory", "project", "home"):
            (private / name).mkdir(parents=True)
        scheduled = {"job_launch_type": "scheduled", "schedule_id": 3, "schedule_name": "nightly"}
        by = {"user_name": user, "user_id": 7, "job_launch_type": "manual"} if user is not None else scheduled
        meta = {"job_id": self._jobs, "job_template_name": "a template", **by}
        launch = {f"{prefix}_{name}": value for prefix in ("awx", "tower") for name, value in meta.items()}
        variables = {**(template or {}), **unsafe({**launch, **(survey or {})})}
        (private / "env/extravars").write_text(dump(variables), encoding="utf-8")
        (private / "env/envvars").write_text(json.dumps(self.env), encoding="utf-8")
        (private / "inventory/hosts.yml").write_text(yaml.safe_dump(self._hosts()), encoding="utf-8")
        # A job template names a playbook of its project, and cannot name a playbook of a collection.
        wrapper = [{"name": "Run the playbook of the collection", "import_playbook": f"keyops.utrust.{playbook}"}]
        (private / "project/job.yml").write_text(json.dumps(wrapper), encoding="utf-8")
        (private / "home").chmod(0o555)
        return private

    def _hosts(self) -> dict[str, t.Any]:
        group = self._inventory["utrust"]
        number, count = self.slice
        names = sorted(group["hosts"])[number - 1 :: count]
        hosts = {name: {**CONNECTION, **group["hosts"][name], **self.host_vars} for name in names}
        return {"utrust": {"hosts": hosts, "vars": self.group_vars}}

    def command(self, private: Path, *arguments: str) -> list[str]:
        """Return the command of a job. `arguments` are those of ansible-playbook, such as --check or --limit."""
        runner = [RUNNER, "run", str(private), "-p", "job.yml", "--ident", "1"]
        if arguments:
            runner.append("--cmdline=" + " ".join(arguments))
        return isolated(*runner)

    def start(self, private: Path, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(private, *arguments),
            cwd=private / "project",
            env=job_environment(private),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def run(
        self, playbook: str, survey: Mapping[str, t.Any] | None = None, *arguments: str, **options: t.Any
    ) -> JobResult:
        """Run a job to its end. `options` are those of `prepare`."""
        private = self.prepare(playbook, survey, **options)
        return finish(private, self.start(private, *arguments))


def isolated(*command: str) -> list[str]:
    """Return a command that runs as a user without an entry in passwd, and without PWD."""
    return ["unshare", "--user", f"--map-user={UID}", f"--map-group={UID}", "env", "-u", "PWD", *command]


def job_environment(private: Path) -> dict[str, str]:
    """Return the environment of a job. Only programs and the collection come from this machine."""
    usual = environment()
    kept = {name: usual[name] for name in ("PATH", "ANSIBLE_COLLECTIONS_PATH", "XDG_RUNTIME_DIR", "ANSIBLE_NOCOLOR")}
    kept["ANSIBLE_DEPRECATION_WARNINGS"] = "true"
    return {**kept, "HOME": str(private / "home"), "LANG": "C.UTF-8", "ANSIBLE_LOCAL_TEMP": str(private / "tmp")}


def finish(private: Path, process: subprocess.Popen[str], *, timeout: float = 180) -> JobResult:
    """Wait for the end of a job. Raises AssertionError for a warning, or if the job does not end in time."""
    try:
        shown, dummy = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        shown, dummy = process.communicate()
        raise AssertionError(f"the job did not end within {timeout} s; it showed:\n{shown}") from None
    return read_result(private / "artifacts/1", shown)


def read_result(artifacts: Path, shown: str = "") -> JobResult:
    """Return the result that a job has left in its artifacts. Raises AssertionError for a warning."""
    files = [path for path in (artifacts / "job_events").glob("*.json") if not path.name.endswith("-partial.json")]
    files.sort(key=lambda path: int(path.name.partition("-")[0]))
    events = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    output = "\n".join(event["stdout"] for event in events if event.get("stdout"))
    status = (artifacts / "status").read_text(encoding="utf-8") if (artifacts / "status").exists() else "missing"
    assert events, shown
    assert_no_warning(f"{output}\n{shown}", EXPECTED)
    stats: dict[str, t.Any] = next((each["event_data"] for each in events if each["event"] == "playbook_on_stats"), {})
    return JobResult(status, output, stats.get("artifact_data", {}), events, artifacts.parent.parent)
