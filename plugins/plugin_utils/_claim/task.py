# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take, renew and release the claim of a run for its tasks. Private to keyops.utrust."""

from __future__ import annotations

import dataclasses as dc
import getpass
import secrets
import socket
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem, UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._operations.cluster_claim import ARGUMENT_SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions
from ansible_collections.keyops.utrust.plugins.plugin_utils._claim.lock import RELEASE_TIME, ClusterLock, lock_directory
from ansible_collections.keyops.utrust.plugins.plugin_utils._claim.record import (
    ClaimRecord,
    endpoint_of,
    find_record,
    forget_requested,
    requested_token,
    save_record,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._run_directory import PrivateDirectory, lock_run_directory

Arguments = dict[str, t.Any]
Result = dict[str, t.Any]
Variables = t.Mapping[str, t.Any]


DEFAULT_WAIT = ARGUMENT_SPEC["claim_wait"]["default"]


def describe_holder(variables: Variables, role: str, pid: int) -> str:
    """Return who claims the cluster, as text for people: role, person, controller and run."""
    person = next((str(variables[name]) for name in ("awx_user_name", "tower_user_name") if variables.get(name)), None)
    jobs = (f"job {variables[name]}" for name in ("awx_job_id", "tower_job_id") if variables.get(name))
    what = role.rpartition(".")[2] or "ansible-playbook"
    return f"{what} by {person or _system_user()}@{socket.gethostname()} ({next(jobs, f'pid {pid}')})"


def _system_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        return "unknown"


class TaskClaims:
    """The claims of a run, for one task of the run.

    `pid` is the process of the run, and `role` the role of the task or an empty text. `execute` executes utrust_cluster_claim with these arguments.
    `options_of` returns the connection options of an inventory host. `show` shows a line of progress.
    `remote` is whether `execute` executes on a bastion, so that it cannot show why the run waits.
    """

    def __init__(
        self,
        pid: int,
        role: str,
        *,
        execute: t.Callable[[Arguments], Result],
        options_of: t.Callable[[str], Arguments],
        variables: Variables,
        show: t.Callable[[str], None],
        remote: bool = False,
    ) -> None:
        self._pid = pid
        self._role = role
        self._execute = execute
        self._options_of = options_of
        self._variables = variables
        self._show = show
        self._remote = remote

    def with_tokens(self, arguments: Arguments) -> Arguments:
        """Return the arguments of an operation with the token of this run for each node of a claimed cluster."""
        if "nodes" in arguments:
            return {**arguments, "nodes": [self._with_token(node) for node in arguments["nodes"]]}
        return self._with_token(arguments)

    def _with_token(self, options: Arguments) -> Arguments:
        found = find_record(self._pid, options)
        return {**options, "cluster_claim": found[1].token} if found is not None and found[1].token else options

    def take(self, source: str, hosts: t.Iterable[str], **request: t.Any) -> bool:
        """Claim the cluster at the inventory host `source`. Return whether the claim is new: another role of this run may already have it.

        `hosts` are the other nodes of the cluster, and `request` are options of utrust_cluster_claim. Raises UtrustError, for example `cluster_claimed`.
        """
        return bool(self.take_at(self._options_of(source), source, hosts, **request)["changed"])

    def take_at(self, options: Arguments, source: str | None, hosts: t.Iterable[str], **request: t.Any) -> Result:
        """Claim the cluster at the node of `options`, and return the result of utrust_cluster_claim.

        If its nodes offer no claim, the run takes a lock on this machine.
        """
        endpoints = [endpoint_of(options), *(endpoint_of(self._options_of(host)) for host in hosts)]
        with lock_run_directory(self._pid) as private:
            record = ClaimRecord(secrets.token_urlsafe(32), source, tuple(dict.fromkeys(endpoints)), self._role)
            wait = request.get("claim_wait", DEFAULT_WAIT)
            if self._remote:
                try:
                    return self._put(private, options, record, {**request, "claim_wait": 0}, wait)
                except UtrustError as exc:
                    if exc.code != "cluster_claimed":
                        raise
                    self._show(f"waiting at most {wait} s. {exc}")
            return self._put(private, options, record, request, wait)

    def renew(self, arguments: Arguments) -> None:
        """Renew the claim of this run for the node of the arguments at its source, or take a new claim if it has ended.

        Nothing happens if this run has no claim. A node that restarts for longer than the claim lives must not end the run.
        Raises UtrustError (`cluster_claimed`) if another run has the claim now.
        """
        found = find_record(self._pid, arguments)
        if found is None or found[1].source is None:
            return
        record = dc.replace(found[1], token=secrets.token_urlsafe(32))
        with lock_run_directory(self._pid) as private:
            if record.cluster_id is not None:
                self._lock(private, record.cluster_id).take(self._holder(), WaitOptions(0), self._show)
                return
            try:
                self._put(private, self._options_of(found[1].source), record, {"claim_wait": 0}, 0)
            except UtrustError as exc:
                if exc.code != "node_unreachable":
                    raise
                # The node of the operation checks the claim itself.

    def _put(
        self, private: PrivateDirectory, options: Arguments, record: ClaimRecord, request: Arguments, wait: float
    ) -> Result:
        """Claim the cluster with the token of `record`, unless this run still has a claim, or has lost the response to its request.

        If the nodes offer no claim, wait for the lock at most `wait` seconds.
        """
        token = requested_token(private.path, options, t.cast(str, record.token))
        try:
            found = self._checked({**self._with_token(options), **self._request(request), "new_claim": token})
        except UtrustError as exc:
            if exc.code == "cluster_claimed":
                forget_requested(private.path, options)
            raise
        record = dc.replace(record, token=token)
        if not found["supported"]:
            changed = self._lock(private, found["cluster_id"]).take(self._holder(), WaitOptions(wait), self._show)
            found = {**found, "changed": changed}
            record = dc.replace(record, token=None, cluster_id=found["cluster_id"])
        if found["changed"]:
            before = find_record(self._pid, options)
            save_record(private.path, record if before is None else dc.replace(before[1], token=record.token))
        forget_requested(private.path, options)
        self._cover(private, options, record.endpoints)
        return found

    def _lock(self, private: PrivateDirectory, cluster_id: str) -> ClusterLock:
        return ClusterLock(lock_directory(self._variables), cluster_id, self._pid, private.path)

    def _holder(self) -> str:
        return describe_holder(self._variables, self._role, self._pid)

    def _cover(self, private: PrivateDirectory, options: Arguments, endpoints: t.Iterable[str]) -> None:
        """Add nodes to the claim of this run, which a play with other hosts may have taken."""
        found = find_record(self._pid, options)
        if found is not None:
            covered = tuple(dict.fromkeys([*found[1].endpoints, *endpoints]))
            if covered != found[1].endpoints:  # the first endpoint names the file, so it stays
                save_record(private.path, dc.replace(found[1], endpoints=covered))

    def _request(self, request: Arguments) -> Arguments:
        return {"state": "present", "holder": self._holder(), **request}

    def check(self, source: str) -> list[Problem]:
        """Return the claim of another run as a problem. Only for check mode, in which utrust_cluster_claim only reads."""
        found = self.preview_at(self._options_of(source), {})
        if found.get("problems"):
            return [Problem(**problem) for problem in found["problems"]]
        _raise_if_failed(found)
        return []

    def preview_at(self, options: Arguments, request: Arguments) -> Result:
        """Return the result of utrust_cluster_claim in check mode. The result is a failure if another run has the claim or the lock."""
        unused = secrets.token_urlsafe(32)
        found = self._execute({**self._with_token(options), **self._request(request), "new_claim": unused})
        if found.get("failed") or found.get("supported", True):
            return found
        try:
            directory = lock_directory(self._variables)
            holder = ClusterLock(directory, found["cluster_id"], self._pid, directory).other_holder()
        except UtrustError as exc:
            return _failure(options, exc.code, str(exc), "")
        if holder is not None:
            text = f"{holder} has locked the cluster in {directory}"
            return _failure(options, "cluster_claimed", text, "wait until that run has ended, then run again")
        return {**found, "changed": find_record(self._pid, options) is None}

    def release(self, source: str) -> None:
        """Release the claim of this run at the inventory host `source`, if the role of this task has taken it. Raises UtrustError."""
        self.release_at(self._options_of(source))

    def release_at(self, options: Arguments) -> Result | None:
        """Release the claim at the node of `options`. Return the result of utrust_cluster_claim, or None if there is nothing to release.

        A task outside of the roles releases every claim of the run, a role only its own.
        """
        found = find_record(self._pid, options)
        if found is None or (self._role.startswith("keyops.utrust.") and found[1].taken_by != self._role):
            return None
        path, record = found
        with lock_run_directory(self._pid) as private:
            path.unlink(missing_ok=True)  # the claim ends now or by itself, so no later task may use the token
            if record.cluster_id is not None:
                self._lock(private, record.cluster_id).release(WaitOptions(RELEASE_TIME, interval=0.1))
                return {"changed": True, "claim": None, "supported": False}
        return self._checked({**options, "state": "absent", "cluster_claim": record.token})

    def _checked(self, arguments: Arguments) -> Result:
        found = self._execute(arguments)
        _raise_if_failed(found)
        return found


def _raise_if_failed(found: Result) -> None:
    if found.get("failed"):
        details = {name: found[name] for name in ("claim", "problems", "http_status") if name in found}
        raise UtrustError(str(found.get("msg")), code=str(found.get("code", "internal_error")), **details)


def _failure(options: Arguments, code: str, text: str, remedy: str) -> Result:
    problem = Problem(code, str(options.get("expect_node") or options.get("host")), text.rstrip("."), remedy)
    return {"failed": True, "changed": False, "msg": f"{problem.line}.", "code": code, "problems": [problem.to_dict()]}
