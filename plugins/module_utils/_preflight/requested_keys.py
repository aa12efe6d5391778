# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys that an operator names, found among the keys of the source. Private to keyops.utrust."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._argspec import parse_key_fingerprints
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_TESTED_KEYS, MAX_TIMEOUT
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Params, Spec

#: Marks of keys that never sign a test certificate, and of keys that never make a test signature.
NO_CERTIFICATE: t.Final = ("public_trust", "qualified")
NO_SIGN_TEST: t.Final = (*NO_CERTIFICATE, "root", "offline", "needs_authorization", "sole_control")
#: A key that an operator names. Key fingerprints and labels are public.
KEY_SPEC: t.Final[Spec] = {
    "label": {"type": "str", "required": True},
    "fingerprint": {"type": "str"},
    "slot": {"type": "int"},
    "ca": {"type": "str"},
    "crypto_token": {"type": "str", "no_log": False},
    "sign_test": {"type": "bool", "default": False},
    **{mark: {"type": "bool", "default": False} for mark in NO_SIGN_TEST},
}
#: How keys are proven. utrust_gate_plan has these options, too, and checks them before a key is generated.
PROOF_SPEC: t.Final[Spec] = {
    "crypto_token": {"type": "str", "no_log": False},
    "ejbca_view": {"type": "bool", "default": False},
    "ejbca_view_timeout": {"type": "float", "default": 150.0},
    "reactivate": {"type": "bool", "default": False},
    "reactivation_affects": {
        "type": "dict",
        "options": {
            "crypto_tokens": {"type": "list", "elements": "str", "required": True, "no_log": False},
            "cas": {"type": "list", "elements": "str", "required": True},
            "key_bindings": {"type": "list", "elements": "str", "required": True, "no_log": False},
        },
    },
    "proof_certificates": {"type": "bool", "default": False},
    "certificate_profile": {"type": "str", "default": "ENDUSER"},
    "end_entity_profile": {"type": "str", "default": "EMPTY"},
    "manual_confirmations": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "node": {"type": "str", "required": True},
            "key": {"type": "str", "required": True, "no_log": False},
            "time": {"type": "str", "required": True},
            "confirmed_by": {"type": "str", "required": True},
            "reason": {"type": "str", "required": True},
        },
    },
    "wait_timeout": {"type": "float", "default": 0.0},
}


class RequestedKey(t.NamedTuple):
    """A key by its key fingerprint. `ca` is a CA whose current key it is: a certificate of this CA proves a signature.

    `crypto_token` is the crypto token in whose EJBCA view the key is, and `sign_test` allows test signatures of the health check.
    The other members mark keys that sign no test certificate (NO_CERTIFICATE) or make no test signature (NO_SIGN_TEST).
    """

    fingerprint: str
    label: str
    slot: int
    ca: str | None
    public_trust: bool = False
    qualified: bool = False
    root: bool = False
    offline: bool = False
    needs_authorization: bool = False
    sole_control: bool = False
    crypto_token: str | None = None
    sign_test: bool = False


class ManualConfirmation(t.NamedTuple):
    """The confirmation of a person for a key that no program can prove. `key` is the key fingerprint, `time` when the person tested the key."""

    node: str
    key: str
    time: datetime.datetime
    confirmed_by: str
    reason: str

    def covers(self, node: str, key: RequestedKey) -> bool:
        return (self.node, self.key) == (node, key.fingerprint)

    def why_not(self, arrival: datetime.datetime | None, now: datetime.datetime) -> str:
        """Return why the confirmation does not count, or an empty text. `arrival` is when the key arrived on the node, if that is known."""
        if arrival is not None and self.time <= arrival:
            return f"{self.confirmed_by} confirmed the key at {self.time.isoformat()}, but it arrived on this node at {arrival.isoformat()}"
        if self.time > now + MAX_CLOCK_DIFFERENCE:
            return f"{self.confirmed_by} confirmed the key at {self.time.isoformat()}, which is in the future"
        return ""

    def __str__(self) -> str:
        return f"confirmed by {self.confirmed_by} at {self.time.isoformat()}: {self.reason}"


#: The clock of a person can be ahead of the clock of this machine.
MAX_CLOCK_DIFFERENCE: t.Final = datetime.timedelta(minutes=5)


def parse_time(text: str) -> datetime.datetime:
    """Return a time with its zone. YAML converts a time without quotes, so both forms are accepted. Raises ValueError."""
    time = datetime.datetime.fromisoformat(text.strip())
    if time.tzinfo is None:
        raise ValueError("the time has no zone")
    return time.astimezone(datetime.UTC)


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
    # An operator writes a label as the HSM stores it, or as results show it.
    named = present["label"] in (key["label"], escape_unprintable(key["label"]))
    return named and present["fingerprint"] == fingerprint and slot in (None, present["slot"])


def _requested(present: t.Mapping[str, t.Any], key: t.Mapping[str, t.Any]) -> RequestedKey:
    return RequestedKey(
        present["fingerprint"],
        present["label"],
        int(present["slot"]),
        key.get("ca") or None,
        crypto_token=key.get("crypto_token") or None,
        sign_test=bool(key.get("sign_test")),
        **{mark: bool(key.get(mark)) for mark in NO_SIGN_TEST},
    )


def check_proof_options(params: Params) -> tuple[ManualConfirmation, ...]:
    """Check the options of PROOF_SPEC, and return the confirmations. Raises UtrustError (`option_invalid`, `proof_not_allowed`)."""
    _check_proof_certificates(params)
    _check_sign_tests(params)
    _check_view_options(params)
    confirmations = tuple(_confirmation(given) for given in params["manual_confirmations"])
    if params["reactivate"] and not params["crypto_token"]:
        raise UtrustError(
            "reactivate: option crypto_token is missing. Set the name of the crypto token", code="option_invalid"
        )
    if not params["wait_timeout"] >= 0:
        raise UtrustError(
            f"wait_timeout: {params['wait_timeout']:g} is invalid. Set 0 or more seconds", code="option_invalid"
        )
    return confirmations


def _check_proof_certificates(params: Params) -> None:
    """Refuse test certificates that the operator has not allowed, or that nobody may allow. Raises UtrustError (`proof_not_allowed`)."""
    for key in params["hsm_keys"]:
        marks = [mark for mark in NO_CERTIFICATE if key.get(mark)]
        if key.get("ca") and marks:
            raise UtrustError(
                f"hsm_keys: {key['label']}: the key is marked {' and '.join(marks)}, so it must not sign a test certificate. Nothing was done. "
                "Remove ca, and confirm the key manually",
                code="proof_not_allowed",
            )
        if key.get("ca") and not params["proof_certificates"]:
            raise UtrustError(
                f"hsm_keys: {key['label']}: CA {key['ca']} would issue a test certificate, but proof_certificates is false. Nothing was done. "
                "Ask your auditors, then set proof_certificates: true. Or remove ca, and confirm the key manually",
                code="proof_not_allowed",
            )


def _check_sign_tests(params: Params) -> None:
    """Refuse test signatures of keys that must not make one. Raises UtrustError (`option_invalid`, `proof_not_allowed`)."""
    tested = [key for key in params["hsm_keys"] if key.get("sign_test")]
    for key in tested:
        if marks := [mark for mark in NO_SIGN_TEST if key.get(mark)]:
            raise UtrustError(
                f"hsm_keys: {key['label']}: the key is marked {' and '.join(marks)}, so it must not make a test signature. Nothing was done. "
                "Remove sign_test, and confirm the key manually",
                code="proof_not_allowed",
            )
    if len(tested) > MAX_TESTED_KEYS:
        raise UtrustError(
            f"hsm_keys: {len(tested)} keys have sign_test, at most {MAX_TESTED_KEYS} are accepted. Nothing was done. Test fewer keys",
            code="option_invalid",
        )
    if tested and not params["ejbca_view"]:
        raise UtrustError(
            f"hsm_keys: {tested[0]['label']}: sign_test requires ejbca_view: true, because a test signature does not show which key signed. "
            "Nothing was done. Set ejbca_view, or remove sign_test",
            code="option_invalid",
        )


def _check_view_options(params: Params) -> None:
    """Raises UtrustError (`option_invalid`)."""
    problem = ""
    unnamed = [key["label"] for key in params["hsm_keys"] if not (key.get("crypto_token") or params["crypto_token"])]
    if params["ejbca_view"] and unnamed:
        problem = f"ejbca_view: crypto_token is missing for {', '.join(unnamed)}. Set the name of the crypto token"
    elif params["reactivate"] and not params["ejbca_view"]:
        problem = (
            "reactivate: ejbca_view is false. The role reactivates a crypto token only if the EJBCA view shows its auto-activation. "
            "Set ejbca_view: true, or reactivate: false"
        )
    elif params["reactivate"] and params["reactivation_affects"] is None:
        problem = (
            "reactivate: reactivation_affects is missing. Name all crypto_tokens, cas and key_bindings on the slot of the crypto token. "
            "An empty list declares that nothing uses the slot"
        )
    elif not 0 <= params["ejbca_view_timeout"] <= MAX_TIMEOUT:
        problem = f"ejbca_view_timeout: {params['ejbca_view_timeout']:g} is invalid. Set 0 to {MAX_TIMEOUT:g} seconds"
    if problem:
        raise UtrustError(f"{problem}. Nothing was done", code="option_invalid")


def _confirmation(given: t.Mapping[str, t.Any]) -> ManualConfirmation:
    """Raises UtrustError (`option_invalid`)."""
    confirmed_by, reason = given["confirmed_by"].strip(), given["reason"].strip()
    if not confirmed_by or not reason:
        raise UtrustError(
            "manual_confirmations: confirmed_by or reason is blank. Set both in every entry", code="option_invalid"
        )
    [key] = parse_key_fingerprints("manual_confirmations", [given["key"]])
    try:
        time = parse_time(given["time"])
    except (ValueError, OverflowError) as exc:
        raise UtrustError(
            f"manual_confirmations: {given['time']!a:.80} is not a time with a zone, such as 2026-11-23T13:00:00Z. Correct the time",
            code="option_invalid",
        ) from exc
    return ManualConfirmation(given["node"], key, time, confirmed_by, reason)
