# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs that are killed: nothing is changed afterwards, and nothing is left on disk."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import typing as t
import uuid
from pathlib import Path

import pytest
import yaml
from ansible_collections.keyops.utrust.plugins.module_utils._run.directory import RUN_PREFIX
from utrust_appliance.testing import cluster

from tests.support.matrix import EVERY, covering
from tests.support.playbook import BIN, ROOT, command, environment, finish, play
from tests.support.processes import MARK, processes_with
from tests.support.signals import default_signals
from tests.support.wait import wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

SYNC = "keyops.utrust.key_sync"
SIGNALS = ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT")
TARGETS = ("process", "group")
MOMENTS = ("before_upload", "during_upload", "before_apply", "during_apply", "before_cleanup")
CORES = ("newest", "floor")


@pytest.fixture(scope="session")
def floor() -> str:
    """Return ansible-playbook of the oldest supported ansible-core, after setting up its environment."""
    subprocess.run([sys.executable, str(ROOT / "tests/tools/setup_env.py"), "floor"], check=True)
    return str(ROOT / ".venv-floor/bin/ansible-playbook")


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    # A claim ends after 6 seconds instead of 120.
    with cluster(nodes=2, restored=2, keys=2, key_mix={"ec-p256": 1}, faults=True, claim_second=0.05) as control:
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    """A cluster in which node2 lacks a key, and that no run has claimed."""
    running.generate_key("node1", f"killed-{uuid.uuid4().hex[:8]}")
    running.fault("end_claim", node="node1", method="GET", when="before", count=1)
    running.clear_log()
    yield running
    running.clear_faults()
    wait_for(lambda: not any(node["running"] for node in running.status()["nodes"]))


class KilledRun:
    """A run in a process group of its own, with its own directory for packages."""

    def __init__(
        self, control: Control, folder: Path, ansible_playbook: str, *arguments: str, **options: t.Any
    ) -> None:
        arguments = ("-e", "key_sync_allow_outage=true", *arguments)
        self._start(control, folder, command(SYNC, control, *arguments, ansible_playbook=ansible_playbook, **options))

    def _start(self, control: Control, folder: Path, line: list[str]) -> None:
        self.control = control
        self.packages = folder / "runtime"
        self.packages.mkdir()
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            line,
            cwd=ROOT,
            env=environment(XDG_RUNTIME_DIR=str(self.packages), **{MARK: self.mark}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            preexec_fn=default_signals,
        )

    #: Expected warnings.
    warnings: t.ClassVar[t.Sequence[str]] = ()

    def sent(self, end: str, method: str = "POST") -> list[dict[str, t.Any]]:
        """The requests to node2 with this method, and with this end of the path.

        A delayed request of a connection that has been closed before has no client, and the node rejects it.
        """
        found = [request for request in self.control.requests("node2") if request["client"] is not None]
        return [request for request in found if request["method"] == method and request["path"].endswith(end)]

    def reach(self, condition: t.Callable[[], bool]) -> None:
        """Wait for a condition while the run lives."""
        reached: list[bool] = []

        def look() -> bool:
            if condition():
                reached.append(True)
            return bool(reached) or self.process.poll() is not None

        wait_for(look, limit=60)
        assert reached, finish(self.process).output

    def kill(self, name: str, target: str) -> None:
        number = signal.Signals[name]
        if target == "group":
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)
        self.process.wait(timeout=60)
        self.control.clear_faults("hold_apply")  # a worker waits for the response of a request that it sent before
        finish(self.process, timeout=60, warnings=self.warnings)

    def wait_for_end(self) -> None:
        """Wait until no process of the run is left: no worker, no module. The guard has removed all files before it ends."""
        wait_for(lambda: not processes_with(self.mark), limit=40)
        wait_for(lambda: not list(self.packages.glob(RUN_PREFIX + "*")), limit=10)


class CanceledJob(KilledRun):
    """The same run as a job of ansible-runner, which AWX cancels with SIGTERM."""

    def __init__(self, control: Control, folder: Path) -> None:
        (folder / "job").mkdir()
        options = f"-e utrust_source=node1 -e key_sync_allow_outage=true -i {control.inventory_file}"
        program = str(Path(sys.executable).parent / "ansible-runner")
        self._start(control, folder, [program, "run", str(folder / "job"), "-p", SYNC, "--cmdline", options])


def hold(control: Control, moment: str, run_time: float = 3) -> None:
    """Make the run last at this moment, for `run_time` seconds or longer."""
    if moment == "before_upload":  # time to set another fault between export and import
        control.fault("latency", node="node1", method="DELETE", path="/packages/", seconds=2, count=1)
    elif moment == "during_upload":
        control.fault("latency", node="node2", method="POST", path="/imports$", seconds=run_time, count=1)
    elif moment == "before_apply":
        control.fault("async_import", node="node2", seconds=run_time + 1)
    elif moment in ("during_apply", "before_cleanup"):
        control.fault("hold_apply", node="node2")


def reach(moment: str, run: KilledRun, run_time: float = 3) -> None:
    """Return when the run is at this moment."""
    control = run.control
    if moment == "before_upload":
        run.reach(lambda: any(run.packages.glob("*/*/*.manifest.json")))
        control.fault("latency", node="node2", method="GET", seconds=run_time, count=1)
    if moment in ("before_upload", "during_upload"):
        run.reach(lambda: not any(fault["name"] == "latency" for fault in control.faults()))
    elif moment == "before_apply":
        run.reach(lambda: bool(run.sent("/imports")))
    else:
        run.reach(lambda: control.node("node2")["import_state"] == "applying")
    if moment == "before_cleanup":
        control.fault("latency", node="node2", method="GET", seconds=3)
        control.clear_faults("hold_apply")
        run.reach(lambda: keys_of(control, "node1") == keys_of(control, "node2"))


def keys_of(control: Control, node: str) -> set[str]:
    return {key["fingerprint"] for key in control.keys(node)}


def check_nothing_left(run: KilledRun, moment: str) -> None:
    """Check nodes and disk after all processes of the run have ended."""
    control = run.control
    run.wait_for_end()
    control.clear_faults()
    assert list(run.packages.iterdir()) == []
    # A worker that lives discards its import. Otherwise the node does this when the claim ends.
    wait_for(lambda: control.node("node2")["running"] is None, limit=30)
    uploads, applies = len(run.sent("/imports")), len(run.sent("/apply"))
    assert uploads <= (moment != "before_upload")
    applied = moment in ("during_apply", "before_cleanup")
    assert applies <= applied
    assert (keys_of(control, "node1") == keys_of(control, "node2")) is applied


@pytest.mark.parametrize(("name", "target", "moment", "core"), covering(SIGNALS, TARGETS, MOMENTS, CORES))
def test_killed_run_changes_and_leaves_nothing(
    control: Control, tmp_path: Path, floor: str, name: str, target: str, moment: str, core: str
) -> None:
    """No request that changes something is sent after the kill, and no file is left without another run."""
    hold(control, moment)
    run = KilledRun(control, tmp_path, floor if core == "floor" else str(BIN / "ansible-playbook"))
    reach(moment, run)
    run.kill(name, target)
    check_nothing_left(run, moment)


@pytest.mark.parametrize("moment", MOMENTS if EVERY else ("before_upload", "before_apply", "during_apply"))
def test_canceled_job_of_ansible_runner_changes_nothing(control: Control, tmp_path: Path, moment: str) -> None:
    """The cancellation kills the main process, and its worker would go on alone."""
    # ansible-runner looks for a cancellation every few seconds.
    hold(control, moment, run_time=15)
    job = CanceledJob(control, tmp_path)
    reach(moment, job, run_time=15)
    job.kill("SIGTERM", "process")
    check_nothing_left(job, moment)
    assert [path.read_text() for path in (tmp_path / "job/artifacts").glob("*/status")] == ["canceled"]


@pytest.mark.parametrize(
    ("name", "moment"),
    list(itertools.product(SIGNALS, MOMENTS[:3]))
    if EVERY
    else [("SIGKILL", "before_upload"), ("SIGTERM", "before_apply")],
)
def test_killed_run_behind_a_bastion_changes_nothing(
    control: Control, tmp_path: Path, bastion: Path, name: str, moment: str
) -> None:
    """The module on the bastion notices that nobody reads its output."""
    hold(control, moment)
    arguments = ("-e", "utrust_bastion=bastion")
    run = KilledRun(control, tmp_path, str(BIN / "ansible-playbook"), *arguments, inventory=bastion)
    reach(moment, run)
    run.kill(name, "process")
    run.wait_for_end()
    control.clear_faults()
    wait_for(lambda: control.node("node2")["running"] is None, limit=30)
    assert run.sent("/apply") == []
    assert keys_of(control, "node1") != keys_of(control, "node2")
    # No guard runs on a bastion. The next run that claims the cluster removes the package there.
    again = play(
        SYNC,
        control,
        "-e",
        "key_sync_allow_outage=true",
        *arguments,
        inventory=bastion,
        env={"XDG_RUNTIME_DIR": str(run.packages)},
    )
    assert again.status == 0, again.output
    wait_for(lambda: list(run.packages.iterdir()) == [], limit=10)


@pytest.fixture
def bastion(control: Control, tmp_path: Path) -> Path:
    """An inventory with a bastion that is this machine."""
    inventory = yaml.safe_load(control.inventory_file.read_text(encoding="utf-8"))
    inventory["others"] = {"hosts": {"bastion": {"ansible_connection": "local", "ansible_host": "127.0.0.1"}}}
    path = tmp_path / "inventory.yml"
    path.write_text(yaml.safe_dump(inventory), encoding="utf-8")
    return path


def test_killed_export_leaves_no_file_beside_the_destination(control: Control, tmp_path: Path) -> None:
    """The incomplete package has another name than the destination."""
    dest = tmp_path / "mine" / "cluster.ksp"
    dest.parent.mkdir(mode=0o700)
    control.fault("latency", node="node1", method="GET", path="/content$", seconds=3, count=1)
    arguments = ("-e", f"key_sync_dest={dest}")
    run = KilledRun(control, tmp_path, str(BIN / "ansible-playbook"), *arguments)
    run.reach(lambda: any(dest.parent.iterdir()))
    run.kill("SIGKILL", "group")
    run.wait_for_end()
    assert list(dest.parent.iterdir()) == list(run.packages.iterdir()) == []


def test_run_whose_output_nobody_reads_ends(control: Control, tmp_path: Path) -> None:
    """A pipe to another program can break. A line of progress must not make Ansible wait for ever, with the package on disk."""
    hold(control, "before_apply")
    run = KilledRun(control, tmp_path, str(BIN / "ansible-playbook"))
    reach("before_apply", run)
    assert run.process.stdout is not None
    run.process.stdout.close()
    try:
        wait_for(lambda: run.process.poll() is not None, limit=60)
    finally:
        run.process.kill()
        run.process.wait()
    run.wait_for_end()
    assert list(run.packages.iterdir()) == []


@pytest.mark.parametrize("name", ["status", "preflight", "report", "verify_audit"])
def test_playbook_that_only_reads_removes_a_stale_package(control: Control, tmp_path: Path, name: str) -> None:
    """A guard can be killed, too, as by the end of a container. The output and the audit trail name the package."""
    stale = tmp_path / f"{RUN_PREFIX}0123456789abcdef"
    package = stale / "package-1" / "cluster.ksp"
    package.parent.mkdir(parents=True)
    stale.chmod(0o700)
    package.write_bytes(b"package")
    audit = tmp_path / "audit.jsonl"
    env = {
        "XDG_RUNTIME_DIR": str(tmp_path),
        "ANSIBLE_CALLBACKS_ENABLED": "keyops.utrust.audit",
        "UTRUST_AUDIT_FILE": str(audit),
        "UTRUST_AUDIT_ASSUME_PERSISTENT": "true",
    }
    arguments = ("-e", f"key_report_page={tmp_path / 'page.html'}", "-e", f"audit_file={audit}")
    run = play(f"keyops.utrust.{name}", control, "--check", *arguments, env=env)
    assert not stale.exists(), run.output
    assert f"removed a package that a killed run had left: {package}" in run.text
    assert name == "verify_audit" or str(package) in audit.read_text(encoding="utf-8")
