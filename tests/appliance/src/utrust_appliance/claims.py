# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The claim of a cluster by one client (docs/api/appliance-v1.yaml, *Claim of the cluster*).

All nodes of a cluster share one claim. D/claim.json stores the SHA-256 of its token, and each object stores the claim of its request. A restart of one
node does not end the claim. A start of the process is a restart of all nodes, so it ends the claim and what was created with it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import threading
import time
import typing as t
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace

from utrust_appliance.clock import utc_in, utc_now
from utrust_appliance.errors import ApiError, JobError
from utrust_appliance.files import destroy, write_json

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.cluster import Cluster
    from utrust_appliance.node import Node

LOG = logging.getLogger(__name__)
RETRY_AFTER = "5"


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode("ascii")).hexdigest()


@dataclass(frozen=True)
class Claim:
    """A claim. `digest` is the SHA-256 of its token, `ttl` is in seconds."""

    digest: str
    holder: str
    ttl: int
    acquired_at: str

    def belongs_to(self, digest: str | None) -> bool:
        return digest is not None and hmac.compare_digest(self.digest, digest)


class Claims:
    """The claim of one cluster. Only the event loop changes it, and other threads check it under `lock`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._path = cluster.folder / "claim.json"
        self._second = cluster.options.claim_second
        self.lock = threading.RLock()
        self._claim: Claim | None = None
        self._ends = 0.0  # monotonic
        self._running = 0  # requests with the token
        self._number = 0  # of the claim, because a client can claim the cluster again with the same token
        self._timer: asyncio.TimerHandle | None = None
        if self._path.exists():
            self._claim = Claim(**json.loads(self._path.read_text(encoding="utf-8")))
            self._end("all nodes were restarted")

    # State

    def current(self) -> Claim | None:
        """The claim, or None. Returns None as soon as the time of the claim has ended."""
        with self.lock:
            return self._claim if self._running or time.monotonic() < self._ends else None

    def describe(self, digest: str | None) -> dict[str, t.Any]:
        """ClaimStatus of the contract, for a request with this token."""
        claim = self.current()
        return {
            "claim": self._as_dict(claim) if claim else None,
            "own": claim is not None and claim.belongs_to(digest),
        }

    def _as_dict(self, claim: Claim) -> dict[str, t.Any]:
        left = claim.ttl * self._second if self._running else self._ends - time.monotonic()
        return {
            "holder": claim.holder,
            "ttl": claim.ttl,
            "acquired_at": claim.acquired_at,
            "expires_at": utc_in(max(0.0, left)),
        }

    def require(self, digest: str | None) -> str | None:
        """Check that the claim allows a change by a request with this token. Returns the digest of the claim, or None without a claim."""
        claim = self.current()
        if claim is None:
            if digest is not None:
                raise ApiError("claim_ended", "the cluster is not claimed with the token of this request")
            return None
        if not claim.belongs_to(digest):
            raise self._claimed_by_other(claim)
        return claim.digest

    def _claimed_by_other(self, claim: Claim) -> ApiError:
        facts = self._as_dict(claim)
        detail = f"{claim.holder} holds the claim until {facts['expires_at']}"
        return ApiError("cluster_claimed", detail, claim=facts)

    # Requests

    @contextmanager
    def request(self, digest: str | None) -> Iterator[None]:
        """A request with this token. Its end renews the claim, and the claim does not end before."""
        self.end_expired()
        with self._renewed(self.current(), digest):
            permit = _PERMIT.set(Permit(self, digest))
            try:
                yield
            finally:
                _PERMIT.reset(permit)

    @contextmanager
    def _renewed(self, claim: Claim | None, digest: str | None) -> Iterator[None]:
        if claim is None or not claim.belongs_to(digest):
            yield
            return
        number = self._number
        with self.lock:
            self._running += 1
        try:
            yield
        finally:
            if self._claim is not None and self._number == number:
                with self.lock:
                    self._running -= 1
                self._start(self._claim)

    def put(self, node: Node, digest: str, holder: str, ttl: int) -> None:
        """Claim the cluster, or renew the claim."""
        self.end_expired()
        claim = self.current()
        if claim is not None and not claim.belongs_to(digest):
            raise self._claimed_by_other(claim)
        self._require_majority(node)
        new = replace(claim, holder=holder, ttl=ttl) if claim else Claim(digest, holder, ttl, utc_now())
        if new != claim:
            write_json(self._path, asdict(new))
        with self.lock:
            self._claim = new
        self._start(new)

    def release(self, digest: str) -> None:
        """End the claim of this token."""
        self.end_expired()
        claim = self.current()
        if claim is None:
            return
        if not claim.belongs_to(digest):
            raise self._claimed_by_other(claim)
        self._end("its holder ended it")

    def _require_majority(self, node: Node) -> None:
        joined = [member for member in self._cluster.nodes.values() if member.config.joined]
        reached = [member for member in joined if member is node or member.connection() == "connected"]
        if 2 * len(reached) <= len(joined):
            detail = f"{node.name} reaches {len(reached)} of {len(joined)} members, and a claim requires a majority"
            raise ApiError("unavailable", detail, headers={"Retry-After": RETRY_AFTER})

    # End

    def _start(self, claim: Claim) -> None:
        """Count the time of the claim from now on."""
        seconds = claim.ttl * self._second
        with self.lock:
            self._ends = time.monotonic() + seconds
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.end_expired)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None

    def end_expired(self) -> None:
        if self._claim is not None and self.current() is None:
            self._end("its time has ended")

    def end_now(self) -> None:
        """Fault: the claim ends although nothing has ended it."""
        if self._claim is not None:
            self._end("a fault ended it")

    def _end(self, why: str) -> None:
        """End the claim, and what was created with its token. Jobs that write keys continue."""
        claim = self._claim
        if claim is None:
            return
        with self.lock:
            self._claim, self._running, self._ends, self._number = None, 0, 0.0, self._number + 1
        self._stop_timer()
        reason = JobError("claim_ended", f"The claim of {claim.holder[:200]} ended, because {why}")
        for node in self._cluster.nodes.values():
            for kind, object_id in node.store.made_with(claim.digest):
                if kind == "import":
                    node.imports.end(object_id, reason)
                elif kind == "package":
                    node.packages.end(object_id, reason)
        destroy(self._path)
        LOG.info("%s: the claim of %r ended, because %s", self._cluster.name, claim.holder, why)

    def close(self) -> None:
        self._stop_timer()


class Permit(t.NamedTuple):
    """The claims of a cluster, and the token of the request that this code works for."""

    claims: Claims
    digest: str | None


# Set for requests of the API. It is not set for people at Webconf and PIN pads, whom the claim does not cover.
_PERMIT: ContextVar[Permit | None] = ContextVar("permit", default=None)


@contextmanager
def permitted() -> Iterator[str | None]:
    """Check the claim again right before a request acts. Meanwhile, the claim stays as it is. Yields the digest of the claim, or None."""
    permit = _PERMIT.get()
    if permit is None:
        yield None
        return
    with permit.claims.lock:
        yield permit.claims.require(permit.digest)
