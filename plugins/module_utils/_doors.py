# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two doors to an operation, a module and an action plugin, call it here. Private to keyops.utrust."""

from __future__ import annotations

import contextlib
import socket
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _ejbca_options, _options
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._operations.export import export_package, remove_package
from ansible_collections.keyops.utrust.plugins.module_utils._operations.import_ import import_package
from ansible_collections.keyops.utrust.plugins.module_utils._operations.info import read_info
from ansible_collections.keyops.utrust.plugins.module_utils._operations.prove import prove_keys
from ansible_collections.keyops.utrust.plugins.module_utils._operations.restore import cancel_restore, restore_hsm
from ansible_collections.keyops.utrust.plugins.module_utils._operations.token_key import generate_key

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance import Appliance, Reporter
    from ansible_collections.keyops.utrust.plugins.module_utils._application import Application

Result = dict[str, t.Any]


class Call(t.NamedTuple):
    """One execution: `owner_pid` is the process whose run this is, or None where it is on another machine."""

    params: _options.Params
    dry_run: bool
    report: Reporter
    owner_pid: int | None


class Entry(t.NamedTuple):
    """What a name of the collection stands for: its own options, their rules, and what it does."""

    spec: t.Callable[[], _options.Spec]
    rules: _options.Spec
    run: t.Callable[[Call], Result]

    def module_arguments(self) -> dict[str, t.Any]:
        """Keyword arguments of AnsibleModule and of ArgumentSpecValidator alike."""
        return {
            "argument_spec": {**_options.connection_spec(), **self.spec()},
            **_options.merged(_options.CONNECTION_RULES, self.rules),
        }


@contextlib.contextmanager
def connected(params: _options.Params) -> t.Iterator[Appliance]:
    """The node behind the connection options; nothing is sent yet."""
    _options.check_member(params)
    # Imported here: a transport is loaded only where it is used.
    from ansible_collections.keyops.utrust.plugins.module_utils._rest import Client, RestAppliance

    appliance = RestAppliance(
        Client(_options.endpoint(params), bearer_token=params["bearer_token"], retries=params["retries"])
    )
    try:
        yield appliance
    finally:
        appliance.close()


def _info(call: Call) -> Result:
    with connected(call.params) as appliance:
        return read_info(appliance, _options.info_options(call.params))


def _restore(call: Call) -> Result:
    operation = cancel_restore if call.params["state"] == "canceled" else restore_hsm
    options = _options.restore_options(call.params)
    with connected(call.params) as appliance:
        return operation(appliance, options, dry_run=call.dry_run, report=call.report)


def _export(call: Call) -> Result:
    options = _options.export_options(call.params, call.owner_pid)
    if call.params["state"] == "absent":
        return remove_package(options, dry_run=call.dry_run)
    with connected(call.params) as appliance:
        return export_package(appliance, options, dry_run=call.dry_run, report=call.report)


def _import(call: Call) -> Result:
    options = _options.import_options(call.params)
    with connected(call.params) as appliance:
        return import_package(appliance, options, dry_run=call.dry_run, report=call.report)


@contextlib.contextmanager
def application_of(params: _options.Params) -> t.Iterator[Application]:
    """EJBCA on the node; nothing is sent yet."""
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca import Ejbca

    application = Ejbca(_ejbca_options.endpoint(params), retries=params["retries"])
    try:
        yield application
    finally:
        application.close()


def _ca_info(call: Call) -> Result:
    _options.check_member(call.params)
    with application_of(call.params) as application:
        return {
            "changed": False,
            "health": application.health(),
            "authorities": [authority._asdict() for authority in application.authorities()],
        }


def _token_key(call: Call) -> Result:
    options = _ejbca_options.token_key_options(call.params)
    with connected(call.params) as appliance, application_of(call.params) as application:
        return generate_key(appliance, application, options, dry_run=call.dry_run)


def _key_proof(call: Call) -> Result:
    options = _ejbca_options.proof_options(call.params)
    with contextlib.ExitStack() as stack:
        appliance = stack.enter_context(connected(call.params))
        application = stack.enter_context(application_of(call.params)) if call.params["ejbca"] else None
        return prove_keys(appliance, application, options, dry_run=call.dry_run, report=call.report)


ENTRIES: t.Final[dict[str, Entry]] = {
    "ejbca_ca_info": Entry(_ejbca_options.ca_info_spec, {}, _ca_info),
    "utrust_hsm_info": Entry(_options.info_spec, {}, _info),
    "utrust_hsm_restore": Entry(_options.restore_spec, _options.RESTORE_RULES, _restore),
    "utrust_key_proof": Entry(_ejbca_options.proof_spec, _ejbca_options.PROOF_RULES, _key_proof),
    "utrust_ksp_export": Entry(_options.export_spec, _options.EXPORT_RULES, _export),
    "utrust_ksp_import": Entry(_options.import_spec, _options.IMPORT_RULES, _import),
    "ejbca_key": Entry(_ejbca_options.token_key_spec, {}, _token_key),
}


def execute(name: str, call: Call) -> Result:
    """Run the operation behind a name and return its result; a refusal or failure is a result, too, with `failed` set."""
    try:
        result = ENTRIES[name].run(call)
    except UtrustError as exc:
        result = {"failed": True, "changed": False, "msg": str(exc), **exc.facts}
    return {**result, "executed_on": socket.gethostname()}


def run_module(module: AnsibleModule, name: str) -> t.NoReturn:
    """The module's door: no terminal, so progress is in the result only."""
    result = execute(name, Call(module.params, module.check_mode, lambda line: None, None))
    for warning in result.pop("warnings", []):
        module.warn(warning)
    if result.pop("failed", False):
        module.fail_json(**result)
    module.exit_json(**result)
