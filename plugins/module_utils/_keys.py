# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys digest, and comparison of the keys of two nodes. Private to keyops.utrust.

The identity of a key is its key fingerprint with all other fields of the keys digest. A label does not identify a key.
The type of a key is open: keys of types that the collection does not know are compared by the same fields.
"""

from __future__ import annotations

import collections
import dataclasses as dc
import hashlib
import json
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey


def keys_digest(hsm_keys: t.Iterable[HsmKey]) -> str:
    """Return the keys digest. The definition is in docs/api/appliance-v1.yaml, test vectors are in docs/api/keys-digest-vectors.json."""
    rows = ([key.slot, key.stored_label, key.id, key.type, key.size, key.curve, key.fingerprint] for key in hsm_keys)
    # The lines are sorted, not the keys: ASCII bytes have one order in every language, and no two keys compare as equal.
    lines = sorted(json.dumps(row, separators=(",", ":")).encode("ascii") + b"\n" for row in rows)
    return "sha256:" + hashlib.sha256(b"".join(lines)).hexdigest()


@dc.dataclass(frozen=True)
class Mismatch:
    """The same slot and label, but not the same key; `source_key` on the source, `target_key` on the target."""

    source_key: HsmKey
    target_key: HsmKey

    @property
    def certain(self) -> bool:
        """Whether the keys differ for certain. With an unknown key fingerprint, only another kind of key is certain."""
        source, target = self.source_key, self.target_key
        known = source.fingerprint_known and target.fingerprint_known
        return known or (source.type, source.size, source.curve) != (target.type, target.size, target.curve)

    def to_dict(self) -> dict[str, t.Any]:
        return {"source_key": self.source_key.to_dict(), "target_key": self.target_key.to_dict()}

    @classmethod
    def from_dict(cls, pair: t.Mapping[str, t.Any]) -> Mismatch:
        return cls(HsmKey.from_dict(pair["source_key"]), HsmKey.from_dict(pair["target_key"]))


@dc.dataclass(frozen=True)
class Difference:
    """How the keys of a target differ from those of the source.

    `missing`: on the source only. `extra`: on the target only, and no key of the source. `mismatched`: another key with the same slot and label.
    `moved`: the same key in another slot, or with another label or id. `duplicate`: a key of the source that the target has once more.
    `unusable`: keys that both have but the target cannot use. `undetermined`: the same slot and label, but a key fingerprint is unknown, so that nobody
    knows whether the keys are equal. `check_value_only` counts unchanged secret keys, whose check values have three bytes only.
    """

    missing: tuple[HsmKey, ...]
    extra: tuple[HsmKey, ...]
    mismatched: tuple[Mismatch, ...]
    unusable: tuple[HsmKey, ...]
    unchanged: int
    check_value_only: int
    moved: tuple[Mismatch, ...] = ()
    duplicate: tuple[HsmKey, ...] = ()
    undetermined: tuple[Mismatch, ...] = ()

    @property
    def in_sync(self) -> bool | None:
        """Whether the target holds exactly the keys of the source and can use them. None if unknown."""
        if self.missing or self.extra or self.mismatched or self.moved or self.duplicate or self.unusable:
            return False
        return None if self.undetermined else True

    @property
    def why_unknown(self) -> str | None:
        """Return why some keys could not be compared, or None."""
        count = len(self.undetermined)
        return f"{count} key(s) have an unknown key fingerprint, so they could not be compared" if count else None

    @property
    def pairs(self) -> tuple[Mismatch, ...]:
        """Keys of the source, each with the other key that the target has in its place or elsewhere."""
        return (*self.mismatched, *self.moved, *self.undetermined)

    @property
    def target_keys(self) -> tuple[HsmKey, ...]:
        """Keys that only the target has in their place."""
        return (*self.extra, *self.duplicate, *(pair.target_key for pair in self.pairs))

    def target_of(self, source_keys: t.Iterable[HsmKey]) -> list[HsmKey]:
        """Return the keys of the target, given those of the source."""
        absent = collections.Counter([*self.missing, *(pair.source_key for pair in self.pairs)])
        unusable = collections.Counter(self.unusable)
        expected: list[HsmKey] = []
        for key in source_keys:
            if absent[key]:
                absent[key] -= 1
                continue
            expected.append(dc.replace(key, usable=not unusable[key]))
            unusable[key] -= bool(unusable[key])
        return [*expected, *self.target_keys]

    def to_dict(self) -> dict[str, t.Any]:
        return {
            "missing": [key.to_dict() for key in self.missing],
            "extra": [key.to_dict() for key in self.extra],
            "mismatched": [pair.to_dict() for pair in self.mismatched],
            "moved": [pair.to_dict() for pair in self.moved],
            "duplicate": [key.to_dict() for key in self.duplicate],
            "unusable": [key.to_dict() for key in self.unusable],
            "undetermined": [pair.to_dict() for pair in self.undetermined],
            "unchanged": self.unchanged,
            "check_value_only": self.check_value_only,
        }

    @classmethod
    def from_dict(cls, document: t.Mapping[str, t.Any]) -> Difference:
        """Return the difference of a result. Raises KeyError for another document."""

        def keys(name: str) -> tuple[HsmKey, ...]:
            return tuple(HsmKey.from_dict(key) for key in document[name])

        def pairs(name: str) -> tuple[Mismatch, ...]:
            return tuple(Mismatch.from_dict(pair) for pair in document[name])

        return cls(
            missing=keys("missing"),
            extra=keys("extra"),
            mismatched=pairs("mismatched"),
            unusable=keys("unusable"),
            unchanged=document["unchanged"],
            check_value_only=document["check_value_only"],
            moved=pairs("moved"),
            duplicate=keys("duplicate"),
            undetermined=pairs("undetermined"),
        )


def _order(key: HsmKey) -> tuple[t.Any, ...]:
    """Of equal keys, the unusable key comes first, because this key counts."""
    return key.slot, key.stored_label, key.id, key.fingerprint, key.type, key.size or 0, key.curve or "", key.usable


def _same_key(first: HsmKey, second: HsmKey) -> bool:
    """Whether two rows are the same key, wherever they are. A check value has three bytes only, so for secret keys the label must agree, too."""
    same = (first.fingerprint, first.type, first.size) == (second.fingerprint, second.type, second.size)
    return same and first.fingerprint_known and (not first.check_value_only or first.label == second.label)


def compare(source_keys: t.Iterable[HsmKey], target_keys: t.Iterable[HsmKey]) -> Difference:
    """Compare the keys of a target with those of the source, in both directions.

    Equal rows are unchanged. Of the rest, rows of the same key are paired as moved, then rows with the same slot and label as mismatched,
    those with the same id first. A pair with an unknown key fingerprint is undetermined. Rows that remain are missing or extra,
    and an extra row of a key that the source has is a duplicate.
    """
    expected, actual = sorted(source_keys, key=_order), sorted(target_keys, key=_order)
    common: list[HsmKey] = []
    left: list[HsmKey] = []
    at: dict[HsmKey, list[HsmKey]] = collections.defaultdict(list)
    for key in actual:
        at[key].append(key)
    for key in expected:
        same = bool(at[key]) and key.fingerprint_known
        (common if same else left).append(at[key].pop(0) if same else key)
    rest = [key for keys in at.values() for key in keys]
    by_fingerprint = _Pool(rest, lambda key: key.fingerprint)
    moved = _pairs(left, rest, by_fingerprint, _same_key)
    in_place = _pairs(left, rest, _Pool(rest, _place), lambda one, other: one.id == other.id)
    in_place += _pairs(left, rest, _Pool(rest, _place), lambda one, other: True)
    in_place.sort(key=lambda pair: _order(pair.source_key))
    known = _Pool(expected, lambda key: key.fingerprint)
    duplicate = [key for key in rest if any(_same_key(other, key) for other in known.of(key))]
    repeated = set(map(id, duplicate))
    return Difference(
        missing=tuple(left),
        extra=tuple(key for key in rest if id(key) not in repeated),
        mismatched=tuple(pair for pair in in_place if pair.certain),
        unusable=tuple(key for key in common if not key.usable),
        unchanged=len(common),
        check_value_only=sum(key.check_value_only for key in common),
        moved=tuple(moved),
        duplicate=tuple(duplicate),
        undetermined=tuple(pair for pair in in_place if not pair.certain),
    )


def unexpected_keys(known: t.Iterable[HsmKey], after: t.Iterable[HsmKey]) -> list[HsmKey]:
    """Return the keys of `after` that are not in `known`, also a key that is there more often."""
    return list((collections.Counter(after) - collections.Counter(known)).elements())


def compare_with_itself(source_keys: t.Sequence[HsmKey]) -> Difference:
    """Return the difference of the source from itself: the keys that it cannot use. Its keys are its own, also with an unknown key fingerprint."""
    return Difference(
        missing=(),
        extra=(),
        mismatched=(),
        unusable=tuple(key for key in sorted(source_keys, key=_order) if not key.usable),
        unchanged=len(source_keys),
        check_value_only=sum(key.check_value_only for key in source_keys),
    )


def _place(key: HsmKey) -> tuple[int, str]:
    return key.slot, key.label


class _Pool:
    """Keys by something that they share, so that comparing many keys stays linear."""

    def __init__(self, hsm_keys: t.Iterable[HsmKey], by: t.Callable[[HsmKey], t.Any]) -> None:
        self._by = by
        self._keys: dict[t.Any, list[HsmKey]] = collections.defaultdict(list)
        for key in hsm_keys:
            self._keys[by(key)].append(key)

    def of(self, key: HsmKey) -> list[HsmKey]:
        return self._keys.get(self._by(key), [])


def _pairs(
    left: list[HsmKey], rest: list[HsmKey], pool: _Pool, fits: t.Callable[[HsmKey, HsmKey], bool]
) -> list[Mismatch]:
    """Take pairs that fit out of both lists and return them."""
    found: list[Mismatch] = []
    taken: set[int] = set()
    for key in list(left):
        other = next((other for other in pool.of(key) if id(other) not in taken and fits(key, other)), None)
        if other is not None:
            taken.add(id(other))
            found.append(Mismatch(key, other))
    gone = {id(pair.source_key) for pair in found}
    left[:] = [key for key in left if id(key) not in gone]
    rest[:] = [key for key in rest if id(key) not in taken]
    return found
