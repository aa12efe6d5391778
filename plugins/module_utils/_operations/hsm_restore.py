# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Guided restore of a node that has joined. Private to keyops.utrust.

People insert cards and type PINs at the PIN pad. Software previews, starts, shows what the PIN pad waits for, and verifies. It never
handles a PIN and never repeats a card step.
"""

from __future__ import annotations

import dataclasses as dc
import functools
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import RESTORE_JOB, Mbk
from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem, UtrustError, raise_for_problems
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import (
    SourceFacts,
    check_clock,
    check_compatibility,
    check_driver_and_jobs,
    check_identity,
    check_mbk,
    check_pin_pad,
    describe_state,
)
from ansible_collections.keyops.utrust.plugins.module_utils._runner import Invocation, Operation, Result, open_appliance
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions, wait_until_available

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Node, Restore, RestorePreview
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance, ProgressCallback
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Params, Spec

LONG_POLL = 20.0
KEEPALIVE_INTERVAL = 60.0


ARGUMENT_SPEC: t.Final[Spec] = {
    "state": {"type": "str", "choices": ["restored", "canceled"], "default": "restored"},
    "source": {"type": "dict"},
    # The name of a device, not a PIN.
    "pin_pad": {"type": "str", "no_log": False},
    "cards_required": {"type": "int"},
    "cards_total": {"type": "int"},
    "cards_available": {"type": "int"},
    "expect_hsm_serial": {"type": "str"},
    "restore_timeout": {"type": "float", "default": 1800.0},
}
RULES: t.Final[Spec] = {
    "required_if": [("state", "restored", ("source", "pin_pad", "expect_node"))],
    "required_together": [("cards_required", "cards_total")],
}


@dc.dataclass(frozen=True)
class Source:
    """What was read from the source node just before."""

    name: str
    key_count: int
    keys_digest: str
    expected: SourceFacts
    problems: tuple[Problem, ...] = ()

    @staticmethod
    def from_dict(node: dict[str, t.Any]) -> Source:
        """From the `node` that utrust_hsm_info returned. Raises UtrustError (`source_invalid`)."""
        try:
            if not node["mbk"]:
                raise ValueError(f"the HSM of {node['name']} holds no MBK")
            return Source(
                str(node["name"]),
                int(node["key_count"]),
                str(node["keys_digest"]),
                SourceFacts(
                    f"source {node['name']}",
                    str(node["cluster_id"]),
                    str(node["appliance_version"]),
                    str(node["hsm_firmware"]),
                    Mbk(str(node["mbk"]["name"]), str(node["mbk"]["check_value"])),
                ),
                _problems_of_source(node),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise UtrustError(
                f"reading option source: {exc!r}; give RETURN value node of utrust_hsm_info, read from the operational source node",
                code="source_invalid",
            ) from exc


@dc.dataclass(frozen=True)
class RestoreOptions:
    """`cards` is (m, n) as the operator declares them, or None; `cards_available` is how many of them the card holders have with them.

    `expect_hsm_serial` is the serial number that they have read at the front display. Times are seconds.
    """

    expect_node: str | None
    source: Source | None
    pin_pad: str | None
    cards: tuple[int, int] | None
    poll: float
    patience: WaitOptions
    max_clock_skew: float = 60.0
    cards_available: int | None = None
    expect_hsm_serial: str | None = None

    @classmethod
    def from_params(cls, params: Params) -> RestoreOptions:
        """Raises UtrustError (`source_invalid`)."""
        cards = (params["cards_required"], params["cards_total"]) if params["cards_required"] is not None else None
        return cls(
            expect_node=params["expect_node"],
            source=Source.from_dict(params["source"]) if params["source"] is not None else None,
            pin_pad=params["pin_pad"],
            cards=cards,
            # The node must respond to a long poll before the request times out.
            poll=min(LONG_POLL, params["timeout"] / 2),
            patience=WaitOptions(params["restore_timeout"]),
            cards_available=params["cards_available"],
            expect_hsm_serial=params["expect_hsm_serial"],
            max_clock_skew=params["max_clock_skew"],
        )


def _problems_of_source(node: dict[str, t.Any]) -> tuple[Problem, ...]:
    """A source that cannot give its keys, and members that are not Connected: all must be before the cluster changes."""
    name = str(node["name"])
    problems = [
        Problem(
            "member_disconnected",
            member["node"],
            f"{member['node']} is not Connected, says {name}",
            "bring it up first",
        )
        for member in node["members"]
        if member["joined"] and member["connection"] != "connected"
    ]
    if node["hsm_state"] != "operational" or node["driver"] != "running":
        text = f"the HSM of the source {name} is {node['hsm_state']}, its driver is {node['driver']}"
        problems.append(Problem("source_not_ready", name, text, "bring the source back to operation first"))
    return tuple(problems)


def restore_hsm(
    appliance: Appliance, options: RestoreOptions, *, dry_run: bool, progress: ProgressCallback
) -> dict[str, t.Any]:
    """Bring a node from Factory Reset Mode to the source's MBK and keys; watch a restore that is already running.

    Raises PreflightError before anything is changed; UtrustError with the restore's own code when people or the node ended it.
    """
    source, pin_pad = t.cast(Source, options.source), t.cast(str, options.pin_pad)
    node = appliance.node()
    action = f"guided restore of {node.name}"
    problems = [
        *check_identity(node, options.expect_node),
        *check_compatibility(node, source.expected),
        *check_mbk(node, source.expected),
    ]
    if node.hsm_state == "operational" and not problems:
        return _result_in_place(node, source)
    if RESTORE_JOB not in appliance.capabilities:
        raise UtrustError(
            f"{action}: here a guided restore cannot take the keys from {source.name}; nothing was changed. Restore it in Webconf from a package of "
            f"{source.name}, then run again to verify it",
            code="capability_missing",
        )
    problems += [*source.problems, *check_clock(node, options.max_clock_skew)]
    running = appliance.running_restore() if node.running is not None and node.running[0] == "restore" else None
    problems += _problems_of_state(node, running)
    if running is None:
        problems += check_pin_pad(node.name, appliance.pin_pads(), pin_pad)
    else:
        problems += _problems_of_running(node, running, source, pin_pad)
    raise_for_problems(action, problems)

    preview = appliance.preview_restore(pin_pad, source.name) if running is None else None
    if preview is not None:
        raise_for_problems(action, _problems_of_preview(node, preview, source, options))
        for line in summary(preview):
            progress(f"{node.name}: {line}")
    if dry_run:
        return _result(node, preview, running, changed=True, events=[])
    if running is None:
        running = appliance.start_restore(pin_pad, source.name)
        progress(f"{node.name}: guided restore started; continue at PIN pad {pin_pad}")
    else:
        progress(f"{node.name}: a guided restore is running already; watching it")
    events = _watch(appliance, node, running, options, progress)
    return {
        **_verified(appliance, node, source, options),
        **_result(node, preview, running, changed=True, events=events),
    }


def cancel_restore(
    appliance: Appliance, options: RestoreOptions, *, dry_run: bool, progress: ProgressCallback
) -> dict[str, t.Any]:
    """Cancel the guided restore that is running, if there is one; the HSM stays in Factory Reset Mode."""
    node = appliance.node()
    raise_for_problems(f"canceling the guided restore of {node.name}", check_identity(node, options.expect_node))
    running = appliance.running_restore() if node.running is not None and node.running[0] == "restore" else None
    if running is None or dry_run:
        return _result(node, None, running, changed=running is not None, events=[])
    canceled = appliance.cancel_restore(running.id)
    progress(f"{node.name}: guided restore canceled")
    return _result(node, None, canceled, changed=True, events=[])


def summary(preview: RestorePreview) -> list[str]:
    """The HSM Guided Restore Summary, for card holders to read aloud and compare with the front display."""
    return [
        f"HSM Guided Restore Summary: HSM {preview.hsm_serial}, TLS fingerprint {preview.tls_fingerprint}",
        f"{preview.source_key_count} key(s) come along from {preview.source}; MBK {preview.mbk}",
        f"PIN pad {preview.pin_pad.name}: have {preview.cards_required} out of {preview.cards_total} MBK cards in reach, PIN pad interactions are required",
    ]


def _problems_of_state(node: Node, running: Restore | None) -> list[Problem]:
    if running is not None:
        return []
    problems = check_driver_and_jobs(node)
    if node.hsm_state == "operational" and node.mbk is not None:
        return problems  # another MBK or version; told already
    # An external erase leaves an alarm, and nothing to lose; any other alarm may mean that somebody tampered with the HSM.
    if node.hsm_state != "factory_reset" and (node.hsm_state, node.alarm) != ("alarm", "external_erase"):
        problems.append(
            Problem(
                "not_factory_reset",
                node.name,
                f"the HSM of {node.name} is {describe_state(node)}, not in Factory Reset Mode",
                "a guided restore starts from Factory Reset Mode only; find out why the node is in this state before you reset it by hand",
            )
        )
    return problems


def _problems_of_running(node: Node, running: Restore, source: Source, pin_pad: str) -> list[Problem]:
    if (running.source, running.pin_pad) == (source.name, pin_pad):
        return []
    return [
        Problem(
            "restore_in_progress",
            node.name,
            f"a guided restore from {running.source} at PIN pad {running.pin_pad} is running on {node.name}",
            "watch it with the same source and pin_pad, or end it with state: canceled",
        )
    ]


def _problems_of_preview(node: Node, preview: RestorePreview, source: Source, options: RestoreOptions) -> list[Problem]:
    problems = []
    if preview.node != node.name or preview.hsm_serial != node.hsm_serial:
        problems.append(
            Problem(
                "node_name_mismatch", node.name, f"the summary is of {preview.node} ({preview.hsm_serial})", "run again"
            )
        )
    if not preview.mbk.same_as(source.expected.mbk):
        problems.append(
            Problem(
                "mbk_mismatch",
                node.name,
                f"the restore would use MBK {preview.mbk}, the source holds {source.expected.mbk}",
                "check the source",
            )
        )
    if preview.source_keys_digest != source.keys_digest:
        problems.append(
            Problem(
                "source_changed",
                node.name,
                f"the restore would bring inventory {preview.source_keys_digest}, {source.name} was read with {source.keys_digest}",
                "let the key generation on the source end, then run again",
            )
        )
    if options.cards is not None and options.cards != (preview.cards_required, preview.cards_total):
        problems.append(
            Problem(
                "card_quorum_mismatch",
                node.name,
                f"{options.cards[0]} out of {options.cards[1]} cards are declared, the node says {preview.cards_required} out of {preview.cards_total}",
                "check which set of MBK cards you hold",
            )
        )
    if options.cards_available is not None and options.cards_available < preview.cards_required:
        problems.append(
            Problem(
                "not_enough_cards",
                node.name,
                f"{options.cards_available} MBK card(s) are at hand, {preview.cards_required} out of {preview.cards_total} are needed",
                "call more card holders before the restore is started",
            )
        )
    if options.expect_hsm_serial not in (None, preview.hsm_serial):
        problems.append(
            Problem(
                "hsm_serial_mismatch",
                node.name,
                f"the HSM that answers is {preview.hsm_serial}, the card holders read {options.expect_hsm_serial} at the front display",
                "find out which appliance you stand in front of; no card must be inserted before that is clear",
            )
        )
    return problems


def _watch(
    appliance: Appliance, node: Node, restore: Restore, options: RestoreOptions, progress: ProgressCallback
) -> list[str]:
    """Follow the restore to its end; tell each transition once, and a sign of life where nothing happens. Returns the transitions."""
    patience, name = options.patience, node.name
    started = patience.clock()
    events: list[str] = []
    seen: int | None = None
    told_at = started
    while True:
        line = _describe(restore)
        if restore.sequence != seen:
            events.append(line)
        if restore.sequence != seen or patience.clock() - told_at >= KEEPALIVE_INTERVAL:
            progress(f"{name} HSM {node.hsm_serial}: {'' if restore.sequence != seen else 'still waiting, '}{line}")
            seen, told_at = restore.sequence, patience.clock()
        if restore.finished:
            break
        left = patience.timeout - (patience.clock() - started)
        if left <= 0:
            raise UtrustError(
                f"guided restore of {name}: not finished within {patience.timeout:g} s, last: {line}; it goes on at PIN pad {restore.pin_pad}. "
                "Run again to watch it, or end it with state: canceled",
                code="restore_timeout",
                restore_id=restore.id,
                events=events,
            )
        restore = wait_until_available(
            functools.partial(appliance.watch_restore, restore, min(options.poll, left)),
            patience._replace(timeout=left),
            f"watching the guided restore of {name}",
        )
    if restore.state != "succeeded":
        code, text = restore.problem or (f"restore_{restore.state}", f"the node says that it {restore.state}")
        raise UtrustError(
            f"guided restore of {name} {restore.state} after {restore.cards_accepted} of {restore.cards_required} cards: {text}; "
            f"the HSM is as it was. {_last_pin_pad_error(events)}Run again when cards and card holders are ready",
            code=code,
            restore_id=restore.id,
            events=events,
        )
    return events


def _describe(restore: Restore) -> str:
    left = f", {restore.seconds_left:.0f} s left" if restore.seconds_left is not None else ""
    card = min(restore.cards_accepted + 1, restore.cards_required)
    notice = f"{restore.notice[1]} [{restore.notice[0]}]; " if restore.notice else ""
    if restore.finished:
        return f"{notice}restore {restore.state}"
    if restore.prompt is None:
        return f"{notice}PIN pad {restore.pin_pad}: restoring keys"
    return f"{notice}PIN pad {restore.pin_pad}: {restore.prompt} (card {card} of {restore.cards_required}{left})"


def _last_pin_pad_error(events: list[str]) -> str:
    notices = [event.split("; ")[0] for event in events if "]; " in event]
    return f"The PIN pad's last complaint: {notices[-1]}. " if notices else ""


def _verified(appliance: Appliance, before: Node, source: Source, options: RestoreOptions) -> dict[str, t.Any]:
    after = wait_until_available(appliance.node, options.patience, f"reading {before.name} after its restore")
    problems = check_mbk(after, source.expected)
    if after.hsm_state != "operational" or after.mbk is None or problems:
        raise UtrustError(
            f"guided restore of {before.name}: it succeeded, but the HSM is {describe_state(after)} under MBK {after.mbk}; do not use this node",
            code="restore_not_verified",
        )
    if after.keys_digest != source.keys_digest:
        raise UtrustError(
            f"guided restore of {before.name}: it is operational under MBK {after.mbk}, but with {after.key_count} key(s), inventory "
            f"{after.keys_digest}, not those that {source.name} had when it was read; synchronize them with key_sync before this node is used",
            code="restore_not_in_sync",
        )
    return {**_result_in_place(after, source), "changed": True}


def _result_in_place(node: Node, source: Source) -> dict[str, t.Any]:
    in_sync = node.keys_digest == source.keys_digest
    result: dict[str, t.Any] = {
        "changed": False,
        "node": node.name,
        "hsm_serial": node.hsm_serial,
        "hsm_state": node.hsm_state,
        "mbk": dc.asdict(t.cast(Mbk, node.mbk)),
        "key_count": node.key_count,
        "keys_digest": node.keys_digest,
        "in_sync": in_sync,
    }
    if not in_sync:
        result["warnings"] = [
            f"{node.name} holds the MBK of {source.name}, but other keys ({node.key_count}, source {source.key_count}): synchronize them with key_sync"
        ]
    return result


def _result(
    node: Node, preview: RestorePreview | None, restore: Restore | None, *, changed: bool, events: list[str]
) -> dict[str, t.Any]:
    result: dict[str, t.Any] = {"changed": changed, "node": node.name, "hsm_serial": node.hsm_serial, "events": events}
    if preview is not None:
        result["preview"] = dc.asdict(preview)
        result["diff"] = {
            "before_header": f"HSM of {node.name}",
            "after_header": f"HSM of {node.name}",
            "before": f"{describe_state(node)}\n0 key(s)\n",
            "after": f"operational\nMBK {preview.mbk}\n{preview.source_key_count} key(s) of {preview.source}\n",
        }
    if restore is not None:
        result["restore"] = {"id": restore.id, "pin_pad": restore.pin_pad, "source": restore.source}
    return result


def run(invocation: Invocation) -> Result:
    operation = cancel_restore if invocation.params["state"] == "canceled" else restore_hsm
    options = RestoreOptions.from_params(invocation.params)
    with open_appliance(invocation.params) as appliance:
        return operation(appliance, options, dry_run=invocation.check_mode, progress=invocation.progress)


OPERATION: t.Final = Operation("utrust_hsm_restore", ARGUMENT_SPEC, RULES, run)
