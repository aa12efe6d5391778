# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove whether a node can use keys: in its HSM, in its crypto token, by a signature. Private to keyops.utrust.

The operator names a key by its label, and the keys of the source make it exact. From then on, a key is its key fingerprint.
"""

from __future__ import annotations

import contextlib
import dataclasses as dc
import datetime
import secrets
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import UNKNOWN
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.argspec import ejbca_option
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.protocol import Profiles
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError, raise_for_problems
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import check_identity, read_keys
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.requested_keys import (
    PROOF_SPEC,
    ManualConfirmation,
    RequestedKey,
    check_proof_options,
    parse_time,
    resolve_keys,
)
from ansible_collections.keyops.utrust.plugins.module_utils._runner import (
    Invocation,
    Operation,
    Result,
    open_appliance,
    open_ejbca,
)
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance, ProgressCallback
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Params, Spec
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.protocol import EjbcaNode

LEVELS: t.Final = ("hsm", "token", "sign")


ARGUMENT_SPEC: t.Final[Spec] = {
    "ejbca": ejbca_option(required=False),
    # Key fingerprints and labels are public.
    "hsm_keys": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "no_log": False,
        "options": {
            "label": {"type": "str", "required": True},
            "fingerprint": {"type": "str"},
            "slot": {"type": "int"},
            "ca": {"type": "str"},
        },
    },
    "source_keys": {"type": "list", "elements": "dict", "no_log": False},
    "key_arrivals": {"type": "dict", "default": {}, "no_log": False},
    "level": {"type": "str", "choices": list(LEVELS), "default": "sign"},
    **PROOF_SPEC,
}
RULES: t.Final[Spec] = {"required_if": [("reactivate", True, ("crypto_token",))]}


@dc.dataclass(frozen=True)
class ProofOptions:
    """Options of the module.

    `reactivate` allows the operation to activate the crypto token again.
    At level token the activation is the proof. At level sign the operation activates the token only if a signature fails.
    """

    expect_node: str | None
    level: str
    keys: tuple[RequestedKey, ...]
    crypto_token: str | None
    reactivate: bool
    profiles: Profiles
    manual_confirmations: tuple[ManualConfirmation, ...]
    patience: WaitOptions
    #: When each key arrived on this node, by key fingerprint, as far as that is known.
    arrivals: t.Mapping[str, datetime.datetime] = dc.field(default_factory=dict)

    @classmethod
    def from_params(cls, params: Params) -> ProofOptions:
        """Return the options from validated parameters. Raises UtrustError (`option_invalid`, `key_not_on_source`)."""
        if params["reactivate"] and params["level"] != "hsm" and not params["ejbca"]:
            raise UtrustError(
                "reactivate: option ejbca is missing. Set ejbca, or reactivate: false", code="option_invalid"
            )
        return cls(
            expect_node=params["expect_node"],
            level=params["level"],
            keys=resolve_keys(params["hsm_keys"], params["source_keys"]),
            crypto_token=params["crypto_token"],
            reactivate=params["reactivate"],
            profiles=Profiles(params["certificate_profile"], params["end_entity_profile"]),
            manual_confirmations=check_proof_options(params),
            patience=WaitOptions(params["wait_timeout"]),
            arrivals=_parse_arrivals(params["key_arrivals"]),
        )


def _parse_arrivals(given: t.Mapping[str, t.Any]) -> dict[str, datetime.datetime]:
    """Raises UtrustError (`option_invalid`)."""
    try:
        return {fingerprint: parse_time(str(time)) for fingerprint, time in given.items()}
    except (ValueError, OverflowError) as exc:
        raise UtrustError(
            f"key_arrivals: {given!r:.200} has a value that is not a time with a zone. Correct the times",
            code="option_invalid",
        ) from exc


class KeyResult(t.NamedTuple):
    """The result for one key. `reached` is the highest level that is proven or confirmed. `passed` None: unknown in check mode."""

    fingerprint: str
    label: str
    slot: int
    reached: str
    passed: bool | None
    detail: str


def prove_keys(
    appliance: Appliance, ejbca: EjbcaNode | None, options: ProofOptions, *, dry_run: bool, progress: ProgressCallback
) -> dict[str, t.Any]:
    """Return one result a key, as soon as all keys pass or the time is over.

    A key that does not pass is a result and not an error. The caller decides whether to fail.
    """
    tester = _KeyTester(appliance, ejbca, options, dry_run)
    patience = options.patience
    started, last_line = patience.clock(), ""
    while True:
        results = tester.test_keys()
        failed = [result for result in results if result.passed is False]
        if not failed or dry_run or patience.clock() - started + patience.interval > patience.timeout:
            break
        if (line := ", ".join(f"{result.label} ({result.detail})" for result in failed)) != last_line:
            last_line = line
            progress(
                f"{options.expect_node}: waiting for level {options.level} for up to {patience.timeout:g} s: {line}"
            )
        patience.sleep(patience.interval)
    unknown = any(result.passed is None for result in results)
    return {
        "changed": tester.reactivated or (dry_run and options.reactivate and options.level != "hsm" and unknown),
        "proof": [result._asdict() for result in results],
        "passed": None if unknown and not failed else not failed,
        "reactivated": tester.reactivated,
        "certificates": tester.certificates,
    }


class _KeyTester:
    """Tests all keys once per `test_keys`. A proven key is not tested again."""

    def __init__(self, appliance: Appliance, ejbca: EjbcaNode | None, options: ProofOptions, dry_run: bool) -> None:
        self._appliance, self._ejbca = appliance, ejbca
        self._options, self._dry_run = options, dry_run
        self._node = options.expect_node or ""
        self._proven: dict[str, KeyResult] = {}
        # One end entity a run, even if the run repeats the test.
        self._username = f"key-gate-{secrets.token_hex(8)}"
        self.reactivated = False
        self.certificates: list[dict[str, str]] = []

    def test_keys(self) -> list[KeyResult]:
        """Return one result a key. A node that cannot be read fails every key."""
        try:
            hsm_keys = self._hsm_keys_by_label()
        except UtrustError as exc:
            return [
                self._result(key, "none", False, f"the node could not be read: {exc}") for key in self._options.keys
            ]
        return [self._test_key(key, hsm_keys) for key in self._options.keys]

    def _hsm_keys_by_label(self) -> dict[str, list[HsmKey]]:
        node = self._appliance.node()
        raise_for_problems(
            f"reading {self._options.expect_node or 'the node'}", check_identity(node, self._options.expect_node)
        )
        self._node = node.name
        hsm_keys: dict[str, list[HsmKey]] = {}
        for key in read_keys(self._appliance, node.name):
            hsm_keys.setdefault(key.label, []).append(key)
        return hsm_keys

    def _test_key(self, requested: RequestedKey, hsm_keys: dict[str, list[HsmKey]]) -> KeyResult:
        if result := self._proven.get(requested.fingerprint):
            return result
        result = self._test_hsm(requested, hsm_keys.get(requested.label, []))
        if result.passed and self._options.level != "hsm":
            result = self._test_level(requested)
        if result.passed:
            self._proven[requested.fingerprint] = result
        return result

    def _test_hsm(self, requested: RequestedKey, same_label: list[HsmKey]) -> KeyResult:
        in_slot = [key for key in same_label if key.slot == requested.slot]
        same = [key for key in in_slot if key.fingerprint == requested.fingerprint]
        if not in_slot:
            return self._result(requested, "none", False, "the key is not in the HSM")
        if requested.fingerprint == UNKNOWN:
            detail = "the source cannot determine the key fingerprint, so the key cannot be recognized"
            return self._result(requested, "none", False, detail)
        if not same:
            others = ", ".join(key.fingerprint for key in in_slot)
            return self._result(requested, "none", False, f"the HSM holds another key with this label ({others})")
        if len(in_slot) > 1:
            detail = f"the HSM holds {len(in_slot)} keys with this label. Which key EJBCA uses is undefined"
            return self._result(requested, "none", False, detail)
        if not same[0].usable:
            detail = "the key is in the HSM but cannot be used: its slot is not activated or its objects are incomplete"
            return self._result(requested, "none", False, detail)
        return self._result(requested, "hsm", True, "the key is in the HSM")

    def _test_level(self, requested: RequestedKey) -> KeyResult:
        level = self._options.level
        arrival, refused = self._options.arrivals.get(requested.fingerprint), ""
        for confirmation in self._options.manual_confirmations:
            if confirmation.covers(self._node, requested):
                refused = confirmation.why_not(arrival, datetime.datetime.now(datetime.UTC))
                if not refused:
                    return self._result(requested, level, True, str(confirmation))
        if refused:
            return self._result(requested, "hsm", False, f"{refused}. Test the key on this node again")
        if self._ejbca is None:
            detail = f"level {level} cannot be proven without EJBCA. Set option ejbca, or confirm the key manually"
            return self._result(requested, "hsm", False, detail)
        if self._dry_run:
            detail = f"the key is in the HSM. Check mode cannot prove level {level}"
            return self._result(requested, "hsm", None, detail)
        try:
            return self._prove_sign(requested) if level == "sign" or requested.ca else self._prove_token(requested)
        except UtrustError as exc:
            return self._result(requested, "hsm", False, str(exc))

    def _prove_token(self, requested: RequestedKey) -> KeyResult:
        if not self._options.reactivate:
            detail = (
                "EJBCA does not report the keys of a crypto token. Set reactivate, set ca, or confirm the key manually"
            )
            return self._result(requested, "hsm", False, detail)
        self._reactivate()
        detail = "EJBCA activated the crypto token again after the key was in the HSM"
        return self._result(requested, "token", True, detail)

    def _prove_sign(self, requested: RequestedKey) -> KeyResult:
        if requested.ca is None:
            detail = "no CA uses this key, so no test certificate can be issued. Set ca, or confirm the key manually"
            return self._result(requested, "hsm", False, detail)
        try:
            return self._test_certificate(requested, requested.ca)
        except UtrustError:
            if not self._options.reactivate or self.reactivated:
                raise
        self._reactivate()
        return self._test_certificate(requested, requested.ca)

    def _test_certificate(self, requested: RequestedKey, ca: str) -> KeyResult:
        ejbca = t.cast("EjbcaNode", self._ejbca)
        issued = ejbca.issue_test_certificate(ca, self._options.profiles, self._username)
        self.certificates.append({"ca": ca, "serial_number": issued.serial_number, "username": self._username})
        if issued.signed_by != requested.fingerprint:
            detail = f"CA {ca} signs with another key on this node ({issued.signed_by})"
            return self._result(requested, "hsm", False, detail)
        detail = f"certificate {issued.serial_number} of CA {ca} verifies with this key"
        return self._result(requested, "sign", True, detail)

    def _reactivate(self) -> None:
        """Activate the crypto token again, at most once a run.

        Raises UtrustError (`crypto_token_offline`) at once if the token stays offline: its CAs are then down on this node.
        """
        if self.reactivated:
            return
        ejbca, name = t.cast("EjbcaNode", self._ejbca), self._options.crypto_token or ""
        before = ejbca.health()
        ejbca.reactivate(name)
        self.reactivated = True
        after = ejbca.health()
        if before is None and after is not None:
            raise UtrustError(
                f"activating crypto token {name} of {self._options.expect_node} again: the token stayed offline ({after}). "
                "It has no auto-activation, and its CAs are down on this node. "
                "Activate the crypto token in EJBCA's Admin Web now, and set reactivate: false",
                code="crypto_token_offline",
            )

    def _result(self, requested: RequestedKey, reached: str, passed: bool | None, detail: str) -> KeyResult:
        return KeyResult(requested.fingerprint, requested.label, requested.slot, reached, passed, detail)


def run(invocation: Invocation) -> Result:
    """Test the keys. Raises UtrustError."""
    params = invocation.params
    options = ProofOptions.from_params(params)
    with contextlib.ExitStack() as stack:
        appliance = stack.enter_context(open_appliance(params))
        ejbca = stack.enter_context(open_ejbca(params)) if params["ejbca"] else None
        return prove_keys(appliance, ejbca, options, dry_run=invocation.check_mode, progress=invocation.progress)


# Above level hsm, the operation issues certificates, and can activate crypto tokens.
OPERATION: t.Final = Operation("utrust_key_proof", ARGUMENT_SPEC, RULES, run, changes=lambda o: o.get("level") != "hsm")
