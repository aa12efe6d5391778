# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""People who confirm steps: by option `confirmations`, or at the terminal of the run. Private to keyops.utrust.

A pseudo terminal of a job is not a terminal with people, so only the variable `utrust_terminal` decides.
"""

from __future__ import annotations

import json
import math
import threading
import time
import typing as t

from ansible.errors import AnsibleError, AnsiblePromptInterrupt
from ansible.utils.display import Display
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.people import (
    FIELDS,
    Confirmation,
    Step,
    example,
    make_confirmation,
    parse_field,
)
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._limits import (
    MAX_PROMPTS,
    MAX_TEXT,
    MAX_TIMEOUT,
    MIN_POLL_INTERVAL,
)
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable
from ansible_collections.keyops.utrust.plugins.module_utils._run import life

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import ProgressCallback

#: Text with which a person stops the run.
STOP: t.Final = "stop"
#: Displays a text, and returns the line that a person types within some seconds. Raises AnsibleError without a terminal.
Prompt = t.Callable[[str, int], bytes]


class TaskPeople:
    """The people of one task. `given` is option `confirmations`. `prompt` is missing if no people sit at the terminal."""

    def __init__(self, given: t.Sequence[t.Mapping[str, t.Any]], prompt: Prompt | None, show: ProgressCallback) -> None:
        self._given, self._prompt, self._show = given, prompt, show
        #: Confirmations of this task, for its result.
        self.confirmed: list[dict[str, str]] = []

    def confirm(self, step: Step, timeout: float) -> Confirmation:
        """Return the confirmation of a step from the option, or from a person at the terminal. `timeout` is in seconds.

        Raises UtrustError (`confirmation_missing`, `confirmation_invalid`, `confirmation_mismatch`, `confirmation_timeout`, `confirmation_refused`).
        """
        found = [entry for entry in self._given if (entry.get("node"), entry.get("step")) == (step.node, step.id)]
        if len(found) > 1:
            raise _error(
                step,
                code="confirmation_invalid",
                reason=f"confirmations has {len(found)} entries for this step. Keep the valid one",
            )
        if found:
            origin = "option"
            confirmation = make_confirmation(step, {name: part for name, part in found[0].items() if part is not None})
        elif self._prompt is not None:
            origin, confirmation = "terminal", self._at_terminal(step, self._prompt, time.monotonic() + timeout)
        else:
            raise self._missing(step)
        self._show(f"{step.node}: {confirmation.confirmed_by} confirmed step {step.id} ({origin})")
        self.confirmed.append(
            {
                "node": step.node,
                "step": step.id,
                "confirmed_by": confirmation.confirmed_by,
                "origin": origin,
                **confirmation.values,
            }
        )
        return confirmation

    def _missing(self, step: Step) -> UtrustError:
        others = ", ".join(
            escape_unprintable(f"{entry.get('step')} of {entry.get('node')}"[:MAX_TEXT]) for entry in self._given
        )
        lines = "\n".join(_numbered(step))
        return _error(
            step,
            code="confirmation_missing",
            reason=f"the confirmation of people is missing (confirmations has: {others or 'no entry'}). This task changed nothing. "
            f"Do these steps:\n{lines}\nThen add this entry, and run again. "
            f"Roles set confirmations from key_sync_confirmations or guided_restore_confirmations:\n{json.dumps(example(step))}",
            confirmation=example(step),
        )

    def _at_terminal(self, step: Step, prompt: Prompt, deadline: float) -> Confirmation:
        """Show the step, and return what a person types."""
        self._show(f"{step.node}: step {step.id} needs people at Webconf")
        for line in _numbered(step):
            self._show(line)
        self._show(f'Type the values after the last step. To stop this run, type "{STOP}"')
        values = {name: self._read_field(step, name, prompt, deadline) for name in step.fields}
        return Confirmation(self._read_field(step, "confirmed_by", prompt, deadline), values)

    def _read_field(self, step: Step, name: str, prompt: Prompt, deadline: float) -> str:
        meaning = FIELDS.get(name, "your name, to confirm that you did every line of this step")
        for attempt in range(1, MAX_PROMPTS + 1):
            typed = _line_of(step, prompt, f"{step.node}, {step.id}: {meaning}:", deadline)
            if typed.casefold() == STOP:
                raise _error(
                    step, code="confirmation_refused", reason="a person stopped this run at the prompt. " + _CHECK
                )
            try:
                value = parse_field(step, name, typed)
                self._show(f"  {name}: {value}")  # the prompt of Ansible removes what was typed
                return value
            except UtrustError as exc:
                if exc.code != "confirmation_invalid" or attempt == MAX_PROMPTS:
                    raise
                self._show(str(exc))
        raise AssertionError("the loop returns or raises")


_CHECK: t.Final = "Somebody can have done a part of the step. Check the node in Webconf, then run again"


def _numbered(step: Step) -> list[str]:
    return [f"  {number}. {line}" for number, line in enumerate(step.lines, 1)]


def _line_of(step: Step, prompt: Prompt, text: str, deadline: float) -> str:
    """Return the line that a person types, without a line end. Raises UtrustError."""
    left = deadline - time.monotonic()
    raw: list[bytes] = []
    if left > 0:
        try:
            raw = _within(lambda: prompt(text, max(1, math.ceil(min(left, MAX_TIMEOUT)))), deadline)
        except AnsiblePromptInterrupt as exc:
            raise _error(
                step, code="confirmation_refused", reason="a person interrupted the prompt. " + _CHECK
            ) from exc
        except AnsibleError as exc:
            raise _error(
                step,
                code="confirmation_missing",
                reason="utrust_terminal is true, but this run has no terminal. This task changed nothing. "
                "Run in the foreground of a terminal, or set confirmations",
            ) from exc
    # Ansible returns what was typed so far when the time of a prompt ends.
    if not raw or time.monotonic() >= deadline:
        raise _error(step, code="confirmation_timeout", reason="nobody confirmed the step in time. " + _CHECK)
    return raw[0].decode("utf-8", "replace").strip()


def _within(read: t.Callable[[], bytes], deadline: float) -> list[bytes]:
    """Return the line in a list, or nothing after the deadline. Raises what `read` raises, and RunEndedError.

    The response of the main process never comes if this process was killed, so another thread waits for it.
    """
    lines: list[bytes] = []
    errors: list[AnsibleError] = []

    def wait() -> None:
        try:
            lines.append(read())
        except AnsibleError as exc:
            errors.append(exc)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    # Ansible counts whole seconds with another clock.
    while thread.is_alive() and time.monotonic() < deadline + MIN_POLL_INTERVAL:
        thread.join(MIN_POLL_INTERVAL)
        life.require_run()
    if errors:
        raise errors[0]
    return lines


def _error(step: Step, *, code: str, reason: str, **details: t.Any) -> UtrustError:
    return UtrustError(f"step {step.id} on {step.node}: {reason}", code=code, step=step.id, node=step.node, **details)


def prompt_at_terminal(text: str, seconds: int) -> bytes:
    """Return what a person types at the terminal of the run. Raises AnsibleError."""
    return Display().prompt_until(text, private=False, seconds=seconds)
