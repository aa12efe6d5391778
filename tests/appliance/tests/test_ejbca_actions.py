# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Buttons of the simulated Admin Web: each POST acts at once, and each role has its own buttons."""

from __future__ import annotations

import typing as t

import pytest
from utrust_appliance.ejbca.ejbca_node import TOKEN_ID
from utrust_appliance.testing import cluster

from tests.support.admin_web_client import LIST, Browser, Page, text_of
from tests.support.ejbca_client import FIRST, TOKEN, EjbcaClient

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

    from utrust_appliance.control import Control

FORM, ALIASES = "currentCryptoTokenForm", "currentCryptoTokenAliasesForm"


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    with cluster(nodes=2, restored=2, ejbca=True) as running:
        running.ejbca("node1", "set", placeholders=["template"])
        yield running


@pytest.fixture(autouse=True)
def defaults(control: Control) -> Iterator[None]:
    yield
    control.ejbca("node1", "flags", reset=True)


def button(place: Page | Element, value: str) -> Element:
    root = place.root if isinstance(place, Page) else place
    return next(one for one in root.iter("input") if (one.get("type"), one.get("value")) == ("submit", value))


def labels(control: Control, node: str = "node1") -> list[str]:
    return [key["label"] for key in control.keys(node)]


def row(page: Page, name: str) -> list[Element]:
    return next(cells for cells in page.cells("cryptotokens") if text_of(cells[0]) == name)


@pytest.mark.parametrize(
    ("role", "on_list", "on_key", "on_page"),
    [
        ("reader", [], [], []),
        ("tester", [], ["Test"], []),
        ("operator", ["Reactivate"], ["Test"], ["Generate new key pair"]),
        (
            "administrator",
            ["Reactivate", "Delete"],
            ["Test", "Remove"],
            ["Switch to edit mode", "Remove selected", "Generate new key pair"],
        ),
    ],
)
def test_role_decides_buttons(
    control: Control, role: str, on_list: list[str], on_key: list[str], on_page: list[str]
) -> None:
    """A page offers exactly the buttons of the role."""
    control.ejbca("node1", "flags", roles={"ejbca-reader": role})
    browser = Browser(control, "node1")
    assert browser(LIST).buttons() == on_list
    page = browser.token(TOKEN_ID)
    assert page.buttons(page.key_row(FIRST)[5]) == on_key
    of_keys = [name for cells in page.cells(ALIASES) for name in page.buttons(cells[5])]
    others = page.buttons()
    for name in of_keys:
        others.remove(name)
    assert others == on_page
    assert page.key_row(FIRST)[5].find("a") is not None


def test_new_generation_has_stable_button_ids(control: Control) -> None:
    """From 9.5 on, buttons have ids, the download is a button, and the view does not offer to remove a key."""
    control.ejbca("node1", "flags", generation="G95")
    browser = Browser(control, "node1", "operator")
    page = browser.token(TOKEN_ID)
    cells = page.key_row(FIRST)
    assert page.buttons(cells[5]) == ["Test", "Download Public Key"]
    assert cells[5].find("a") is None
    number = [text_of(one[1]) for one in page.cells(ALIASES)].index(FIRST)
    for name, value in (("test", "Test"), ("downPub", "Download Public Key")):
        assert button(cells[5], value).get("id") == f"{ALIASES}:keyPairList:{number}:{name}"
    saved = browser.press(page, ALIASES, button(cells[5], "Download Public Key"))
    assert saved.body == control.public_key("node1", FIRST).encode()
    assert "Switch to edit mode" not in page.buttons()


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("8.2.0.1", f"{FIRST} tested successfully."),
        ("9.3.7", f"Keypair with alias {FIRST} tested successfully using signing and verification operations."),
    ],
)
def test_key_test_reports_success(control: Control, version: str, text: str) -> None:
    """The test of a key reports success in the words of the release."""
    control.ejbca("node1", "flags", version=version)
    browser = Browser(control, "node1", "operator")
    page = browser.token(TOKEN_ID)
    before = control.ejbca("node1", "counters").get("key_tests", 0)
    tested = browser.press(page, ALIASES, button(page.key_row(FIRST)[5], "Test"))
    assert tested.messages == [("infoMessage", text)]
    assert tested.key_ids == page.key_ids
    assert control.ejbca("node1", "counters")["key_tests"] == before + 1


def test_key_test_reports_lost_and_encryption_keys(control: Control) -> None:
    """The test fails for a key that the HSM no longer has, and for a key that cannot sign."""
    for alias, kind in (("lost", "ec-p256"), ("exchange", "x25519")):
        control.generate_key("node1", alias, kind)
    control.ejbca("node1", "deactivate")
    control.delete_key("node1", "lost")
    browser = Browser(control, "node1", "operator")
    for alias in ("lost", "exchange"):
        page = browser.token(TOKEN_ID)
        ((kind, text),) = browser.press(page, ALIASES, button(page.key_row(alias)[5], "Test")).messages
        assert (kind, text.partition(": ")[0]) == ("errorMessage", "Error")
    control.ejbca("node1", "deactivate")
    control.delete_key("node1", "exchange")


def test_remove_deletes_key_without_asking(control: Control) -> None:
    """A click on Remove deletes the key in the HSM at once, because only JavaScript asks."""
    for alias in ("victim", "second", "third"):
        control.generate_key("node1", alias)
    control.ejbca("node1", "deactivate")
    browser = Browser(control, "node1", "operator")
    page = browser.token(TOKEN_ID)
    after = browser.press(page, ALIASES, button(page.key_row("victim")[5], "Remove"))
    assert "victim" not in after.key_ids
    assert "victim" not in labels(control)
    boxes = {text_of(cells[1]): cells[0].find("input") for cells in after.cells(ALIASES)}
    selected = {str(boxes[alias].get("name")): "on" for alias in ("second", "third")}  # type: ignore[union-attr]
    browser.press(after, ALIASES, button(after, "Remove selected"), **selected)
    assert not {"second", "third"} & set(labels(control))
    assert control.ejbca("node1", "counters")["removed_keys"] == 3


def test_generate_makes_key_on_this_node_only(control: Control) -> None:
    """The buttons generate a key from a placeholder, or a new key, on this node only."""
    browser = Browser(control, "node1", "ejbca-operator")
    page = browser.token(TOKEN_ID)
    assert "template" in browser.press(page, ALIASES, button(page.key_row("template")[5], "Generate")).key_ids
    page = browser.token(TOKEN_ID)
    fields = {one.get("type", one.tag): one.get("name", "") for one in page.root.iter() if one.get("name")}
    made = browser.press(
        page, ALIASES, button(page, "Generate new key pair"), **{fields["text"]: "newKey", fields["select"]: "RSA3072"}
    )
    assert {"template", "newKey"} <= set(made.key_ids)
    assert not {"template", "newKey"} & set(labels(control, "node2"))
    for alias in ("template", "newKey"):
        assert EjbcaClient(control, "node1")("POST", f"/cryptotoken/{TOKEN}/{alias}/removekeys").status == 200


def test_edit_mode_shows_input_instead_of_name(control: Control) -> None:
    """In edit mode, the name is a field, and there is a button to cancel."""
    browser = Browser(control, "node1", "operator")
    page = browser.token(TOKEN_ID)
    edited = browser.press(page, FORM, button(page, "Switch to edit mode"))
    place = edited.by_id(f"{FORM}:currentCryptoTokenName")
    assert place is not None
    assert (text_of(place), place.find("input").get("value")) == ("", TOKEN)  # type: ignore[union-attr]
    back = browser.press(edited, FORM, button(edited, "Cancel"))
    assert text_of(back.by_id(f"{FORM}:currentCryptoTokenName")) == TOKEN  # type: ignore[arg-type]


def test_post_without_view_state_times_out(control: Control) -> None:
    """A POST without the view state of this session and page shows that the session has timed out, and does nothing."""
    browser = Browser(control, "node1", "operator")
    page = browser.token(TOKEN_ID)
    remove = button(page.key_row(FIRST)[5], "Remove")
    for state in (
        "",
        "1:2",
        Browser(control, "node1", "operator").token(TOKEN_ID).fields(ALIASES)["javax.faces.ViewState"],
    ):
        refused = browser.press(page, ALIASES, remove, **{"javax.faces.ViewState": state})
        assert (refused.status, refused.title) == (200, "Session has timed out.")
    page.path = LIST
    assert browser.press(page, ALIASES, remove).title == "Session has timed out."
    assert FIRST in labels(control)


def test_reactivate_reads_keys_again(control: Control) -> None:
    """Reactivate drops the view, and auto-activation reads the keys again."""
    control.generate_key("node1", "arrived")
    browser = Browser(control, "node1", "ejbca-operator")
    assert "arrived" not in browser.token(TOKEN_ID).key_ids
    page = browser(LIST)
    after = browser.press(page, "cryptotokens", button(row(page, TOKEN)[8], "Reactivate"))
    assert after.buttons() == ["Reactivate"]
    assert "arrived" in browser.token(TOKEN_ID).key_ids
    control.delete_key("node1", "arrived")
    control.ejbca("node1", "deactivate")


def test_manual_token_needs_code(control: Control) -> None:
    """A token without auto-activation stays inactive until a person enters the code. A wrong code spends a PIN try."""
    control.ejbca("node1", "create_token", name="Manual", slot=1, id=5, auto_activation=False)
    browser = Browser(control, "node1", "operator")
    code = (control.folder / "ejbca" / "activation-code").read_text(encoding="ascii").strip()

    def enter(value: str) -> Page:
        page = browser(LIST)
        cell = row(page, "Manual")[8]
        field = next(one for one in cell.iter("input") if one.get("type") == "password")
        return browser.press(page, "cryptotokens", button(cell, "Activate"), **{field.get("name", ""): value})

    assert enter("wrong").messages[0][0] == "errorMessage"
    assert control.ejbca("node1", "pin_state", slot=1)["tries_left"] == 2
    assert button(row(enter(code), "Manual")[8], "Deactivate") is not None
    assert browser.token(5).checked("currentCryptoTokenActive")
    assert control.ejbca("node1", "pin_state", slot=1)["tries_left"] == 3
    page = browser(LIST)
    browser.press(page, "cryptotokens", button(row(page, "Manual")[8], "Deactivate"))
    assert not browser.token(5).checked("currentCryptoTokenActive")
    page = browser(LIST)
    browser.press(page, "cryptotokens", button(row(page, "Manual")[8], "Delete"))
    assert [text_of(cells[0]) for cells in browser(LIST).cells("cryptotokens")] == [TOKEN]


def test_delete_of_used_token_fails(control: Control) -> None:
    """The token of a CA cannot be deleted."""
    browser = Browser(control, "node1", "operator")
    page = browser(LIST)
    after = browser.press(page, "cryptotokens", button(row(page, TOKEN)[8], "Delete"))
    assert after.messages[0][0] == "errorMessage"
    assert row(after, TOKEN)


# The REST API with the accounts of EJBCA


def test_rest_accounts_have_their_rights(control: Control) -> None:
    """The reader reads, and the operator also generates and reactivates. Neither is a client of the node itself."""
    reader, operator = (EjbcaClient(control, "node2", client=f"ejbca-{name}") for name in ("reader", "operator"))
    body = {"key_pair_alias": "byOperator", "key_alg": "EC", "key_spec": "P-256"}
    assert [client("GET", "/ca").status for client in (reader, operator)] == [200, 200]
    assert [client("POST", f"/cryptotoken/{TOKEN}/generatekeys", body).status for client in (reader, operator)] == [
        403,
        201,
    ]
    assert [client("PUT", f"/cryptotoken/{TOKEN}/deactivate").status for client in (reader, operator)] == [403, 200]
    assert [client("POST", f"/cryptotoken/{TOKEN}/byOperator/removekeys").status for client in (reader, operator)] == [
        403
    ] * 2
    assert [client.enroll().status for client in (reader, operator)] == [403, 201]
    text = control.inventory_file.read_text(encoding="utf-8")
    for name in ("reader", "operator"):
        for option, suffix in (("client_cert", "pem"), ("client_key", "key")):
            assert f'utrust_ejbca_{name}_{option}: "{control.folder}/clients/ejbca-{name}.{suffix}"' in text
