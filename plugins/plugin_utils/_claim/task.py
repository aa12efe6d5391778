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
from ansible_collections.keyops.utrust.plugins.module_utils._package.store import remove_stale_claims
from ansible_collections.keyops.utrust.plugins.plugin_utils._claim.record import (
    ClaimRecord,
    endpoint_of,
    find_record,
    lock_claims,
    save_record,
)

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
    `options_of` returns the connection options of an inventory host. `show` shows why the run waits if `execute` cannot, because it is on a bastion.
    """

    def __init__(
        self,
        pid: int,
        role: str,
        *,
        execute: t.Callable[[Arguments], Result],
        options_of: t.Callable[[str], Arguments],
        variables: Variables,
        show: t.Callable[[str], None] | None = None,
    ) -> None:
        self._pid = pid
        self._role = role
        self._execute = execute
        self._options_of = options_of
        self._variables = variables
        self._show = show

    def with_tokens(self, arguments: Arguments) -> Arguments:
        """Return the arguments of an operation with the token of this run for each node of a claimed cluster."""
        if "nodes" in arguments:
            return {**arguments, "nodes": [self._with_token(node) for node in arguments["nodes"]]}
        return self._with_token(arguments)

    def _with_token(self, options: Arguments) -> Arguments:
        found = find_record(self._pid, options)
        return {**options, "cluster_claim": found[1].token} if found is not None else options

    def take(self, source: str, hosts: t.Iterable[str], **request: t.Any) -> bool:
        """Claim the cluster at the inventory host `source`. Return whether the claim is new: another role of this run may already have it.

        `hosts` are the other nodes of the cluster, and `request` are options of utrust_cluster_claim. Raises UtrustError, for example `cluster_claimed`.
        """
        return bool(self.take_at(self._options_of(source), source, hosts, **request)["changed"])

    def take_at(self, options: Arguments, source: str | None, hosts: t.Iterable[str], **request: t.Any) -> Result:
        """Claim the cluster at the node of `options`, and return the result of utrust_cluster_claim."""
        endpoints = [endpoint_of(options), *(endpoint_of(self._options_of(host)) for host in hosts)]
        with lock_claims(self._pid):
            remove_stale_claims()
            record = ClaimRecord(secrets.token_urlsafe(32), source, tuple(dict.fromkeys(endpoints)), self._role)
            if self._show is not None:
                try:
                    return self._put(options, record, {**request, "claim_wait": 0})
                except UtrustError as exc:
                    if exc.code != "cluster_claimed":
                        raise
                    self._show(f"waiting at most {request.get('claim_wait', DEFAULT_WAIT)} s. {exc}")
            return self._put(options, record, request)

    def renew(self, arguments: Arguments) -> None:
        """Renew the claim of this run for the node of the arguments at its source, or take a new claim if it has ended.

        Nothing happens if this run has no claim. A node that restarts for longer than the claim lives must not end the run.
        Raises UtrustError (`cluster_claimed`) if another run has the claim now.
        """
        found = find_record(self._pid, arguments)
        if found is None or found[1].source is None:
            return
        record = dc.replace(found[1], token=secrets.token_urlsafe(32))
        with lock_claims(self._pid):
            try:
                self._put(self._options_of(found[1].source), record, {"claim_wait": 0})
            except UtrustError as exc:
                if exc.code != "node_unreachable":
                    raise
                # The node of the operation checks the claim itself.

    def _put(self, options: Arguments, record: ClaimRecord, request: Arguments) -> Result:
        """Claim the cluster with the token of `record`, unless this run still has a claim."""
        found = self._checked({**self._with_token(options), **self._request(request), "new_claim": record.token})
        if found["changed"] and found["claim"] is not None:
            before = find_record(self._pid, options)
            save_record(self._pid, record if before is None else dc.replace(before[1], token=record.token))
        self._cover(options, record.endpoints)
        return found

    def _cover(self, options: Arguments, endpoints: t.Iterable[str]) -> None:
        """Add nodes to the claim of this run, which a play with other hosts may have taken."""
        found = find_record(self._pid, options)
        if found is not None:
            covered = tuple(dict.fromkeys([*found[1].endpoints, *endpoints]))
            if covered != found[1].endpoints:  # the first endpoint names the file, so it stays
                save_record(self._pid, dc.replace(found[1], endpoints=covered))

    def _request(self, request: Arguments) -> Arguments:
        return {"state": "present", "holder": describe_holder(self._variables, self._role, self._pid), **request}

    def check(self, source: str) -> list[Problem]:
        """Return the claim of another run as a problem. Only for check mode, in which utrust_cluster_claim only reads."""
        found = self.preview_at(self._options_of(source), {})
        if found.get("code") == "cluster_claimed" and found.get("problems"):
            return [Problem(**problem) for problem in found["problems"]]
        _raise_if_failed(found)
        return []

    def preview_at(self, options: Arguments, request: Arguments) -> Result:
        """Return the result of utrust_cluster_claim in check mode. The result is a failure if another run has the claim."""
        unused = secrets.token_urlsafe(32)
        return self._execute({**self._with_token(options), **self._request(request), "new_claim": unused})

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
        with lock_claims(self._pid):
            path.unlink(missing_ok=True)  # the claim ends now or by itself, so no later task may use the token
        return self._checked({**options, "state": "absent", "cluster_claim": record.token})

    def _checked(self, arguments: Arguments) -> Result:
        found = self._execute(arguments)
        _raise_if_failed(found)
        return found


def _raise_if_failed(found: Result) -> None:
    if found.get("failed"):
        details = {name: found[name] for name in ("claim", "problems", "http_status") if name in found}
        raise UtrustError(str(found.get("msg")), code=str(found.get("code", "internal_error")), **details)
