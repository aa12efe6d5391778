# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Start a guided restore, and watch it until people or the node end it. Private to keyops.utrust."""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.lookup import was_rejected
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import UNKNOWN
from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    ApiError,
    ResponseLostError,
    UtrustError,
)
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import (
    describe_count,
    describe_mbk,
    describe_state,
)
from ansible_collections.keyops.utrust.plugins.module_utils._run.life import require_run
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions, wait_until_available

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Node, Restore
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance, ProgressCallback

#: Seconds.
KEEPALIVE_INTERVAL = 60.0


def find_running_restore(appliance: Appliance, node: Node) -> Restore | None:
    return appliance.running_restore() if node.running is not None and node.running[0] == "restore" else None


def start_restore(appliance: Appliance, node: Node, pin_pad: str, source: str, patience: WaitOptions) -> Restore:
    """Start the restore. After a lost or invalid response, the node shows whether it runs. Raises UtrustError."""
    try:
        return appliance.start_restore(pin_pad, source)
    except (ResponseLostError, ApiError) as lost:
        if was_rejected(lost):
            raise
        action = f"guided restore of {node.name}"
        try:
            after, running = wait_until_available(
                lambda: _read_with_restore(appliance),
                patience,
                f"reading {node.name} after a lost response",
                tolerate_errors=limits.MAX_LOOKUP_TIME,
            )
        except UtrustError as exc:
            text = (
                f"{action}: {lost}. Whether the restore runs is unknown: {exc}. Check the HSM in Webconf, page Security"
            )
            raise UtrustError(text, code="outcome_unknown", changed=True) from exc
        if running is not None and (running.pin_pad, running.source) == (pin_pad, source):
            return running
        if after.sees_only_ejbca:
            raise UtrustError(f"{lost}. {describe_view(after)}", code=lost.code) from lost
        raise lost.with_context(
            action,
            f"The HSM is {describe_state(after)} with {describe_count(after.key_count)}, and no such restore is running. Run again",
        ) from lost


def describe_view(after: Node) -> str:
    """Return what the EJBCA view of a node shows after a restore of people. A view is never the state of the HSM."""
    return (
        f"The EJBCA view of {after.name} shows {describe_count(after.key_count)}, and nobody knows the state of its HSM. "
        "Check the HSM in Webconf, page Security, before you run again"
    )


def _read_with_restore(appliance: Appliance) -> tuple[Node, Restore | None]:
    node = appliance.node()
    return node, find_running_restore(appliance, node)


def watch_restore(
    appliance: Appliance, node: Node, restore: Restore, poll: float, patience: WaitOptions, progress: ProgressCallback
) -> list[str]:
    """Follow the restore to its end and return its transitions. A long poll takes `poll` seconds.

    Shows each transition once, and repeats the last line every `KEEPALIVE_INTERVAL` seconds.
    Raises UtrustError (`restore_timeout`, or the code of the restore, with the state of the node after the restore).
    """
    name = node.name
    started = shown_at = patience.clock()
    events: list[str] = []
    shown: int | None = None
    last_error = ""
    while True:
        line = _describe(restore)
        if restore.sequence != shown:
            if len(events) < limits.MAX_EVENTS:
                events.append(line)
            last_error = _notice(restore) or last_error
        if restore.sequence != shown or patience.clock() - shown_at >= KEEPALIVE_INTERVAL:
            progress(f"{name} HSM {node.hsm_serial}: {'' if restore.sequence != shown else 'still waiting, '}{line}")
            shown, shown_at = restore.sequence, patience.clock()
        if restore.finished:
            break
        remaining = patience.timeout - (patience.clock() - started)
        if remaining <= 0:
            raise UtrustError(
                f"guided restore of {name}: timed out after {patience.timeout:g} s, last: {line}. "
                f"The restore continues at PIN pad {restore.pin_pad}. Run again to watch it, or set state: canceled to cancel it",
                code="restore_timeout",
                restore_id=restore.id,
                events=events,
            )
        require_run()  # the restore continues at the PIN pad, and the next run watches it
        try:
            restore = _poll(appliance, restore, min(poll, remaining), patience._replace(timeout=remaining), name)
        except ApiError as exc:
            text = f"guided restore of {name}: {exc}. Last: {line}. {read_outcome(appliance, node, patience)}"
            raise UtrustError(text, code=exc.code, restore_id=restore.id, events=events) from exc
    if restore.state != "succeeded":
        outcome = read_outcome(appliance, node, patience)
        raise _restore_error(name, restore, events, last_error, outcome)
    return events


def _poll(appliance: Appliance, restore: Restore, poll: float, patience: WaitOptions, name: str) -> Restore:
    """Return the next state. A node that responds early without a change gets the next request after `MIN_POLL_INTERVAL`."""
    started = patience.clock()
    found = wait_until_available(
        functools.partial(appliance.watch_restore, restore, poll),
        patience,
        f"watching the guided restore of {name}",
        tolerate_errors=limits.MAX_LOOKUP_TIME,
    )
    early = limits.MIN_POLL_INTERVAL - (patience.clock() - started)
    if found.sequence <= restore.sequence and not found.finished and early > 0:
        patience.sleep(early)
    return found


def read_outcome(appliance: Appliance, before: Node, patience: WaitOptions) -> str:
    """Return what the HSM holds after a restore that did not succeed, or that nobody watches any more. A restore can fail after some keys."""
    action = f"reading {before.name} after its restore"
    try:
        after = wait_until_available(appliance.node, patience, action, tolerate_errors=limits.MAX_LOOKUP_TIME)
    except UtrustError as exc:
        return (
            f"Its keys are unknown, because the node could not be read: {exc}. Check its HSM in Webconf, page Security"
        )
    if after.sees_only_ejbca:
        return describe_view(after)
    if after.running is not None and after.running[0] == "restore":
        return "The restore is still running. Run again to watch it, or set state: canceled to cancel it"
    same_keys = after.has_keys(before.keys_digest)
    if (after.hsm_state, after.mbk) == (before.hsm_state, before.mbk) and same_keys is not False:
        if same_keys:
            return f"The HSM holds the same {describe_count(after.key_count)} as before"
        return f"The HSM is {describe_state(after)} as before, but the node cannot list its keys. Check its HSM in Webconf, page Security"
    return (
        f"The HSM changed: it is {describe_state(after)} with MBK {describe_mbk(after)} and {describe_count(after.key_count)}. "
        "Do not use this node. Check its HSM in Webconf, page Security"
    )


def _restore_error(name: str, restore: Restore, events: list[str], last_error: str, outcome: str) -> UtrustError:
    code, text = restore.problem or (f"restore_{restore.state}", f"the node reports state {restore.state}")
    pin_pad_error = f"Last PIN pad error: {last_error}. " if last_error else ""
    return UtrustError(
        f"guided restore of {name} {restore.state} after {restore.cards_accepted} of {restore.cards_required or UNKNOWN} cards: "
        f"{text.rstrip('.')}. {pin_pad_error}{outcome}. Run again when cards and card holders are ready",
        code=code,
        restore_id=restore.id,
        events=events,
    )


def _notice(restore: Restore) -> str:
    return f"{restore.notice[1]} [{restore.notice[0]}]" if restore.notice else ""


def _describe(restore: Restore) -> str:
    remaining = f", {restore.seconds_left:.0f} s left" if restore.seconds_left is not None else ""
    required = restore.cards_required or UNKNOWN
    notice = f"{_notice(restore)}. " if restore.notice else ""
    if restore.finished:
        return f"{notice}restore {restore.state}"
    if restore.prompt is None:
        return f"{notice}PIN pad {restore.pin_pad}: restoring keys"
    card = f"card {restore.prompt_card or UNKNOWN} of {required}"
    return f"{notice}PIN pad {restore.pin_pad}: {restore.prompt} ({card}{remaining})"
