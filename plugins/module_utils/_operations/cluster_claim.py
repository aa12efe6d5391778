# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take, renew or release the claim of a cluster. Private to keyops.utrust.

One run at a time can claim a cluster. Two runs at once could restart two nodes at once, and the cluster would have no quorum.
"""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.declared import parse_declared
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import CLUSTER_CLAIM
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.transports import INCOMPLETE_TRANSPORTS
from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    ApiError,
    Problem,
    UtrustError,
    raise_for_problems,
)
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import check_identity
from ansible_collections.keyops.utrust.plugins.module_utils._runner import Invocation, Operation, Result, open_appliance
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.claim import ClaimStatus
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance, ProgressCallback
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Params, Spec

#: Seconds between two progress lines of a run that waits.
PROGRESS_INTERVAL = 30.0
REMEDY = "Wait until that run has ended, then run again"

#: Options of the actions that take the claim before they read the cluster.
CLAIM_SPEC: t.Final[Spec] = {
    "claim": {"type": "bool", "default": False},
    "claim_wait": {"type": "float", "default": 150.0},
}
ARGUMENT_SPEC: t.Final[Spec] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "claim_wait": CLAIM_SPEC["claim_wait"],
    "ttl": {"type": "int", "default": limits.MAX_CLAIM_TTL},
    "holder": {"type": "str"},
    "new_claim": {"type": "str", "no_log": True},
}
RULES: t.Final[Spec] = {"required_if": [("state", "present", ("holder", "new_claim"))]}


class ClaimRequest(t.NamedTuple):
    """A new claim at `node`. `token` is random and secret, `holder` is text for people, `ttl` is in seconds."""

    node: str
    token: str
    holder: str
    ttl: int
    patience: WaitOptions

    @classmethod
    def from_params(cls, params: Params) -> ClaimRequest:
        """Return the request from validated parameters. Raises UtrustError (`option_invalid`)."""
        ttl, wait = params["ttl"], params["claim_wait"]
        if not limits.MIN_CLAIM_TTL <= ttl <= limits.MAX_CLAIM_TTL:
            raise UtrustError(
                f"ttl: {ttl} is invalid. Set {limits.MIN_CLAIM_TTL} to {limits.MAX_CLAIM_TTL} seconds",
                code="option_invalid",
            )
        if not 0 <= wait <= limits.MAX_TIMEOUT:
            raise UtrustError(
                f"claim_wait: {wait:g} is invalid. Set 0 or more, and at most {limits.MAX_TIMEOUT:g} seconds",
                code="option_invalid",
            )
        node = params["expect_node"] or params["host"]
        return cls(node, params["new_claim"], params["holder"][: limits.MAX_TEXT], ttl, WaitOptions(wait))


def claim_cluster(
    appliance: Appliance, request: ClaimRequest, *, has_token: bool, dry_run: bool, progress: ProgressCallback
) -> Result:
    """Claim the cluster, or renew the claim that this run already has. With `dry_run` the operation only reads.

    `has_token` is whether the requests of `appliance` already carry a token. If the claim of this token has ended, the operation takes a new claim.
    Raises UtrustError (`cluster_claimed`) if another run has the claim and does not release it in time.
    """
    status = appliance.read_claim() if has_token or dry_run else None  # a reading with the token renews the claim
    if status is not None and status.own:
        return _result(status)
    if not dry_run:
        return _result(_take(appliance, request, progress), changed=True)
    if status is not None and status.claim is not None:
        problem = Problem("cluster_claimed", request.node, str(status.claim), REMEDY[0].lower() + REMEDY[1:])
        raise_for_problems(f"claiming the cluster at {request.node}", [problem])
    return _result(status, changed=True)


def _take(appliance: Appliance, request: ClaimRequest, progress: ProgressCallback) -> ClaimStatus:
    patience = request.patience
    started = patience.clock()
    shown: float | None = None
    while True:
        try:
            return appliance.take_claim(request.token, request.holder, request.ttl)
        except ApiError as refusal:
            if refusal.code != "cluster_claimed":
                raise
            waited, reason = patience.clock() - started, _reason(refusal)
            if waited + patience.interval > patience.timeout:
                raise UtrustError(
                    f"claiming the cluster at {request.node}: {reason}. Nothing was changed after {waited:.0f} s of waiting. {REMEDY}",
                    **refusal.details,
                ) from refusal
        if shown is None or waited - shown >= PROGRESS_INTERVAL:
            shown = waited
            progress(f"{request.node}: waiting at most {patience.timeout - waited:.0f} s: {reason}")
        patience.sleep(patience.interval)


def _reason(refusal: ApiError) -> str:
    claim = refusal.details.get("claim")
    return f"{claim['holder']} has claimed the cluster until {claim['expires_at']}" if claim else str(refusal)


def release_claim(appliance: Appliance, *, dry_run: bool) -> Result:
    """End the claim of this run. A claim that has already ended is not an error, also if another run has the claim now."""
    if dry_run:
        return _result(None)
    try:
        appliance.release_claim()
    except ApiError as refusal:
        if refusal.code != "cluster_claimed":
            raise
        return _result(None)
    return _result(None, changed=True)


def _result(status: ClaimStatus | None, *, changed: bool = False, supported: bool = True) -> Result:
    claim = status.claim if status is not None else None
    return {"changed": changed, "claim": claim.to_dict() if claim is not None else None, "supported": supported}


def run(invocation: Invocation) -> Result:
    """Take, renew or release the claim. Raises UtrustError."""
    params, dry_run = invocation.params, invocation.check_mode
    has_token = params["cluster_claim"] is not None
    if params["state"] == "absent" and not has_token:
        return _result(None)  # this run has no claim
    if params["transport"] in INCOMPLETE_TRANSPORTS:  # a lock of the controller serves, and no view is read for it
        declared = parse_declared(params["expect_node"] or params["host"], params["declared"])
        return {**_result(None, supported=False), "cluster_id": declared.cluster_id}
    with open_appliance(params) as appliance:
        if params["state"] == "absent":
            return release_claim(appliance, dry_run=dry_run)
        request = ClaimRequest.from_params(params)
        if not has_token:
            node = appliance.node()  # limits the capabilities to those of the node
            raise_for_problems(f"claiming the cluster at {node.name}", check_identity(node, params["expect_node"]))
            if CLUSTER_CLAIM not in appliance.capabilities:
                return {**_result(None, supported=False), "cluster_id": node.cluster_id}  # for a lock of the controller
        return claim_cluster(appliance, request, has_token=has_token, dry_run=dry_run, progress=invocation.progress)


OPERATION: t.Final = Operation("utrust_cluster_claim", ARGUMENT_SPEC, RULES, run)
