# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CAs that would fail on a node because of a key: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import dataclasses as dc
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._cluster import matrix as _matrix
from ansible_collections.keyops.utrust.plugins.module_utils._keys import keys_digest

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey


Facts = dict[str, t.Any]

HOLDS, FAILS, UNKNOWN = "holds_key", "would_fail", "unknown"
STATES: t.Final = {
    "factory_reset": "Factory Reset Mode",
    "operational": "operational",
    "alarm": "alarm",
    "maintenance": "maintenance",
}


@dc.dataclass(frozen=True)
class _Key:
    """The key that a CA needs; what is None is not known."""

    slot: int | None
    label: str | None
    public_key_sha256: str | None

    def matches(self, key: HsmKey) -> bool:
        return key.fingerprint == self.public_key_sha256 and self.slot in (None, key.slot)

    def same_slot_and_label(self, key: HsmKey) -> bool:
        return self.label is not None and key.label == self.label and self.slot in (None, key.slot)


def cas_on_nodes(
    cas: t.Sequence[t.Mapping[str, t.Any]],
    results: t.Mapping[str, t.Any],
    held: t.Mapping[str, _matrix.NodeKeys],
    source: str,
) -> list[Facts]:
    """For each CA what becomes of it on each node."""
    wanted = _matrix.keys_of_source(held, source)
    digest = keys_digest(wanted)
    keys = {name: _matrix.known_keys(one, wanted, digest) for name, one in held.items()}
    rows = []
    for given in cas:
        named = _Key(given.get("slot"), given.get("label"), given.get("public_key_sha256"))
        key, doubt = _identified(named, keys, source)
        outcomes: dict[str, dict[str, str | None]] = {}
        for name, known in keys.items():
            if isinstance(known, str):
                outcomes[name] = {"outcome": UNKNOWN, "reason": known}
            elif doubt:
                outcomes[name] = {"outcome": UNKNOWN, "reason": doubt}
            else:
                reason = _failure_reason(key, known, results[name])
                outcomes[name] = {"outcome": FAILS if reason else HOLDS, "reason": reason}
        rows.append(
            {
                "name": given["name"],
                "subject_dn": given.get("subject_dn"),
                "not_after": given.get("not_after"),
                **dc.asdict(key),
                "would_fail_on": [name for name, one in outcomes.items() if one["outcome"] == FAILS],
                "nodes": outcomes,
            }
        )
    return rows


def _identified(named: _Key, keys: t.Mapping[str, t.Sequence[HsmKey] | str], source: str) -> tuple[_Key, str | None]:
    """The key with what is known beyond what was named, and why it is in doubt which one is meant."""
    everywhere = [known for known in (keys[source], *keys.values()) if not isinstance(known, str)]
    if named.public_key_sha256 is not None:
        found = next((key for known in everywhere for key in known if named.matches(key)), None)
        if found is None:
            return named, None
        return _Key(found.slot, named.label or found.label, named.public_key_sha256), None
    for candidates in (everywhere[0], [key for known in everywhere for key in known]):
        fitting = {(key.slot, key.fingerprint) for key in candidates if named.same_slot_and_label(key)}
        if len(fitting) == 1:
            ((slot, fingerprint),) = fitting
            return _Key(slot, named.label, fingerprint), None
        if fitting:
            return (
                named,
                f"{len(fitting)} different keys have this label; name the slot, or the public_key_sha256 of the CA's key",
            )
    return named, None


def _failure_reason(key: _Key, known: t.Sequence[HsmKey], given: t.Any) -> str | None:
    node = given.get("node") if isinstance(given, t.Mapping) else None
    if node is not None and node["hsm_state"] != "operational":
        return f"the HSM is in the state {STATES.get(node['hsm_state'], node['hsm_state'])}"
    if node is not None and node["driver"] != "running":
        return "the HSM driver is stopped"
    matching = [one for one in known if key.matches(one)]
    if any(one.usable for one in matching):
        return None
    if matching:
        return "its key is there and cannot be used"
    if any(key.same_slot_and_label(one) for one in known):
        return "another key has the label of its key"
    return "its key is missing"
