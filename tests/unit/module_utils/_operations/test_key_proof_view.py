# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Proofs by the EJBCA view and by test signatures: order, waiting, reactivation."""

from __future__ import annotations

import contextlib
import dataclasses as dc
import datetime
import types
import typing as t
import unittest.mock

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.key_view import Affected, SourceEjbca
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.protocol import IssuedCertificate, Profiles
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError
from ansible_collections.keyops.utrust.plugins.module_utils._http import Peer
from ansible_collections.keyops.utrust.plugins.module_utils._operations import key_proof, key_proof_view
from ansible_collections.keyops.utrust.plugins.module_utils._operations.key_proof import ProofOptions, prove_keys
from ansible_collections.keyops.utrust.plugins.module_utils._operations.key_proof_view import ViewTester
from ansible_collections.keyops.utrust.plugins.module_utils._operations.key_reactivation import ReactivationError
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.requested_keys import (
    ManualConfirmation,
    RequestedKey,
)
from ansible_collections.keyops.utrust.plugins.module_utils._runner import Invocation
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions

from tests.support.ejbca_pages import Token, home, html_response
from tests.support.factories import key, node
from tests.support.fake_admin_web import HEALTH, LIST, FakeAdminWeb, SampleKey
from tests.support.fakes import FakeAppliance, make_response

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.protocol import EjbcaNode
    from ansible_collections.keyops.utrust.plugins.module_utils._http import HttpResponse

SAMPLE = SampleKey.make("mine")
HSM_KEY = key("sign", fingerprint=SAMPLE.fingerprint)
TOKEN = Token(rows=(SAMPLE.row("sign"),))
EMPTY = Token()
CONFIRMED = ManualConfirmation(
    "node2", SAMPLE.fingerprint, datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1), "Ada", "tested"
)


class Clock:
    """Time that passes only while the operation sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.at: dict[float, t.Callable[[], None]] = {}

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for time in [time for time in self.at if time <= self.now]:
            self.at.pop(time)()


class Setup:
    """node2 with its Admin Web, compared with the source unless `of_source` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, token: Token, *, version: str = "9.3.0") -> None:
        self.clock = Clock()
        self.web = FakeAdminWeb(token, keys={(TOKEN.id, "sign"): SAMPLE})
        self.web.respond = self._health
        self.client = self.web.use(monkeypatch)
        self.signs = True
        self.ejbca = FakeAppliance(health=None, reactivate=None)
        monkeypatch.setattr(key_proof_view, "identity_problems", lambda nodes: {})
        self.options = ProofOptions(
            "node2",
            "sign",
            (RequestedKey(HSM_KEY.fingerprint, "sign", 0, None, sign_test=True),),
            TOKEN.name,
            False,
            Profiles("p", "e"),
            (),
            WaitOptions(0.0, 1.0, clock=lambda: self.clock.now, sleep=self.clock.sleep),
            view_timeout=0.0,
            out_of_traffic=True,
        )

    def _health(self, path: str, dummy: int) -> HttpResponse | None:
        if not path.startswith(HEALTH):
            return None
        if "keyops-control" in path or ("key1=" in path and not self.signs):
            alias = path.rpartition("key1=")[2]
            text = f"TOKEN: Test key failed for token={TOKEN.name} key={alias}"
            return make_response(500, text.encode(), media_type="text/plain")
        return make_response(200, b"ALLOK", media_type="text/plain")

    def source(self, **test: str) -> SourceEjbca:
        """Return the view of the source: the same page, with a test that passed unless `test` changes it."""
        as_source = self.prove(level="token", source_ejbca=None, view_timeout=0.0)["ejbca"]
        tests = [{"crypto_token": TOKEN.name, "alias": "sign", "result": "can_sign", "reason": "twice", **test}]
        return SourceEjbca.from_result({**as_source, "signature_tests": tests})

    def prove(self, *, dry_run: bool = False, **changes: t.Any) -> dict[str, t.Any]:
        options = dc.replace(self.options, **changes)
        appliance = FakeAppliance(node=node(HSM_KEY, name="node2"), list_keys=(HSM_KEY,)).appliance
        return prove_keys(
            appliance,
            t.cast("EjbcaNode", self.ejbca),
            options,
            dry_run=dry_run,
            progress=lambda dummy: None,
            view=ViewTester(self.client, 443, options),
        )


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup(monkeypatch, TOKEN)


def row_of(result: dict[str, t.Any]) -> tuple[t.Any, ...]:
    row = result["proof"][0]
    return row["passed"], row["reached"], row["method"], row["view"]


def test_source_needs_view_and_test(shown: Setup) -> None:
    assert row_of(shown.prove(level="token")) == (True, "token", "view", "present")
    result = shown.prove()
    assert row_of(result) == (True, "sign", "signature_test", "present")
    assert [test["result"] for test in result["signature_tests"]] == ["can_sign"]
    assert result["changed"] is False


def test_failed_test_is_final_on_a_node_but_not_on_the_source(shown: Setup) -> None:
    """The test does not apply to every key, so it must pass on the source first."""
    source = shown.source()
    shown.signs = False
    confirmed: dict[str, t.Any] = {"manual_confirmations": (CONFIRMED,)}
    assert row_of(shown.prove(**confirmed)) == (True, "sign", "confirmation", "present")
    assert row_of(shown.prove(source_ejbca=source, **confirmed)) == (False, "hsm", "signature_test", "present")


@pytest.mark.parametrize("reactivate", [False, True])
def test_failed_test_is_repeated_only_after_a_reactivation(shown: Setup, reactivate: bool) -> None:
    """Each test uses the key, also while the gate waits for people."""
    shown.signs = False
    refused = ApiError("the CA is off", code="ejbca_refused")
    shown.ejbca = FakeAppliance(health=None, reactivate=None, issue_test_certificate=refused)
    key = shown.options.keys[0]._replace(ca="CA", crypto_token=TOKEN.name)
    patience = shown.options.patience._replace(timeout=120.0)
    result = shown.prove(keys=(key,), patience=patience, reactivate=reactivate)
    assert row_of(result)[:2] == (False, "token")
    assert result["reactivated"] is reactivate
    assert len([path for path in shown.web.paths if path.endswith("&key1=sign")]) == 1 + reactivate


def test_test_on_the_source_must_have_passed(shown: Setup) -> None:
    source = shown.source(result="unknown", reason="in maintenance")
    before = shown.web.count(HEALTH)
    result = shown.prove(source_ejbca=source)
    assert row_of(result)[:2] == (False, "token")
    assert "the test on the source did not pass: in maintenance" in result["proof"][0]["detail"]
    assert shown.web.count(HEALTH) == before


def test_check_mode_makes_no_test(shown: Setup) -> None:
    assert row_of(shown.prove(dry_run=True)) == (None, "token", "view", "present")
    assert shown.web.count(HEALTH) == 0


def test_doubt_leads_to_a_certificate_then_to_people(shown: Setup) -> None:
    untested = RequestedKey(HSM_KEY.fingerprint, "sign", 0, "CA")
    shown.ejbca = FakeAppliance(issue_test_certificate=IssuedCertificate("01", HSM_KEY.fingerprint))
    assert row_of(shown.prove(keys=(untested,))) == (True, "sign", "certificate", "present")
    shown.ejbca = FakeAppliance(issue_test_certificate=IssuedCertificate("02", "sha256:other"))
    both = shown.prove(keys=(untested,), manual_confirmations=(CONFIRMED,))
    assert row_of(both)[0] is False
    assert "signs with another key" in both["proof"][0]["detail"]


@pytest.mark.parametrize("shown_by", [EMPTY, Token(active=False, auto=False), Token(rows=TOKEN.rows, alert="failed")])
def test_finding_is_final_and_doubt_is_not(monkeypatch: pytest.MonkeyPatch, shown_by: Token) -> None:
    """A confirmation replaces a view that says nothing, but never a view that shows something else."""
    setup = Setup(monkeypatch, shown_by)
    passed, dummy, dummy, state = row_of(setup.prove(level="token", manual_confirmations=(CONFIRMED,)))
    assert (passed, state) == ((True, "unknown") if shown_by.alert else (False, state))
    assert shown_by.alert or state in ("stale", "inactive")


def test_stale_view_is_read_again_until_it_shows_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(monkeypatch, EMPTY)
    monkeypatch.setattr(ViewTester, "reads_at_activation", lambda *dummy: False)
    setup.clock.at[100.0] = lambda: setup.web.tokens.__setitem__(0, TOKEN)
    result = setup.prove(level="token", view_timeout=150.0)
    assert row_of(result) == (True, "token", "view", "present")
    assert 100 <= setup.clock.now <= 115
    assert setup.web.count(LIST) <= 13  # every ten seconds


def test_stale_view_that_stays_ends_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(monkeypatch, EMPTY)
    monkeypatch.setattr(ViewTester, "reads_at_activation", lambda *dummy: False)
    result = setup.prove(level="token", view_timeout=150.0)
    assert row_of(result) == (False, "hsm", "view", "stale")
    assert "Wait longer (ejbca_view_timeout), or reactivate the crypto token" in result["proof"][0]["detail"]
    assert 140 <= setup.clock.now <= 150


@pytest.mark.parametrize(("at_activation", "earliest"), [(True, 0.0), (False, 140.0)])
def test_stale_view_is_reactivated(monkeypatch: pytest.MonkeyPatch, at_activation: bool, earliest: float) -> None:
    """A token that follows the HSM by itself gets its time first."""
    setup = Setup(monkeypatch, EMPTY)
    monkeypatch.setattr(ViewTester, "reads_at_activation", lambda *dummy: at_activation)

    class Reactivating(FakeAppliance):
        def reactivate(self, name: str) -> None:
            assert (name, setup.clock.now >= earliest) == (TOKEN.name, True)
            setup.web.tokens[0] = TOKEN

    setup.ejbca = Reactivating(health=None)
    result = setup.prove(level="token", view_timeout=150.0, reactivate=True)
    assert row_of(result) == (True, "token", "view", "present")
    assert (result["changed"], result["reactivated"]) == (True, True)


def test_stale_view_in_check_mode_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(monkeypatch, EMPTY)
    result = setup.prove(level="token", reactivate=True, dry_run=True)
    assert row_of(result)[0] is None
    assert setup.ejbca.calls == []


@pytest.mark.parametrize(
    ("token", "more", "code"),
    [
        (Token(auto=False), (), "auto_activation_off"),
        (Token(active=False), (), "crypto_token_inactive"),
        (Token(), (Token(id=5, name="Second"),), "affected_token_not_named"),
    ],
)
def test_view_forbids_the_reactivation(
    monkeypatch: pytest.MonkeyPatch, token: Token, more: tuple[Token, ...], code: str
) -> None:
    """The failure ends the task before anything is sent, so the next node keeps its token."""
    setup = Setup(monkeypatch, token)
    setup.web.tokens += more
    monkeypatch.setattr(ViewTester, "reads_at_activation", lambda *dummy: True)
    with pytest.raises(ReactivationError) as refused:
        setup.prove(level="token", reactivate=True, affected=Affected((), ("CA",), ()))
    assert refused.value.code == code
    assert setup.ejbca.calls == []


def test_failing_token_is_viewed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each view would try the PIN again, also while the gate waits for people."""
    setup = Setup(monkeypatch, Token(active=False))
    options = setup.options.patience._replace(timeout=120.0)
    result = setup.prove(level="token", patience=options)
    assert row_of(result)[3] == "inactive"
    assert result["ejbca"]["codes"] == ["token_activation_failing"]
    assert (setup.clock.now > 100, setup.web.count(LIST)) == (True, 1)


def test_key_that_is_not_in_the_hsm_needs_no_view(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(monkeypatch, TOKEN)
    result = setup.prove(keys=(RequestedKey("sha256:absent", "absent", 0, None),))
    assert row_of(result) == (False, "none", "hsm", None)
    assert setup.web.paths == []


@pytest.mark.parametrize("same_server", [False, True], ids=["another certificate", "another host name"])
def test_signature_of_another_node_proves_nothing(monkeypatch: pytest.MonkeyPatch, same_server: bool) -> None:
    """A virtual address can lead the second connection of a task to the source."""
    setup = Setup(monkeypatch, TOKEN)

    def another_node(path: str, count: int) -> HttpResponse | None:
        if path.startswith(HEALTH):
            setup.web.peer = Peer("127.0.0.2", "sha256:" + ("ab" if same_server else "cd") * 32, "TLSv1.3")
            return setup._health(path, count)
        return html_response(home(host="node9")) if setup.web.count(HEALTH) else None

    setup.web.respond = another_node
    result = setup.prove()
    assert row_of(result)[:2] == (False, "token")
    assert "reached another node" in result["proof"][0]["detail"]
    assert [test["result"] for test in result["signature_tests"]] == ["unknown"]


def test_list_in_vain_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list tries the PIN of each crypto token that fails, also if the reading ends with another error."""
    setup = Setup(monkeypatch, TOKEN)
    setup.web.tokens.append(Token(id=5, name="Second", active=False))
    result = setup.prove(crypto_token="Missing", patience=setup.options.patience._replace(timeout=120.0))
    assert row_of(result)[3] == "unknown"
    assert (setup.clock.now > 100, setup.web.count(LIST)) == (True, 1)


def test_failure_keeps_the_codes_of_the_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rescue of the play must not view a node again whose crypto token cannot be activated."""
    view = types.SimpleNamespace(codes=["token_activation_failing"], tests_made=[])
    failure = ReactivationError("failed", code="crypto_token_inactive")
    monkeypatch.setattr(key_proof, "open_appliance", lambda dummy: contextlib.nullcontext())
    monkeypatch.setattr(key_proof, "_open_view", lambda *dummy: contextlib.nullcontext(view))
    monkeypatch.setattr(key_proof.ProofOptions, "from_params", lambda dummy: None)
    monkeypatch.setattr(key_proof, "prove_keys", unittest.mock.Mock(side_effect=failure))
    with pytest.raises(ReactivationError) as failed:
        key_proof.run(Invocation({"ejbca": None, "ejbca_view": True}, False, lambda dummy: None, None))
    assert failed.value.details["ejbca"] == {"codes": ["token_activation_failing"], "problem": "failed"}
