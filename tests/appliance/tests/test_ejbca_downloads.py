# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The download of public keys from the simulated Admin Web of EJBCA."""

from __future__ import annotations

import re
import subprocess
import typing as t

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from utrust_appliance.ejbca.admin_web.spki import subject_key_id
from utrust_appliance.ejbca.ejbca_node import TOKEN_ID
from utrust_appliance.testing import cluster

from tests.support.admin_web_client import Browser
from tests.support.ejbca_client import FIRST

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

AWKWARD = [
    "a b",
    "a+b",
    "A b",
    'x&y<z>"q"\'',
    "50%",
    "#1;2=3/4",
    " lead",
    "trail ",
    "schlüssel",
    "l" * 128,
    "päß/%2F+&",
]
KINDS = {"edwards": "ed25519", "exchange": "x25519", "quantum": "ml-dsa-65"}


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    with cluster(nodes=1, ejbca=True) as running:
        for alias in AWKWARD:
            running.generate_key("node1", alias)
        for alias, kind in KINDS.items():
            running.generate_key("node1", alias, kind)
        running.ejbca("node1", "deactivate")
        running.ejbca("node1", "create_token", name="Backup <1>", slot=1, id=-5, placeholders=["template"])
        running.ejbca("node1", "create_token", name="aManual", slot=1, id=77, auto_activation=False, kind="ng")
        yield running


@pytest.fixture(autouse=True)
def defaults(control: Control) -> Iterator[None]:
    yield
    control.ejbca("node1", "flags", reset=True)


def test_download_returns_key_of_every_alias(control: Control) -> None:
    """The servlet returns the public key of every alias if the client encodes the alias itself."""
    number, browser = TOKEN_ID, Browser(control, "node1")
    keys = browser.token(number).key_ids
    assert set(AWKWARD) <= set(keys)
    for alias, skid in keys.items():
        page = browser.download(number, alias)
        assert (page.status, page.headers["Content-Type"]) == (200, "application/octet-stream")
        assert re.fullmatch(r'attachment; filename="[\w.-]*\.pem"', page.headers["Content-disposition"].strip())
        public = load_pem_public_key(page.body)
        if alias not in ("quantum", "exchange"):
            assert x509.SubjectKeyIdentifier.from_public_key(public).digest.hex() == skid  # type: ignore[arg-type]


def test_printed_link_of_alias_names_another_key(control: Control) -> None:
    """The link on the page does not encode a plus sign, so the link of `a+b` returns the key `a b`."""
    number, browser = TOKEN_ID, Browser(control, "node1")
    page = browser.token(number)
    link = page.key_row("a+b")[5].find("a")
    assert link is not None
    followed = browser(f"cryptotoken/{link.get('href')}")
    skid = x509.SubjectKeyIdentifier.from_public_key(load_pem_public_key(followed.body)).digest.hex()  # type: ignore[arg-type]
    assert skid == page.key_ids["a b"] != page.key_ids["a+b"]


def test_download_explicit_parameters_keep_key_id(control: Control, tmp_path: Path) -> None:
    """Explicit EC parameters change the PEM, and neither the point nor the SubjectKeyID."""
    number, browser = TOKEN_ID, Browser(control, "node1")
    named = browser.download(number, "a b").body
    control.ejbca("node1", "flags", explicit_parameters=True)
    for alias in ("a b", "crlKey-2025"):
        explicit = browser.download(number, alias).body
        (tmp_path / "key.pem").write_bytes(explicit)
        command = ["openssl", "pkey", "-pubin", "-in", str(tmp_path / "key.pem"), "-outform", "DER"]
        der = subprocess.run(command, capture_output=True, check=True).stdout
        assert subject_key_id(der) == browser.token(number).key_ids[alias]
        assert explicit != named
    assert browser.download(number, FIRST).body == control.public_key("node1", FIRST).encode()


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?cryptoTokenId=abc&alias=x", 404),
        ("?alias=x", 404),
        ("?cryptoTokenId=12345&alias=x", 500),
        ("?cryptoTokenId=77&alias=recoveryKey-2025", 500),
        ("?cryptoTokenId=-5&alias=nothing", 500),
        ("?cryptoTokenId=-5&alias=template", 500),
    ],
)
def test_download_errors(control: Control, query: str, status: int) -> None:
    """An error has its status and a page without details."""
    page = Browser(control, "node1")(f"cryptotoken/cryptoTokenDownloads{query}")
    assert page.status == status
    assert "nothing" not in page.text


def test_download_without_rights(control: Control) -> None:
    """Without a certificate or a role, the servlet rejects the request."""
    number = TOKEN_ID
    assert Browser(control, "node1", None).download(number, FIRST).status == 500
    assert Browser(control, "node1", "guest").download(number, FIRST).status == 403
    control.ejbca("node1", "flags", version="7.4.3")
    assert Browser(control, "node1", "guest").download(number, FIRST).status == 500
