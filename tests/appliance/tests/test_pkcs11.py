# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HSM backend pkcs11: tokens as other programs use them, and kills of token processes.

Tests with the fixture `hsm` run with all backends.
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


# Access by other programs


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    """Two nodes. node2 has imported a key of each kind from node1."""
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
def test_pkcs11_tool_signature_verifies_on_other_node(control: Control, tmp_path: Path, kind: str) -> None:
    """OpenSSL verifies a signature of node2 with the public key of node1."""
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


def test_secret_keys_keep_label_id_and_value(control: Control) -> None:
    """Imported secret keys keep label, id and value."""
    seen = {(one.kind, one.label, one.id) for one in token_objects(place_of(control, "node2"))}
    for kind in SECRETS:
        one, two = (
            next(key for key in control.keys(node) if key["label"] == f"travels-{kind}") for node in ("node1", "node2")
        )
        assert one == two  # with the check value
        assert ("Secret Key", one["label"], one["id"]) in seen


def test_token_does_not_export_plaintext(control: Control, tmp_path: Path) -> None:
    """The token never exports the MBK or plaintext keys."""
    for node in ("node1", "node2"):
        place = place_of(control, node)
        access = [one.access for one in token_objects(place) if one.label == "KEYOPS"]
        assert access == [
            "sensitive",
            "sensitive",
        ]  # the MBK and the key that authenticates packages are not extractable
        secret = [one for one in token_objects(place) if one.kind != "Public Key" and one.label.startswith("travels-")]
        assert len(secret) == len(PAIRS) + len(SECRETS)
        assert all("sensitive" in one.access for one in secret)
    for label in ("KEYOPS", "travels-aes-256"):
        file = tmp_path / label
        read = ["--read-object", "--type", "secrkey", "--label", label, "--output-file", str(file)]
        pkcs11_tool(place_of(control, "node2"), *read, ok=False)
        assert not file.exists()


def test_external_token_changes_visible_after_restart(control: Control) -> None:
    """Changes of other programs in a token are visible after a restart."""
    place = place_of(control, "node1")
    control.generate_key("node1", "loses-its-public-key")
    control.generate_key("node1", "is-destroyed")
    pkcs11_tool(place, "--delete-object", "--type", "pubkey", "--label", "loses-its-public-key")
    pkcs11_tool(place, "--delete-object", "--type", "privkey", "--label", "is-destroyed")
    pkcs11_tool(place, "--keypairgen", "--key-type", "EC:prime256v1", "--label", "foreign", "--id", "77")
    control.down()
    Control.up(control.folder, faults=True)
    usable = {key["label"]: key["usable"] for key in control.keys("node1")}
    assert usable["loses-its-public-key"] is False
    assert "is-destroyed" not in usable
    labels = [one.label for one in token_objects(place)]
    assert "is-destroyed" not in labels
    assert labels.count("foreign") == 2
    control.delete_key("node1", "loses-its-public-key")


# Token processes


def token_processes(label: str) -> list[str]:
    listed = subprocess.run(["ps", "-axwwo", "args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if "pkcs11_token" in line and line.endswith(label)]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_token_processes_end_with_simulator(control: Control, how: signal.Signals) -> None:
    """Token processes end with the simulator."""
    label, before = control.status()["id"][:8], control.keys("node2")
    assert len(token_processes(label)) == 2
    os.kill(control.pid, how)
    wait_for(lambda: not token_processes(label), 20)
    control.down()
    Control.up(control.folder, faults=True)
    assert control.keys("node2") == before


@pytest.mark.parametrize("change", ["import", "guided restore"])
def test_kill_during_token_write_keeps_old_keys(control: Control, change: str) -> None:
    """A kill during a write to the token keeps the old keys and leaves no objects."""
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
    assert len(token_objects(place)) > len(seen)  # the write was interrupted
    wait_for(lambda: not control.down())
    Control.up(control.folder, faults=True)
    assert control.keys("node2") == before
    assert token_objects(place) == seen
    if change == "import":
        assert target("GET", f"/hsm/imports/{staged['id']}").data["problem"]["code"] == "interrupted"
        staged = target("POST", "/hsm/imports", Api(control, "node1").package()).data
        assert target.apply(staged).data["state"] == "applied"
    else:
        control.restore("node2")
    assert control.node("node2")["keys_digest"] == control.node("node1")["keys_digest"]
