# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Guided restore of a node that has joined the cluster. Private to keyops.utrust.

People insert cards and type PINs at the PIN pad. The operation previews, starts, shows the prompts of the PIN pad, and verifies.
It never handles a PIN and never repeats a card step.
"""

from __future__ import annotations

import dataclasses as dc
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import RESTORE_JOB, UNKNOWN
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.people import PEOPLE_SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    ApiError,
    Problem,
    UtrustError,
    raise_for_problems,
)
from ansible_collections.keyops.utrust.plugins.module_utils._interruption import (
    CodedInterruption,
    InterruptedTaskError,
    shortened,
)
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_LONG_POLL, MAX_VIEW_TIME
from ansible_collections.keyops.utrust.plugins.module_utils._operations.hsm_restore_verify import (
    result_in_place,
    verify_restore,
)
from ansible_collections.keyops.utrust.plugins.module_utils._operations.hsm_restore_watch import (
    find_running_restore,
    read_outcome,
    start_restore,
    watch_restore,
)
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import (
    check_clock,
    check_compatibility,
    check_identity,
    check_mbk,
    check_pin_pad,
    describe_count,
    describe_state,
)
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.policy import AUDIT_SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.restore import (
    CardDeclaration,
    Source,
    check_cards,
    check_preview,
    check_restore_state,
    check_running_restore,
    describe_cards,
)
from ansible_collections.keyops.utrust.plugins.module_utils._run.life import require_run
from ansible_collections.keyops.utrust.plugins.module_utils._runner import Invocation, Operation, Result, open_appliance
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Node, Restore, RestorePreview
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance, ProgressCallback
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Params, Spec

ARGUMENT_SPEC: t.Final[Spec] = {
    **AUDIT_SPEC,
    **PEOPLE_SPEC,
    "state": {"type": "str", "choices": ["restored", "canceled"], "default": "restored"},
    "source": {"type": "dict"},
    # The name of a device is public.
    "pin_pad": {"type": "str", "no_log": False},
    "cards_required": {"type": "int"},
    "cards_total": {"type": "int"},
    "cards_available": {"type": "int"},
    "expect_hsm_serial": {"type": "str"},
    "restore_timeout": {"type": "float", "default": 1800.0},
    "ejbca_view_timeout": {"type": "float", "default": MAX_VIEW_TIME},
}
RULES: t.Final[Spec] = {
    "required_if": [("state", "restored", ("source", "pin_pad", "expect_node"))],
    "required_together": [("cards_required", "cards_total")],
}


@dc.dataclass(frozen=True)
class RestoreOptions:
    """Options of the module. `cards` is (m, n) as the operator declares it, or None. `poll` is in seconds."""

    expect_node: str | None
    source: Source | None
    pin_pad: str | None
    cards: tuple[int, int] | None
    poll: float
    patience: WaitOptions
    max_clock_skew: float = 60.0
    cards_available: int | None = None
    expect_hsm_serial: str | None = None
    view_timeout: float = MAX_VIEW_TIME

    @classmethod
    def from_params(cls, params: Params) -> RestoreOptions:
        """Return the options from validated parameters. Raises UtrustError (`source_invalid`)."""
        cards = (params["cards_required"], params["cards_total"]) if params["cards_required"] is not None else None
        return cls(
            expect_node=params["expect_node"],
            source=Source.from_dict(params["source"]) if params["source"] is not None else None,
            pin_pad=params["pin_pad"],
            cards=cards,
            # The node must respond to a long poll before the request times out.
            poll=min(MAX_LONG_POLL, params["timeout"] / 2),
            patience=WaitOptions(params["restore_timeout"]),
            cards_available=params["cards_available"],
            expect_hsm_serial=params["expect_hsm_serial"],
            max_clock_skew=params["max_clock_skew"],
            view_timeout=params["ejbca_view_timeout"],
        )


def restore_hsm(
    appliance: Appliance, options: RestoreOptions, *, dry_run: bool, progress: ProgressCallback
) -> dict[str, t.Any]:
    """Restore the MBK and the keys of the source to a node in Factory Reset Mode, or watch a running restore.

    Raises PreflightError before any change. Raises UtrustError with the code of the restore if people or the node end it.
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
        return result_in_place(node, source)
    _require_restore_job(appliance, node, source, action)
    running = find_running_restore(appliance, node)
    problems += [
        *source.problems,
        *check_clock(node, options.max_clock_skew),
        *check_restore_state(node, running),
    ]
    if running is None:
        problems += _check_pin_pad(appliance, node, pin_pad)
    else:
        problems += check_running_restore(node, running, source.name, pin_pad)
    raise_for_problems(action, problems)

    preview = _preview(appliance, node, source, options, progress) if running is None else None
    if dry_run:
        return _result(node, preview, running, changed=True, events=[])
    try:
        with CodedInterruption(action):
            if running is None:
                running = start_restore(appliance, node, pin_pad, source.name, options.patience)
                progress(f"{node.name}: guided restore started. Continue at PIN pad {pin_pad}")
            else:
                progress(f"{node.name}: a guided restore is already running, watching it")
            events = watch_restore(appliance, node, running, options.poll, options.patience, progress)
            verified = verify_restore(appliance, node, source, options.patience, options.view_timeout)
    except InterruptedTaskError as interrupted:
        raise interrupted.with_outcome(read_outcome(appliance, node, shortened(options.patience))) from interrupted
    return {**verified, **_result(node, preview, running, changed=True, events=events)}


def _require_restore_job(appliance: Appliance, node: Node, source: Source, action: str) -> None:
    """Check that the node, or people at its Webconf, can restore the HSM."""
    if RESTORE_JOB not in appliance.capabilities and not node.sees_only_ejbca:
        raise UtrustError(
            f"{action}: this node cannot restore keys from {source.name} over its API. Nothing was changed. "
            f"Restore the HSM in Webconf from a package of {source.name}, then run again to verify it",
            code="capability_missing",
        )


def _check_pin_pad(appliance: Appliance, node: Node, pin_pad: str) -> list[Problem]:
    """Check the PIN pad if the node can list its PIN pads. Every node checks the PIN pad when the restore is previewed."""
    try:
        return check_pin_pad(node.name, appliance.pin_pads(), pin_pad)
    except ApiError as exc:
        if exc.code != "not_supported":
            raise
        return []


def _preview(
    appliance: Appliance, node: Node, source: Source, options: RestoreOptions, progress: ProgressCallback
) -> RestorePreview:
    """Check and show the HSM Guided Restore Summary. Raises PreflightError."""
    preview = appliance.preview_restore(t.cast(str, options.pin_pad), source.name)
    declared = CardDeclaration(options.cards, options.cards_available, options.expect_hsm_serial)
    raise_for_problems(
        f"guided restore of {node.name}", check_preview(node, preview, source) + check_cards(node, preview, declared)
    )
    for line in summary(preview):
        progress(f"{node.name}: {line}")
    return preview


def cancel_restore(
    appliance: Appliance, options: RestoreOptions, *, dry_run: bool, progress: ProgressCallback
) -> dict[str, t.Any]:
    """Cancel a running guided restore. The HSM stays in Factory Reset Mode."""
    node = appliance.node()
    raise_for_problems(f"canceling the guided restore of {node.name}", check_identity(node, options.expect_node))
    running = find_running_restore(appliance, node)
    if running is None or dry_run:
        return _result(node, None, running, changed=running is not None, events=[])
    require_run()  # unlike other requests with DELETE, this one discards work of people
    ended = appliance.cancel_restore(running.id)
    if ended.state == "canceled":
        progress(f"{node.name}: guided restore canceled")
        return _result(node, None, ended, changed=True, events=[])
    warning = f"the guided restore of {node.name} had {ended.state} before it could be canceled. Check its HSM in Webconf, page Security"
    return {**_result(node, None, ended, changed=False, events=[]), "warnings": [warning]}


def summary(preview: RestorePreview) -> list[str]:
    """Return the HSM Guided Restore Summary. Card holders compare it with the front display."""
    m, n = describe_cards(preview)
    return [
        f"HSM Guided Restore Summary: HSM {preview.hsm_serial}, TLS fingerprint {preview.tls_fingerprint or UNKNOWN}",
        f"{describe_count(preview.source_key_count)} will be restored from {preview.source}, MBK {preview.mbk or UNKNOWN}",
        f"PIN pad {preview.pin_pad.name}: have {m} out of {n} MBK cards in reach, PIN pad interactions are required",
    ]


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
            "after": f"operational\nMBK {preview.mbk or UNKNOWN}\n{describe_count(preview.source_key_count)} of {preview.source}\n",
        }
    if restore is not None:
        result["restore"] = {"id": restore.id, "pin_pad": restore.pin_pad, "source": restore.source}
    return result


def run(invocation: Invocation) -> Result:
    """Restore the HSM or cancel a restore. Raises UtrustError."""
    operation = cancel_restore if invocation.params["state"] == "canceled" else restore_hsm
    options = RestoreOptions.from_params(invocation.params)
    with open_appliance(invocation.params, invocation.people) as appliance:
        return operation(appliance, options, dry_run=invocation.check_mode, progress=invocation.progress)


OPERATION: t.Final = Operation("utrust_hsm_restore", ARGUMENT_SPEC, RULES, run, changes=lambda dummy: True)
