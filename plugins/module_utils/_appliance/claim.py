# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The claim of a cluster, as appliance API v1 reports it. Private to keyops.utrust."""

from __future__ import annotations

import dataclasses as dc
import re
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits
from ansible_collections.keyops.utrust.plugins.module_utils._appliance import fields
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError

#: The header that carries the token.
HEADER = "Cluster-Claim"
TOKEN: t.Final = re.compile(r"[A-Za-z0-9_-]{22,64}")


@dc.dataclass(frozen=True)
class Claim:
    """The claim that a cluster has. `holder` is text for people, and `ttl` is in seconds. Nobody can read its token."""

    holder: str
    ttl: int
    acquired_at: str
    expires_at: str

    def to_dict(self) -> dict[str, t.Any]:
        return dc.asdict(self)

    def __str__(self) -> str:
        return f"{self.holder} has claimed the cluster until {self.expires_at}, or longer if that run renews the claim"


@dc.dataclass(frozen=True)
class ClaimStatus:
    """The claim of the cluster, or None. `own` is whether the request had the token of this claim."""

    claim: Claim | None
    own: bool


def parse_claim(document: t.Any) -> Claim:
    """Return the claim. Raises ApiError (`response_invalid`)."""
    return Claim(
        fields.get_str(document, "holder"),
        fields.get_int(document, "ttl", limits.MAX_CLAIM_TTL, least=limits.MIN_CLAIM_TTL),
        fields.get_match(document, "acquired_at", fields.TIME),
        fields.get_match(document, "expires_at", fields.TIME),
    )


def parse_status(document: t.Any) -> ClaimStatus:
    """Return the status. Raises ApiError (`response_invalid`)."""
    claim = fields.get_optional_object(document, "claim")
    return ClaimStatus(parse_claim(claim) if claim is not None else None, fields.get_bool(document, "own"))


def parse_taken(document: t.Any) -> ClaimStatus:
    """Return the status after a client has claimed the cluster. Raises ApiError (`response_invalid`)."""
    status = parse_status(document)
    if status.claim is None or not status.own:
        raise ApiError(
            "claiming the cluster: the node accepted the claim, but reports that the cluster is not claimed by this run. "
            "Nothing was changed. Check the appliance API of the node",
            code="response_invalid",
        )
    return status
