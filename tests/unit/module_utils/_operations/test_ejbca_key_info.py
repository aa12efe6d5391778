# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The operation of ejbca_key_info with a fake Admin Web: result, selection, and which keys are tested."""

from __future__ import annotations

import dataclasses as dc
import typing as t

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import EjbcaView
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ejbca_key_info import OPERATION
from ansible_collections.keyops.utrust.plugins.module_utils._runner import Invocation, execute

from tests.support.ejbca_pages import Row, Token
from tests.support.fake_admin_web import HEALTH, LIST, FakeAdminWeb, SampleKey
from tests.support.fakes import make_response

KEY = SampleKey.make("key")
TOKEN = Token(1, "T", rows=(KEY.row("ca"), Row("later", None)))
KEYS = {(1, "ca"): KEY}
LOGIN: t.Final = {"host": "192.0.2.1", "client_cert": "/x", "tls_fingerprint": ["ab" * 32]}


def operate(fake: FakeAdminWeb, monkeypatch: pytest.MonkeyPatch, **options: t.Any) -> dict[str, t.Any]:
    fake.use(monkeypatch)
    arguments = {**LOGIN, "expect_node": "node1", "ejbca": LOGIN, **options}
    checked = ArgumentSpecValidator(**OPERATION.module_arguments()).validate(arguments)
    assert not checked.error_messages
    return execute(OPERATION, Invocation(checked.validated_parameters, False, lambda dummy: None, None))


def test_result_has_view_identity_and_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = Token(2, "Failing", active=False)
    result = operate(FakeAdminWeb(TOKEN, failing, keys=KEYS), monkeypatch)
    view = EjbcaView.from_dict({**result["view"]})
    assert [token.name for token in view.tokens] == ["T", "Failing"]
    assert result["view"]["scope"] == "ejbca"
    assert result["identity"] == {
        "address": "127.0.0.2",
        "port": 443,
        "certificate_fingerprint": "sha256:" + "ab" * 32,
        "host_name": "node1",
        "version": "8.2.0.1",
        "server_time": "2026-05-01 12:00:00+00:00",
    }
    assert [(problem["code"], problem["node"]) for problem in result["problems"]] == [
        ("token_activation_failing", "node1")
    ]
    assert (result["changed"], result["signature_tests"]) == (False, [])


def test_node_that_has_not_joined_gets_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeAdminWeb(TOKEN)
    assert operate(fake, monkeypatch, members=["node2"])["code"] == "node_not_joined"
    assert fake.paths == []


@pytest.mark.parametrize(
    ("tested", "changes"),
    [
        ({"crypto_token": "T", "alias": "other"}, {}),
        ({"crypto_token": "T", "alias": "later"}, {}),
        ({"crypto_token": "U", "alias": "ca"}, {}),
        ({"crypto_token": "T", "alias": "ca"}, {"cp5": True}),
        ({"crypto_token": "T", "alias": "ca"}, {"alert": "failed"}),
        ({"crypto_token": "T", "alias": "ca"}, {"active": False}),
    ],
)
def test_key_that_the_view_does_not_show_is_not_tested(
    monkeypatch: pytest.MonkeyPatch, tested: dict[str, str], changes: dict[str, t.Any]
) -> None:
    """The health check tests any key with this alias, so the view of the same task names the key."""
    fake = FakeAdminWeb(dc.replace(TOKEN, **changes), keys=KEYS)
    result = operate(fake, monkeypatch, test_keys=[tested], without_traffic=True)
    assert [test["result"] for test in result["signature_tests"]] == ["unknown"]
    assert result["signature_tests"][0]["reason"]
    assert fake.count(HEALTH) == 0


def test_tested_key_has_the_public_key_of_the_view(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeAdminWeb(TOKEN, Token(2, "U"), keys=KEYS)

    def respond(path: str, dummy: int) -> t.Any:
        if not path.startswith(HEALTH):
            return None
        failed = b"TOKEN: Test key failed for token=T key=keyops-control-no-such-key"
        return make_response(500, failed, media_type="text/plain") if "control" in path else make_response(200, b"OK")

    fake.respond = respond
    tested = [{"crypto_token": "T", "alias": "ca"}]
    result = operate(fake, monkeypatch, crypto_tokens=["U"], test_keys=tested, without_traffic=True)
    (test,) = result["signature_tests"]
    assert (test["result"], test["subject_key_id"], test["fingerprint"]) == (
        "can_sign",
        KEY.subject_key_id,
        KEY.fingerprint,
    )
    assert fake.logins == 1


def test_number_of_tested_keys_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeAdminWeb(TOKEN)
    tested = [{"crypto_token": "T", "alias": str(number)} for number in range(21)]
    assert operate(fake, monkeypatch, test_keys=tested)["code"] == "option_invalid"
    assert fake.count(LIST) == 0
