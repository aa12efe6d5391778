# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The demo as a user runs it: what it shows, that a failing step fails it, and that it leaves nothing behind."""

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

from tests.support.wait import wait_for

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "demo" / "run_demo.py"
LIMIT = 300
CEREMONY = "PIN pad front-usb: Insert MBK card 1 of 2"


def command(folder: Path, *options: str) -> list[str]:
    return [sys.executable, str(SCRIPT), "--dir", str(folder), *options]


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *options), capture_output=True, text=True, timeout=LIMIT, check=False, stdin=subprocess.DEVNULL
    )


def processes_of(folder: Path) -> list[str]:
    """The command lines of all processes that have to do with this folder."""
    if not Path("/proc/self").exists():
        listed = subprocess.run(["ps", "-A", "-o", "command="], capture_output=True, text=True, check=True).stdout
        return [line for line in listed.splitlines() if str(folder) in line]
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile, or is somebody else's
            line = (place / "cmdline").read_bytes()
            if os.fsencode(folder) in line + (place / "environ").read_bytes():
                found.append(line.replace(b"\0", b" ").decode(errors="replace"))
    return found


@contextlib.contextmanager
def demo_folder() -> t.Iterator[Path]:
    """A folder for one demo in a parent that the demo knows nothing of. Its name is short, because sockets need short names."""
    parent = Path(tempfile.mkdtemp(prefix="keyops-demo-"))
    try:
        yield parent / "demo"
    finally:
        try:
            run(parent / "demo", "--down")
        finally:
            shutil.rmtree(parent)


def assert_nothing_is_left(folder: Path) -> None:
    assert processes_of(folder) == []
    assert list(folder.parent.iterdir()) == []


class Running(t.NamedTuple):
    """A demo, and the file that its output goes to."""

    process: subprocess.Popen[bytes]
    output: Path


@contextlib.contextmanager
def demo_at(moment: str, folder: Path, *options: str) -> t.Iterator[Running]:
    """A demo that has just shown a certain line."""
    with tempfile.TemporaryDirectory() as place:
        output = Path(place) / "output"
        with (
            open(output, "wb") as file,
            subprocess.Popen(command(folder, *options), stdout=file, stderr=file, stdin=subprocess.DEVNULL) as process,
        ):
            try:
                wait_for(lambda: moment in output.read_text(encoding="utf-8"), LIMIT)
                yield Running(process, output)
            finally:
                if process.poll() is None:
                    process.kill()


@contextlib.contextmanager
def demo_in_ceremony(folder: Path) -> t.Iterator[Running]:
    """A demo that waits for card holders who do not come."""
    with demo_at(CEREMONY, folder, "--no-card-holders") as demo:
        yield demo


@pytest.fixture(scope="module", autouse=True)
def _not_under_nohup() -> t.Iterator[None]:
    """Programs inherit which signals are ignored; whoever runs these tests under nohup does not mean the demos in them."""
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


def test_the_demo_does_the_main_job_and_says_so(whole: Whole) -> None:
    text = whole.done.stdout
    assert (whole.done.returncode, whole.done.stderr) == (0, ""), text[-4000:]
    for line in (
        "[7/7] Once more",
        "node2 HSM UT000002: PIN pad front-usb: Enter the PIN of MBK card 2 of 2",
        "people | node3: front-usb reads `Insert MBK card 1 of 2`: Ben inserts KEYOPS-2",
        "utrust-appliance: there is no key caKey-2026 in the HSM of node3",
        "in sync: node1, node2, node3 hold the same 11 key(s)",
        "node1: exported 11 key(s)",
    ):
        assert line in text
    assert text.count("Verified OK") == 3
    assert text.count("node2                      : ok=") == 4, "four playbooks"
    assert "DEMO PASSED" in text.splitlines()[-6]


def test_no_pin_is_in_its_output(whole: Whole) -> None:
    letters = list((whole.folder / "cluster" / "cards").glob("*.json"))
    assert len(letters) == 3
    for letter in letters:
        pin = json.loads(letter.read_text(encoding="utf-8"))["pin"]
        # Not as a part of a fingerprint, where six digits may stand by chance.
        assert not re.search(rf"(?<![0-9a-f]){pin}(?![0-9a-f])", whole.done.stdout)


def test_every_command_that_it_shows_can_be_typed_again(whole: Whole) -> None:
    """In a shell of its own, in the checkout, after the file that the demo names."""
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


def test_a_demo_without_card_holders_fails_and_says_where(folder: Path) -> None:
    done = run(folder, "--no-card-holders", "--card-timeout", "0.5")
    assert done.returncode == 1
    assert "DEMO FAILED in step 2, First synchronization" in done.stdout
    assert "expected: exit status of ansible-playbook: 0\n  came:     2" in done.stdout
    assert "No card was inserted within 0.5 s" in done.stdout
    assert "DEMO PASSED" not in done.stdout
    assert processes_of(folder), "the cluster is there to be looked at"

    again = run(folder, "--no-card-holders", "--card-timeout", "0.5")
    assert "an earlier demo in" in again.stdout.splitlines()[0]
    assert "DEMO FAILED in step 2" in again.stdout, "it began afresh"

    down = run(folder, "--down")
    assert (down.returncode, down.stderr) == (0, "")
    assert_nothing_is_left(folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupting_the_ceremony_leaves_nothing(folder: Path, number: signal.Signals) -> None:
    with demo_in_ceremony(folder) as demo:
        demo.process.send_signal(number)
        assert demo.process.wait(LIMIT) == 128 + number, demo.output.read_text(encoding="utf-8")[-2000:]
    assert_nothing_is_left(folder)
    assert run(folder, "--down").returncode == 0


@pytest.mark.parametrize("moment", ["$ utrust-appliance up", "node1: exported 11 key(s)"])
def test_interrupting_another_step_leaves_nothing(folder: Path, moment: str) -> None:
    with demo_at(moment, folder) as demo:
        demo.process.send_signal(signal.SIGINT)
        assert demo.process.wait(LIMIT) == 128 + signal.SIGINT, demo.output.read_text(encoding="utf-8")[-2000:]
    assert_nothing_is_left(folder)


def test_down_ends_a_demo_that_runs_in_another_terminal(folder: Path) -> None:
    with demo_in_ceremony(folder) as demo:
        down = run(folder, "--down")
        assert (down.returncode, down.stderr) == (0, ""), down.stdout
        assert demo.process.wait(LIMIT) == 128 + signal.SIGTERM
    assert_nothing_is_left(folder)


def test_down_finds_what_a_killed_demo_has_left(folder: Path) -> None:
    with demo_in_ceremony(folder) as demo:
        demo.process.kill()
        demo.process.wait(LIMIT)
        assert processes_of(folder)
        down = run(folder, "--down")
        assert (down.returncode, down.stderr) == (0, ""), down.stdout
    assert_nothing_is_left(folder)


def test_a_second_demo_beside_a_running_one_is_refused(folder: Path) -> None:
    with demo_in_ceremony(folder) as demo:
        second = run(folder)
        assert second.returncode == 1
        assert f"a demo runs already, as process {demo.process.pid}" in second.stdout
        assert demo.process.poll() is None


def test_a_folder_of_somebody_else_is_not_touched(folder: Path) -> None:
    folder.mkdir()
    precious = folder / "precious"
    precious.write_text("do not touch", encoding="utf-8")
    for options in ((), ("--down",)):
        done = run(folder, *options)
        assert done.returncode == 1
        assert "was not made by the demo" in done.stdout
    assert [path.name for path in folder.iterdir()] == ["precious"]
    shutil.rmtree(folder)
