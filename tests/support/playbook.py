# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs a playbook of the collection as a user does, and returns its output."""

from __future__ import annotations

import atexit
import dataclasses as dc
import json
import os
import pty
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
import typing as t
from contextlib import contextmanager
from pathlib import Path

from tests.support.ansible_warnings import assert_no_warning

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

ROOT = Path(__file__).resolve().parents[2]
CORE = os.environ.get("UTRUST_TEST_CORE", "")
#: Programs of Ansible. UTRUST_TEST_CORE (floor or next) selects another ansible-core than the one of the tests.
BIN = ROOT / f".venv-{CORE}" / "bin" if CORE else Path(sys.executable).parent
#: Package directory of these tests. Other runs on this machine use another directory.
PACKAGES = Path(tempfile.mkdtemp(prefix="utrust-test-run-"))
atexit.register(shutil.rmtree, PACKAGES)
_RECAP = re.compile(r"^(\S+)\s+: (ok=.*)$", re.MULTILINE)


@dc.dataclass(frozen=True)
class Run:
    """Result of a run: exit status, output, and the numbers of the recap for each host."""

    status: int
    output: str
    recap: dict[str, dict[str, int]]

    @property
    def changed(self) -> int:
        return sum(host["changed"] for host in self.recap.values())

    @property
    def text(self) -> str:
        """The output on one line, because Ansible wraps and indents messages."""
        return " ".join(self.output.split())


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "UTRUST_"))}
    return {
        **kept,
        "PATH": os.pathsep.join((str(BIN), str(Path(sys.executable).parent), kept["PATH"])),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible/collections"),
        "XDG_RUNTIME_DIR": str(PACKAGES),
        "ANSIBLE_NOCOLOR": "1",
        # A bastion of the tests is this machine, with any Python.
        "ANSIBLE_PYTHON_INTERPRETER": "auto_silent",
        "ANSIBLE_DEPRECATION_WARNINGS": "true",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
        **more,
    }


def command(
    playbook: str,
    control: Control,
    *arguments: str,
    inventory: Path | str | None = None,
    ansible_playbook: str = str(BIN / "ansible-playbook"),
) -> list[str]:
    source = [] if any("utrust_source" in argument for argument in arguments) else ["-e", "utrust_source=node1"]
    return [
        ansible_playbook,
        playbook,
        "-i",
        str(inventory or control.inventory_file),
        *source,
        *arguments,
    ]


def finish(process: subprocess.Popen[str], *, timeout: float = 180, warnings: t.Sequence[str] = ()) -> Run:
    """Wait for the end of a playbook. Raises AssertionError for a warning that does not begin with one of `warnings`."""
    try:
        output, dummy = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        output, dummy = process.communicate()
        raise AssertionError(f"the playbook did not end within {timeout} s; it printed:\n{output}") from None
    assert_no_warning(output, warnings)
    recap = {
        host: {name: int(number) for name, number in (pair.split("=") for pair in numbers.split())}
        for host, numbers in _RECAP.findall(output)
    }
    return Run(process.returncode, output, recap)


def start(
    playbook: str,
    control: Control,
    *arguments: str,
    env: t.Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    **options: t.Any,
) -> subprocess.Popen[str]:
    """Start a playbook with node1 as source, unless the arguments set utrust_source. `options` go to `command`."""
    return subprocess.Popen(
        command(playbook, control, *arguments, **options),
        cwd=cwd,
        env=environment(**(env or {})),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def play(playbook: str, control: Control, *arguments: str, warnings: t.Sequence[str] = (), **options: t.Any) -> Run:
    """Run a playbook to its end. `warnings` is the argument of `finish`, the others are the arguments of `start`."""
    return finish(start(playbook, control, *arguments, **options), warnings=warnings)


def at_terminal(playbook: str, control: Control, *arguments: str, typed: str, timeout: float = 180) -> str:
    """Run a playbook at a terminal and type `typed` at the prompt. Returns the output on one line.

    Ansible discards input that arrives before it reads, a moment after the prompt. The line is typed again while the
    terminal is in single-key mode, which Ansible sets only during the prompt. `timeout` is in seconds.
    Raises AssertionError if the playbook does not end in time.
    """
    deadline = time.monotonic() + timeout
    main, other = pty.openpty()
    shown = b""
    with (
        subprocess.Popen(
            ["setsid", "--ctty", "--wait", *command(playbook, control, *arguments)],
            cwd=ROOT,
            env=environment(),
            stdin=other,
            stdout=other,
            stderr=other,
        ) as process,
        selectors.DefaultSelector() as output,
    ):
        os.close(other)
        output.register(main, selectors.EVENT_READ)
        while True:
            if time.monotonic() > deadline:
                os.killpg(process.pid, signal.SIGKILL)
                raise AssertionError(f"the playbook did not end within {timeout} s; it showed:\n{shown.decode()}")
            if not output.select(timeout=1):
                if b"the display shows" in b" ".join(shown.split()) and not termios.tcgetattr(main)[3] & termios.ICANON:
                    os.write(main, typed.encode())
                continue
            try:
                part = os.read(main, 4096)
            except OSError:  # the playbook has closed its end of the terminal
                break
            if not part:
                break
            shown += part
    os.close(main)
    text = " ".join(shown.decode(errors="replace").split())
    assert_no_warning(text)
    return text


def waits_for_card(control: Control, node: str) -> bool:
    """Return whether the PIN pad of the node waits for a card."""
    restore = control.pin_pad(node)["restore"]
    return restore is not None and restore["state"] == "waiting_for_card"


@contextmanager
def card_holders(control: Control, *nodes: str, cards: t.Sequence[str] | None = None) -> Iterator[None]:
    """Present the next card whenever a PIN pad of these nodes waits, outside of Ansible."""
    stop = threading.Event()
    names = list(cards) if cards is not None else [card["card"] for card in control.cards(mbk="KEYOPS")]

    def attend(node: str) -> None:
        remaining = list(names)
        while not stop.wait(0.05) and remaining:
            if waits_for_card(control, node):
                control.present_card(node, remaining.pop(0))

    people = [threading.Thread(target=attend, args=(node,)) for node in nodes]
    for person in people:
        person.start()
    try:
        yield
    finally:
        stop.set()
        for person in people:
            person.join()


def inventories(control: Control) -> dict[str, str]:
    """Return the keys digest of every node, as the simulator computes it."""
    return {node["node"]: node["keys_digest"] for node in control.status()["nodes"]}


def methods(control: Control) -> set[str]:
    """Return the HTTP methods of all requests to all nodes."""
    return {request["method"] for node in control.status()["nodes"] for request in control.requests(node["node"])}


def changing_methods(control: Control) -> set[str]:
    """Return the HTTP methods of all requests that can change a node: without readings, and without those of the claim of the cluster."""
    return {
        request["method"]
        for node in control.status()["nodes"]
        for request in control.requests(node["node"])
        if request["method"] != "GET" and not request["path"].endswith("/cluster/claim")
    }


def own_playbook(folder: Path, *plays: dict[str, t.Any]) -> str:
    """Write plays for the nodes. Each play gets its hosts."""
    playbook = folder / "own.yml"
    usual = {"hosts": "utrust", "gather_facts": False}
    playbook.write_text(json.dumps([{**usual, **play} for play in plays]), encoding="utf-8")
    return str(playbook)


def reset_cluster(running: Control) -> None:
    """Give the nodes of a cluster the keys of node1, without faults, and empty the logs."""
    running.clear_faults()
    source = {key["label"] for key in running.keys("node1")}
    for node in ("node2", "node3"):
        for key in running.keys(node):
            if key["label"] not in source or key not in running.keys("node1"):
                running.delete_key(node, key["label"])
    if len(set(inventories(running).values())) != 1:
        run = play("keyops.utrust.key_sync", running)
        assert run.status == 0, run.output
    running.clear_log()
