# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The claims of this run on disk, for all its tasks. Private to keyops.utrust.

The workers of Ansible share no memory, so the token of a claim is in a file with mode 0600, in a directory that the process of the run owns.
The next run removes the directory of a killed run. The token never is in an argument of a task, a result, a fact or a log.
"""

from __future__ import annotations

import contextlib
import dataclasses as dc
import fcntl
import hashlib
import json
import os
import pathlib
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._package import store

Options = t.Mapping[str, t.Any]
SUFFIX = ".claim"


def endpoint_of(options: Options) -> str:
    """Return the address of a node as the connection options name it."""
    host = str(options.get("host") or "").strip().strip("[]").lower()
    return f"{host} {str(options.get('port') or 443).strip()}"


@dc.dataclass(frozen=True)
class ClaimRecord:
    """A claim of this run.

    `source` is the inventory host where the claim is renewed, or None if the node is not a host of the play. `endpoints` are the nodes of the cluster.
    `taken_by` is the role that took the claim, because only this role releases it.
    """

    token: str = dc.field(repr=False)
    source: str | None
    endpoints: tuple[str, ...]
    taken_by: str

    def covers(self, options: Options) -> bool:
        """Whether the options name a node of the cluster."""
        return endpoint_of(options) in self.endpoints


def find_record(owner_pid: int, options: Options) -> tuple[pathlib.Path, ClaimRecord] | None:
    """Return the claim of this run for the node of the options, with its file."""
    directory = store.claim_directory(owner_pid)
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


def save_record(owner_pid: int, record: ClaimRecord) -> None:
    """Store the claim. A cluster has one file, which the first endpoint names. Raises UtrustError (`claim_not_stored`)."""
    directory = t.cast(pathlib.Path, store.claim_directory(owner_pid, create=True))
    name = hashlib.sha256(record.endpoints[0].encode()).hexdigest()[:16]
    try:
        with store.atomic_write(directory / (name + SUFFIX)) as file:
            file.write(json.dumps(dc.asdict(record)).encode())
    except UtrustError as exc:
        raise UtrustError(
            f"claiming the cluster: the token cannot be stored: {exc}. The claim ends by itself",
            code="claim_not_stored",
        ) from exc


@contextlib.contextmanager
def lock_claims(owner_pid: int) -> t.Iterator[None]:
    """Let one task of the run at a time take, renew or release a claim: two tasks with two new tokens would reject each other.

    Raises UtrustError (`claim_not_stored`).
    """
    directory, descriptor = _locked_directory(owner_pid)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            directory.rmdir()  # only if the last claim was released
        os.close(descriptor)


def _locked_directory(owner_pid: int) -> tuple[pathlib.Path, int]:
    while True:
        directory = t.cast(pathlib.Path, store.claim_directory(owner_pid, create=True))
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue  # the task that had the lock has removed the directory
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), directory.stat()):
                return directory, descriptor
        os.close(descriptor)
