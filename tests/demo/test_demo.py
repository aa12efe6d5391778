# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The demo: output, failing steps and cleanup."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

import pytest

from tests.support.ansible_warnings import unexpected_warnings
from tests.support.wait import wait_for

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "demo" / "run_demo.py"
LIMIT = 300
CEREMONY = "PIN pad front-usb: Insert MBK card 1 of 2"


def command(folder: Path, *options: str) -> list[str]:
    return [sys.executable, str(SCRIPT), "--dir", str(folder), *options]


def environment() -> dict[str, str]:
    """The environment of a user: many test machines set PYTHONUNBUFFERED, few users do."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *options),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        stdin=subprocess.DEVNULL,
        env=environment(),
    )


def processes_of(folder: Path) -> list[str]:
    """The command lines of all processes that use this folder."""
    if not Path("/proc/self").exists():
        listed = subprocess.run(["ps", "-A", "-o", "command="], capture_output=True, text=True, check=True).stdout
        return [line for line in listed.splitlines() if str(folder) in line]
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # the process has ended or belongs to another user
            line = (place / "cmdline").read_bytes()
            if os.fsencode(folder) in line + (place / "environ").read_bytes():
                found.append(line.replace(b"\0", b" ").decode(errors="replace"))
    return found


@contextlib.contextmanager
def demo_folder() -> t.Iterator[Path]:
    """A folder for one demo. Its path is short, because socket paths are limited."""
    parent = Path(tempfile.mkdtemp(prefix="keyops-demo-"))
    try:
        yield parent / "demo"
    finally:
        try:
            run(parent / "demo", "--down")
        finally:
            shutil.rmtree(parent)


def assert_nothing_is_left(folder: Path) -> None:
    wait_for(lambda: processes_of(folder) == [], limit=10)  # a guard ends a moment after its run
    assert list(folder.parent.iterdir()) == []


class Running(t.NamedTuple):
    """A running demo and its output file."""

    process: subprocess.Popen[bytes]
    output: Path


@contextlib.contextmanager
def demo_at(moment: str, folder: Path, *options: str) -> t.Iterator[Running]:
    """A demo that has just printed a certain line."""
    with tempfile.TemporaryDirectory() as place:
        output = Path(place) / "output"
        with (
            open(output, "wb") as file,
            subprocess.Popen(
                command(folder, *options), stdout=file, stderr=file, stdin=subprocess.DEVNULL, env=environment()
            ) as process,
        ):
            try:
                wait_for(lambda: moment in output.read_text(encoding="utf-8"), LIMIT)
                yield Running(process, output)
            finally:
                if process.poll() is None:
                    process.kill()


@contextlib.contextmanager
def demo_in_ceremony(folder: Path) -> t.Iterator[Running]:
    """A demo that waits for card holders. The first prompt is shown at once, and not together with a later line."""
    with demo_at(CEREMONY, folder, "--no-card-holders") as demo:
        assert "still waiting" not in demo.output.read_text(encoding="utf-8")
        yield demo


@pytest.fixture(scope="module", autouse=True)
def _not_under_nohup() -> t.Iterator[None]:
    """Reset SIGHUP, because programs inherit ignored signals from nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(name="folder")
def _folder() -> t.Iterator[Path]:
    with demo_folder() as folder:
        yield folder


class Whole(t.NamedTuple):
    """One complete demo."""

    folder: Path
    done: subprocess.CompletedProcess[str]


@pytest.fixture(name="whole", scope="module")
def _whole() -> t.Iterator[Whole]:
    with demo_folder() as folder:
        yield Whole(folder, run(folder))


def test_demo_passes_with_report(whole: Whole) -> None:
    """The demo passes and reports its result."""
    text = whole.done.stdout
    assert (whole.done.returncode, whole.done.stderr) == (0, ""), text[-4000:]
    assert unexpected_warnings(text) == []
    for line in (
        "[7/7] Second run",
        "node2 HSM UT000002: PIN pad front-usb: Enter the PIN of MBK card 2 of 2",
        "people | node3: front-usb shows `Insert MBK card 1 of 2`: Ben inserts KEYOPS-2",
        "utrust-appliance: The HSM of node3 does not have a key caKey-2026.",
        "in sync: node1, node2, node3 hold the same 11 key(s)",
        "node1: exported 11 key(s)",
    ):
        assert line in text
    assert text.count("Verified OK") == 3
    assert text.count("node1                      : ok=") == 4, "four playbooks"
    assert "DEMO PASSED" in text.splitlines()[-6]


def test_demo_output_has_no_pin(whole: Whole) -> None:
    """The output does not contain a PIN."""
    letters = list((whole.folder / "cluster" / "cards").glob("*.json"))
    assert len(letters) == 3
    for letter in letters:
        pin = json.loads(letter.read_text(encoding="utf-8"))["pin"]
        # Fingerprints can contain the same six digits by chance.
        assert not re.search(rf"(?<![0-9a-f]){pin}(?![0-9a-f])", whole.done.stdout)


def test_demo_commands_can_be_repeated(whole: Whole) -> None:
    """The shown commands work in another shell with the environment file of the demo."""
    shown = [line[4:] for line in whole.done.stdout.splitlines() if line.startswith("  $ ")]
    again = [line for line in shown if line.startswith(("openssl", "ansible-playbook keyops.utrust.status"))]
    assert len(again) == 4
    script = "\n".join(["set -e", f". {whole.folder}/env.sh", *again])
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(whole.folder), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_demo_without_card_holders_fails(folder: Path) -> None:
    """A demo without card holders fails and names the step."""
    done = run(folder, "--no-card-holders", "--card-timeout", "0.5")
    assert done.returncode == 1
    assert "DEMO FAILED in step 2, First synchronization" in done.stdout
    assert "expected: exit status of ansible-playbook: 0\n  actual:   2" in done.stdout
    assert "No card was inserted within 0.5 s" in done.stdout
    assert "DEMO PASSED" not in done.stdout
    assert processes_of(folder), "the cluster still runs"

    again = run(folder, "--no-card-holders", "--card-timeout", "0.5")
    assert "An earlier demo in" in again.stdout.splitlines()[0]
    assert "DEMO FAILED in step 2" in again.stdout, "the demo started again"

    down = run(folder, "--down")
    assert (down.returncode, down.stderr) == (0, "")
    assert_nothing_is_left(folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_demo_interrupted_ceremony_leaves_nothing(folder: Path, number: signal.Signals) -> None:
    """An interrupt during the ceremony leaves nothing."""
    with demo_in_ceremony(folder) as demo:
        demo.process.send_signal(number)
        assert demo.process.wait(LIMIT) == 128 + number, demo.output.read_text(encoding="utf-8")[-2000:]
    assert_nothing_is_left(folder)
    assert run(folder, "--down").returncode == 0


@pytest.mark.parametrize("moment", ["$ utrust-appliance up", "node1: exported 11 key(s)"])
def test_demo_interrupted_step_leaves_nothing(folder: Path, moment: str) -> None:
    """An interrupt during another step leaves nothing."""
    with demo_at(moment, folder) as demo:
        demo.process.send_signal(signal.SIGINT)
        assert demo.process.wait(LIMIT) == 128 + signal.SIGINT, demo.output.read_text(encoding="utf-8")[-2000:]
    assert_nothing_is_left(folder)


def test_demo_down_ends_running_demo(folder: Path) -> None:
    """--down ends a demo in another terminal."""
    with demo_in_ceremony(folder) as demo:
        down = run(folder, "--down")
        assert (down.returncode, down.stderr) == (0, ""), down.stdout
        assert demo.process.wait(LIMIT) == 128 + signal.SIGTERM
    assert_nothing_is_left(folder)


def test_demo_down_removes_killed_demo(folder: Path) -> None:
    """--down removes the processes and files of a killed demo."""
    with demo_in_ceremony(folder) as demo:
        demo.process.kill()
        demo.process.wait(LIMIT)
        assert processes_of(folder)
        down = run(folder, "--down")
        assert (down.returncode, down.stderr) == (0, ""), down.stdout
    assert_nothing_is_left(folder)


def test_demo_second_run_rejected(folder: Path) -> None:
    """A second demo in the same folder is rejected."""
    with demo_in_ceremony(folder) as demo:
        second = run(folder)
        assert second.returncode == 1
        assert f"A demo is already running with process {demo.process.pid}" in second.stdout
        assert demo.process.poll() is None


def test_demo_foreign_folder_unchanged(folder: Path) -> None:
    """A folder with other files is not changed."""
    folder.mkdir()
    precious = folder / "precious"
    precious.write_text("do not touch", encoding="utf-8")
    for options in ((), ("--down",)):
        done = run(folder, *options)
        assert done.returncode == 1
        assert "was not created by the demo" in done.stdout
    assert [path.name for path in folder.iterdir()] == ["precious"]
    shutil.rmtree(folder)
