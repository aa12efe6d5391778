# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Generate a key pair in a crypto token of one node. Private to keyops.utrust.

EJBCA's REST interface does not list keys. The keys of the HSM show whether the key exists, before and after.
"""

from __future__ import annotations

import dataclasses as dc
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.argspec import ejbca_option
from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    ResponseLostError,
    UtrustError,
    raise_for_problems,
)
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import check_identity
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.policy import AUDIT_SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._runner import (
    Invocation,
    Operation,
    Result,
    open_appliance,
    open_ejbca,
)
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions, wait_until_available

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Params, Spec
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.protocol import EjbcaNode


# Names and types of keys are public.
ARGUMENT_SPEC: t.Final[Spec] = {
    **AUDIT_SPEC,
    "ejbca": ejbca_option(required=True),
    "crypto_token": {"type": "str", "required": True, "no_log": False},
    "slot": {"type": "int", "default": 0},
    "alias": {"type": "str", "required": True},
    "key_alg": {"type": "str", "choices": ["RSA", "EC"], "required": True, "no_log": False},
    "key_spec": {"type": "str", "required": True, "no_log": False},
    "wait_timeout": {"type": "float", "default": 60.0},
}


@dc.dataclass(frozen=True)
class EjbcaKeyOptions:
    """Options of the module. `slot` is the HSM slot that the crypto token uses."""

    expect_node: str | None
    crypto_token: str
    slot: int
    alias: str
    key_alg: str
    key_spec: str
    patience: WaitOptions

    @classmethod
    def from_params(cls, params: Params) -> EjbcaKeyOptions:
        """Return the options from validated parameters."""
        return cls(
            expect_node=params["expect_node"],
            crypto_token=params["crypto_token"],
            slot=params["slot"],
            alias=params["alias"],
            key_alg=params["key_alg"],
            key_spec=params["key_spec"],
            patience=WaitOptions(params["wait_timeout"]),
        )


def generate_key(
    appliance: Appliance, ejbca: EjbcaNode, options: EjbcaKeyOptions, *, dry_run: bool
) -> dict[str, t.Any]:
    """Generate the key unless the HSM holds a key with the alias. After a lost response, the HSM shows whether the key exists.

    Raises UtrustError (`key_spec_mismatch`, `alias_ambiguous`, `key_not_found`, `response_lost`).
    """
    action = f"generating {options.alias} in crypto token {options.crypto_token} of {options.expect_node or 'the node'}"
    raise_for_problems(action, check_identity(appliance.node(), options.expect_node))
    if (existing := _find_key(appliance, options, action)) is not None:
        _check_key_spec(existing, options, action)
        return {"changed": False, "hsm_key": existing.to_dict()}
    if dry_run:
        return {"changed": True, "hsm_key": None}
    lost: ResponseLostError | None = None
    try:
        ejbca.generate(options.crypto_token, options.alias, options.key_alg, options.key_spec)
    except ResponseLostError as exc:
        lost = exc
    generated = wait_until_available(lambda: _find_key(appliance, options, action), options.patience, action)
    if generated is not None:
        return {"changed": True, "hsm_key": generated.to_dict()}
    if lost is not None:
        raise UtrustError(
            f"{action}: the response was lost, and the HSM does not hold the key. Check the log of EJBCA, then run again",
            code="response_lost",
        ) from lost
    raise UtrustError(
        f"{action}: EJBCA reports that it generated the key, but slot {options.slot} of the HSM holds no key with this alias. "
        "Check which slot the crypto token uses, and set option slot",
        code="key_not_found",
    )


def _check_key_spec(existing: HsmKey, options: EjbcaKeyOptions, action: str) -> None:
    """Raise UtrustError (`key_spec_mismatch`) if the existing key has another algorithm, size or curve."""
    if options.key_alg == "RSA":
        matches = (existing.type, str(existing.size)) == ("rsa", options.key_spec)
    else:
        # Curves have several names. Only a name of the form that the appliance reports can be compared.
        matches = existing.type == "ec" and (
            existing.curve == options.key_spec or not options.key_spec.startswith("P-")
        )
    if not matches:
        raise UtrustError(
            f"{action}: the HSM holds another kind of key with this alias ({existing.type} {existing.curve or existing.size}). "
            "Choose another alias, or correct key_alg and key_spec",
            code="key_spec_mismatch",
            hsm_key=existing.to_dict(),
        )


def _find_key(appliance: Appliance, options: EjbcaKeyOptions, action: str) -> HsmKey | None:
    """Return the key with the alias in the slot. Raises UtrustError (`alias_ambiguous`) for two or more keys."""
    found = [key for key in appliance.list_keys() if (key.slot, key.stored_label) == (options.slot, options.alias)]
    if len(found) > 1:
        raise UtrustError(
            f"{action}: slot {options.slot} holds {len(found)} keys with this alias. Which key EJBCA uses is undefined. "
            "Find the key in use, and remove the other keys",
            code="alias_ambiguous",
        )
    return found[0] if found else None


def run(invocation: Invocation) -> Result:
    """Generate the key, or predict it in check mode. Raises UtrustError."""
    options = EjbcaKeyOptions.from_params(invocation.params)
    with open_appliance(invocation.params) as appliance, open_ejbca(invocation.params) as ejbca:
        return generate_key(appliance, ejbca, options, dry_run=invocation.check_mode)


OPERATION: t.Final = Operation("ejbca_key", ARGUMENT_SPEC, {}, run, changes=lambda dummy: True)
