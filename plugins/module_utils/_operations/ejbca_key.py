# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A key pair in a crypto token of one node. Private to keyops.utrust.

EJBCA makes the key and cannot say which keys there are; the HSM's inventory says what is true, before and after.
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


# Names and types of keys: nothing here is secret.
ARGUMENT_SPEC: t.Final[Spec] = {
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
    """`slot` is the slot of the HSM that the crypto token uses."""

    expect_node: str | None
    crypto_token: str
    slot: int
    alias: str
    key_alg: str
    key_spec: str
    patience: WaitOptions

    @classmethod
    def from_params(cls, params: Params) -> EjbcaKeyOptions:
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
    """Make the key unless the HSM holds one under the alias; after a lost answer, the HSM tells whether it was made."""
    action = f"generating {options.alias} in crypto token {options.crypto_token} of {options.expect_node or 'the node'}"
    raise_for_problems(action, check_identity(appliance.node(), options.expect_node))
    if (held := _find(appliance, options, action)) is not None:
        if not _is_as_asked(held, options):
            raise UtrustError(
                f"{action}: the HSM holds another kind of key under that alias ({held.type} {held.curve or held.size}); choose another alias",
                code="key_spec_mismatch",
                hsm_key=held.to_dict(),
            )
        return {"changed": False, "hsm_key": held.to_dict()}
    if dry_run:
        return {"changed": True, "hsm_key": None}
    lost: ResponseLostError | None = None
    try:
        ejbca.generate(options.crypto_token, options.alias, options.key_alg, options.key_spec)
    except ResponseLostError as exc:
        lost = exc
    made = wait_until_available(lambda: _find(appliance, options, action), options.patience, action)
    if made is None:
        if lost is not None:
            raise UtrustError(
                f"{action}: the answer was lost, and the HSM holds no such key now. Look into EJBCA's log, then run again",
                code="response_lost",
            ) from lost
        raise UtrustError(
            f"{action}: EJBCA says that it made the key, but slot {options.slot} of the HSM holds none under that alias. "
            "Check the slot of the crypto token",
            code="key_not_found",
        )
    return {"changed": True, "hsm_key": made.to_dict()}


def _is_as_asked(held: HsmKey, options: EjbcaKeyOptions) -> bool:
    """Curves have several names; the one that the inventory uses is compared, others are EJBCA's to know."""
    if options.key_alg == "RSA":
        return (held.type, str(held.size)) == ("rsa", options.key_spec)
    return held.type == "ec" and (held.curve == options.key_spec or not options.key_spec.startswith("P-"))


def _find(appliance: Appliance, options: EjbcaKeyOptions, action: str) -> HsmKey | None:
    held = [key for key in appliance.list_keys() if (key.slot, key.label) == (options.slot, options.alias)]
    if len(held) > 1:
        raise UtrustError(
            f"{action}: slot {options.slot} holds {len(held)} keys under that alias, and nobody can tell which one is meant. Remove all but one",
            code="alias_ambiguous",
        )
    return held[0] if held else None


def run(invocation: Invocation) -> Result:
    options = EjbcaKeyOptions.from_params(invocation.params)
    with open_appliance(invocation.params) as appliance, open_ejbca(invocation.params) as ejbca:
        return generate_key(appliance, ejbca, options, dry_run=invocation.check_mode)


OPERATION: t.Final = Operation("ejbca_key", ARGUMENT_SPEC, {}, run)
