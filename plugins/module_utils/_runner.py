# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run one operation as a module or an action plugin. Private to keyops.utrust."""

from __future__ import annotations

import contextlib
import socket
import traceback
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.transports import TRANSPORTS
from ansible_collections.keyops.utrust.plugins.module_utils._argspec import (
    CONNECTION_RULES,
    CONNECTION_SPEC,
    Params,
    Spec,
    check_joined,
    merge_rules,
    node_endpoint,
)
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance, ProgressCallback
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.protocol import EjbcaNode

Result = dict[str, t.Any]


class Invocation(t.NamedTuple):
    """One execution. `owner_pid` is the process of the run, or None if the run is on another machine."""

    params: Params
    check_mode: bool
    progress: ProgressCallback
    owner_pid: int | None


class Operation(t.NamedTuple):
    """Options, rules of the options, and code of a module and its action plugin."""

    name: str
    argument_spec: Spec
    rules: Spec
    run: t.Callable[[Invocation], Result]
    #: Whether the operation has the connection options of one node.
    one_node: bool = True
    #: Whether the operation, with these options, sends requests that change something outside of check mode.
    changes: t.Callable[[Params], bool] = lambda dummy: False

    def module_arguments(self) -> dict[str, t.Any]:
        """Return keyword arguments for AnsibleModule and ArgumentSpecValidator."""
        if not self.one_node:
            return {"argument_spec": self.argument_spec, **self.rules}
        return {
            "argument_spec": {**CONNECTION_SPEC, **self.argument_spec},
            **merge_rules(CONNECTION_RULES, self.rules),
        }


@contextlib.contextmanager
def open_appliance(params: Params) -> t.Iterator[Appliance]:
    """Open the node of the connection options. Nothing is sent yet. Raises UtrustError (`node_not_joined`)."""
    check_joined(params)
    appliance = TRANSPORTS[params["transport"]](node_endpoint(params), params)
    try:
        yield appliance
    finally:
        appliance.close()


@contextlib.contextmanager
def open_ejbca(params: Params) -> t.Iterator[EjbcaNode]:
    """Open EJBCA of the node by option `ejbca`. Nothing is sent yet. Raises UtrustError (`node_not_joined`)."""
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.argspec import ejbca_endpoint
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.rest import EjbcaRest

    check_joined(params)
    ejbca = EjbcaRest(ejbca_endpoint(params), retries=params["retries"])
    try:
        yield ejbca
    finally:
        ejbca.close()


@contextlib.contextmanager
def coded_errors(passed: tuple[type[Exception], ...] = ()) -> t.Iterator[None]:
    """Turn an unexpected exception into UtrustError (`internal_error`), except exceptions of the types `passed`.

    The message has no text of the exception, because the text can quote a secret.
    """
    try:
        yield
    except UtrustError:
        raise
    except passed:
        raise
    except Exception as exc:
        where = traceback.extract_tb(exc.__traceback__)[-1]
        raise UtrustError(
            f"an unexpected error occurred: {type(exc).__name__} in {where.name}, {where.filename}:{where.lineno}. "
            "The state of the node is unknown if this task changes something. Read the node with playbook status, and report this message as a bug",
            code="internal_error",
        ) from exc


def execute(operation: Operation, invocation: Invocation) -> Result:
    """Run the operation and return its result. A failure is a result with `failed` set."""
    try:
        with coded_errors():
            result = operation.run(invocation)
    except UtrustError as exc:
        result = {"failed": True, "changed": False, "msg": str(exc), **exc.details}
    return {**result, "executed_on": socket.gethostname()}


def run_module(module: AnsibleModule, operation: Operation) -> t.NoReturn:
    """Run the operation as a module. A module has no terminal, so its progress is in the result only."""
    result = execute(operation, Invocation(module.params, module.check_mode, lambda line: None, None))
    for warning in result.pop("warnings", []):
        module.warn(warning)
    if result.pop("failed", False):
        module.fail_json(**result)
    module.exit_json(**result)
