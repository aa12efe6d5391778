# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a node can use a key: in its HSM, seen by its crypto token, proven by a signature. Private to keyops.utrust."""

from __future__ import annotations

import contextlib
import dataclasses as dc
import secrets
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.argspec import ejbca_option
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.protocol import Profiles
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError, raise_for_problems
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import check_identity
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
    # Public facts about keys, not keys.
    "hsm_keys": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "no_log": False,
        "options": {
            "fingerprint": {"type": "str", "required": True},
            "label": {"type": "str", "required": True},
            "slot": {"type": "int", "required": True},
            "ca": {"type": "str"},
        },
    },
    "level": {"type": "str", "choices": list(LEVELS), "default": "sign"},
    "crypto_token": {"type": "str", "no_log": False},
    "reactivate": {"type": "bool", "default": False},
    "certificate_profile": {"type": "str", "default": "ENDUSER"},
    "end_entity_profile": {"type": "str", "default": "EMPTY"},
    "manual_confirmations": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "key": {"type": "str", "required": True, "no_log": False},
            "confirmed_by": {"type": "str", "required": True},
            "reason": {"type": "str", "required": True},
        },
    },
    "wait_timeout": {"type": "float", "default": 0.0},
}
RULES: t.Final[Spec] = {"required_if": [("reactivate", True, ("crypto_token", "ejbca"))]}


class WantedKey(t.NamedTuple):
    """A key by fingerprint, and the CA (if any) that has it as its current key: a certificate of that CA proves a signature."""

    fingerprint: str
    label: str
    slot: int
    ca: str | None


class ManualConfirmation(t.NamedTuple):
    """A person's word for one key, where no program can prove the level."""

    key: str
    confirmed_by: str
    reason: str

    def __str__(self) -> str:
        return f"confirmed by {self.confirmed_by}: {self.reason}"


@dc.dataclass(frozen=True)
class ProofOptions:
    """`reactivate` allows to activate the crypto token again: at level token it is the proof, at level sign what is action where a signature fails."""

    expect_node: str | None
    level: str
    wanted: tuple[WantedKey, ...]
    crypto_token: str | None
    reactivate: bool
    profiles: Profiles
    manual_confirmations: tuple[ManualConfirmation, ...]
    patience: WaitOptions

    @classmethod
    def from_params(cls, params: Params) -> ProofOptions:
        """Raises UtrustError (`option_invalid`)."""
        confirmations = tuple(
            ManualConfirmation(given["key"], given["confirmed_by"].strip(), given["reason"].strip())
            for given in params["manual_confirmations"]
        )
        if any(not given.confirmed_by or not given.reason for given in confirmations):
            raise UtrustError(
                "manual_confirmations: confirmed_by or reason is blank. Set both in every entry", code="option_invalid"
            )
        return cls(
            expect_node=params["expect_node"],
            level=params["level"],
            wanted=tuple(
                WantedKey(key["fingerprint"], key["label"], key["slot"], key["ca"] or None)
                for key in params["hsm_keys"]
            ),
            crypto_token=params["crypto_token"],
            reactivate=params["reactivate"],
            profiles=Profiles(params["certificate_profile"], params["end_entity_profile"]),
            manual_confirmations=confirmations,
            patience=WaitOptions(params["wait_timeout"]),
        )


@dc.dataclass(frozen=True)
class Row:
    """One key on this node. `reached` is the highest level that is proven or confirmed; `passed` None is "nobody can know in check mode"."""

    fingerprint: str
    label: str
    slot: int
    reached: str
    passed: bool | None
    detail: str

    def to_dict(self) -> dict[str, t.Any]:
        return dc.asdict(self)


def prove_keys(
    appliance: Appliance, ejbca: EjbcaNode | None, options: ProofOptions, *, dry_run: bool, progress: ProgressCallback
) -> dict[str, t.Any]:
    """One row a key, as soon as all pass or the time is over. Not to pass is a result, no error; who calls decides what it means."""
    tester = _KeyTester(appliance, ejbca, options, dry_run)
    patience = options.patience
    started, said = patience.clock(), ""
    while True:
        rows = tester.rows()
        open_rows = [row for row in rows if row.passed is False]
        if not open_rows or dry_run or patience.clock() - started + patience.interval > patience.timeout:
            break
        if (now := "; ".join(f"{row.label}: {row.detail}" for row in open_rows)) != said:
            said = now
            progress(
                f"{options.expect_node}: waiting for level {options.level} for up to {patience.timeout:g} s: {now}"
            )
        patience.sleep(patience.interval)
    unknown = any(row.passed is None for row in rows)
    return {
        "changed": tester.reactivated or (dry_run and options.reactivate and options.level != "hsm" and unknown),
        "proof": [row.to_dict() for row in rows],
        "passed": None if unknown and not open_rows else not open_rows,
        "reactivated": tester.reactivated,
        "certificates": tester.certificates,
    }


class _KeyTester:
    """Tries once per `rows`; what is proven stays proven."""

    def __init__(self, appliance: Appliance, ejbca: EjbcaNode | None, options: ProofOptions, dry_run: bool) -> None:
        self._appliance, self._application = appliance, ejbca
        self._options, self._dry_run = options, dry_run
        self._confirmed = {confirmation.key: confirmation for confirmation in options.manual_confirmations}
        self._proven: dict[str, Row] = {}
        self._username = f"key-gate-{secrets.token_hex(8)}"  # one end entity a run, however often it tries
        self.reactivated = False
        self.certificates: list[dict[str, str]] = []

    def rows(self) -> list[Row]:
        try:
            held = self._held()
        except UtrustError as exc:
            return [self._row(key, "none", False, f"the node could not be read: {exc}") for key in self._options.wanted]
        return [self._settle(key, held) for key in self._options.wanted]

    def _held(self) -> dict[str, list[HsmKey]]:
        node = self._appliance.node()
        raise_for_problems(
            f"reading {self._options.expect_node or 'the node'}", check_identity(node, self._options.expect_node)
        )
        held: dict[str, list[HsmKey]] = {}
        for key in self._appliance.list_keys():
            held.setdefault(key.label, []).append(key)
        return held

    def _settle(self, wanted: WantedKey, held: dict[str, list[HsmKey]]) -> Row:
        if row := self._proven.get(wanted.fingerprint):
            return row
        row = self._hsm(wanted, held.get(wanted.label, []))
        if row.passed and self._options.level != "hsm":
            row = self._test_level(wanted)
        if row.passed:
            self._proven[wanted.fingerprint] = row
        return row

    def _hsm(self, wanted: WantedKey, held: list[HsmKey]) -> Row:
        here = [key for key in held if key.slot == wanted.slot]
        same = [key for key in here if key.fingerprint == wanted.fingerprint]
        if not here:
            return self._row(wanted, "none", False, "the key is not in the HSM")
        if not same:
            others = ", ".join(key.fingerprint for key in here)
            return self._row(wanted, "none", False, f"the HSM holds another key under that label ({others})")
        if len(here) > 1:
            return self._row(
                wanted,
                "none",
                False,
                f"the HSM holds {len(here)} keys under that label, and an ejbca takes any of them",
            )
        if not same[0].usable:
            return self._row(
                wanted,
                "none",
                False,
                "the key is in the HSM, but cannot be used: slot not activated, or objects incomplete",
            )
        return self._row(wanted, "hsm", True, "in the HSM")

    def _test_level(self, wanted: WantedKey) -> Row:
        level = self._options.level
        if confirmation := self._confirmed.get(wanted.fingerprint):
            return self._row(wanted, level, True, str(confirmation))
        if self._application is None:
            return self._row(wanted, "hsm", False, f"level {level} cannot be proven without a connection to EJBCA")
        if self._dry_run:
            return self._row(
                wanted,
                "hsm",
                None,
                f"in the HSM; whether it reaches level {level} shows only in a run that may change something",
            )
        try:
            return self._sign(wanted) if level == "sign" or wanted.ca else self._token(wanted)
        except UtrustError as exc:
            return self._row(wanted, "hsm", False, str(exc))

    def _token(self, wanted: WantedKey) -> Row:
        if not self._options.reactivate:
            text = "EJBCA does not tell which keys a crypto token sees: allow to activate it again, name a CA that has this key, or confirm it manually"
            return self._row(wanted, "hsm", False, text)
        self._reactivate()
        return self._row(wanted, "token", True, "the crypto token was activated again after the key was in the HSM")

    def _sign(self, wanted: WantedKey) -> Row:
        if wanted.ca is None:
            return self._row(
                wanted,
                "hsm",
                False,
                "no CA has this key, so that no signature of it can be had: name one, or confirm it manually",
            )
        try:
            return self._certificate(wanted, wanted.ca)
        except UtrustError:
            if not self._options.reactivate or self.reactivated:
                raise
        self._reactivate()
        return self._certificate(wanted, wanted.ca)

    def _certificate(self, wanted: WantedKey, ca: str) -> Row:
        ejbca = t.cast("EjbcaNode", self._application)
        made = ejbca.issue_test_certificate(ca, self._options.profiles, self._username)
        self.certificates.append({"ca": ca, "serial_number": made.serial_number, "username": self._username})
        if made.signed_by != wanted.fingerprint:
            return self._row(wanted, "hsm", False, f"CA {ca} signs with another key here ({made.signed_by})")
        return self._row(wanted, "sign", True, f"certificate {made.serial_number} of CA {ca} verifies under this key")

    def _reactivate(self) -> None:
        """Once a run. A token that stays offline is told at once: its CAs are down on this node until somebody activates it."""
        if self.reactivated:
            return
        ejbca, name = t.cast("EjbcaNode", self._application), self._options.crypto_token or ""
        before = ejbca.health()
        ejbca.reactivate(name)
        self.reactivated = True
        after = ejbca.health()
        if before is None and after is not None:
            raise UtrustError(
                f"activating crypto token {name} of {self._options.expect_node} again: it stayed offline ({after}), so it has no auto-activation. "
                "Its CAs are down on this node: activate it in EJBCA's Admin Web now, and do not allow reactivation by program",
                code="crypto_token_offline",
            )

    def _row(self, wanted: WantedKey, reached: str, passed: bool | None, detail: str) -> Row:
        return Row(wanted.fingerprint, wanted.label, wanted.slot, reached, passed, detail)


def run(invocation: Invocation) -> Result:
    params = invocation.params
    options = ProofOptions.from_params(params)
    with contextlib.ExitStack() as stack:
        appliance = stack.enter_context(open_appliance(params))
        ejbca = stack.enter_context(open_ejbca(params)) if params["ejbca"] else None
        return prove_keys(appliance, ejbca, options, dry_run=invocation.check_mode, progress=invocation.progress)


OPERATION: t.Final = Operation("utrust_key_proof", ARGUMENT_SPEC, RULES, run)
