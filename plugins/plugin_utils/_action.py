# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Base class of the action plugins. Private to keyops.utrust.

With a local connection the operation runs in this process. This is ten times cheaper than a module, and shows progress.
With any other connection (a bastion in the appliance network) the module runs on the remote machine.
"""

from __future__ import annotations

import os
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible.playbook.block import Block
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.keyops.utrust.plugins.module_utils._runner import Invocation, Operation, execute

display = Display()


class UtrustActionBase(ActionBase):
    """Runs one operation. A subclass sets `operation`."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False
    operation: t.ClassVar[Operation]

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        self._check_run_once_strategy()
        arguments = self._arguments()
        params, secrets = self._validated(arguments)
        if self._connection.transport == "local":
            if self._play_context.become:
                raise AnsibleActionFail(
                    f"{self.operation.name}: become has no effect, because the operation runs in the process of Ansible. Remove become from this task"
                )
            # This worker is a child of the process of the run. Packages belong to the run.
            invocation = Invocation(params, self._task.check_mode, display.display, os.getppid())
            result.update(execute(self.operation, invocation))
        else:
            # Paths are on the remote machine, so the arguments are not expanded here.
            result.update(
                self._execute_module(
                    module_name=f"keyops.utrust.{self.operation.name}", module_args=arguments, task_vars=task_vars
                )
            )
        if not self._task.diff:
            result.pop("diff", None)
        return t.cast("dict[str, t.Any]", remove_values(result, secrets))

    def _check_run_once_strategy(self) -> None:
        """Refuse run_once with a strategy that ignores it: every host would export from or read the source. Raises AnsibleActionFail."""
        parent = self._task._parent
        while parent is not None and not isinstance(parent, Block):
            parent = parent._parent
        strategy = parent._play.strategy.rpartition(".")[2] if parent is not None else "linear"
        if self._task.run_once and strategy not in ("linear", "debug"):
            raise AnsibleActionFail(
                f"{self.operation.name}: strategy {strategy} ignores run_once of this task. Use strategy linear for this play"
            )

    def _arguments(self) -> dict[str, t.Any]:
        """Return the arguments of the task, with defaults from the environment of the task and of the controller."""
        environment: dict[str, t.Any] = {}
        self._compute_environment_string(environment)
        arguments = dict(self._task.args)
        for option, spec in self.operation.module_arguments()["argument_spec"].items():
            for variable in spec["fallback"][1] if "fallback" in spec else ():
                value = environment.get(variable, os.environ.get(variable))
                if value is not None and arguments.get(option) is None:
                    arguments[option] = value
        return arguments

    def _validated(self, arguments: dict[str, t.Any]) -> tuple[dict[str, t.Any], list[str]]:
        """Return the validated parameters and the secret values. Raises AnsibleActionFail."""
        given = self.operation.module_arguments()
        checked = ArgumentSpecValidator(**given).validate(arguments)
        if checked.error_messages:
            raise AnsibleActionFail(f"{self.operation.name}: {checked.errors.msg}")
        params = checked.validated_parameters
        secrets = [
            params[option] for option, spec in given["argument_spec"].items() if spec.get("no_log") and params[option]
        ]
        return params, secrets
