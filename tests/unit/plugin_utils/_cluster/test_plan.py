# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plan, approve, apply: what a plan holds a run to, and whose approval counts."""

from __future__ import annotations

import base64
import copy
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._package.manifest import make_manifest
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.approvals import (
    approval_message,
    check_approvals,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.plan import (
    check_plan,
    make_changes,
    make_plan,
    plan_digest,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._signature import verify_ed25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.factories import key, node

SOURCE = (key("old"), key("new"))


def prediction(name: str, *, done: bool = False, **changes: t.Any) -> dict[str, t.Any]:
    """What an import in check mode says of a target that lacks the new key, or has it by now."""
    manifest = make_manifest(node(*SOURCE), SOURCE)
    return {
        "node": name,
        "hsm_serial": f"UT-{name}",
        "keys_digest_before": manifest.keys_digest if done else "sha256:before",
        "keys_digest": manifest.keys_digest,
        "added": [] if done else [key("new").to_dict()],
        "replaced": [],
        "extra": [],
        "unchanged": 2 if done else 1,
        **changes,
    }


def changes(*predictions: dict[str, t.Any], **policy: t.Any) -> dict[str, t.Any]:
    manifest = make_manifest(node(*SOURCE), SOURCE).to_dict()
    return make_changes(
        manifest, predictions, batches=[[one["node"]] for one in predictions if one["added"]], policy=policy
    )


def plan(*predictions: dict[str, t.Any], **policy: t.Any) -> dict[str, t.Any]:
    return make_plan(changes(*predictions, **policy), requested_by="Ada", requested_at="2026-11-23T12:00:00Z")


BOTH = (prediction("node2"), prediction("node3"))


def codes(problems: list[str]) -> set[str]:
    return {problem.rpartition("[")[2].rstrip("]") for problem in problems}


def test_a_plan_that_still_fits_has_no_problem() -> None:
    assert check_plan(plan(*BOTH), changes(*BOTH)) == []


@pytest.mark.parametrize(
    "now",
    [
        changes(prediction("node2", keys_digest_before="sha256:other"), prediction("node3")),
        changes(prediction("node2", added=[key("surprise").to_dict()]), prediction("node3")),
        changes(prediction("node2", hsm_serial="UT-swapped"), prediction("node3")),
        changes(*BOTH, extra_keys="keep"),
        changes(prediction("node2")),
        changes(*BOTH, prediction("node4")),
    ],
    ids=[
        "other keys on a target",
        "another key to add",
        "another HSM",
        "another policy",
        "a target less",
        "a target more",
    ],
)
def test_a_plan_does_not_fit_what_is_otherwise_now(now: dict[str, t.Any]) -> None:
    assert codes(check_plan(plan(*BOTH), now)) == {"plan_outdated"}


def test_an_interrupted_run_goes_on_by_the_same_plan() -> None:
    assert check_plan(plan(*BOTH), changes(prediction("node2", done=True), prediction("node3"))) == []
    assert check_plan(plan(*BOTH), changes(*(prediction(name, done=True) for name in ("node2", "node3")))) == []


def test_a_target_that_holds_something_else_than_planned_is_not_done() -> None:
    otherwise = prediction("node2", done=True, keys_digest="sha256:else", keys_digest_before="sha256:else")
    assert codes(check_plan(plan(*BOTH), changes(otherwise, prediction("node3")))) == {"plan_outdated"}


def test_a_target_that_was_in_order_and_lost_a_key_since_is_not_done() -> None:
    planned = plan(prediction("node2"), prediction("node3", done=True))
    assert check_plan(planned, changes(prediction("node2"), prediction("node3", done=True))) == []
    assert codes(check_plan(planned, changes(*BOTH))) == {"plan_outdated"}
    assert codes(check_plan(planned, changes(prediction("node2", done=True), prediction("node3")))) == {"plan_outdated"}


def test_another_hsm_is_not_done_even_if_it_holds_the_keys() -> None:
    swapped = prediction("node2", done=True, hsm_serial="UT-swapped")
    assert codes(check_plan(plan(*BOTH), changes(swapped, prediction("node3")))) == {"plan_outdated"}


def test_an_altered_plan_is_refused_whatever_was_altered() -> None:
    for alter in (
        lambda document: document.update(requested_by="Ben"),
        lambda document: document["changes"]["targets"]["node2"].update(add=[]),
        lambda document: document["changes"]["policy"].update(extra_keys="keep"),
    ):
        altered = copy.deepcopy(plan(*BOTH))
        alter(altered)
        assert codes(check_plan(altered, changes(*BOTH))) == {"plan_digest_mismatch"}


@pytest.mark.parametrize(
    "nonsense",
    [
        None,
        "",
        [],
        {"format": 2},
        {"format": 1},
        {"format": 1, "changes": {}},
        {"format": 1, "changes": {"targets": []}},
        {"format": 1, "changes": {"targets": {"node2": "text"}}},
    ],
)
def test_what_is_no_plan_is_refused(nonsense: t.Any) -> None:
    assert codes(check_plan(nonsense, changes(*BOTH))) == {"plan_invalid"}


def approval(name: str, **changed: t.Any) -> dict[str, t.Any]:
    return {"name": name, "time": "2026-11-23T13:00:00Z", "plan_digest": plan(*BOTH)["digest"], **changed}


def problems(*approvals: dict[str, t.Any], required: int = 2, approvers: dict[str, str] | None = None) -> set[str]:
    given = check_approvals(plan(*BOTH), approvals, required=required, approvers=approvers or {}, verify=verify_ed25519)
    return codes(given)


def test_different_people_count_and_the_requester_does_not() -> None:
    assert problems(approval("Ben"), approval("Cleo")) == set()
    assert problems(approval("Ben"), approval("Cleo"), approval("Ada")) == set()
    assert problems(approval("Ben"), approval("ben ")) == {"approvals_missing"}
    assert problems(approval("Zoë Ng"), approval("Zoe\u0308  ng")) == {"approvals_missing"}
    assert problems(approval("Ben"), approval(" ADA")) == {"approvals_missing", "approval_by_requester"}
    assert problems(approval("Ben"), approval("Cleo", plan_digest="sha256:other")) == {
        "approvals_missing",
        "approval_plan_mismatch",
    }
    assert problems(approval("Ben"), approval("Cleo", time="")) == {"approvals_missing", "approval_incomplete"}


def test_without_a_known_requester_nobody_can_approve() -> None:
    unknown = make_plan(changes(*BOTH), requested_by="unknown", requested_at="2026-11-23T12:00:00Z")
    approvals = [approval(name, plan_digest=unknown["digest"]) for name in ("Ben", "Cleo")]
    found = check_approvals(unknown, approvals, required=2, approvers={}, verify=verify_ed25519)
    assert codes(found) == {"requester_unknown"}


def test_a_signature_must_be_of_this_person_for_this_plan() -> None:
    keys = {name: Ed25519PrivateKey.generate() for name in ("Ben", "Cleo")}
    approvers = {
        name: private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        for name, private in keys.items()
    }

    def signed(name: str, by: str, digest: str | None = None) -> dict[str, t.Any]:
        one = approval(name)
        message = approval_message(digest or one["plan_digest"], name, one["time"])
        return {**one, "signature": base64.b64encode(keys[by].sign(message)).decode()}

    assert problems(signed("Ben", "Ben"), signed("Cleo", "Cleo"), approvers=approvers) == set()
    assert "approval_signature_invalid" in problems(signed("Ben", "Ben"), signed("Cleo", "Ben"), approvers=approvers)
    assert "approval_signature_invalid" in problems(
        signed("Ben", "Ben"), signed("Cleo", "Cleo", "sha256:0"), approvers=approvers
    )
    assert "approval_signature_invalid" in problems(signed("Ben", "Ben"), approval("Cleo"), approvers=approvers)
    assert problems(signed("Ben", "Ben"), signed("Cleo", "Cleo"), approvers={**approvers, "Cleo": "no key"}) == {
        "approvals_missing",
        "approver_key_invalid",
    }
    nonsense = {**signed("Cleo", "Cleo"), "signature": "ü%"}
    assert "approval_signature_invalid" in problems(signed("Ben", "Ben"), nonsense, approvers=approvers)
    assert problems(approval("Dan"), signed("Ben", "Ben"), approvers=approvers) == {
        "approvals_missing",
        "approver_unknown",
    }


def test_one_key_under_two_names_is_one_person() -> None:
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def signed(name: str) -> dict[str, t.Any]:
        one = approval(name)
        message = approval_message(one["plan_digest"], name, one["time"])
        return {**one, "signature": base64.b64encode(private.sign(message)).decode()}

    approvers = {"Ben": public, "Cleo": f"{public}\n"}
    assert problems(signed("Ben"), signed("Cleo"), approvers=approvers) == {"approvals_missing"}


def test_the_digest_does_not_depend_on_the_order_of_a_document() -> None:
    made = plan(*BOTH)
    assert plan_digest(dict(reversed(made.items()))) == made["digest"]
