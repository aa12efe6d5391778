# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys that an operator names, found among the keys of the source. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Params, Spec

#: How keys are proven. utrust_gate_plan has these options, too, and checks them before a key is generated.
PROOF_SPEC: t.Final[Spec] = {
    "crypto_token": {"type": "str", "no_log": False},
    "reactivate": {"type": "bool", "default": False},
    "certificate_profile": {"type": "str", "default": "ENDUSER"},
    "end_entity_profile": {"type": "str", "default": "EMPTY"},
    "manual_confirmations": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "node": {"type": "str", "required": True},
            "key": {"type": "str", "required": True, "no_log": False},
            "confirmed_by": {"type": "str", "required": True},
            "reason": {"type": "str", "required": True},
        },
    },
    "wait_timeout": {"type": "float", "default": 0.0},
}


class RequestedKey(t.NamedTuple):
    """A key by its key fingerprint. `ca` is a CA whose current key it is: a certificate of this CA proves a signature."""

    fingerprint: str
    label: str
    slot: int
    ca: str | None


class ManualConfirmation(t.NamedTuple):
    """The confirmation of a person for a key that no program can prove. `key` is its label or its key fingerprint."""

    node: str
    key: str
    confirmed_by: str
    reason: str

    def covers(self, node: str, key: RequestedKey) -> bool:
        return self.node == node and self.key in (key.label, key.fingerprint)

    def __str__(self) -> str:
        return f"confirmed by {self.confirmed_by}: {self.reason}"


def resolve_keys(
    requested: t.Sequence[t.Mapping[str, t.Any]], source_keys: t.Sequence[t.Mapping[str, t.Any]] | None
) -> tuple[RequestedKey, ...]:
    """Find each requested key among the keys of the source. A request names a label, and may name slot and key fingerprint.

    Without the keys of the source, each request must be complete. Raises UtrustError (`option_invalid`, `key_not_on_source`).
    """
    if not requested:
        raise UtrustError("hsm_keys: the list is empty. Name at least one key", code="option_invalid")
    if source_keys is None:
        incomplete = [key["label"] for key in requested if key.get("slot") is None or not key.get("fingerprint")]
        if incomplete:
            raise UtrustError(
                f"hsm_keys: {', '.join(incomplete)}: slot or fingerprint is missing. Set both, or set source_keys",
                code="option_invalid",
            )
        return tuple(_requested(key, key) for key in requested)
    found = [(key, [present for present in source_keys if _is_requested(present, key)]) for key in requested]
    unclear = [f"{key['label']} ({len(matching)} found)" for key, matching in found if len(matching) != 1]
    if unclear:
        raise UtrustError(
            f"{', '.join(unclear)}: the source does not hold exactly one key with this label, slot and key fingerprint. Nothing was checked. "
            "Correct the label, or add the slot or the key fingerprint",
            code="key_not_on_source",
        )
    return tuple(_requested(matching[0], key) for key, matching in found)


def _is_requested(present: t.Mapping[str, t.Any], key: t.Mapping[str, t.Any]) -> bool:
    slot, fingerprint = key.get("slot"), key.get("fingerprint") or present["fingerprint"]
    return (present["label"], present["fingerprint"]) == (key["label"], fingerprint) and slot in (None, present["slot"])


def _requested(present: t.Mapping[str, t.Any], key: t.Mapping[str, t.Any]) -> RequestedKey:
    return RequestedKey(present["fingerprint"], present["label"], int(present["slot"]), key.get("ca") or None)


def check_proof_options(params: Params) -> tuple[ManualConfirmation, ...]:
    """Check the options of PROOF_SPEC, and return the confirmations. Raises UtrustError (`option_invalid`)."""
    confirmations = tuple(
        ManualConfirmation(given["node"], given["key"], given["confirmed_by"].strip(), given["reason"].strip())
        for given in params["manual_confirmations"]
    )
    if any(not given.confirmed_by or not given.reason for given in confirmations):
        raise UtrustError(
            "manual_confirmations: confirmed_by or reason is blank. Set both in every entry", code="option_invalid"
        )
    if params["reactivate"] and not params["crypto_token"]:
        raise UtrustError(
            "reactivate: option crypto_token is missing. Set the name of the crypto token", code="option_invalid"
        )
    if not params["wait_timeout"] >= 0:
        raise UtrustError(
            f"wait_timeout: {params['wait_timeout']:g} is invalid. Set 0 or more seconds", code="option_invalid"
        )
    return confirmations
