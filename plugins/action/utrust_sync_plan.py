# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action plugin for module utrust_sync_plan."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem, UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_TIMEOUT
from ansible_collections.keyops.utrust.plugins.module_utils._operations import ksp_export
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.package import check_directory
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.policy import policy_of
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster import approval_file, plan_file
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.accounts import (
    check_requester,
    launcher_accounts,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.approvals import check_approvals, load_approvers
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.defaults import CANARY_KEY
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.options import (
    NOT_IN_A_PLAN,
    SYNC_RULES,
    SYNC_SPEC,
    preflight_options,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.plan import check_plan, make_plan
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.plan_result import handed_over, plan_result
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.preflight import check_cluster, problems_result
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.sync import (
    check_targets,
    describe_changes,
    rollout_of,
    targets_of,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.traffic import (
    batch_limit,
    check_operator,
    plan_traffic,
    task_files,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.task import canary_problems
from ansible_collections.keyops.utrust.plugins.plugin_utils._judging_action import JudgingActionBase
from ansible_collections.keyops.utrust.plugins.plugin_utils._run_options import (
    change_reference,
    check_settle_time,
    complete_options,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._task_files import check_task_files
from ansible_collections.keyops.utrust.plugins.plugin_utils._traffic import gets_traffic

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading

Arguments = dict[str, t.Any]


class ActionModule(JudgingActionBase):
    name = "utrust_sync_plan"
    spec = SYNC_SPEC
    rules = SYNC_RULES

    def _validate(self, name: str, rules: t.Mapping[str, t.Any], arguments: Arguments) -> Arguments:
        for option in ("plan", "approvals"):
            # Ansible converts every value to a path.
            if not isinstance(arguments.get(option, ""), str):
                raise UtrustError(
                    f"{option}: the value is data, but Ansible evaluates data as templates. Nothing was done. "
                    f"Set {option} to the path of a file, or set {option}_base64",
                    code="option_invalid",
                )
        return super()._validate(name, rules, arguments)

    def check(self, params: Arguments, variables: Arguments) -> None:
        hosts = self._complete_defaults(params, variables)
        if params["audit"] == "required":
            self._require_audit(read_file=True)
        policy_of(params)
        self._launchers = launcher_accounts(variables)
        self._read_files(params)
        if self._given is None:
            check_requester(self._launchers)
        managed = self._managed_nodes(variables, params["source"])
        preflight_options(params, managed.values())
        if not [host for host in hosts if host != params["source"]]:
            raise UtrustError(
                f"synchronizing from {params['source']} to (no target): nothing was done. Name other hosts than the source, and check --limit",
                code="no_target",
            )
        if len(variables["ansible_play_batch"]) < len(variables["ansible_play_hosts"]):
            raise UtrustError(
                "the play must not use serial, because one plan covers all targets. Nothing was done. Remove serial, and set batch_size instead",
                code="play_serial_forbidden",
            )
        self._check_rollout_options(params, managed)
        self._check_approval_options(params)

    def _check_rollout_options(self, params: Arguments, managed: t.Container[str]) -> None:
        canary, batch_size = params["canary"], params["batch_size"]
        if canary is not None and (canary == params["source"] or canary not in managed):
            raise UtrustError(
                f"canary: {canary!r} is not a target. Name a host of the play that is not the source",
                code="option_invalid",
            )
        if batch_size is not None and batch_size < 1:
            raise UtrustError(f"batch_size: {batch_size} is invalid. Set 1 or more", code="option_invalid")
        if not 0 <= params["ejbca_view_timeout"] <= MAX_TIMEOUT:
            raise UtrustError(
                f"ejbca_view_timeout: {params['ejbca_view_timeout']:g} is invalid. Set 0 to {MAX_TIMEOUT:g} seconds",
                code="option_invalid",
            )

    def _complete_defaults(self, params: Arguments, variables: Arguments) -> list[str]:
        """Set the defaults that the transports of the nodes require, and check the options about traffic. Returns the hosts of the run."""
        hosts = params["hosts"] if params["hosts"] is not None else variables["ansible_play_hosts_all"]
        transports = self._transports([params["source"], *hosts], variables)
        self._defaults = complete_options(params, transports, variables, "key_sync_")
        check_settle_time(params)
        files = {name: params[name] for name in ("drain_tasks", "undrain_tasks")}
        check_task_files(files, self._task, self._loader)
        return list(hosts)

    def _read(self, arguments: Arguments, variables: Arguments, keys: bool) -> ClusterReading:
        """Return the reading without EJBCA views. A later task of the role reads them, if a target lacks a key."""
        return super()._read({**arguments, "ejbca_view": False}, variables, keys)

    def _read_files(self, params: Arguments) -> None:
        """Read plan and approvals once. Only these objects are judged, recorded and applied, also if a file changes during the run."""
        self._given = self._approvals = None
        if params["plan"] is not None:
            self._given = plan_file.read(params["plan"])
        elif params["plan_base64"] is not None:
            self._given = plan_file.read_base64(params["plan_base64"])
        if params["approvals"] is not None:
            self._approvals = approval_file.read(params["approvals"])
        elif params["approvals_base64"] is not None:
            self._approvals = approval_file.read_base64(params["approvals_base64"])
        self._approvers = load_approvers(params["approvers"])

    def _check_approval_options(self, params: Arguments) -> None:
        required = params["approvals_required"]
        if required < 0:
            raise UtrustError("approvals_required: a negative number is invalid. Set 0 or more", code="option_invalid")
        if required and not self._approvers:
            raise UtrustError(
                f"{required} approval(s) are required, but approvers is not set, so no approval can be verified. Nothing was done. "
                "Set approvers (of the role: key_sync_approvers), with name, accounts and public_key of each person",
                code="approvers_missing",
            )
        if (required or params["plan_required"]) and self._given is None and not self._task.check_mode:
            needed = f"{required} approval(s) are required" if required else "plan_required is true"
            raise UtrustError(
                f"{needed}, but the plan is missing. Nothing was done. "
                "Make a plan in check mode, have the plan approved, then run with this plan",
                code="plan_missing",
            )

    def judge(self, reading: ClusterReading, params: Arguments, variables: Arguments) -> Arguments:
        options = preflight_options(params, self._managed_nodes(variables, params["source"]).values())
        hosts = self._hosts_of(reading, variables)
        commissioning = self._check_commissioning(reading, hosts, params)
        reason = params["reasons"].get(CANARY_KEY)
        problems = [
            *self.claim_problems,
            *commissioning.problems,
            *canary_problems(reading, hosts, commissioning.record, reason),
            *check_cluster(reading, options._replace(members_may_be_down=True), datetime.datetime.now(datetime.UTC)),
            *check_targets(reading, policy_of(params)),
            *self._check_dest(reading, params, variables),
        ]
        batch_size = batch_limit(params["batch_size"], operator_present=params["operator_present"])
        rollout = rollout_of(
            reading, canary=params["canary"], batch_size=batch_size, allow_outage=params["allow_outage"]
        )
        pending = [target.node for target in targets_of(reading) if target.pending]
        problems += check_operator(pending, operator_present=params["operator_present"])
        if rollout.problem is not None:
            problems.append(rollout.problem)
        changes = {
            **self._changes(reading, rollout.batches, params, variables),
            "commissioning": commissioning.digest,
        }
        plan = self._make_plan(changes, params)
        if self._given is not None:
            problems += self._check_plan(self._given, plan["changes"], params["approvals_required"])
            plan = self._given
        if problems:
            return problems_result(f"synchronizing from {params['source']}", problems)
        if params["plan_dest"] is not None and self._task.check_mode:
            plan_file.write(params["plan_dest"], plan)
        result = plan_result(reading, rollout.batches, params, plan)
        result |= self._rollout(reading, params, variables)
        if self._approvals is not None:
            result["ansible_facts"]["_key_sync__audit"]["approvals"] = [each._asdict() for each in self._approvals]
        if self._task.check_mode and self._given is None:
            result |= handed_over(plan)
        # ansible_check_mode does not show the keyword check_mode of a task or role.
        return {**result, "check_mode": self._task.check_mode}

    def _check_plan(self, plan: Arguments, changes: Arguments, required: int) -> list[Problem]:
        """Return the reasons why this plan must not be applied now."""
        problems = check_plan(plan, changes)
        if problems or not required:
            return problems
        return check_approvals(
            plan,
            self._approvals or (),
            required=required,
            approvers=self._approvers,
            launchers=self._launchers,
            now=datetime.datetime.now(datetime.UTC),
        )

    def _changes(
        self, reading: ClusterReading, batches: list[list[str]], params: Arguments, variables: Arguments
    ) -> Arguments:
        """Return what a run would change, and what is weaker than the strict defaults, and which nodes have no health check. People approve all of it."""
        decided = {name: value for name, value in params.items() if name not in NOT_IN_A_PLAN}
        changes = describe_changes(reading, batches, decided)
        if self._defaults.strict:
            # The number of approvals is not a part of what people approve.
            weaker = [value._asdict() for value in self._defaults.weaker if value.option != "approvals_required"]
            members = [each.host for each in reading.readings] + self._members_outside(reading, params, variables)
            out = [host for host in members if not gets_traffic(self._host_variables(variables, host))]
            changes |= {
                "change_reference": change_reference(variables),
                "weaker_values": weaker,
                "out_of_traffic": sorted(out),
            }
        return changes

    def _make_plan(self, changes: Arguments, params: Arguments) -> Arguments:
        account = self._launchers[0]
        return make_plan(
            changes,
            requested_by=params["requested_by"] or account,
            requester_account=account,
            requested_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )

    def _rollout(self, reading: ClusterReading, params: Arguments, variables: Arguments) -> Arguments:
        """Return how the role rolls the plan out: its task files, the nodes in and out of traffic, and what is weaker than the defaults."""
        hosts = [each.host for each in reading.readings if each.node is not None]
        hosts += self._members_outside(reading, params, variables)
        in_traffic = [host for host in hosts if gets_traffic(self._host_variables(variables, host))]
        targets = targets_of(reading)
        traffic = plan_traffic(targets, hosts, in_traffic, params)
        pending = any(target.pending for target in targets)
        return {
            "traffic": traffic,
            **task_files(traffic, pending=pending, ejbca_view=params["ejbca_view"]),
            "operator_present": params["operator_present"],
            "audit": params["audit"],
            "weaker_values": [value._asdict() for value in self._defaults.weaker],
        }

    def _members_outside(self, reading: ClusterReading, params: Arguments, variables: Arguments) -> list[str]:
        """Return the hosts of the play that --limit leaves out and whose nodes joined. The load balancer sends requests to them, too."""
        joined = {member.node for member in reading.source_node.members if member.joined} - {*params["ignore_members"]}
        read = {each.host for each in reading.readings}
        managed = self._managed_nodes(variables, params["source"])
        return [host for host, name in managed.items() if host not in read and name in joined]

    def _check_dest(self, reading: ClusterReading, params: Arguments, variables: Arguments) -> list[Problem]:
        """Check the directory of the package where the package will be."""
        if not self._task.delegate_to:
            return check_directory(reading.source_node.name, params["dest"])
        if params["dest"] is None or not self._task.check_mode:
            return []  # The export on the bastion checks the directory itself, before it requests a package.
        source = self._node_options(self._host_variables(variables, params["source"]))
        found = self._execute(ksp_export.OPERATION, {**source, "dest": params["dest"]}, variables)
        if found.get("failed"):
            raise UtrustError(str(found.get("msg")), code=found.get("code", "internal_error"))
        return []
