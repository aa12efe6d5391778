# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plan, approve, apply: what a synchronization would change, as data that people can read, sign and hold a run to. Private to keyops.utrust.

Pure functions. Nothing secret is in a plan: names, public fingerprints and digests.
"""

from __future__ import annotations

import hashlib
import json
import typing as t
import unicodedata

FORMAT = 1
KEY_FACTS = ("slot", "label", "id", "type", "size", "curve", "fingerprint")

Document = dict[str, t.Any]


def canonical(document: t.Any) -> bytes:
    """The one form of a document that a digest or a signature is made of: JSON, keys sorted, no white space, ASCII."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


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
            "key_count": len(manifest["inventory"]),
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
                "left_alone": [_key(key) for key in one["extra"]],
                "unchanged": one["unchanged"],
            }
            for one in predictions
        },
    }


def make_plan(changes: Document, *, requested_by: str, requested_at: str) -> Document:
    plan: Document = {"format": FORMAT, "requested_by": requested_by, "requested_at": requested_at, "changes": changes}
    return {**plan, "digest": plan_digest(plan)}


def problems_of_plan(plan: t.Any, changes: Document) -> list[str]:
    """Why a plan must not be applied now: it is none, it was altered, or what it would change is not what it was made for."""
    if not isinstance(plan, dict) or plan.get("format") != FORMAT or not _has_targets(plan.get("changes")):
        return [f"it is no plan of format {FORMAT}, or there is no such file [plan_invalid]"]
    if plan.get("digest") != plan_digest(plan):
        return [
            f"it was altered: its digest is {plan_digest(plan)}, it names {plan.get('digest')} [plan_digest_mismatch]"
        ]
    done = _done(plan["changes"], changes)
    planned, now = _flat(_without(done, plan["changes"])), _flat(_without(done, changes))
    return [
        f"{place} was {planned.get(place, 'not there'):.120}, is {now.get(place, 'not there'):.120} [plan_outdated]"
        for place in sorted(planned.keys() | now.keys())
        if planned.get(place) != now.get(place)
    ]


def _has_targets(changes: t.Any) -> bool:
    targets = changes.get("targets") if isinstance(changes, dict) else None
    return isinstance(targets, dict) and all(isinstance(target, dict) for target in targets.values())


def _done(planned: Document, now: Document) -> set[str]:
    """Targets that hold by now what was planned for them: a run that was interrupted goes on by the same plan."""
    return {
        node
        for node, target in now["targets"].items()
        if target["keys_digest"] == target["keys_digest_after"]
        and planned["targets"].get(node, {}).get("keys_digest_after") == target["keys_digest_after"]
        and planned["targets"][node].get("hsm_serial") == target["hsm_serial"]
    }


def _without(done: set[str], changes: Document) -> Document:
    """The changes without targets that are done; with fewer of them, the batches are other ones."""
    if not done:
        return changes
    targets = {node: target for node, target in changes["targets"].items() if node not in done}
    return {**{name: part for name, part in changes.items() if name != "batches"}, "targets": targets}


def _flat(document: t.Any, place: str = "") -> dict[str, str]:
    """A document as its leaves, each under the path that leads to it."""
    if isinstance(document, dict) and document:
        leaves: dict[str, str] = {}
        for name, part in document.items():
            leaves |= _flat(part, f"{place}.{name}" if place else str(name))
        return leaves
    return {place: canonical(document).decode()}


def approval_message(digest: str, name: str, time: str) -> bytes:
    """What an approver signs."""
    return f"keyops.utrust approval\n{digest}\n{name}\n{time}\n".encode()


def _person(name: t.Any) -> str:
    """What is the same for one person, however the name is typed: in capitals, with other blanks, with another form of an accented letter."""
    return " ".join(unicodedata.normalize("NFKC", str(name)).casefold().split())


def problems_of_approvals(
    plan: t.Mapping[str, t.Any],
    approvals: t.Sequence[t.Mapping[str, t.Any]],
    *,
    required: int,
    approvers: t.Mapping[str, str],
    verify: t.Callable[[str, str, bytes], bool],
) -> list[str]:
    """Why the approvals do not suffice: `required` different people, the requester not among them, each for this very plan.

    `approvers` are public keys (PEM) by name: who is in it must have signed; if it is not empty, nobody else counts. `verify` tells whether a
    signature (base64) fits a public key and a message. A signature that does not fit is a problem even where enough others do.
    """
    wrong: list[str] = []
    uncounted: list[str] = []
    people: set[str] = set()
    for approval in approvals:
        name = str(approval.get("name", "")).strip()
        message = approval_message(plan["digest"], name, str(approval.get("time", "")))
        if not name or not approval.get("time"):
            uncounted.append("an approval has no name or no time [approval_incomplete]")
        elif approval.get("plan_digest") != plan["digest"]:
            uncounted.append(
                f"{name} approved the plan {approval.get('plan_digest')}, not this one [approval_plan_mismatch]"
            )
        elif _person(name) == _person(plan["requested_by"]):
            uncounted.append(f"{name} requested the plan [approval_by_requester]")
        elif approvers and name not in approvers:
            uncounted.append(f"{name} is not among the approvers {', '.join(sorted(approvers))} [approver_unknown]")
        elif problem := approvers and _signature_problem(name, approvers[name], approval, message, verify):
            wrong.append(problem)
        else:
            # Two names with one key are one person.
            people.add(approvers[name].strip() if approvers else _person(name))
    if _person(plan["requested_by"]) in ("", "unknown"):
        wrong.append(
            "the plan does not say who requested it, so that person cannot be told from the approvers [requester_unknown]"
        )
    if len(people) >= required:
        return wrong
    missing = f"{len(people)} of {required} approvals by different people other than {plan['requested_by']} [approvals_missing]"
    return [missing, *uncounted, *wrong]


def _signature_problem(
    name: str,
    public_key: str,
    approval: t.Mapping[str, t.Any],
    message: bytes,
    verify: t.Callable[[str, str, bytes], bool],
) -> str | None:
    try:
        fits = verify(public_key, str(approval.get("signature", "")), message)
    except (TypeError, ValueError) as exc:
        return f"the public key of {name} cannot be used: {exc} [approver_key_invalid]"
    return None if fits else f"the signature of {name} does not fit [approval_signature_invalid]"


def verify_ed25519(public_key: str, signature: str, message: bytes) -> bool:
    """Whether an Ed25519 signature (base64) of the message fits the public key (PEM).

    Raises TypeError and ValueError for a public key that is none, ImportError without `cryptography`.
    """
    import base64
    import binascii

    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(public_key.encode())
    if not isinstance(key, Ed25519PublicKey):
        raise TypeError("an approver's key must be an Ed25519 public key")
    try:
        key.verify(base64.b64decode(signature.encode(), validate=True), message)
    except (InvalidSignature, binascii.Error):
        return False
    return True
