# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Key types of the contract, keys without a label, and several keys in one place."""

from __future__ import annotations

import base64
import hashlib
import json
import typing as t
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from utrust_appliance import key_material
from utrust_appliance.behavior import Behavior
from utrust_appliance.cli import main
from utrust_appliance.errors import OperationError
from utrust_appliance.keys import KeyEntry, KeyIdentity, keys_digest
from utrust_appliance.testing import Api, cluster

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

VECTORS = json.loads((Path(__file__).resolve().parents[3] / "docs/api/keys-digest-vectors.json").read_text("utf-8"))
# `size` and `curve` of the contract for each kind of the simulator.
MEMBERS = {
    "ec-secp256k1": ("ec", 256, "secp256k1"),
    "ec-brainpoolp256r1": ("ec", 256, "brainpoolP256r1"),
    "ed25519": ("eddsa", 256, "Ed25519"),
    "ed448": ("eddsa", 456, "Ed448"),
    "x25519": ("x25519", 256, None),
    "x448": ("x448", 448, None),
    "ml-dsa-44": ("ml-dsa", None, "ML-DSA-44"),
    "ml-dsa-65": ("ml-dsa", None, "ML-DSA-65"),
    "ml-dsa-87": ("ml-dsa", None, "ML-DSA-87"),
    "ml-kem-768": ("ml-kem", None, "ML-KEM-768"),
    "aes-192": ("aes", 192, None),
    "des3-112": ("des3", 112, None),
    "des3-168": ("des3", 168, None),
}
MIX = dict.fromkeys(MEMBERS, 1)
TOKEN_KINDS = ("ec-secp256k1", "ec-brainpoolp256r1", "aes-192", "des3-168")


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    with cluster(nodes=2, restored=2, keys=len(MIX), key_mix=MIX) as running:
        yield running


def listed(control: Control, node: str) -> tuple[list[dict[str, t.Any]], str]:
    page = Api(control, node)("GET", "/hsm/keys?limit=1000").data
    return page["hsm_keys"], page["keys_digest"]


@pytest.mark.parametrize("vector", VECTORS["keys_digest"], ids=lambda vector: vector["name"])
def test_keys_digest_matches_vector(vector: dict[str, t.Any]) -> None:
    """The keys digest and its lines match the vectors of the contract."""
    keys = [KeyIdentity.from_dict(key) for key in vector["keys"]]
    assert sorted(key.line().decode("ascii").removesuffix("\n") for key in keys) == vector["lines"]
    assert keys_digest(keys) == vector["keys_digest"]


def vector_facts(vector: dict[str, t.Any]) -> key_material.Facts:
    if "subject_public_key_info" not in vector:
        return key_material.facts_of(vector["type"], bytes.fromhex(vector["secret"]))
    der = base64.b64decode(vector["subject_public_key_info"])
    return key_material.facts_of_public(serialization.load_der_public_key(der))


@pytest.mark.parametrize("vector", VECTORS["fingerprint"], ids=lambda vector: f"{vector['type']}-{vector['size']}")
def test_key_fingerprint_matches_vector(vector: dict[str, t.Any]) -> None:
    """The key fingerprint, size and curve of a key match the vectors of the contract."""
    facts = vector_facts(vector)
    assert facts[:4] == (vector["type"], vector["size"], vector["curve"], vector["fingerprint"])


def test_key_types_listed_with_members_of_contract(control: Control) -> None:
    """A node lists each type with the size and curve of the contract, and a restore carries all of them."""
    keys, digest = listed(control, "node1")
    assert {(key["type"], key["size"], key["curve"]) for key in keys} == set(MEMBERS.values())
    assert digest == keys_digest(KeyIdentity.from_dict(key) for key in keys)
    assert listed(control, "node2") == (keys, digest)


def test_signature_keys_sign(control: Control) -> None:
    """EdDSA and ML-DSA keys sign on a restored node, and their public keys verify the signatures."""
    keys, dummy = listed(control, "node2")
    signed = [key for key in keys if key["type"] in key_material.SIGNATURE_TYPES]
    assert {key["type"] for key in signed} == {"ec", "eddsa", "ml-dsa"}
    for key in signed:
        signature = control.sign("node2", key["label"], b"message")
        public: t.Any = serialization.load_pem_public_key(control.public_key("node2", key["label"]).encode())
        der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        assert key["fingerprint"] == f"sha256:{hashlib.sha256(der).hexdigest()}"
        hashed = [ec.ECDSA(key_material.CURVES[key["curve"]][1])] if key["type"] == "ec" else []
        public.verify(signature, b"message", *hashed)


@pytest.mark.parametrize("kind", ["x25519", "ml-kem-768", "des3-168"])
def test_key_of_other_type_does_not_sign(control: Control, kind: str) -> None:
    """A key for key exchange or encryption does not sign."""
    control.generate_key("node1", f"no-signature-{kind}", kind)
    with pytest.raises(OperationError, match="cannot sign"):
        control.sign("node1", f"no-signature-{kind}", b"message")


def test_des3_keys_have_odd_parity() -> None:
    """Generated DES3 keys have odd parity, as PKCS #11 requires."""
    for kind, length in (("des3-112", 16), ("des3-168", 24)):
        dummy, material = key_material.generate(kind)
        assert len(material) == length
        assert {byte.bit_count() % 2 for byte in material} == {1}
    with pytest.raises(ValueError, match="8 bytes"):
        key_material.facts_of("des3", bytes(8))


def test_cli_generates_keys_without_label(control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line generates keys without a label, and an import carries them."""
    place = ["--node", "node1", "--dir", str(control.folder)]
    for kind in ("ed25519", "ml-dsa-65"):
        assert main(["key", "generate", "--label", "", "--type", kind, *place]) == 0
    assert "ML-DSA-65" in capsys.readouterr().out
    staged = Api(control, "node2")("POST", "/hsm/imports", Api(control, "node1").package()).data
    added = [row for row in staged["rows"] if row["label"] == ""]
    assert {(row["type"], row["action"]) for row in added} == {("eddsa", "add"), ("ml-dsa", "add")}
    with pytest.raises(OperationError, match="2 keys"):
        control.sign("node1", "", b"message")
    fingerprint = next(row["fingerprint"] for row in added if row["type"] == "eddsa")
    assert control.sign("node1", "", b"message", fingerprint=fingerprint)


def test_keys_in_same_place_are_separate(hsm: str) -> None:
    """Keys with the same slot, label and id are listed, restored, imported and deleted one by one."""
    with cluster(nodes=2, restored=2, keys=1, key_mix={"aes-128": 1}, hsm=hsm) as control:
        made = [control.generate_key("node1", "twin", "ec-p256", key_id="0a")[0] for dummy in range(3)]
        prints = {key["fingerprint"] for key in made}
        signatures = {control.sign("node1", "twin", b"m", fingerprint=one) for one in prints}
        assert len(prints) == len(signatures) == 3
        control.factory_reset("node2")
        control.restore("node2")
        assert listed(control, "node2") == listed(control, "node1")
        gone = made[0]["fingerprint"]
        control.delete_key("node2", "twin", fingerprint=gone)
        assert {key["fingerprint"] for key in control.keys("node2") if key["label"] == "twin"} == prints - {gone}
        assert control.sign("node2", "twin", b"m", fingerprint=made[1]["fingerprint"])
        with pytest.raises(OperationError, match="does not have"):
            control.sign("node2", "twin", b"m", fingerprint=gone)


@pytest.mark.parametrize("kind", ["ed25519", "ml-dsa-65", "des3-112"])
def test_token_rejects_unsupported_types(control: Control, kind: str) -> None:
    """The backend pkcs11 generates what SoftHSM can wrap, and rejects other types with their names."""
    with cluster(nodes=1, keys=len(TOKEN_KINDS), key_mix=dict.fromkeys(TOKEN_KINDS, 1), hsm="pkcs11") as token:
        keys, digest = listed(token, "node1")
        assert {(key["type"], key["size"], key["curve"]) for key in keys} == {MEMBERS[one] for one in TOKEN_KINDS}
        with pytest.raises(OperationError, match=f"does not support the key type {kind}"):
            token.generate_key("node1", "unsupported", kind)
        assert listed(token, "node1") == (keys, digest)
    assert control.generate_key("node1", f"supported-{kind}", kind)


def test_failed_import_keeps_key_until_its_replacement() -> None:
    """If keys are written one by one, a key of the HSM is removed only with the key that replaces it."""
    with cluster(nodes=2, restored=2, keys=1, key_mix={"ec-p256": 1}, faults=True) as control:
        control.set_profile("key-by-key")
        (old,) = control.generate_key("node2", "a", "ec-p256", key_id="01")
        (first,) = control.generate_key("node1", "a", "ec-p256", key_id="00")
        control.generate_key("node1", "a", "ec-p256", key_id="01")
        control.fault("import_failure", node="node2", after=1)
        Api(control, "node2")("POST", "/hsm/imports", Api(control, "node1").package())
        failed = Api(control, "node2")("GET", "/hsm/imports").data["imports"][0]
        rows = Api(control, "node2")("GET", f"/hsm/imports/{failed['id']}").data["rows"]
        outcomes = {row["id"]: (row["action"], row["outcome"]) for row in rows if row["label"] == "a"}
        assert outcomes == {"00": ("add", "done"), "01": ("replace", "pending")}
        kept = {one["fingerprint"] for one in control.keys("node2") if one["label"] == "a"}
        assert kept == {old["fingerprint"], first["fingerprint"]}


def key(label: str, key_id: str, fingerprint: str, slot: int = 0) -> KeyIdentity:
    return KeyIdentity(slot, label, key_id, "ec", 256, "P-256", f"sha256:{fingerprint * 64}")


def planned(effect: str, current: list[KeyIdentity], package: list[KeyIdentity]) -> list[tuple[str, str, str | None]]:
    """Action, fingerprint and current fingerprint of each row, by their first digit."""
    plan = Behavior.of([f"effect={effect}"]).plan_import([KeyEntry(one, usable=True) for one in current], package)
    return [
        (row["action"], row["fingerprint"][7], row["current_fingerprint"] and row["current_fingerprint"][7])
        for row in plan.rows
    ]


def test_rows_of_same_label_paired_in_order() -> None:
    """Each key of the HSM is paired once: equal keys first, then the same id, then the same label."""
    current = [key("a", "01", "1"), key("a", "01", "2"), key("a", "02", "3"), key("a", "03", "4"), key("b", "01", "5")]
    package = [key("a", "01", "2"), key("a", "01", "6"), key("a", "02", "7"), key("a", "09", "8"), key("a", "0a", "9")]
    assert planned("overwriting", current, package) == [
        ("unchanged", "2", "2"),
        ("replace", "6", "1"),
        ("replace", "7", "3"),
        ("replace", "8", "4"),
        ("add", "9", None),
    ]


def test_rows_of_same_id_never_paired_by_label() -> None:
    """A key of the HSM whose place is in the package is not paired by its label only."""
    current = [key("a", "01", "1"), key("a", "01", "2")]
    package = [key("a", "01", "3"), key("a", "02", "4")]
    assert planned("overwriting", current, package) == [("replace", "3", "1"), ("add", "4", None)]
    assert planned("replacing", current, package)[-1] == ("remove", "2", "2")


def test_additive_rows_keep_keys_with_same_id_only() -> None:
    """With the effect `additive`, only the same place is paired, and its key stays."""
    current = [key("a", "01", "1"), key("a", "02", "2")]
    package = [key("a", "01", "3"), key("a", "03", "4")]
    assert planned("additive", current, package) == [("keep", "3", "1"), ("add", "4", None)]
