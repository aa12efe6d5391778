# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Confirmations of people, by the option and at a terminal."""

from __future__ import annotations

import json
import threading
import time
import typing as t

import pytest
from ansible.errors import AnsibleError, AnsiblePromptInterrupt, AnsiblePromptNoninteractive
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.page_map import steps
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._run import life
from ansible_collections.keyops.utrust.plugins.plugin_utils import _people
from ansible_collections.keyops.utrust.plugins.plugin_utils._people import TaskPeople

DIGEST = "0123456789abcdef" * 4
STEP = steps("b", "package_downloaded", "node1")
ENTRY = {"node": "node1", "step": "package_downloaded", "confirmed_by": "Alice", "sha256": DIGEST, "size": "5"}


class Typing:
    """A person who types one line at each prompt."""

    def __init__(self, *lines: bytes | AnsibleError) -> None:
        self._lines = list(lines)
        self.prompts: list[str] = []
        self.seconds: list[int] = []

    def __call__(self, text: str, seconds: int) -> bytes:
        self.prompts.append(text)
        self.seconds.append(seconds)
        line = self._lines.pop(0)
        if isinstance(line, AnsibleError):
            raise line
        return line


def failure(people: TaskPeople, timeout: float = 60) -> UtrustError:
    with pytest.raises(UtrustError) as caught:
        people.confirm(STEP, timeout)
    assert people.confirmed == []
    return caught.value


def test_option_confirms_the_step() -> None:
    """Entries of other nodes and steps are ignored, and a value that is not set is no value."""
    shown: list[str] = []
    others = [{**ENTRY, "node": "node2"}, {**ENTRY, "step": "package_uploaded"}]
    people = TaskPeople([*others, {**ENTRY, "hsm_serial": None}], None, shown.append)
    assert people.confirm(STEP, 60) == ("Alice", {"sha256": "sha256:" + DIGEST, "size": "5"})
    assert people.confirmed == [{**ENTRY, "origin": "option", "sha256": "sha256:" + DIGEST}]
    assert shown == ["node1: Alice confirmed step package_downloaded (option)"]


def test_missing_confirmation_lists_steps_and_entry() -> None:
    """The entry of the message is the entry that confirms the step."""
    error = failure(TaskPeople([{**ENTRY, "node": "node9"}], None, print))
    assert error.code == "confirmation_missing"
    assert "1. Log in to Webconf of node1" in str(error)
    assert "package_downloaded of node9" in str(error)
    entry = json.loads(str(error).rpartition("\n")[2])
    assert entry == error.details["confirmation"]
    given = {**entry, "confirmed_by": "Alice", "sha256": DIGEST, "size": "5"}
    assert TaskPeople([given], None, print).confirm(STEP, 60).confirmed_by == "Alice"


def test_two_entries_for_one_step_are_invalid() -> None:
    assert failure(TaskPeople([ENTRY, {**ENTRY, "size": "6"}], None, print)).code == "confirmation_invalid"


def test_person_at_the_terminal_confirms_the_step() -> None:
    shown: list[str] = []
    typing = Typing(DIGEST.encode(), b" 5 ", b"Alice\x1b[2J")
    people = TaskPeople([], typing, shown.append)
    assert people.confirm(STEP, 60) == ("Alice\\x1b[2J", {"sha256": "sha256:" + DIGEST, "size": "5"})
    assert people.confirmed[0]["origin"] == "terminal"
    assert [line for line in shown if "Download Cluster Key Synchronization Package" in line]
    assert "\x1b" not in "".join(shown)
    assert [text.partition(":")[0] for text in typing.prompts] == ["node1, package_downloaded"] * 3
    assert all(0 < seconds <= 60 for seconds in typing.seconds)


def test_terminal_is_not_needed_for_given_confirmations() -> None:
    typing = Typing()
    assert TaskPeople([ENTRY], typing, print).confirm(STEP, 60).confirmed_by == "Alice"
    assert typing.prompts == []


def test_invalid_line_is_requested_again_three_times() -> None:
    typing = Typing(b"", b"123", DIGEST.encode(), b"5", b"Alice")
    assert TaskPeople([], typing, print).confirm(STEP, 60).values["size"] == "5"
    typing = Typing(b"", b"\xff\xfe", b"x" * 100_000, DIGEST.encode())
    error = failure(TaskPeople([], typing, print))
    assert error.code == "confirmation_invalid"
    assert len(typing.prompts) == 3
    assert len(str(error)) < 600


def test_other_digest_at_the_terminal_stops_at_once() -> None:
    """Another package is not a typing error that a second attempt may hide."""
    step = steps("b", "package_uploaded", "node2", sha256="sha256:" + DIGEST)
    typing = Typing(b"f" * 64, DIGEST.encode())
    with pytest.raises(UtrustError) as caught:
        TaskPeople([], typing, print).confirm(step, 60)
    assert caught.value.code == "confirmation_mismatch"
    assert len(typing.prompts) == 1


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"STOP", "confirmation_refused"),
        (AnsiblePromptInterrupt("user interrupt"), "confirmation_refused"),
        (AnsiblePromptNoninteractive("stdin is not interactive"), "confirmation_missing"),
        (AnsibleError("broken"), "confirmation_missing"),
    ],
)
def test_prompt_without_a_line_is_coded(line: bytes | AnsibleError, code: str) -> None:
    assert failure(TaskPeople([], Typing(line), print)).code == code


def test_prompt_has_a_deadline_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ansible counts with the clock of the day. A prompt that never returns ends with the deadline."""
    monkeypatch.setattr(_people, "MIN_POLL_INTERVAL", 0.05)
    never = threading.Event()

    def stuck(text: str, seconds: int) -> bytes:
        never.wait(20)
        return b"late"

    begin = time.monotonic()
    assert failure(TaskPeople([], stuck, print), 0.2).code == "confirmation_timeout"
    assert time.monotonic() - begin < 5
    never.set()


def test_half_typed_line_at_the_deadline_is_a_timeout() -> None:
    """Ansible returns what was typed so far when the time ends."""

    def slow(text: str, seconds: int) -> bytes:
        time.sleep(0.3)
        return DIGEST.encode()

    assert failure(TaskPeople([], slow, print), 0.2).code == "confirmation_timeout"
    assert failure(TaskPeople([], Typing(), print), 0).code == "confirmation_timeout"


def test_end_of_the_run_ends_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the main process is killed, nobody sends the line to the worker any more."""
    monkeypatch.setattr(_people, "MIN_POLL_INTERVAL", 0.05)
    monkeypatch.setattr(life, "run_has_ended", lambda: True)
    never = threading.Event()

    def stuck(text: str, seconds: int) -> bytes:
        never.wait(20)
        return b""

    assert failure(TaskPeople([], stuck, print), 60).code == "run_ended"
    never.set()


def test_prompt_uses_the_display_of_ansible(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, t.Any] = {}
    monkeypatch.setattr(
        _people.Display, "prompt_until", lambda dummy, text, **options: given.update(options, text=text) or b"line"
    )
    assert _people.prompt_at_terminal("Type:", 7) == b"line"
    assert given == {"text": "Type:", "private": False, "seconds": 7}
