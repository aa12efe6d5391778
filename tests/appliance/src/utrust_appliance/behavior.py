# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What this appliance does where nobody knows what the real one does. Every such decision is here and nowhere else.

An *aspect* is one open question, its values are the answers that are thinkable; a *profile* is a name for some of them. The defaults are the
contract's. docs/import-behavior.md says what the collection does under each.
"""

from __future__ import annotations

import typing as t
from dataclasses import asdict, dataclass

from utrust_appliance.errors import OperationError
from utrust_appliance.keys import KeyEntry, KeyIdentity, KeyRef, SlotSettings

ASPECTS: dict[str, dict[str, str]] = {
    "commit": {
        "apply": "an upload is staged with a table of what it would do; applying it is the commit",
        "upload": "the upload is the commit; the table says what was done",
    },
    "effect": {
        "overwriting": "an import adds keys, and puts a key in the place of another one under its slot and label",
        "additive": "an import only adds keys; what is there stays, also under the same slot, label and id",
        "replacing": "after an import the HSM holds the keys of the package and no others",
    },
    "deletions": {
        "stay": "that a key was destroyed on the source is not in a package",
        "travel": "keys that were destroyed on the source are destroyed by the import, too",
    },
    "users": {
        "stay": "an import leaves the settings of slots alone: who unlocks them, and how",
        "travel": "slots take the source's label and way of activation",
    },
    "pins": {
        "stay": "a slot's login stays where it is: a slot that arrives must be activated, unless that is automatic",
        "travel": "slots are activated, or not, as they are on the source",
    },
    "atomic": {
        "all": "an import that fails leaves the keys as they were",
        "key_by_key": "keys are written one by one; an import that fails in the middle leaves those that were written",
    },
    "restart": {
        "nothing": "nothing is restarted by an import",
        "driver": "the HSM's driver restarts after an import; what needs the HSM is unavailable meanwhile",
        "node": "the node restarts after an import; it answers nobody, and the others show it as disconnected meanwhile",
    },
    "cards": {
        "never": "an import asks for no cards",
        "asked": "an import waits at the PIN pad for m of n MBK cards, as a guided restore does",
    },
    "binding": {
        "cluster": "a package is taken by nodes of the cluster where it was made",
        "mbk": "a package is taken wherever the HSM holds its MBK",
    },
    "restore_from": {
        "member": "a guided restore takes the keys from a member of the cluster",
        "package": "a guided restore takes the keys from a package of a file, which people choose in Webconf, and not from a member",
    },
    "announces": {
        "yes": "the node says how its imports behave",
        "no": "the node does not know how its imports behave, or does not say: unknown",
    },
}
PROFILES: dict[str, tuple[str, dict[str, str]]] = {
    "contract": ("the project's own contract, to the letter; the default", {}),
    "vendor-page": (
        "the vendor's page, read closely: the upload is the commit, keys are restored beside those that are there; of the rest nothing is said",
        {"commit": "upload", "effect": "additive", "announces": "no"},
    ),
    "legacy-reboot": (
        "the advice for the legacy appliance, read closely: keys that were generated elsewhere cost a reboot",
        {"restart": "node"},
    ),
    "key-by-key": (
        "a node that takes the upload for the commit and writes one key after the other",
        {"commit": "upload", "atomic": "key_by_key", "restart": "driver"},
    ),
    "backup": (
        "an import is a restored backup: all keys, users and PINs are those of the source, cards are asked for, the node restarts",
        {
            "effect": "replacing",
            "users": "travel",
            "pins": "travel",
            "restart": "node",
            "cards": "asked",
            "restore_from": "package",
        },
    ),
    "mirror": (
        "what one HSM loses the others lose: deletions travel with the keys",
        {"deletions": "travel", "users": "travel"},
    ),
    "worst-case": (
        "everything that could go wrong does, and the node does not say so beforehand",
        {
            "commit": "upload",
            "effect": "replacing",
            "deletions": "travel",
            "users": "travel",
            "atomic": "key_by_key",
            "restart": "node",
            "binding": "mbk",
            "announces": "no",
        },
    ),
}


class ImportPlan(t.NamedTuple):
    """Rows for the table of an import, and what is to be done."""

    rows: list[dict[str, t.Any]]
    put: set[KeyRef]
    remove: list[KeyRef]


@dataclass(frozen=True)
class Behavior:
    """A value for each aspect: the answers to "what does this appliance do when …"."""

    commit: str = "apply"
    effect: str = "overwriting"
    deletions: str = "stay"
    users: str = "stay"
    pins: str = "stay"
    atomic: str = "all"
    restart: str = "nothing"
    cards: str = "never"
    binding: str = "cluster"
    restore_from: str = "member"
    announces: str = "yes"

    @classmethod
    def of(cls, names: t.Iterable[str]) -> Behavior:
        """From names of profiles and `aspect=value`; where several say something of the same aspect, the last one counts."""
        chosen: dict[str, str] = {}
        for name in names:
            aspect, equals, value = name.partition("=")
            if equals and value in ASPECTS.get(aspect, {}):
                chosen[aspect] = value
            elif not equals and name in PROFILES:
                chosen.update(PROFILES[name][1])
            elif equals and aspect in ASPECTS:
                raise OperationError(f"{aspect} is {' or '.join(ASPECTS[aspect])}, not {value!r}")
            else:
                raise OperationError(
                    f"there is no profile {name!r}; there are {', '.join(PROFILES)}, and ASPECT=VALUE (`utrust-appliance profile list`)"
                )
        return cls(**chosen)

    @classmethod
    def check(cls, names: t.Sequence[str]) -> list[str]:
        """The names, if they are a profile."""
        cls.of(names)
        return list(names)

    # What a node says of itself

    def capabilities(self) -> list[str]:
        able = ["inventory"]
        if self.commit == "apply":
            able.append("staged_import")
        if self.restore_from == "member":
            able.append("restore_job")
        return able

    def announced(self) -> dict[str, str]:
        """The contract's ImportBehavior."""
        told = ("effect", "deletions", "atomic", "restart", "cards")
        facts = asdict(self)
        return {name: facts[name] if self.announces == "yes" else "unknown" for name in told}

    # What it does

    def restore_allowed(self, state: str, alarm: str | None) -> bool:
        """Factory Reset Mode, or the alarm that an external erase leaves (Keyfactor's documentation, Webconf restore)."""
        return state == "factory_reset" or (state, alarm) == ("alarm", "external_erase")

    def plan_import(
        self, held: list[KeyEntry], package: list[KeyIdentity], destroyed: t.Collection[KeyIdentity] = ()
    ) -> ImportPlan:
        """What becomes of the keys. `destroyed` are those that the package says were destroyed on the source.

        Overwriting: a key replaces the one under its slot, label and id; where there is none, another one under its slot and label that the
        package has not.
        """
        current = {key.identity.ref: key.identity for key in held}
        carried = {key.ref for key in package}
        others: dict[tuple[int, str], list[KeyIdentity]] = {}
        if self.effect != "additive":
            for ref, identity in sorted(current.items()):
                if ref not in carried:
                    others.setdefault((identity.slot, identity.label), []).append(identity)
        plan = ImportPlan([], set(), [])
        for key in sorted(package, key=lambda key: key.ref):
            replaced = current.get(key.ref)
            if replaced is None and (beside := others.get((key.slot, key.label))):
                replaced = beside.pop(0)
                plan.remove.append(replaced.ref)
            if replaced is None:
                action = "add"
            elif replaced.ref == key.ref and replaced.fingerprint == key.fingerprint:
                action = "unchanged"
            else:
                action = "keep" if self.effect == "additive" else "replace"
            if action in ("add", "replace"):
                plan.put.add(key.ref)
            plan.rows.append(_row(key, action, replaced))
        for ref, identity in sorted(current.items()):
            gone = self.effect == "replacing" or (self.deletions == "travel" and identity in destroyed)
            if gone and ref not in carried and ref not in plan.remove:
                plan.remove.append(ref)
                plan.rows.append(_row(identity, "remove", identity))
        return plan

    def slots_after_import(self, held: list[SlotSettings], package: list[SlotSettings]) -> list[SlotSettings]:
        """An import makes the slots that are missing; what it does to the others depends on whether users and PINs travel."""
        known = {slot.slot: slot for slot in held}
        changed = []
        for slot in package:
            own = known.get(slot.slot)
            after = self._arrived(slot) if own is None else self._merged(own, slot)
            if after != own:
                changed.append(after)
        return changed

    def slots_after_restore(self, package: list[SlotSettings]) -> list[SlotSettings]:
        return [self._arrived(slot) for slot in package]

    def _arrived(self, slot: SlotSettings) -> SlotSettings:
        """Where PINs stay and activation is not automatic, somebody must activate the slot on this node."""
        activated = slot.activated if self.pins == "travel" else slot.activation == "auto"
        return SlotSettings(slot.slot, slot.label, slot.activation, activated, slot.capacity)

    def _merged(self, own: SlotSettings, slot: SlotSettings) -> SlotSettings:
        label, activation = (slot.label, slot.activation) if self.users == "travel" else (own.label, own.activation)
        if self.pins == "travel":
            activated = slot.activated
        else:
            activated = own.activated if activation == own.activation else activation == "auto"
        return SlotSettings(own.slot, label, activation, activated, own.capacity)


def _row(key: KeyIdentity, action: str, current: KeyIdentity | None) -> dict[str, t.Any]:
    fingerprint = current.fingerprint if current else None
    return {**key.as_dict(), "action": action, "current_fingerprint": fingerprint, "outcome": "pending"}
