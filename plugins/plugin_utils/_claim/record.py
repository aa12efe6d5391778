# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The claims of this run on disk, for all its tasks. Private to keyops.utrust.

The workers of Ansible share no memory, so the token of a claim is in a file with mode 0600, in the private directory of the run.
The token never is in an argument of a task, a result, a fact or a log.
"""

from __future__ import annotations

import dataclasses as dc
import hashlib
import json
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._package import store
from ansible_collections.keyops.utrust.plugins.plugin_utils._run_directory import find_run_directory

if t.TYPE_CHECKING:
    import pathlib

Options = t.Mapping[str, t.Any]
SUFFIX = ".claim"
PENDING = ".requested"


def endpoint_of(options: Options) -> str:
    """Return the address of a node as the connection options name it."""
    host = str(options.get("host") or "").strip().strip("[]").lower()
    return f"{host} {str(options.get('port') or 443).strip()}"


@dc.dataclass(frozen=True)
class ClaimRecord:
    """A claim of this run.

    `source` is the inventory host where the claim is renewed, or None if the node is not a host of the play. `endpoints` are the nodes of the cluster.
    `taken_by` is the role that took the claim, because only this role releases it. `cluster_id` is set if nodes offer no claim, so that the run has a lock.
    """

    token: str | None = dc.field(repr=False)
    source: str | None
    endpoints: tuple[str, ...]
    taken_by: str
    cluster_id: str | None = None

    def covers(self, options: Options) -> bool:
        """Whether the options name a node of the cluster."""
        return endpoint_of(options) in self.endpoints


def find_record(run_pid: int, options: Options) -> tuple[pathlib.Path, ClaimRecord] | None:
    """Return the claim of this run for the node of the options, with its file."""
    directory = find_run_directory(run_pid)
    if directory is None:
        return None
    for path in sorted(directory.glob("*" + SUFFIX)):
        record = _read(path)
        if record is not None and record.covers(options):
            return path, record
    return None


def _read(path: pathlib.Path) -> ClaimRecord | None:
    """Return the claim in a file, or None if another task has removed the file."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return ClaimRecord(**{**document, "endpoints": tuple(document["endpoints"])})


def save_record(directory: pathlib.Path, record: ClaimRecord) -> None:
    """Store the claim in the private directory of the run. A cluster has one file, which the first endpoint names. Raises UtrustError (`claim_not_stored`)."""
    name = hashlib.sha256(record.endpoints[0].encode()).hexdigest()[:16]
    try:
        with store.atomic_write(directory / (name + SUFFIX)) as file:
            file.write(json.dumps(dc.asdict(record)).encode())
    except UtrustError as exc:
        raise UtrustError(
            f"claiming the cluster: the token cannot be stored: {exc}. The claim ends by itself",
            code="claim_not_stored",
        ) from exc


def requested_token(directory: pathlib.Path, options: Options, token: str) -> str:
    """Store `token` before the run requests a claim with it, and return the token to request.

    If the response of an earlier request was lost, this is the token of that request, so that the run gets its own claim.
    The caller holds the lock of the run. Raises UtrustError (`claim_not_stored`).
    """
    path = _requested(directory, options)
    try:
        if path.exists():
            return path.read_text("ascii")
        with store.atomic_write(path) as file:
            file.write(token.encode())
    except (OSError, UtrustError) as exc:
        raise UtrustError(
            f"claiming the cluster: the token cannot be stored: {exc}. Nothing was sent. Make space in {directory}, then run again",
            code="claim_not_stored",
        ) from exc
    return token


def forget_requested(directory: pathlib.Path, options: Options) -> None:
    """Remove the token after the node has accepted or rejected the request."""
    _requested(directory, options).unlink(missing_ok=True)


def _requested(directory: pathlib.Path, options: Options) -> pathlib.Path:
    return directory / (hashlib.sha256(endpoint_of(options).encode()).hexdigest()[:16] + PENDING)
