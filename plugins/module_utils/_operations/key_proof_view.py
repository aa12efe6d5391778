# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test keys of one node by its EJBCA view, and by test signatures of its health check. Private to keyops.utrust.

The view shows whether the node has the public key of the source, and the test whether the node can sign. Only both together prove level sign.
"""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.read import Selection, read_view
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.health import SignatureTester, refusal
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.identity import NodeIdentity, identity_problems
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.key_view import (
    READS_AT_ACTIVATION,
    KeyFound,
    KeyQuery,
    find_on_node,
    find_on_source,
    token_of,
)
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable, unescape_printable

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.client import AdminWeb
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.health import SignatureTest
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import EjbcaView
    from ansible_collections.keyops.utrust.plugins.module_utils._operations.key_proof import ProofOptions
    from ansible_collections.keyops.utrust.plugins.module_utils._preflight.requested_keys import RequestedKey

#: Seconds between two readings of a view. Each page is a record in the audit log of EJBCA.
READ_INTERVAL: t.Final = 10.0
FAILING: t.Final = "token_activation_failing"


class KeySeen(t.NamedTuple):
    """What view and test show of a key.

    `final` is whether nothing else may prove the key, and `undecided` whether only a run without check mode can decide.
    """

    state: str
    reached: str
    detail: str
    final: bool
    method: str = "view"
    undecided: bool = False


class ViewTester:
    """The EJBCA view of one node in one task, read again after some seconds. A view that spends PIN tries is read once."""

    def __init__(self, admin_web: AdminWeb, port: int, options: ProofOptions) -> None:
        self._admin_web, self._port, self._options = admin_web, port, options
        self._tester = SignatureTester(admin_web.client, lambda: admin_web.check_node(self._host_name))
        self._tests: dict[tuple[str, str], SignatureTest] = {}
        #: All tests of this task, because EJBCA keeps no record of them.
        self.tests_made: list[dict[str, t.Any]] = []
        self._read_at: float | None = None
        self.view: EjbcaView | None = None
        self._identity: NodeIdentity | None = None
        self._problem: str | None = None
        self._failing = self._listed_in_vain = False

    def query(self, key: RequestedKey) -> KeyQuery:
        token = key.crypto_token or self._options.crypto_token or ""
        return KeyQuery(key.fingerprint, key.label, escape_unprintable(token))

    def read(self, *, at_once: bool = False) -> None:
        """Read the view, unless it was read some seconds ago or reading it again would spend PIN tries."""
        now = self._options.patience.clock()
        recent = self._read_at is not None and now - self._read_at < READ_INTERVAL
        if self._failing or self._listed_in_vain or (recent and not at_once):
            return
        names = frozenset(self.query(key).crypto_token for key in self._options.keys)
        self._admin_web.listed = False
        try:
            self.view, self._problem = read_view(self._admin_web, Selection(names)), None
        except UtrustError as exc:
            self.view, self._problem = None, f"{exc} [{exc.code}]"
            self._failing = exc.code == FAILING
            # The list can have tried a PIN, and nobody knows whether the PIN fails.
            self._listed_in_vain = self._admin_web.listed
        else:
            self._failing = any(token.problem and token.problem.code == FAILING for token in self.view.tokens)
            self._identity = self._read_identity(self.view)
        self._read_at = self._options.patience.clock()

    def expect_other_tests(self) -> None:
        """Allow another test of each key that could not sign. Each test uses the key, so only a reactivation is a reason for another one."""
        self._tests = {place: test for place, test in self._tests.items() if test.result != "cannot_sign"}

    @property
    def codes(self) -> list[str]:
        """Codes of the member `ejbca` of the result. Later tasks of the run do not view the node again."""
        return [FAILING] if self._failing else []

    @property
    def _host_name(self) -> str | None:
        return self.view.host_name if self.view is not None else None

    def _read_identity(self, view: EjbcaView) -> NodeIdentity:
        peer = self._admin_web.peer
        address, fingerprint = (peer.address, peer.certificate_fingerprint) if peer is not None else ("", "")
        return NodeIdentity(address, self._port, fingerprint, view.host_name)

    def reads_at_activation(self, key: RequestedKey) -> bool:
        """Whether the crypto token of a key cannot show a new key before it is activated again."""
        token = token_of(self.view, self.query(key).crypto_token) if self.view is not None else None
        return token is not None and token.type == READS_AT_ACTIVATION

    def test(self, key: RequestedKey, hsm_fingerprints: t.Collection[str], *, dry_run: bool) -> KeySeen:
        """Return what the view shows of a key and, at level sign, whether the node signs with the key."""
        found = self._find(key, hsm_fingerprints)
        if found.state != "present":
            return KeySeen(found.state, "hsm", found.detail, found.state != "unknown" or found.diverged)
        if self._options.level != "sign":
            return KeySeen("present", "token", found.text, final=False)
        if reason := self._why_no_test(key):
            return KeySeen("present", "token", f"{found.text}. {reason}", final=False)
        if dry_run:
            detail = f"{found.text}. Check mode makes no test signature"
            return KeySeen("present", "token", detail, final=False, undecided=True)
        if reason := self._why_not_after_source(key, found):
            return KeySeen("present", "token", f"{found.text}. {reason}", final=False)
        return self._test_signature(key, found)

    def _find(self, key: RequestedKey, hsm_fingerprints: t.Collection[str]) -> KeyFound:
        source, query = self._options.source_ejbca, self.query(key)
        if self.view is None:
            return KeyFound("unknown", self._problem or "the view was not read")
        if source is None:
            return find_on_source(self.view, query, hsm_fingerprints)
        if source.view is None or source.identity is None or self._identity is None:
            return KeyFound("unknown", f"the EJBCA view of the source is unknown: {source.problem}")
        node = self._options.expect_node or "this node"
        problems = identity_problems({"the source": source.identity, node: self._identity})
        return find_on_node(source.view, self.view, query, hsm_fingerprints, problems.get(node))

    def _why_no_test(self, key: RequestedKey) -> str | None:
        """Return why this node makes no test signature, or None."""
        view = t.cast("EjbcaView", self.view)
        token = token_of(view, self.query(key).crypto_token)
        if not key.sign_test:
            return "A test signature was not requested. Set sign_test, set ca, or confirm the key manually"
        if token is None or token.needs_authorization:
            return "The HSM authorizes each use of the keys of this crypto token, so a test signature is not allowed"
        if reason := refusal(view.version, without_traffic=self._options.out_of_traffic):
            return f"No test signature was made: {reason.replace('without_traffic', 'out_of_traffic')}"
        return None

    def _why_not_after_source(self, key: RequestedKey, found: KeyFound) -> str | None:
        """Return why the test on the source forbids the test on this node, or None. The test does not apply to every key."""
        source = self._options.source_ejbca
        if source is None:
            return None
        place = (self.query(key).crypto_token, found.alias or "")
        result, reason = source.tests.get(place, ("unknown", "it was not made"))
        if result != "can_sign":
            return f"No test signature was made, because the test on the source did not pass: {reason}"
        return None

    def _test_signature(self, key: RequestedKey, found: KeyFound) -> KeySeen:
        place = (self.query(key).crypto_token, found.alias or "")
        if place not in self._tests:
            self._tests[place] = self._tester.test(*map(unescape_printable, place))
            names = {"crypto_token": place[0], "alias": place[1], "fingerprint": key.fingerprint}
            self.tests_made.append({**names, **self._tests[place]._asdict()})
        result, reason = self._tests[place]
        reached = "sign" if result == "can_sign" else "token"
        # On the source, a failed test shows that the method does not apply to the key.
        final = result == "cannot_sign" and self._options.source_ejbca is not None
        return KeySeen("present", reached, f"{found.text}. {reason}", final, "signature_test")

    def to_dict(self) -> dict[str, t.Any]:
        """Return the member `ejbca` of the result."""
        return {
            "view": self.view.to_dict() if self.view is not None else None,
            "identity": self._identity._asdict() if self._identity is not None else None,
            "signature_tests": self.tests_made,
            "problem": self._problem,
            "codes": self.codes,
        }
