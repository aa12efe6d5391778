# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of a guided restore, and the source node that it restores from. Private to keyops.utrust."""

from __future__ import annotations

import dataclasses as dc
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Mbk
from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem, UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import (
    SourceFacts,
    check_driver_and_jobs,
    check_family,
    describe_state,
)

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Node, Restore, RestorePreview


class CardDeclaration(t.NamedTuple):
    """MBK cards as the operator declares them. `quorum` is (m, n), `hsm_serial` the number at the front display. None: not declared."""

    quorum: tuple[int, int] | None = None
    available: int | None = None
    hsm_serial: str | None = None


@dc.dataclass(frozen=True)
class Source:
    """The source node, as utrust_hsm_info returned it. None means that the source cannot determine the fact."""

    name: str
    key_count: int | None
    keys_digest: str | None
    expected: SourceFacts
    problems: tuple[Problem, ...] = ()

    @staticmethod
    def from_dict(node: dict[str, t.Any]) -> Source:
        """Return the source from RETURN value `node` of utrust_hsm_info. Raises UtrustError (`source_invalid`)."""
        try:
            if not node["mbk"]:
                raise ValueError(f"the HSM of {node['name']} has no MBK, or its MBK is unknown")
            return Source(
                str(node["name"]),
                int(node["key_count"]) if node["key_count"] is not None else None,
                _text_or_none(node["keys_digest"]),
                SourceFacts(
                    f"source {node['name']}",
                    str(node["cluster_id"]),
                    _text_or_none(node["appliance_version"]),
                    _text_or_none(node["hsm_firmware"]),
                    Mbk(str(node["mbk"]["name"]), str(node["mbk"]["check_value"])),
                ),
                _check_source(node),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise UtrustError(
                f"reading option source: {exc!r}. Set RETURN value node of utrust_hsm_info, read from the operational source node",
                code="source_invalid",
            ) from exc


def _text_or_none(value: t.Any) -> str | None:
    return str(value) if value is not None else None


def _check_source(node: dict[str, t.Any]) -> tuple[Problem, ...]:
    """Check that the source can provide its keys and that every member is Connected, as the source reports them."""
    name = str(node["name"])
    problems = [
        Problem(
            "member_disconnected",
            member["node"],
            f"{name} does not report {member['node']} as Connected",
            f"bring {member['node']} up first",
        )
        for member in node["members"]
        if member["joined"] and member["connection"] not in ("connected", "declared")
    ]
    if node["hsm_state"] != "operational" or node["driver"] == "stopped":
        text = f"the HSM of the source {name} is {node['hsm_state']}, and its driver is {node['driver']}"
        problems.append(Problem("source_not_ready", name, text, "bring the source back to operation first"))
    return tuple(problems)


def check_restore_state(node: Node, running: Restore | None) -> list[Problem]:
    """Check that a restore can start from the state of the HSM."""
    if running is not None:
        return []
    problems = [*check_family(node), *check_driver_and_jobs(node)]
    if node.hsm_state == "operational" and node.mbk is not None:
        return problems  # another check reports the other MBK or version
    if node.sees_only_ejbca:
        return problems  # people look at the state before they click
    # An external erase leaves an alarm and no keys. Any other alarm may mean that somebody tampered with the HSM.
    if node.hsm_state != "factory_reset" and (node.hsm_state, node.alarm_code) != ("alarm", "external_erase"):
        problems.append(
            Problem(
                "not_factory_reset",
                node.name,
                f"the HSM of {node.name} is {describe_state(node)}, not in Factory Reset Mode",
                "find out why the HSM is in this state before you reset it by hand",
            )
        )
    return problems


def check_running_restore(node: Node, running: Restore, source: str, pin_pad: str) -> list[Problem]:
    """Check that a running restore has the source and the PIN pad of this run."""
    if (running.source, running.pin_pad) == (source, pin_pad):
        return []
    return [
        Problem(
            "restore_in_progress",
            node.name,
            f"a guided restore from {running.source} at PIN pad {running.pin_pad} is running on {node.name}",
            "set the same source and pin_pad to watch it, or set state: canceled to cancel it",
        )
    ]


def check_preview(node: Node, preview: RestorePreview, source: Source) -> list[Problem]:
    """Check the HSM Guided Restore Summary against the node and the source. After the restore, the HSM itself is checked."""
    problems: list[Problem] = []

    def add(code: str, text: str, remedy: str) -> None:
        problems.append(Problem(code, node.name, text, remedy))

    if preview.node != node.name or preview.hsm_serial != node.hsm_serial:
        add("node_name_mismatch", f"the summary is of {preview.node} ({preview.hsm_serial})", "run again")
    if preview.mbk is not None and not preview.mbk.same_as(source.expected.mbk):
        add(
            "mbk_mismatch",
            f"the restore would use MBK {preview.mbk}, but the source holds MBK {source.expected.mbk}",
            "check the MBK of the source",
        )
    digests = (preview.source_keys_digest, source.keys_digest)
    if None not in digests and preview.source_keys_digest != source.keys_digest:
        add(
            "source_changed",
            f"the keys of {source.name} changed: keys digest {preview.source_keys_digest}, expected {source.keys_digest}",
            "let the key generation on the source end, then run again",
        )
    return problems


def describe_cards(preview: RestorePreview) -> tuple[str, str]:
    """Return m and n of the MBK cards as text."""
    m, n = (
        "an unknown number" if count is None else str(count) for count in (preview.cards_required, preview.cards_total)
    )
    return m, n


def check_cards(node: Node, preview: RestorePreview, declared: CardDeclaration) -> list[Problem]:
    """Check the declared MBK cards and the HSM serial number that the card holders read at the front display."""
    problems: list[Problem] = []
    m, n = describe_cards(preview)
    quorum = f"{m} out of {n}"
    required = preview.cards_required
    if required is None and declared.quorum is not None:
        required = declared.quorum[0]

    def add(code: str, text: str, remedy: str) -> None:
        problems.append(Problem(code, node.name, text, remedy))

    if declared.quorum is not None and any(
        # A number that the node does not know is not compared.
        number not in (None, given)
        for number, given in zip((preview.cards_required, preview.cards_total), declared.quorum, strict=True)
    ):
        add(
            "card_quorum_mismatch",
            f"the node reports {quorum} MBK cards, declared are {declared.quorum[0]} out of {declared.quorum[1]}",
            "check which set of MBK cards you hold",
        )
    if declared.available is not None and required is not None and declared.available < required:
        add(
            "not_enough_cards",
            f"{declared.available} MBK card(s) are available, {required} out of {n} are required",
            "call more card holders before you start the restore",
        )
    if declared.hsm_serial not in (None, preview.hsm_serial):
        add(
            "hsm_serial_mismatch",
            f"the HSM serial number is {preview.hsm_serial}, the card holders read {declared.hsm_serial} at the front display",
            "check that this is the correct appliance. Do not insert a card until the serial numbers match",
        )
    return problems
