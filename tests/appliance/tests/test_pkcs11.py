# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HSM backend pkcs11: what a third party's client sees in the tokens, and that a token survives whatever happens to its process.

That it behaves as the backend software is tested where that is tested: every test that asks for the fixture `hsm` runs with both.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import signal
import subprocess
import typing as t

import pytest
from utrust_appliance.control import Control
from utrust_appliance.errors import OperationError
from utrust_appliance.testing import Api, cluster

from tests.support.opensc import pkcs11_tool, token_objects
from tests.support.wait import wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAIRS = ("rsa-2048", "rsa-3072", "rsa-4096", "ec-p256", "ec-p384", "ec-p521")
SECRETS = ("aes-128", "aes-256", "generic")
DEAD = (OSError, http.client.HTTPException)


# What a third party sees


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    """Two nodes; a key of each kind was generated on node1 and has come to node2 in a package."""
    with cluster(nodes=2, restored=2, keys=1, faults=True, hsm="pkcs11") as running:
        for kind in (*PAIRS, *SECRETS):
            running.generate_key("node1", f"travels-{kind}", kind)
        target = Api(running, "node2")
        staged = target("POST", "/hsm/imports", Api(running, "node1").package()).data
        assert target.apply(staged).data["state"] == "applied"
        yield running


def place_of(control: Control, node: str) -> Path:
    return control.folder / "nodes" / node / "hsm"


@pytest.mark.parametrize("kind", PAIRS)
def test_pkcs11_tool_signs_on_node2_and_openssl_verifies_under_the_public_key_of_node1(
    control: Control, tmp_path: Path, kind: str
) -> None:
    place, (key_id,) = (
        place_of(control, "node2"),
        {key["id"] for node in ("node1", "node2") for key in control.keys(node) if key["label"] == f"travels-{kind}"},
    )
    message, digest, signature, public = (tmp_path / name for name in ("message", "digest", "signature", "public.pem"))
    message.write_bytes(b"a certificate to be signed")
    digest.write_bytes(hashlib.sha256(message.read_bytes()).digest())
    public.write_text(control.public_key("node1", f"travels-{kind}"), encoding="ascii")
    seen = {(one.kind, one.id) for one in token_objects(place) if one.label == f"travels-{kind}"}
    assert seen == {("Private Key", key_id), ("Public Key", key_id)}
    if kind.startswith("rsa"):
        how, what = ["--mechanism", "SHA256-RSA-PKCS"], message
        verify = ["dgst", "-sha256", "-verify", str(public), "-signature", str(signature), str(message)]
    else:
        how, what = ["--mechanism", "ECDSA", "--signature-format", "openssl"], digest
        verify = ["pkeyutl", "-verify", "-pubin", "-inkey", str(public), "-sigfile", str(signature), "-in", str(digest)]
    pkcs11_tool(place, "--sign", *how, "--id", key_id, "--input-file", str(what), "--output-file", str(signature))

    assert subprocess.run(["openssl", *verify], capture_output=True, check=False).returncode == 0
    for file in (message, digest):
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert subprocess.run(["openssl", *verify], capture_output=True, check=False).returncode != 0


def test_secret_keys_come_with_label_and_id_and_the_same_value(control: Control) -> None:
    seen = {(one.kind, one.label, one.id) for one in token_objects(place_of(control, "node2"))}
    for kind in SECRETS:
        one, two = (
            next(key for key in control.keys(node) if key["label"] == f"travels-{kind}") for node in ("node1", "node2")
        )
        assert one == two  # with its check value
        assert ("Secret Key", one["label"], one["id"]) in seen


def test_the_mbk_is_in_the_token_and_does_not_come_out_and_no_key_does_in_clear(
    control: Control, tmp_path: Path
) -> None:
    for node in ("node1", "node2"):
        place = place_of(control, node)
        access = [one.access for one in token_objects(place) if one.label == "KEYOPS"]
        assert access == ["sensitive", "sensitive"]  # the MBK and the key that authenticates packages; not: extractable
        secret = [one for one in token_objects(place) if one.kind != "Public Key" and one.label.startswith("travels-")]
        assert len(secret) == len(PAIRS) + len(SECRETS)
        assert all("sensitive" in one.access for one in secret)
    for label in ("KEYOPS", "travels-aes-256"):
        file = tmp_path / label
        read = ["--read-object", "--type", "secrkey", "--label", label, "--output-file", str(file)]
        pkcs11_tool(place_of(control, "node2"), *read, ok=False)
        assert not file.exists()


def test_what_a_third_party_changes_in_a_token_shows_after_a_restart(control: Control) -> None:
    place = place_of(control, "node1")
    control.generate_key("node1", "loses-its-public-key")
    control.generate_key("node1", "is-destroyed")
    pkcs11_tool(place, "--delete-object", "--type", "pubkey", "--label", "loses-its-public-key")
    pkcs11_tool(place, "--delete-object", "--type", "privkey", "--label", "is-destroyed")
    pkcs11_tool(place, "--keypairgen", "--key-type", "EC:prime256v1", "--label", "of-somebody-else", "--id", "77")
    control.down()
    Control.up(control.folder, faults=True)
    usable = {key["label"]: key["usable"] for key in control.keys("node1")}
    assert usable["loses-its-public-key"] is False
    assert "is-destroyed" not in usable
    labels = [one.label for one in token_objects(place)]
    assert "is-destroyed" not in labels
    assert labels.count("of-somebody-else") == 2
    control.delete_key("node1", "loses-its-public-key")


# The tokens' processes


def token_processes(label: str) -> list[str]:
    listed = subprocess.run(["ps", "-axwwo", "args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if "pkcs11_token" in line and line.endswith(label)]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_of_a_token_outlives_the_appliance(control: Control, how: signal.Signals) -> None:
    label, before = control.status()["id"][:8], control.keys("node2")
    assert len(token_processes(label)) == 2
    os.kill(control.pid, how)
    wait_for(lambda: not token_processes(label), 20)
    control.down()
    Control.up(control.folder, faults=True)
    assert control.keys("node2") == before


@pytest.mark.parametrize("change", ["import", "guided restore"])
def test_kill_while_a_token_is_written_leaves_the_old_keys_and_no_remains_in_the_token(
    control: Control, change: str
) -> None:
    target, place = Api(control, "node2"), place_of(control, "node2")
    for number in range(2):
        control.generate_key("node1", f"{change.replace(' ', '-')}-{number}")
    if change == "guided restore":
        control.factory_reset("node2")
        assert token_objects(place) == []
    before, seen = control.keys("node2"), token_objects(place)
    control.fault("crash_at", node="node2", point="hsm.in_token")
    if change == "import":
        staged = target("POST", "/hsm/imports", Api(control, "node1").package()).data
        with pytest.raises(DEAD):
            target.apply(staged)
    else:
        with pytest.raises(OperationError):
            control.restore("node2")
    assert len(token_objects(place)) > len(seen)  # it was in the middle of writing
    wait_for(lambda: not control.down())
    Control.up(control.folder, faults=True)
    assert control.keys("node2") == before
    assert token_objects(place) == seen
    if change == "import":
        assert target.apply(staged).data["state"] == "applied"
    else:
        control.restore("node2")
    assert control.node("node2")["keys_digest"] == control.node("node1")["keys_digest"]
