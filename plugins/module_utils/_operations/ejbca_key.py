# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Generate a key pair in a crypto token of one node, or find the key of a key ceremony. Private to keyops.utrust.

EJBCA's REST interface does not list keys. The keys of the HSM show whether the key exists, before and after.
"""

from __future__ import annotations

import dataclasses as dc
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._argspec import parse_key_fingerprints
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.suboptions import ejbca_option
from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    ResponseLostError,
    UtrustError,
    raise_for_problems,
)
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_TEXT
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import check_complete_keys, check_identity
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
    "ejbca": ejbca_option(required=False),
    "crypto_token": {"type": "str", "required": True, "no_log": False},
    "slot": {"type": "int", "default": 0},
    "alias": {"type": "str", "required": True},
    "key_alg": {"type": "str", "choices": ["RSA", "EC"], "required": True, "no_log": False},
    "key_spec": {"type": "str", "required": True, "no_log": False},
    "generate": {"type": "bool", "default": True},
    "ceremony_reference": {"type": "str"},
    "key_fingerprint": {"type": "str", "no_log": False},
    "wait_timeout": {"type": "float", "default": 60.0},
}
RULES: t.Final[Spec] = {"required_if": [("generate", True, ("ejbca",))]}


@dc.dataclass(frozen=True)
class EjbcaKeyOptions:
    """Options of the module. `slot` is the HSM slot that the crypto token uses.

    `ceremony_reference` names the key ceremony in which people made the key. Without it, the module may generate the key.
    """

    expect_node: str | None
    crypto_token: str
    slot: int
    alias: str
    key_alg: str
    key_spec: str
    patience: WaitOptions
    ceremony_reference: str | None = None
    key_fingerprint: str | None = None

    @classmethod
    def from_params(cls, params: Params) -> EjbcaKeyOptions:
        """Return the options from validated parameters. Raises UtrustError (`option_invalid`)."""
        reference, fingerprint = (params["ceremony_reference"] or "").strip(), params["key_fingerprint"]
        _check_ceremony(reference, fingerprint, generate=params["generate"])
        return cls(
            expect_node=params["expect_node"],
            crypto_token=params["crypto_token"],
            slot=params["slot"],
            alias=params["alias"],
            key_alg=params["key_alg"],
            key_spec=params["key_spec"],
            patience=WaitOptions(params["wait_timeout"]),
            ceremony_reference=reference or None,
            key_fingerprint=fingerprint,
        )


def _check_ceremony(reference: str, fingerprint: str | None, *, generate: bool) -> None:
    """Check the options of a key ceremony. Raises UtrustError (`option_invalid`)."""
    if generate and (reference or fingerprint):
        name = "ceremony_reference" if reference else "key_fingerprint"
        raise UtrustError(
            f"{name}: the option belongs to a key that exists, but generate is true. Nothing was generated. Set generate: false, or remove {name}",
            code="option_invalid",
        )
    if not generate and not 0 < len(reference) <= MAX_TEXT:
        raise UtrustError(
            f"ceremony_reference: the reference has {len(reference)} characters, 1 to {MAX_TEXT} are accepted. Nothing was checked. "
            "Set the reference of the key ceremony, such as the number of its record",
            code="option_invalid",
        )
    if fingerprint:
        parse_key_fingerprints("key_fingerprint", [fingerprint])


def find_ceremony_key(appliance: Appliance, options: EjbcaKeyOptions) -> dict[str, t.Any]:
    """Return the key that a key ceremony made on this node. Nothing is generated.

    Raises UtrustError (`key_not_found`, `alias_ambiguous`, `key_spec_mismatch`, `ceremony_key_mismatch`).
    """
    action = f"finding {options.alias} of the key ceremony {options.ceremony_reference!a} on {options.expect_node or 'the node'}"
    node = appliance.node()
    raise_for_problems(action, [*check_identity(node, options.expect_node), *check_complete_keys(node)])
    existing = _find_key(appliance, options, action)
    if existing is None:
        raise UtrustError(
            f"{action}: slot {options.slot} of the HSM holds no key with this alias. Nothing was generated. "
            "Check the alias, and set option slot to the slot of the crypto token",
            code="key_not_found",
        )
    _check_key_spec(existing, options, action)
    if options.key_fingerprint not in (None, existing.fingerprint):
        raise UtrustError(
            f"{action}: the HSM holds another key with this alias ({existing.fingerprint}), expected {options.key_fingerprint}. "
            "Compare the key fingerprint with the record of the ceremony. Do not use the key before the difference is clear",
            code="ceremony_key_mismatch",
            hsm_key=existing.to_dict(),
        )
    return {"changed": False, "hsm_key": existing.to_dict()}


def generate_key(
    appliance: Appliance, ejbca: EjbcaNode, options: EjbcaKeyOptions, *, dry_run: bool
) -> dict[str, t.Any]:
    """Generate the key unless the HSM holds a key with the alias. After a lost response, the HSM shows whether the key exists.

    Raises UtrustError (`key_spec_mismatch`, `alias_ambiguous`, `key_not_found`, `response_lost`).
    """
    action = f"generating {options.alias} in crypto token {options.crypto_token} of {options.expect_node or 'the node'}"
    node = appliance.node()
    raise_for_problems(action, [*check_identity(node, options.expect_node), *check_complete_keys(node)])
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
        # Curves have several names. Only a name of the form that the appliance reports can be compared, which a ceremony requires.
        comparable = options.ceremony_reference is not None or options.key_spec.startswith("P-")
        matches = existing.type == "ec" and (existing.curve == options.key_spec or not comparable)
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
    """Generate the key, predict it in check mode, or find the key of a ceremony. Raises UtrustError."""
    options = EjbcaKeyOptions.from_params(invocation.params)
    if options.ceremony_reference is not None:
        recorded = {"ceremony_reference": options.ceremony_reference}
        try:
            with open_appliance(invocation.params) as appliance:
                return {**find_ceremony_key(appliance, options), **recorded}
        except UtrustError as exc:
            exc.details.update(recorded)
            raise
    with open_appliance(invocation.params) as appliance, open_ejbca(invocation.params) as ejbca:
        return generate_key(appliance, ejbca, options, dry_run=invocation.check_mode)


OPERATION: t.Final = Operation("ejbca_key", ARGUMENT_SPEC, RULES, run, changes=lambda dummy: True)
