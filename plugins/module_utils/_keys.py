# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys digest, and comparison of the keys of two nodes. Private to keyops.utrust.

The identity of a key is its key fingerprint with all other fields of the keys digest. A label does not identify a key.
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
    """Return the keys digest. The definition is in docs/api/appliance-v1.yaml."""
    digest = hashlib.sha256()
    for key in sorted(hsm_keys, key=lambda key: (key.slot, key.label, key.id, key.fingerprint)):
        row = [key.slot, key.label, key.id, key.type, key.size, key.curve, key.fingerprint]
        digest.update(json.dumps(row, separators=(",", ":")).encode("ascii") + b"\n")
    return "sha256:" + digest.hexdigest()


@dc.dataclass(frozen=True)
class Mismatch:
    """Two different keys with the same slot and label, on the source and on the target."""

    source_key: HsmKey
    target_key: HsmKey

    def to_dict(self) -> dict[str, t.Any]:
        return {"source_key": self.source_key.to_dict(), "target_key": self.target_key.to_dict()}


@dc.dataclass(frozen=True)
class Difference:
    """Differences of a target from the source.

    `missing` keys are only on the source, `extra` keys only on the target. `unusable` keys are on both, but the target cannot use them.
    `unchanged` is the number of keys on both. `check_value_only` is the number of secret keys among them.
    """

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
    """Return the sort key. Of two equal keys the unusable key is first, because the comparison must report it."""
    return key.id, key.fingerprint, key.type, key.size, key.curve or "", key.usable


def compare(source_keys: t.Iterable[HsmKey], target_keys: t.Iterable[HsmKey]) -> Difference:
    """Return the differences of a target from the source.

    Equal keys are unchanged. The other keys with the same slot and label are paired as mismatches, first those with the same id.
    A key without a partner is missing or extra.
    """
    places: dict[tuple[int, str], tuple[list[HsmKey], list[HsmKey]]] = collections.defaultdict(lambda: ([], []))
    for side, hsm_keys in enumerate((source_keys, target_keys)):
        for key in hsm_keys:
            places[(key.slot, key.label)][side].append(key)
    missing: list[HsmKey] = []
    extra: list[HsmKey] = []
    mismatched: list[Mismatch] = []
    common: list[HsmKey] = []
    for place in sorted(places):
        on_source, on_target = (sorted(side, key=_order) for side in places[place])
        common += _remove_common(on_source, on_target)
        mismatched += _remove_pairs(on_source, on_target)
        missing += on_source
        extra += on_target
    return Difference(
        missing=tuple(missing),
        extra=tuple(extra),
        mismatched=tuple(mismatched),
        unusable=tuple(key for key in common if not key.usable),
        unchanged=len(common),
        check_value_only=sum(key.check_value_only for key in common),
    )


def _remove_common(on_source: list[HsmKey], on_target: list[HsmKey]) -> list[HsmKey]:
    """Remove equal keys from both lists. Returns them as they are on the target."""
    common = []
    for key in list(on_source):
        if key in on_target:
            on_source.remove(key)
            common.append(on_target.pop(on_target.index(key)))
    return common


def _remove_pairs(on_source: list[HsmKey], on_target: list[HsmKey]) -> list[Mismatch]:
    """Remove pairs from both lists. The contract defines which key replaces which: first the key with the same id, then any key."""
    pairs = []
    for key in list(on_source):
        same_id = next((other for other in on_target if other.id == key.id), None)
        if same_id is not None:
            on_source.remove(key)
            on_target.remove(same_id)
            pairs.append(Mismatch(key, same_id))
    while on_source and on_target:
        pairs.append(Mismatch(on_source.pop(0), on_target.pop(0)))
    return pairs
