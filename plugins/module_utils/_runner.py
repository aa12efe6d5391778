# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run one operation as a module or an action plugin. Private to keyops.utrust."""

from __future__ import annotations

import contextlib
import socket
import sys
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
from ansible_collections.keyops.utrust.plugins.module_utils._run import directory, life
from ansible_collections.keyops.utrust.plugins.module_utils._secrets import cleaned, secret_values, without_secrets
from ansible_collections.keyops.utrust.plugins.module_utils._token_file import with_tokens_of_files

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.people import People
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance, ProgressCallback
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.protocol import EjbcaNode

Result = dict[str, t.Any]
#: Older versions read times in another way, so clocks would seem to differ.
MINIMUM_PYTHON: tuple[int, int] = (3, 11)


class Invocation(t.NamedTuple):
    """One execution. `open_private` creates the private directory of the run, or is missing if the run is on another machine.

    `people` do steps at Webconf. A module on another machine cannot ask people.
    """

    params: Params
    check_mode: bool
    progress: ProgressCallback
    open_private: t.Callable[[], directory.PrivateDirectory] | None
    people: People | None = None


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
def open_appliance(params: Params, people: People | None = None) -> t.Iterator[Appliance]:
    """Open the node of the connection options. Nothing is sent yet. Raises UtrustError (`node_not_joined`)."""
    check_joined(params)
    appliance = TRANSPORTS[params["transport"]](node_endpoint(params), params, people)
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
    """Run the operation and return its result without tokens of files. A failure is a result with `failed` set."""
    tokens: list[str] = []
    try:
        with coded_errors():
            _check_paths(operation, invocation.params)
            params, tokens = with_tokens_of_files(invocation.params)
            show = invocation.progress
            invocation = invocation._replace(
                params=params, progress=lambda line: show(t.cast("str", without_secrets(line, tokens)))
            )
            changes = operation.changes(invocation.params) and not invocation.check_mode
            with life.stop_on_signals() if changes else contextlib.nullcontext():
                result = operation.run(invocation)
    except UtrustError as exc:
        result = {"failed": True, "changed": False, "msg": str(exc), **exc.details}
    return {**t.cast("Result", without_secrets(result, tokens)), "executed_on": socket.gethostname()}


def _check_paths(operation: Operation, params: Params) -> None:
    """Raise UtrustError (`option_invalid`) for text that cannot be a path on any system."""
    for name, spec in operation.module_arguments()["argument_spec"].items():
        if spec.get("type") == "path" and "\0" in (params.get(name) or ""):
            raise UtrustError(
                f"{name}: the path contains a NUL character. Nothing was done. Correct the path", code="option_invalid"
            )


def with_removed(stale: list[str], result: Result) -> Result:
    """Return the result with the paths of packages that killed runs had left."""
    stale = [*stale, *result.get("removed_stale", ())]
    return {**result, "removed_stale": stale} if stale else result


def run_module(module: AnsibleModule, operation: Operation) -> t.NoReturn:
    """Run the operation as a module. A module has no terminal, so its progress is in the result only.

    Every task first removes what killed runs have left on its machine, also in check mode.
    """
    if sys.version_info[:2] < MINIMUM_PYTHON:
        found, minimum = (".".join(map(str, version)) for version in (sys.version_info[:2], MINIMUM_PYTHON))
        module.fail_json(
            msg=f"executing {operation.name} on {socket.gethostname()}: the interpreter is Python {found}. Nothing was done. "
            f"Set ansible_python_interpreter of this machine to Python {minimum} or newer",
            code="python_too_old",
        )
    life.watch_output()
    stale = directory.remove_stale()
    invocation = Invocation(module.params, module.check_mode, lambda line: None, None)
    result = with_removed(stale, execute(operation, invocation))
    # Connection plugins show the output of a module before the action gets it.
    result = cleaned(result, secret_values(operation.module_arguments()["argument_spec"], module.params))
    for warning in result.pop("warnings", []):
        module.warn(warning)
    if result.pop("failed", False):
        module.fail_json(**result)
    module.exit_json(**result)
