# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Predictions of imports match the appliance simulator for all combinations of keys."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey
from ansible_collections.keyops.utrust.plugins.module_utils._keys import compare
from hypothesis import assume, given
from hypothesis import strategies as st
from utrust_appliance.behavior import Behavior
from utrust_appliance.keys import KeyEntry, KeyIdentity

from tests.support.factories import fingerprint

# An HSM holds at most one key with the same slot, label and id.
PLACES = st.tuples(st.integers(0, 1), st.sampled_from(["a", "b"]), st.sampled_from(["01", "02", "03"]))
FINGERPRINTS = st.sampled_from([fingerprint(name) for name in "12345"])
INVENTORIES = st.dictionaries(PLACES, FINGERPRINTS, max_size=7).map(
    lambda keys: [HsmKey(*place, "ec", 256, "P-256", fingerprint) for place, fingerprint in keys.items()]
)


def identity(key: HsmKey) -> KeyIdentity:
    return KeyIdentity(key.slot, key.label, key.id, key.type, key.size or 0, key.curve, key.fingerprint)


@given(INVENTORIES, INVENTORIES)
def test_node_changes_match_prediction(current: list[HsmKey], package: list[HsmKey]) -> None:
    """The changes of the node match the prediction. A moved key is never imported, because the run stops before."""
    difference = compare(package, current)
    assume(not difference.moved)
    plan = Behavior().plan_import(
        [KeyEntry(identity(key), usable=True) for key in current], [identity(key) for key in package]
    )
    table: set[tuple[t.Any, ...]] = {
        (row["action"], row["slot"], row["label"], row["id"], row["fingerprint"], row["current_fingerprint"])
        for row in plan.rows
        if row["action"] != "unchanged"
    }
    predicted: set[tuple[t.Any, ...]] = {
        ("add", key.slot, key.label, key.id, key.fingerprint, None) for key in difference.missing
    }
    for pair in difference.mismatched:
        key = pair.source_key
        predicted.add(("replace", key.slot, key.label, key.id, key.fingerprint, pair.target_key.fingerprint))
    assert table == predicted
