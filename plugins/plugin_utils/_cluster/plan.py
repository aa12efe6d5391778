# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plan, approve, apply: what a synchronization would change, as data that people can read, sign and hold a run to. Private to keyops.utrust.

Pure functions. Nothing secret is in a plan: names, public fingerprints and digests.
"""

from __future__ import annotations

import hashlib
import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._canonical import canonical

FORMAT = 1
KEY_FACTS = ("slot", "label", "id", "type", "size", "curve", "fingerprint")

Document = dict[str, t.Any]


def plan_digest(plan: t.Mapping[str, t.Any]) -> str:
    """Digest of a plan: of everything in it but the digest itself."""
    return (
        "sha256:"
        + hashlib.sha256(canonical({name: part for name, part in plan.items() if name != "digest"})).hexdigest()
    )


def _key(key: t.Mapping[str, t.Any]) -> Document:
    return {name: key[name] for name in KEY_FACTS}


def make_changes(
    manifest: t.Mapping[str, t.Any],
    predictions: t.Sequence[t.Mapping[str, t.Any]],
    *,
    batches: t.Sequence[t.Sequence[str]],
    policy: t.Mapping[str, t.Any],
) -> Document:
    """What a run would change: from the source's manifest and each target's prediction (results of an import in check mode)."""
    return {
        "source": {
            "node": manifest["source"],
            "hsm_serial": manifest["source_serial"],
            "keys_digest": manifest["keys_digest"],
            "key_count": len(manifest["hsm_keys"]),
        },
        "cluster": {"id": manifest["cluster_id"], "name": manifest["cluster_name"]},
        "mbk": {"name": manifest["mbk"]["name"], "check_value": manifest["mbk"]["check_value"]},
        "policy": dict(policy),
        "batches": [list(batch) for batch in batches],
        "targets": {
            one["node"]: {
                "hsm_serial": one["hsm_serial"],
                "keys_digest": one["keys_digest_before"],
                "keys_digest_after": one["keys_digest"],
                "add": [_key(key) for key in one["added"]],
                "replace": [
                    {"source_key": _key(pair["source_key"]), "target_key": _key(pair["target_key"])}
                    for pair in one["replaced"]
                ],
                "kept": [_key(key) for key in one["extra"]],
                "unchanged": one["unchanged"],
            }
            for one in predictions
        },
    }


def make_plan(changes: Document, *, requested_by: str, requested_at: str) -> Document:
    plan: Document = {"format": FORMAT, "requested_by": requested_by, "requested_at": requested_at, "changes": changes}
    return {**plan, "digest": plan_digest(plan)}


def check_plan(plan: t.Any, changes: Document) -> list[str]:
    """Why a plan must not be applied now: it is none, it was altered, or what it would change is not what it was made for."""
    if not isinstance(plan, dict) or plan.get("format") != FORMAT or not _has_targets(plan.get("changes")):
        return [f"it is no plan of format {FORMAT}, or there is no such file [plan_invalid]"]
    if plan.get("digest") != plan_digest(plan):
        return [
            f"it was altered: its digest is {plan_digest(plan)}, it names {plan.get('digest')} [plan_digest_mismatch]"
        ]
    done = _completed_targets(plan["changes"], changes)
    planned, now = _flatten(_drop_targets(done, plan["changes"])), _flatten(_drop_targets(done, changes))
    return [
        f"{place} was {planned.get(place, 'not there'):.120}, is {now.get(place, 'not there'):.120} [plan_outdated]"
        for place in sorted(planned.keys() | now.keys())
        if planned.get(place) != now.get(place)
    ]


def _has_targets(changes: t.Any) -> bool:
    targets = changes.get("targets") if isinstance(changes, dict) else None
    return isinstance(targets, dict) and all(isinstance(target, dict) for target in targets.values())


def _completed_targets(planned: Document, now: Document) -> set[str]:
    """Targets that hold by now what was planned for them: a run that was interrupted goes on by the same plan."""
    return {
        node
        for node, target in now["targets"].items()
        if target["keys_digest"] == target["keys_digest_after"]
        and planned["targets"].get(node, {}).get("keys_digest_after") == target["keys_digest_after"]
        and planned["targets"][node].get("hsm_serial") == target["hsm_serial"]
    }


def _drop_targets(done: set[str], changes: Document) -> Document:
    """The changes without targets that are done; with fewer of them, the batches are other ones."""
    if not done:
        return changes
    targets = {node: target for node, target in changes["targets"].items() if node not in done}
    return {**{name: part for name, part in changes.items() if name != "batches"}, "targets": targets}


def _flatten(document: t.Any, place: str = "") -> dict[str, str]:
    """A document as its leaves, each under the path that leads to it."""
    if isinstance(document, dict) and document:
        leaves: dict[str, str] = {}
        for name, part in document.items():
            leaves |= _flatten(part, f"{place}.{name}" if place else str(name))
        return leaves
    return {place: canonical(document).decode()}
