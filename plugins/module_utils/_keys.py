# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Comparing inventories: pure functions. Private to keyops.utrust.

Identity is the fingerprint, with everything else that the inventory digest covers; a label alone identifies nothing.
"""

from __future__ import annotations

import collections
import dataclasses as dc
import hashlib
import json
import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey


def keys_digest(hsm_keys: t.Iterable[HsmKey]) -> str:
    """The digest of the keys as docs/api/appliance-v1.yaml (*Inventory digest*) defines it."""
    digest = hashlib.sha256()
    for key in sorted(hsm_keys, key=lambda key: (key.slot, key.label, key.id, key.fingerprint)):
        row = [key.slot, key.label, key.id, key.type, key.size, key.curve, key.fingerprint]
        digest.update(json.dumps(row, separators=(",", ":")).encode("ascii") + b"\n")
    return "sha256:" + digest.hexdigest()


@dc.dataclass(frozen=True)
class Mismatch:
    """The same slot and label, but not the same key; `source_key` on the source, `target_key` on the target."""

    source_key: HsmKey
    target_key: HsmKey

    def to_dict(self) -> dict[str, t.Any]:
        return {"source_key": self.source_key.to_dict(), "target_key": self.target_key.to_dict()}


@dc.dataclass(frozen=True)
class Difference:
    """What a target lacks, has beyond the source, or holds otherwise."""

    missing: tuple[HsmKey, ...]
    extra: tuple[HsmKey, ...]
    mismatched: tuple[Mismatch, ...]
    unusable: tuple[HsmKey, ...]
    unchanged: int
    check_value_only: int

    @property
    def in_sync(self) -> bool:
        return not (self.missing or self.extra or self.mismatched or self.unusable)

    def to_dict(self) -> dict[str, t.Any]:
        return {
            "missing": [key.to_dict() for key in self.missing],
            "extra": [key.to_dict() for key in self.extra],
            "mismatched": [pair.to_dict() for pair in self.mismatched],
            "unusable": [key.to_dict() for key in self.unusable],
            "unchanged": self.unchanged,
            "check_value_only": self.check_value_only,
        }


def _order(key: HsmKey) -> tuple[t.Any, ...]:
    """Of keys that are the same, the one that cannot be used comes first: it is the one that counts."""
    return key.id, key.fingerprint, key.type, key.size, key.curve or "", key.usable


def compare(wanted: t.Iterable[HsmKey], held: t.Iterable[HsmKey]) -> Difference:
    """Compare a target's keys (`held`) with those of the source (`wanted`), both ways.

    Under one slot and label, what both have is unchanged. Of the rest, wanted and held keys are paired as mismatches, those
    with the same id first; what stays on one side alone is missing or extra. `unusable` lists keys that both have but the target cannot use;
    `check_value_only` counts unchanged secret keys, whose three-byte check values prove little.
    """
    places: dict[tuple[int, str], tuple[list[HsmKey], list[HsmKey]]] = collections.defaultdict(lambda: ([], []))
    for side, hsm_keys in enumerate((wanted, held)):
        for key in hsm_keys:
            places[(key.slot, key.label)][side].append(key)
    missing: list[HsmKey] = []
    extra: list[HsmKey] = []
    mismatched: list[Mismatch] = []
    common: list[HsmKey] = []
    for place in sorted(places):
        wanted_here, held_here = (sorted(side, key=_order) for side in places[place])
        left: list[HsmKey] = []
        for key in wanted_here:
            if key in held_here:
                common.append(held_here.pop(held_here.index(key)))
            else:
                left.append(key)
        # The contract's rule of what takes whose place: the key with the same id, then any other under the label.
        for key in list(left):
            same_id = next((one for one in held_here if one.id == key.id), None)
            if same_id is not None:
                left.remove(key)
                held_here.remove(same_id)
                mismatched.append(Mismatch(key, same_id))
        pairs = min(len(left), len(held_here))
        mismatched += [Mismatch(*pair) for pair in zip(left[:pairs], held_here[:pairs], strict=True)]
        missing += left[pairs:]
        extra += held_here[pairs:]
    return Difference(
        missing=tuple(missing),
        extra=tuple(extra),
        mismatched=tuple(mismatched),
        unusable=tuple(key for key in common if not key.usable),
        unchanged=len(common),
        check_value_only=sum(key.check_value_only for key in common),
    )
