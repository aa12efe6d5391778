# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read which keys EJBCA of one node shows, and test signatures of chosen keys. Private to keyops.utrust."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._argspec import check_joined
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.client import AdminWeb
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.read import Selection, read_view
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.argspec import ejbca_endpoint
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.health import SignatureTest, SignatureTester, refusal
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.identity import NodeIdentity
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.suboptions import ejbca_option
from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem, UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_TESTED_KEYS
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable, unescape_printable
from ansible_collections.keyops.utrust.plugins.module_utils._runner import Invocation, Operation, Result

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Params, Spec
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import EjbcaView, ViewKey

ARGUMENT_SPEC: t.Final[Spec] = {
    "ejbca": ejbca_option(required=True),
    # Names and ids are public.
    "crypto_tokens": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "token_ids": {"type": "list", "elements": "int", "default": [], "no_log": False},
    "test_keys": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "no_log": False,
        "options": {
            "crypto_token": {"type": "str", "required": True, "no_log": False},
            "alias": {"type": "str", "required": True},
        },
    },
    "without_traffic": {"type": "bool", "default": False},
}


class KeyToTest(t.NamedTuple):
    """A key whose signature is tested, with printable names."""

    crypto_token: str
    alias: str


def run(invocation: Invocation) -> Result:
    """Read the view. Nothing is changed, so check mode does the same. Raises UtrustError if the node cannot be read."""
    params = invocation.params
    check_joined(params)
    tested = _tested_keys(params)
    names = frozenset(map(escape_unprintable, params["crypto_tokens"]))
    selection = Selection(names, frozenset(params["token_ids"]))
    if names or selection.ids:
        selection = selection._replace(names=names | {key.crypto_token for key in tested})
    with contextlib.closing(AdminWeb(ejbca_endpoint(params), retries=params["retries"])) as admin_web:
        view = read_view(admin_web, selection)
        identity = _identity(admin_web, view, params["ejbca"]["port"])
        tester = SignatureTester(admin_web.client, lambda: admin_web.check_node(view.host_name))
        tests = [_test(tester, view, key, without_traffic=params["without_traffic"]) for key in tested]
    problems = [problem.to_dict() for problem in _problems(view, params["expect_node"] or params["ejbca"]["host"])]
    result = {
        "changed": False,
        "view": view.to_dict(),
        "identity": {**identity._asdict(), "version": view.version, "server_time": view.server_time},
        "signature_tests": tests,
        "problems": problems,
    }
    return {**result, "warnings": list(view.warnings)} if view.warnings else result


def _tested_keys(params: Params) -> list[KeyToTest]:
    """Return the keys of option `test_keys`. Raises UtrustError (`option_invalid`)."""
    given = params["test_keys"]
    if len(given) > MAX_TESTED_KEYS:
        raise UtrustError(
            f"test_keys: {len(given)} keys are given, at most {MAX_TESTED_KEYS} are accepted. Nothing was sent. Test fewer keys",
            code="option_invalid",
        )
    return [KeyToTest(escape_unprintable(key["crypto_token"]), escape_unprintable(key["alias"])) for key in given]


def _identity(admin_web: AdminWeb, view: EjbcaView, port: int) -> NodeIdentity:
    peer = admin_web.peer
    address, fingerprint = (peer.address, peer.certificate_fingerprint) if peer is not None else ("", "")
    return NodeIdentity(address, port, fingerprint, view.host_name)


def _test(tester: SignatureTester, view: EjbcaView, tested: KeyToTest, *, without_traffic: bool) -> dict[str, t.Any]:
    """Return the result for one key. A key that the view of this task does not show is not tested."""
    key, reason = _shown_key(view, tested)
    reason = reason or refusal(view.version, without_traffic=without_traffic)
    if key is None or reason is not None:
        found = SignatureTest("unknown", reason or "the key is unknown")
    else:
        found = tester.test(unescape_printable(tested.crypto_token), unescape_printable(tested.alias))
    shown = {"subject_key_id": key.subject_key_id, "fingerprint": key.fingerprint} if key is not None else {}
    return {**tested._asdict(), "subject_key_id": None, "fingerprint": None, **shown, **found._asdict()}


def _shown_key(view: EjbcaView, tested: KeyToTest) -> tuple[ViewKey | None, str | None]:
    """Return a key of the view, or why it cannot be tested."""
    token = next((token for token in view.tokens if token.name == tested.crypto_token), None)
    if token is None or token.keys is None:
        return None, "EJBCA shows no keys of the crypto token"
    key = next((key for key in token.keys if key.alias == tested.alias), None)
    if key is None or key.subject_key_id is None:
        return None, "EJBCA shows no key with this alias"
    if token.needs_authorization:
        return key, "the HSM authorizes each use of the keys of this crypto token, so a test signature is not allowed"
    return key, None


def _problems(view: EjbcaView, node: str) -> t.Iterator[Problem]:
    for token in view.tokens:
        if token.problem is not None:
            yield Problem(token.problem.code, node, token.problem.text, "")
        for key in token.keys or ():
            if key.problem is not None:
                text = f"key {key.alias} of crypto token {token.name}: {key.problem}"
                yield Problem("view_key_not_verified", node, text, "")


OPERATION: t.Final = Operation("ejbca_key_info", ARGUMENT_SPEC, {}, run)
