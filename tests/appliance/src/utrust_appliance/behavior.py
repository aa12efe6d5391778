# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Behavior that the vendor does not document. All of it is implemented here.

An *aspect* is one undocumented behavior with all plausible values. A *profile* is a named set of values. The defaults follow the contract.
docs/import-behavior.md describes how the collection handles each value.
"""

from __future__ import annotations

import typing as t
from dataclasses import asdict, dataclass

from utrust_appliance.errors import OperationError
from utrust_appliance.keys import KeyEntry, KeyIdentity, KeyRef, SlotSettings

if t.TYPE_CHECKING:
    from collections.abc import Callable

ASPECTS: dict[str, dict[str, str]] = {
    "commit": {
        "apply": "an upload is staged, and the table is a preview. The apply request is the commit",
        "upload": "the upload is the commit. The table lists the results",
    },
    "effect": {
        "overwriting": "an import adds keys, and replaces a different key under the same slot and label",
        "additive": "an import only adds keys. Existing keys stay, also under the same slot, label and id",
        "replacing": "after an import, the HSM holds exactly the keys of the package",
    },
    "deletions": {
        "not_replicated": "a package does not contain deletions",
        "replicated": "an import also destroys the keys that were destroyed on the source",
    },
    "users": {
        "not_replicated": "an import does not change the label or activation mode of existing slots",
        "replicated": "slots get the label and activation mode of the source",
    },
    "pins": {
        "not_replicated": "slot logins are not imported: a new slot must be activated, unless its activation is automatic",
        "replicated": "slots get the activation state of the source",
    },
    "atomic": {
        "all": "a failed import does not change any key",
        "key_by_key": "keys are written one by one. A failed import leaves the keys that were already written",
    },
    "restart": {
        "nothing": "an import restarts nothing",
        "driver": "the HSM driver restarts after an import. Operations that need the HSM are unavailable until then",
        "node": "the node restarts after an import. Until then it does not respond, and other members show it as disconnected",
    },
    "cards": {
        "not_required": "an import does not require cards",
        "required": "an import waits at the PIN pad for m of n MBK cards, like a guided restore",
    },
    "binding": {
        "cluster": "nodes accept packages of their own cluster only",
        "mbk": "nodes accept every package that is wrapped under the MBK of their HSM",
    },
    "restore_from": {
        "member": "a guided restore gets the keys from a cluster member",
        "package": "a guided restore gets the keys from a package file that people select in Webconf",
        "nothing": "the node does not offer a guided restore to clients",
    },
    "key_list": {
        "yes": "the node lists its keys, and reports their number and digest",
        "no": "the node does not list its keys. Numbers and digests are null",
    },
    "cluster_claim": {
        "yes": "each joined node offers the claim of the cluster",
        "no": "no node offers the claim of the cluster",
    },
    "packages": {
        "readable": "the node reads the facts of a package, and the rows of an import",
        "opaque": "facts of packages and rows of imports are null",
    },
    "announces": {
        "yes": "the node reports how its imports behave",
        "no": "the node reports `unknown` for the behavior of its imports",
    },
}
PROFILES: dict[str, tuple[str, dict[str, str]]] = {
    "contract": ("exactly this project's contract (default)", {}),
    "vendor-page": (
        "the vendor's page, read literally: the upload is the commit, keys are added to the existing keys, and the node reports nothing",
        {"commit": "upload", "effect": "additive", "announces": "no"},
    ),
    "legacy-reboot": (
        "the advice for the legacy appliance: after an import of keys that another node generated, the node restarts",
        {"restart": "node"},
    ),
    "key-by-key": (
        "the upload is the commit, keys are written one by one, and the driver restarts",
        {"commit": "upload", "atomic": "key_by_key", "restart": "driver"},
    ),
    "backup": (
        "an import restores a backup: keys, users and PINs come from the source, cards are required, and the node restarts",
        {
            "effect": "replacing",
            "users": "replicated",
            "pins": "replicated",
            "restart": "node",
            "cards": "required",
            "restore_from": "package",
        },
    ),
    "mirror": (
        "deletions are replicated to all HSMs",
        {"deletions": "replicated", "users": "replicated"},
    ),
    "bridge": (
        "a bridge in front of an appliance that shows only what Webconf shows: no key list, no preview, no claim, opaque packages",
        {
            "commit": "upload",
            "restore_from": "nothing",
            "key_list": "no",
            "cluster_claim": "no",
            "packages": "opaque",
            "announces": "no",
        },
    ),
    "worst-case": (
        "the most destructive value of every aspect, and the node reports nothing",
        {
            "commit": "upload",
            "effect": "replacing",
            "deletions": "replicated",
            "users": "replicated",
            "atomic": "key_by_key",
            "restart": "node",
            "binding": "mbk",
            "announces": "no",
        },
    ),
}


class ImportPlan(t.NamedTuple):
    """Rows for the table of an import, and the changes to make."""

    rows: list[dict[str, t.Any]]
    put: set[KeyRef]
    remove: list[KeyRef]
    replaced: dict[KeyRef, KeyRef]  # the key of the HSM that a key of the package replaces; it is also in `remove`


@dataclass(frozen=True)
class Behavior:
    """One value for each aspect."""

    commit: str = "apply"
    effect: str = "overwriting"
    deletions: str = "not_replicated"
    users: str = "not_replicated"
    pins: str = "not_replicated"
    atomic: str = "all"
    restart: str = "nothing"
    cards: str = "not_required"
    binding: str = "cluster"
    restore_from: str = "member"
    key_list: str = "yes"
    cluster_claim: str = "yes"
    packages: str = "readable"
    announces: str = "yes"

    @classmethod
    def of(cls, names: t.Iterable[str]) -> Behavior:
        """Build from names of profiles and `aspect=value`. The last value of an aspect wins."""
        chosen: dict[str, str] = {}
        for name in names:
            aspect, equals, value = name.partition("=")
            if equals and value in ASPECTS.get(aspect, {}):
                chosen[aspect] = value
            elif not equals and name in PROFILES:
                chosen.update(PROFILES[name][1])
            elif equals and aspect in ASPECTS:
                raise OperationError(f"{aspect} must be {' or '.join(ASPECTS[aspect])}, not {value!r}.")
            else:
                raise OperationError(
                    f"The profile {name!r} does not exist. Use {', '.join(PROFILES)} or ASPECT=VALUE (see `utrust-appliance profile list`)."
                )
        return cls(**chosen)

    @classmethod
    def check(cls, names: t.Sequence[str]) -> list[str]:
        """Return the names if they are valid."""
        cls.of(names)
        return list(names)

    # What a node reports

    def capabilities(self) -> list[str]:
        offered = {
            "key_list": self.key_list == "yes",
            "staged_import": self.commit == "apply",
            "restore_job": self.restore_from == "member",
            "cluster_claim": self.cluster_claim == "yes",
        }
        return [name for name, able in offered.items() if able]

    def announced(self) -> dict[str, str]:
        """The contract's ImportBehavior."""
        names = ("effect", "deletions", "atomic", "restart", "cards")
        facts = asdict(self)
        return {name: facts[name] if self.announces == "yes" else "unknown" for name in names}

    # What an import or restore does

    def restore_allowed(self, state: str, alarm: str | None) -> bool:
        """Whether a restore may start: in Factory Reset Mode, or after an external erase (Keyfactor documentation, Webconf restore)."""
        return state == "factory_reset" or (state, alarm) == ("alarm", "external_erase")

    def plan_import(
        self, current_keys: list[KeyEntry], package: list[KeyIdentity], destroyed: t.Collection[KeyIdentity] = ()
    ) -> ImportPlan:
        """Compute the changes of an import. `destroyed` lists the keys that were destroyed on the source."""
        current = sorted((key.identity for key in current_keys), key=lambda key: key.order)
        arriving = sorted(package, key=lambda key: key.order)
        pairs = pair_keys(current, arriving, same_label=self.effect != "additive")
        plan = ImportPlan([], set(), [], {})
        for key in arriving:
            paired = pairs.get(key)
            if paired is None:
                action = "add"
            elif paired.ref == key.ref:
                action = "unchanged"
            else:
                action = "keep" if self.effect == "additive" else "replace"
            if action in ("add", "replace"):
                plan.put.add(key.ref)
            if action == "replace" and paired:
                plan.remove.append(paired.ref)
                plan.replaced[key.ref] = paired.ref
            plan.rows.append(_row(key, action, paired))
        stays = set(pairs.values())
        for key in current:
            gone = self.effect == "replacing" or (self.deletions == "replicated" and key in destroyed)
            if gone and key not in stays:
                plan.remove.append(key.ref)
                plan.rows.append(_row(key, "remove", key))
        return plan

    def slots_after_import(self, current: list[SlotSettings], package: list[SlotSettings]) -> list[SlotSettings]:
        """Slots that an import creates or changes. Existing slots change only if users or PINs are replicated."""
        known = {slot.slot: slot for slot in current}
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
        """If PINs are not replicated and activation is not automatic, people must activate the slot on this node."""
        activated = slot.activated if self.pins == "replicated" else slot.activation == "auto"
        return SlotSettings(slot.slot, slot.label, slot.activation, activated, slot.capacity)

    def _merged(self, own: SlotSettings, slot: SlotSettings) -> SlotSettings:
        label, activation = (slot.label, slot.activation) if self.users == "replicated" else (own.label, own.activation)
        if self.pins == "replicated":
            activated = slot.activated
        else:
            activated = own.activated if activation == own.activation else activation == "auto"
        return SlotSettings(own.slot, label, activation, activated, own.capacity)


def pair_keys(
    current: list[KeyIdentity], arriving: list[KeyIdentity], *, same_label: bool
) -> dict[KeyIdentity, KeyIdentity]:
    """The key of the HSM for each key of the package, in the three passes of the contract. Both lists are in order."""
    places = {key.ref.place for key in arriving}
    pairs: dict[KeyIdentity, KeyIdentity] = {}
    free = dict.fromkeys(current)

    def pair(part: Callable[[KeyIdentity], t.Hashable], candidates: list[KeyIdentity]) -> None:
        found: dict[t.Hashable, list[KeyIdentity]] = {}
        for key in reversed(candidates):
            found.setdefault(part(key), []).append(key)
        for key in arriving:
            if key not in pairs and (fitting := found.get(part(key))):
                pairs[key] = fitting.pop()
                del free[pairs[key]]

    pair(lambda key: key.ref, list(free))
    pair(lambda key: key.ref.place, list(free))
    if same_label:
        pair(lambda key: key.ref.place[:2], [key for key in free if key.ref.place not in places])
    return pairs


def _row(key: KeyIdentity, action: str, current: KeyIdentity | None) -> dict[str, t.Any]:
    fingerprint = current.fingerprint if current else None
    return {**key.as_dict(), "action": action, "current_fingerprint": fingerprint, "outcome": "pending"}
