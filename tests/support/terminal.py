# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A person at the terminal of a run, who confirms steps of Webconf."""

from __future__ import annotations

import os
import pty
import re
import selectors
import signal
import subprocess
import termios
import time
import typing as t

from tests.support.ansible_warnings import assert_no_warning
from tests.support.playbook import ROOT, Run, command, environment

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.control import Control

    from tests.support.webconf_person import WebconfPerson

CTRL_C = "\x03"
#: Reply of a person who types nothing.
SILENCE = "\x00"
#: A prompt for a value: node, step and the first word of its meaning.
PROMPT = re.compile(r"([\w.-]+), (package_downloaded|package_uploaded|hsm_restored|package_destroyed): (\S+)[^\n]*:\s")
SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
FIELDS = {"SHA-256": "sha256", "size": "size", "serial": "hsm_serial", "your": "confirmed_by"}
#: Node, step and field of a prompt.
Prompt = tuple[str, str, str]


class PersonAtTerminal:
    """Does each step at Webconf when its first prompt appears, and types its values.

    `replies` has other texts than the true values for some prompts.
    """

    def __init__(self, person: WebconfPerson, replies: t.Mapping[Prompt, str] | None = None) -> None:
        self._person, self._replies = person, dict(replies or {})
        self._confirmations: dict[tuple[str, str], dict[str, str]] = {}
        self.prompts: list[Prompt] = []

    def __call__(self, prompt: Prompt) -> str:
        self.prompts.append(prompt)
        if prompt in self._replies:
            return self._replies.pop(prompt)
        node, step, field = prompt
        if (node, step) not in self._confirmations:
            self._confirmations[node, step] = self._act(node, step)
        return self._confirmations[node, step][field]

    def _act(self, node: str, step: str) -> dict[str, str]:
        confirmation = self._person.act(node, step)
        if step in ("package_uploaded", "hsm_restored"):
            self._person.control.ejbca(node, "deactivate")  # auto-activation shows the new keys
        return confirmation


def play_at_terminal(
    playbook: str,
    control: Control,
    *arguments: str,
    reply: t.Callable[[Prompt], str],
    inventory: Path | None = None,
    env: t.Mapping[str, str] | None = None,
    timeout: float = 240,
) -> Run:
    """Run a playbook at a terminal, and type the reply to each prompt. Returns status and output.

    Ansible discards input that arrives before it reads, a moment after the prompt. The line is typed again while the terminal is in single-key mode, which
    Ansible sets only during the prompt. `timeout` is in seconds. Raises AssertionError if the playbook does not end in time.
    """
    main, other = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *command(playbook, control, *arguments, inventory=inventory)],
        cwd=ROOT,
        env=environment(**(env or {})),
        stdin=other,
        stdout=other,
        stderr=other,
    )
    os.close(other)
    try:
        shown = _converse(main, reply, time.monotonic() + timeout)
        assert_no_warning(shown)
        return Run(process.wait(timeout=60), shown, {})
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        os.close(main)


def _converse(terminal: int, reply: t.Callable[[Prompt], str], deadline: float) -> str:
    """Return everything that the terminal showed."""
    shown, seen, line = b"", 0, ""
    with selectors.DefaultSelector() as output:
        output.register(terminal, selectors.EVENT_READ)
        while True:
            text = shown.decode(errors="replace").replace("\r", "")
            assert time.monotonic() < deadline, f"the playbook did not end in time; it showed:\n{text}"
            if not output.select(timeout=1):
                # Some terminals get a sequence that clears the line right before the prompt.
                prompts = PROMPT.findall(SEQUENCE.sub("", text))
                if prompts and not termios.tcgetattr(terminal)[3] & termios.ICANON:
                    if len(prompts) > seen:
                        node, step, word = prompts[-1]
                        seen, line = len(prompts), reply((node, step, FIELDS[word]))
                    if line != SILENCE:
                        os.write(terminal, (line if line == CTRL_C else line + "\r").encode())
                continue
            try:
                part = os.read(terminal, 65536)
            except OSError:  # the playbook has closed its end of the terminal
                return text
            if not part:
                return text
            shown += part
