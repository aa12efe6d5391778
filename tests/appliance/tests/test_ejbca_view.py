# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keys in the HSM and the view of EJBCA are separate stores. Auto-activation spends PIN tries."""

from __future__ import annotations

import typing as t

import pytest
from utrust_appliance.ejbca.ejbca_node import TOKEN_ID
from utrust_appliance.testing import cluster

from tests.support.admin_web_client import LIST, Browser, text_of
from tests.support.ejbca_client import FIRST, TOKEN, EjbcaClient

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

NG_ID = -2147483648


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    with cluster(nodes=2, restored=2, keys=2, ejbca=True) as running:
        running.ejbca("node1", "create_token", name="Next", slot=1, id=NG_ID, kind="ng")
        yield running


@pytest.fixture(autouse=True)
def defaults(control: Control) -> Iterator[None]:
    yield
    for node in ("node1", "node2"):
        control.ejbca(node, "flags", reset=True)
        control.ejbca(node, "slot_pin")
        for token in (TOKEN, "Next"):
            control.ejbca(node, "deactivate", token=token)


def shown(control: Control, number: int, node: str = "node1") -> dict[str, str]:
    return Browser(control, node).token(number).key_ids


def test_sun_view_is_copied_at_activation(control: Control) -> None:
    """A Sun token does not follow the HSM: new keys are missing and deleted keys stay until the next activation."""
    before = shown(control, TOKEN_ID)
    control.generate_key("node1", "sun")
    control.ejbca("node1", "advance", seconds=1000)
    assert shown(control, TOKEN_ID) == before
    control.ejbca("node1", "deactivate")
    assert "sun" in shown(control, TOKEN_ID)
    control.delete_key("node1", "sun")
    assert "sun" in shown(control, TOKEN_ID)
    control.ejbca("node1", "deactivate")
    assert shown(control, TOKEN_ID) == before


def test_sun_view_needs_certificate_object(control: Control) -> None:
    """A Sun token shows keys with a certificate object only, under the label of this object."""
    control.generate_key("node1", "bare")
    control.generate_key("node1", "renamed")
    control.ejbca("node1", "certificate_object", label="bare")
    control.ejbca("node1", "certificate_object", label="renamed", certificate="other name")
    control.ejbca("node1", "deactivate")
    keys = shown(control, TOKEN_ID)
    assert not {"bare", "renamed"} & set(keys)
    assert "other name" in keys
    for label in ("bare", "renamed"):
        control.delete_key("node1", label)


def test_ng_view_follows_after_120_seconds(control: Control) -> None:
    """An NG token shows a new key, and the absence of a deleted key, after at most 120 seconds."""
    before = shown(control, NG_ID)
    control.generate_key("node1", "ng", slot=1)
    control.ejbca("node1", "advance", seconds=60)
    assert shown(control, NG_ID) == before
    control.ejbca("node1", "advance", seconds=61)
    assert "ng" in shown(control, NG_ID)
    control.delete_key("node1", "ng")
    assert "ng" in shown(control, NG_ID)
    control.ejbca("node1", "advance", seconds=121)
    assert shown(control, NG_ID) == before


def test_ng_view_before_7_8_2_needs_reactivation(control: Control) -> None:
    """Before 7.8.2, the cache of an NG token lives until the next activation."""
    control.ejbca("node1", "flags", version="7.8.1")
    shown(control, NG_ID)
    control.generate_key("node1", "old", slot=1)
    control.ejbca("node1", "advance", seconds=3600)
    assert "old" not in shown(control, NG_ID)
    control.ejbca("node1", "deactivate", token="Next")
    assert "old" in shown(control, NG_ID)
    control.delete_key("node1", "old")


def test_ng_view_caches_missing_keys(control: Control) -> None:
    """An alias that was not found stays unknown for 120 seconds, although the HSM has the key by then."""
    query = "?ca=none&ocsp=false&publishers=false&token1=Next&key1=soon"
    browser = Browser(control, "node1")
    assert browser.health(query).status == 500
    control.generate_key("node1", "soon", slot=1)
    assert browser.health(query).status == 500
    control.ejbca("node1", "advance", seconds=121)
    assert browser.health(query).status == 200
    control.delete_key("node1", "soon")


def test_ng_view_keeps_replaced_key(control: Control) -> None:
    """A key that is replaced under the same alias stays stale until the next activation."""
    control.generate_key("node1", "replaced", slot=1)
    control.ejbca("node1", "deactivate", token="Next")
    old = shown(control, NG_ID)["replaced"]
    control.delete_key("node1", "replaced")
    control.generate_key("node1", "replaced", slot=1)
    control.ejbca("node1", "advance", seconds=3600)
    assert shown(control, NG_ID)["replaced"] == old
    control.ejbca("node1", "deactivate", token="Next")
    assert shown(control, NG_ID)["replaced"] != old
    control.delete_key("node1", "replaced")


def test_ng_alias_without_certificate_is_key_id(control: Control) -> None:
    """Without a certificate object, the alias of an NG token is the id of the key as text."""
    control.generate_key("node1", "label", slot=1, key_id=b"id as text".hex())
    control.ejbca("node1", "certificate_object", label="label", slot=1)
    control.ejbca("node1", "deactivate", token="Next")
    keys = shown(control, NG_ID)
    assert "id as text" in keys
    assert "label" not in keys
    control.delete_key("node1", "label")


def test_ng_key_is_invisible_for_sun_token(control: Control) -> None:
    """A key that an NG token generates has no certificate object, so a Sun token of the same slot does not show it."""
    control.ejbca("node1", "create_token", name="Same slot", slot=0, id=9, kind="ng")
    body = {"key_pair_alias": "byNext", "key_alg": "EC", "key_spec": "P-256"}
    assert EjbcaClient(control, "node1")("POST", "/cryptotoken/Same%20slot/generatekeys", body).status == 201
    control.ejbca("node1", "deactivate")
    assert "byNext" in shown(control, 9)
    assert "byNext" not in shown(control, TOKEN_ID)
    assert EjbcaClient(control, "node1")("POST", "/cryptotoken/Same%20slot/byNext/removekeys").status == 200
    control.ejbca("node1", "delete_token", name="Same slot")


def test_ng_reactivation_ends_sessions_of_slot(control: Control) -> None:
    """The reactivation of an NG token closes the other NG tokens of its slot. A manual one stays inactive."""
    control.ejbca("node1", "create_token", name="Manual", slot=1, id=8, auto_activation=False, kind="ng")
    control.ejbca("node1", "activate", token="Manual")
    browser = Browser(control, "node1")
    assert browser.token(8).checked("currentCryptoTokenActive")
    control.ejbca("node1", "deactivate", token="Next")
    assert not browser.token(8).checked("currentCryptoTokenActive")
    assert browser.token(NG_ID).checked("currentCryptoTokenActive")
    control.ejbca("node1", "delete_token", name="Manual")


def test_views_of_nodes_are_separate(control: Control) -> None:
    """Every node has its own view, with the same ids, and the same SubjectKeyID for the same key."""
    control.generate_key("node1", "only one")
    control.ejbca("node1", "deactivate")
    first, second = shown(control, TOKEN_ID), shown(control, TOKEN_ID, "node2")
    assert "only one" in first
    assert "only one" not in second
    assert first[FIRST] == second[FIRST]
    control.delete_key("node1", "only one")


def test_diverged_database_has_other_ids(control: Control) -> None:
    """A node whose database has diverged has other ids for the same tokens."""
    control.ejbca("node2", "flags", token_ids={TOKEN: 4711})
    page = Browser(control, "node2")(LIST)
    assert [row[0].find("a").get("href") for row in page.cells("cryptotokens") if text_of(row[0]) == TOKEN] == [  # type: ignore[union-attr]
        "cryptotoken.jsf?cryptoTokenId=4711&ref=default"
    ]
    assert FIRST in shown(control, 4711, "node2")
    assert "Could not load" in Browser(control, "node2").token(TOKEN_ID).cause
    assert Browser(control, "node2").download(4711, FIRST).status == 200


def test_every_view_spends_pin_try(control: Control) -> None:
    """On a restored node with another slot PIN, every view of the inactive token spends a PIN try, until the slot is locked."""
    control.ejbca("node2", "slot_pin", code="another PIN", tries=5)
    assert FIRST in shown(control, TOKEN_ID, "node2")  # the token is still active
    control.ejbca("node2", "deactivate")
    browser = Browser(control, "node2")

    def tries_left() -> int:
        return int(control.ejbca("node2", "pin_state")["tries_left"])

    assert tries_left() == 4
    assert control.ejbca("node2", "status")["crypto_tokens"][-1]["active"] is False
    assert tries_left() == 4  # the status of the simulator does not spend a try
    assert not browser.token(TOKEN_ID).checked("currentCryptoTokenActive")
    assert tries_left() == 3
    browser(LIST)
    assert tries_left() == 2
    assert browser.health().status == 500
    assert tries_left() == 1
    browser(LIST)
    assert tries_left() == 0
    assert (
        EjbcaClient(control, "node2")(
            "PUT", f"/cryptotoken/{TOKEN}/activate", {"activation_code": "another PIN"}
        ).status
        == 403
    )
    control.ejbca("node2", "slot_pin", code="another PIN")
    assert (
        EjbcaClient(control, "node2")(
            "PUT", f"/cryptotoken/{TOKEN}/activate", {"activation_code": "another PIN"}
        ).status
        == 200
    )
    assert FIRST in shown(control, TOKEN_ID, "node2")
