# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What this appliance does where nobody knows what the real one does. Every such decision is here and nowhere else.

Undocumented of the real appliance: whether an import is additive or replaces, whether it repairs, whether a package is bound to the cluster,
what becomes of a slot's activation. The defaults are the contract's.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from utrust_appliance.inventory import HeldKey, KeyIdentity, KeyRef, SlotSettings


class ImportPlan(t.NamedTuple):
    """Rows for the table of an import, and what is to be done."""

    rows: list[dict[str, t.Any]]
    put: set[KeyRef]
    remove: list[KeyRef]


@dataclass(frozen=True)
class Behaviour:
    """The answers to "what does this appliance do when …"."""

    package_bound_to_cluster: bool = True

    def restore_allowed(self, state: str) -> bool:
        return state == "factory_reset"

    def plan_import(self, held: list[HeldKey], package: list[KeyIdentity]) -> ImportPlan:
        """Additive: what the package has not, stays, unless a key of the package takes its place.

        A key replaces the one under its slot, label and id; where there is none, another one under its slot and label that the package has not.
        """
        current = {key.identity.ref: key.identity for key in held}
        carried = {key.ref for key in package}
        others: dict[tuple[int, str], list[KeyIdentity]] = {}
        for ref, identity in sorted(current.items()):
            if ref not in carried:
                others.setdefault((identity.slot, identity.label), []).append(identity)
        plan = ImportPlan([], set(), [])
        for key in sorted(package, key=lambda key: key.ref):
            replaced = current.get(key.ref)
            if replaced is None and (beside := others.get((key.slot, key.label))):
                replaced = beside.pop(0)
                plan.remove.append(replaced.ref)
            fingerprint = replaced.fingerprint if replaced else None
            unchanged = replaced is not None and replaced.ref == key.ref and fingerprint == key.fingerprint
            action = "unchanged" if unchanged else "replace" if replaced else "add"
            if not unchanged:
                plan.put.add(key.ref)
            row = {**key.as_dict(), "action": action, "current_fingerprint": fingerprint, "outcome": "pending"}
            plan.rows.append(row)
        return plan

    def slots_after_import(self, held: list[SlotSettings], package: list[SlotSettings]) -> list[SlotSettings]:
        """An import makes the slots that are missing and leaves the settings of the others alone."""
        known = {slot.slot for slot in held}
        return [self._arrived(slot) for slot in package if slot.slot not in known]

    def slots_after_restore(self, package: list[SlotSettings]) -> list[SlotSettings]:
        return [self._arrived(slot) for slot in package]

    @staticmethod
    def _arrived(slot: SlotSettings) -> SlotSettings:
        """A slot's login does not travel: where activation is not automatic, somebody must activate it on this node."""
        return SlotSettings(slot.slot, slot.label, slot.activation, slot.activation == "auto", slot.capacity)
