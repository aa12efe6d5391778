# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test each requested key on one node, up to the level of the task. Private to keyops.utrust."""

from __future__ import annotations

import datetime
import secrets
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import UNKNOWN
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.key_view import why_not_reactivate
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import ViewProblem
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError, raise_for_problems
from ansible_collections.keyops.utrust.plugins.module_utils._operations.key_reactivation import (
    Reactivation,
    ReactivationError,
)
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import check_identity, read_keys
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.protocol import EjbcaNode
    from ansible_collections.keyops.utrust.plugins.module_utils._operations.key_proof import ProofOptions
    from ansible_collections.keyops.utrust.plugins.module_utils._operations.key_proof_view import KeySeen, ViewTester
    from ansible_collections.keyops.utrust.plugins.module_utils._preflight.requested_keys import RequestedKey


class KeyResult(t.NamedTuple):
    """The result for one key. `reached` is the highest level that is proven or confirmed. `passed` None: unknown in check mode.

    `method` made the decision, and `view` is the state of the key in the EJBCA view, or None.
    """

    fingerprint: str
    label: str
    slot: int
    reached: str
    passed: bool | None
    detail: str
    method: str
    view: str | None = None


class KeyTester:
    """Tests all keys once per `test_keys`. A proven key is not tested again."""

    def __init__(
        self,
        appliance: Appliance,
        ejbca: EjbcaNode | None,
        options: ProofOptions,
        dry_run: bool,
        view: ViewTester | None = None,
    ) -> None:
        self._appliance, self._ejbca, self._view = appliance, ejbca, view
        self._options, self._dry_run = options, dry_run
        self._node = options.expect_node or ""
        self._proven: dict[str, KeyResult] = {}
        # One end entity a run, even if the run repeats the test.
        self._username = f"key-gate-{secrets.token_hex(8)}"
        self._hsm_fingerprints: frozenset[str] = frozenset()
        #: Whether the keys of the node are those of its EJBCA view, and the HSM was not read.
        self._by_ejbca = False
        self._view_is_late = False
        #: Whether the view of a key can follow the HSM without a reactivation.
        self.view_can_follow = False
        self.reactivation = Reactivation(ejbca, options.crypto_token, options.expect_node, self._why_not_reactivate)
        self.certificates: list[dict[str, str]] = []

    def test_keys(self, *, view_is_late: bool = False) -> list[KeyResult]:
        """Return one result a key. A node that cannot be read fails every key.

        `view_is_late` is whether the time for a view to follow the HSM is over.
        """
        self._view_is_late, self.view_can_follow = view_is_late, False
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
        found = read_keys(self._appliance, node.name)
        self._by_ejbca = node.sees_only_ejbca
        self._hsm_fingerprints = frozenset(() if self._by_ejbca else (key.fingerprint for key in found))
        for key in found:
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
        if self._by_ejbca and self._options.level == "hsm":
            detail = "this transport does not read the HSM. Test level token or sign, with the EJBCA view"
            return self._result(requested, "none", False, detail)
        if not in_slot and self._by_ejbca:
            return self._result(requested, "none", False, "EJBCA of the node does not show the key")
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
        """Use the EJBCA view and the test signature first, then a test certificate, then people.

        A finding of a method is final. The next method is used only if a method says nothing about the key.
        """
        if self._view is None:
            return self._test_without_view(requested)
        seen, level = self._see(requested), self._options.level
        if level in (seen.reached, "token") and seen.state == "present":
            return self._result(requested, level, True, seen.detail, seen.method, seen.state)
        if seen.final:
            return self._result(requested, "hsm", False, seen.detail, seen.method, seen.state)
        if seen.undecided:
            return self._result(requested, seen.reached, None, seen.detail, seen.method, seen.state)
        other = self._test_without_view(requested)._replace(view=seen.state)
        if other.passed is not False:
            return other
        reached = seen.reached if other.reached == "hsm" and other.method != "certificate" else other.reached
        also = other.detail[:1].upper() + other.detail[1:]
        return other._replace(reached=reached, detail=f"{seen.detail}. {also}")

    def _see(self, requested: RequestedKey) -> KeySeen:
        """Return what the view shows. A view that is old is read again after a reactivation, if the options allow the reactivation."""
        view = t.cast("ViewTester", self._view)
        view.read(at_once=self._view_is_late)
        seen = view.test(requested, self._hsm_fingerprints, dry_run=self._dry_run)
        if seen.state == "inactive" and self._may_reactivate(requested) and not self._dry_run:
            self._reactivate_once()  # this fails by its conditions, so that the next node keeps its crypto token
        if seen.state != "stale":
            return seen
        if self._dry_run:
            return seen._replace(final=False, undecided=True)
        at_activation = view.reads_at_activation(requested)
        self.view_can_follow |= not at_activation
        if not (at_activation or self._view_is_late) or not self._may_reactivate(requested):
            return seen
        self._reactivate_once()
        view.read(at_once=True)
        return view.test(requested, self._hsm_fingerprints, dry_run=False)

    def _may_reactivate(self, requested: RequestedKey) -> bool:
        same = requested.crypto_token in (None, self._options.crypto_token)
        return same and self._options.reactivate and not self.reactivation.attempted

    def _test_without_view(self, requested: RequestedKey) -> KeyResult:
        """A test certificate decides if it was issued. Otherwise people decide."""
        by_certificate = self._test_ca(requested, requested.ca) if requested.ca else None
        if by_certificate is not None and (by_certificate.passed or by_certificate.method == "certificate"):
            return by_certificate
        by_people = self._test_confirmations(requested)
        if by_people is not None and (by_people.passed or by_certificate is None):
            return by_people
        if by_certificate is not None:
            return by_certificate
        detail = (
            "no CA uses this key, so no test certificate can be issued. Set sign_test, set ca and proof_certificates, or confirm the key manually"
            if self._options.level == "sign"
            else "EJBCA does not report the keys of a crypto token. Set ejbca_view, set ca and proof_certificates, or confirm the key manually"
        )
        return self._result(requested, "hsm", False, detail)

    def _test_confirmations(self, requested: RequestedKey) -> KeyResult | None:
        """Return None if nobody confirmed the key on this node."""
        arrival, refused = self._options.arrivals.get(requested.fingerprint), ""
        for confirmation in self._options.manual_confirmations:
            if confirmation.covers(self._node, requested):
                refused = confirmation.why_not(arrival, datetime.datetime.now(datetime.UTC))
                if not refused:
                    return self._result(requested, self._options.level, True, str(confirmation), "confirmation")
        if refused:
            return self._result(requested, "hsm", False, f"{refused}. Test the key on this node again")
        return None

    def _test_ca(self, requested: RequestedKey, ca: str) -> KeyResult:
        level = self._options.level
        if self._ejbca is None:
            detail = f"level {level} cannot be proven without EJBCA. Set option ejbca, or confirm the key manually"
            return self._result(requested, "hsm", False, detail)
        if self._dry_run:
            detail = f"the key is in the HSM. Check mode cannot prove level {level}"
            return self._result(requested, "hsm", None, detail)
        try:
            return self._prove_sign(requested, ca)
        except ReactivationError:
            raise
        except UtrustError as exc:
            return self._result(requested, "hsm", False, str(exc))

    def _prove_sign(self, requested: RequestedKey, ca: str) -> KeyResult:
        try:
            return self._test_certificate(requested, ca)
        except UtrustError:
            if not self._may_reactivate(requested):
                raise
        self._reactivate_once()
        return self._test_certificate(requested, ca)

    def _reactivate_once(self) -> None:
        """Raises ReactivationError, which ends the task: the next node must keep its crypto token."""
        if not self.reactivation.attempted:
            self.reactivation.run()
            if self._view is not None:
                self._view.expect_other_tests()

    def _why_not_reactivate(self) -> ViewProblem | None:
        if self._view is None:
            return None
        if self._view.view is None:
            return ViewProblem(
                "ejbca_view_unknown", "the EJBCA view of the node is unknown, so nobody knows the settings of the token"
            )
        return why_not_reactivate(
            self._view.view, escape_unprintable(self._options.crypto_token or ""), self._options.affected
        )

    def _test_certificate(self, requested: RequestedKey, ca: str) -> KeyResult:
        ejbca = t.cast("EjbcaNode", self._ejbca)
        issued = ejbca.issue_test_certificate(ca, self._options.profiles, self._username)
        self.certificates.append({"ca": ca, "serial_number": issued.serial_number, "username": self._username})
        if issued.signed_by != requested.fingerprint:
            detail = f"CA {ca} signs with another key on this node ({issued.signed_by})"
            return self._result(requested, "hsm", False, detail, "certificate")
        detail = f"certificate {issued.serial_number} of CA {ca} verifies with this key"
        return self._result(requested, "sign", True, detail, "certificate")

    def _result(
        self,
        requested: RequestedKey,
        reached: str,
        passed: bool | None,
        detail: str,
        method: str = "hsm",
        view: str | None = None,
    ) -> KeyResult:
        return KeyResult(requested.fingerprint, requested.label, requested.slot, reached, passed, detail, method, view)
