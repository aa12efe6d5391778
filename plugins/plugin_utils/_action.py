# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Base of the action plugins. Private to keyops.utrust.

The operation runs in Ansible's own process and ignores connection and become of the host. A task with `delegate_to` runs the module on that machine instead:
a bastion that reaches the network of the appliances.
"""

from __future__ import annotations

import contextlib
import functools
import io
import typing as t

from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.playbook.block import Block
from ansible.utils.display import Display
from ansible_collections.keyops.utrust.plugins.module_utils._argspec import CONNECTION_SPEC, check_joined
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._operations import cluster_claim, hsm_info
from ansible_collections.keyops.utrust.plugins.module_utils._run import directory, life
from ansible_collections.keyops.utrust.plugins.module_utils._runner import (
    Invocation,
    Operation,
    coded_errors,
    execute,
    with_removed,
)
from ansible_collections.keyops.utrust.plugins.module_utils._secrets import check_lengths, cleaned, secret_values
from ansible_collections.keyops.utrust.plugins.plugin_utils._assisted import (
    check_controller,
    declared_members,
    host_of_node,
    is_incomplete,
    mark_view,
    with_assisted,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.required import require_audit
from ansible_collections.keyops.utrust.plugins.plugin_utils._claim.task import TaskClaims
from ansible_collections.keyops.utrust.plugins.plugin_utils._connection import (
    connection_options,
    in_controller_job,
    is_blank,
    is_true,
    with_nearer,
    without_blanks,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._environment import EnvironmentActionBase
from ansible_collections.keyops.utrust.plugins.plugin_utils._errors_of_ansible import errors_without_secrets
from ansible_collections.keyops.utrust.plugins.plugin_utils._node_names import node_name
from ansible_collections.keyops.utrust.plugins.plugin_utils._people import TaskPeople, prompt_at_terminal
from ansible_collections.keyops.utrust.plugins.plugin_utils._remote import end_with_run
from ansible_collections.keyops.utrust.plugins.plugin_utils._run_directory import open_run_directory

Arguments = dict[str, t.Any]
Variables = dict[str, t.Any]
Result = dict[str, t.Any]

display = Display()


class UtrustActionBase(EnvironmentActionBase):
    """One module of the collection. Subclasses name its operation."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False
    operation: t.ClassVar[Operation]

    def run(self, tmp: str | None = None, task_vars: Variables | None = None) -> Result:
        result: Result = super().run(tmp, task_vars)
        self._secrets: list[str] = []
        self._hostvars: Variables = (task_vars or {}).get("hostvars", {})
        life.watch_parent()
        stale: list[str] = []
        try:
            with coded_errors((AnsibleError,)), errors_without_secrets(self._secrets):
                stale = directory.remove_stale()
                self._check_strategy()
                self._check_run_once()
                result.update(self._perform(task_vars or {}))
        except UtrustError as exc:
            result.update({"failed": True, "changed": False, "msg": str(exc), **exc.details})
        finally:
            life.end_orphan()
        result = with_removed(stale, result)
        for path in result.get("removed_stale", ()):
            self._show_progress(directory.removed_line(path))
        if not self._task.diff:
            result.pop("diff", None)
        return t.cast("Result", cleaned(result, self._secrets))

    def _perform(self, variables: Variables) -> Result:
        """Return the result of the task. Raises UtrustError."""
        spec = self.operation.module_arguments()["argument_spec"]
        return self._execute(
            self.operation, self._complete(without_blanks(self._task.args, spec), variables), variables
        )

    def _execute(self, operation: Operation, arguments: Arguments, variables: Variables) -> Result:
        """Run an operation with the claim that this run has. Raises UtrustError."""
        claims = self._claims(variables)
        if operation.changes(arguments) and not self._task.check_mode:
            claims.renew(arguments)
        return self._run_operation(operation, claims.with_tokens(arguments), variables)

    def _claims(self, variables: Variables) -> TaskClaims:
        """Return the claims of this run for this task."""
        return TaskClaims(
            life.run_pid(),
            self._task._role.get_name() if self._task._role is not None else "",
            execute=lambda arguments: self._run_operation(cluster_claim.OPERATION, arguments, variables),
            options_of=lambda host: self._node_options(self._host_variables(variables, host)),
            variables=variables,
            show=self._show_progress,
            remote=bool(self._task.delegate_to),
        )

    def _run_operation(self, operation: Operation, arguments: Arguments, variables: Variables) -> Result:
        params = self._validate(operation.name, operation.module_arguments(), arguments)
        if params.get("audit") == "required" and operation.changes(params):
            self._require_audit(read_file=False)
        if self._task.delegate_to:
            check_controller(params)
            # Paths in the arguments belong to the machine that executes, so they go there as they were written.
            module = f"keyops.utrust.{operation.name}"
            with end_with_run():
                return t.cast("Result", self._execute_module(module, arguments, task_vars=variables))
        open_private = functools.partial(open_run_directory, life.run_pid())
        people = self._people(params, variables)
        invocation = Invocation(params, self._task.check_mode, self._show_progress, open_private, people)
        result = execute(operation, invocation)
        result = {**result, "confirmations": people.confirmed} if people.confirmed else result
        mark_view(params, result)
        return result

    def _people(self, params: Arguments, variables: Variables) -> TaskPeople:
        """Return the people who do steps of this task. Only the variable utrust_terminal states that they sit at the terminal."""
        terminal = is_true(variables.get("utrust_terminal")) and not in_controller_job(variables)
        return TaskPeople(
            params.get("confirmations") or (), prompt_at_terminal if terminal else None, self._show_progress
        )

    def _show_progress(self, line: str) -> None:
        if life.run_has_ended() or not life.run_is_read():
            return  # the display of a worker is a pipe to the main process, which nobody reads any more
        # ansible-runner replaces Display, and writes an event of its own to stderr of this process first. ansible-core warns of such output.
        # Ansible itself hands the line to the main process, where the line becomes an event, too. stdout may be the document of a callback.
        with contextlib.redirect_stderr(io.StringIO()):
            display.display(cleaned(line, self._secrets), stderr=True)

    def _check_strategy(self) -> None:
        """Reject strategies that run a `run_once` task on every host: the source would be exported many times."""
        parent = self._task._parent
        while parent is not None and not isinstance(parent, Block):
            parent = parent._parent
        strategy = parent._play.strategy.rpartition(".")[2] if parent is not None else "linear"
        if self._task.run_once and strategy not in ("linear", "debug"):
            raise UtrustError(
                f"{self._task.action}: strategy {strategy} does not honor run_once of this task. Use strategy linear for this play",
                code="strategy_not_supported",
            )

    def _check_run_once(self) -> None:
        """Reject `run_once` of a play, block, role or include: the other hosts would be skipped without a word."""
        if self.operation.one_node and self._task.run_once and "run_once" not in (self._task.get_ds() or {}):
            raise UtrustError(
                f"{self._task.action}: this task inherits run_once, so it would skip every other host. Nothing was done. "
                "Remove run_once from the play, block, role or include around the task, or set run_once in the task itself",
                code="run_once_inherited",
            )

    def _require_audit(self, *, read_file: bool) -> None:
        """Check that the audit trail is complete, and that the results of the run can be recorded. Raises UtrustError."""
        require_audit(read_file=read_file)
        if self._task.no_log:
            error = UtrustError(
                "An audit trail is required, but no_log hides the results of this run from the audit trail. Nothing is changed from here on. "
                "Remove no_log from the play, block, role or include around the task, and unset ANSIBLE_NO_LOG",
                code="audit_censored",
            )
            self._show_progress(f"{error} [{error.code}]")  # no_log hides the result
            raise error

    def _complete(self, arguments: Arguments, variables: Variables) -> Arguments:
        """Add options from the variables of the host, then from the environment of the task and of the controller.

        A task that names `host` itself gets nothing from the variables: with run_once they belong to another host.
        """
        if "host" in arguments:
            completed = with_nearer(self._environment, arguments)
            of_node = host_of_node(completed, self._hostvars) if is_incomplete(completed) else None
            return completed if of_node is None else with_assisted(completed, of_node, self._hostvars)
        of_host = self._host_variables(variables, variables["inventory_hostname"])
        completed = with_nearer(self._node_options(of_host), arguments)
        # Only the roles hand over members that a task before has read from the source.
        if "members" not in completed or not self._in_own_role():
            members = self._members(of_host, variables)
            completed = {**completed, "members": members} if members is not None else completed
        # Options of the task cannot give the host the name of another node.
        check_joined({"members": completed.get("members"), "expect_node": node_name(of_host)})
        return completed

    def _in_own_role(self) -> bool:
        return self._task._role is not None and self._task._role.get_name().startswith("keyops.utrust.")

    def _node_options(self, of_host: t.Mapping[str, t.Any]) -> Arguments:
        options = with_nearer(self._environment, without_blanks(connection_options(of_host), CONNECTION_SPEC))
        return with_assisted(options, of_host, self._hostvars)

    def _host_variables(self, variables: Variables, host: str) -> t.Mapping[str, t.Any]:
        if host not in variables["hostvars"]:
            raise UtrustError(
                f"{host!r} is not a host of the inventory. Nothing was done. Check the name", code="host_unknown"
            )
        return t.cast("t.Mapping[str, t.Any]", variables["hostvars"][host])

    def _members(self, of_host: t.Mapping[str, t.Any], variables: Variables) -> list[str] | None:
        """Return the members that the source lists, or None if this host is the source."""
        host, source = of_host["inventory_hostname"], of_host.get("utrust_source")
        if is_blank(source):
            raise UtrustError(
                f"contacting {host}: it is unknown whether this node has joined the cluster. Nothing was sent. "
                "Set the variable utrust_source to the inventory host of the source node, or set the connection options in the task",
                code="source_missing",
            )
        source = str(source).strip()
        if source == host:
            return None
        if is_incomplete(self._node_options(self._host_variables(variables, source))):
            return [member["node"] for member in declared_members(source, self._hostvars)]
        found = self._execute(
            hsm_info.OPERATION, self._node_options(self._host_variables(variables, source)), variables
        )
        if found.get("failed"):
            raise UtrustError(
                f"contacting {host}: the source {source} could not be read, so the joined nodes are unknown. "
                f"Nothing was sent to {host}. {found.get('msg')}",
                code=str(found.get("code", "source_unknown")),
            )
        return [member["node"] for member in found["node"]["members"] if member["joined"]]

    def _validate(self, name: str, rules: t.Mapping[str, t.Any], arguments: Arguments) -> Arguments:
        """Return the arguments as the specification converts them. Raises UtrustError (`option_invalid`)."""
        check_lengths(rules["argument_spec"], arguments)
        self._secrets += secret_values(rules["argument_spec"], arguments)
        checked = ArgumentSpecValidator(**rules).validate(arguments)
        if checked.error_messages:
            reasons = ". ".join(checked.error_messages)
            raise UtrustError(f"{name}: {reasons}. Correct the options of the task", code="option_invalid")
        return t.cast("Arguments", checked.validated_parameters)
