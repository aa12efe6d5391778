# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a node says of its keys: digest, fingerprints, pages; and that they lie encrypted on disk."""

from __future__ import annotations

import hashlib
import json
import typing as t

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from utrust_appliance import key_material
from utrust_appliance.hsm.backends import HsmBackend
from utrust_appliance.hsm.base import KeySetChange, WrappedKey
from utrust_appliance.keys import KeyIdentity, KeyRef, SlotSettings, keys_digest
from utrust_appliance.mbk import Mbk, combine
from utrust_appliance.testing import Api, cluster

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control


@pytest.fixture(scope="module")
def control(hsm: str) -> Iterator[Control]:
    with cluster(nodes=2, restored=2, hsm=hsm) as running:
        yield running


def test_keys_digest_is_the_one_computed_by_hand() -> None:
    first = KeyIdentity(0, "signKey-2026", "01", "rsa", 3072, None, f"sha256:{'a1' * 32}")
    second = KeyIdentity(1, "Schlüssel", "02", "ec", 256, "P-256", f"sha256:{'b2' * 32}")
    lines = (
        b'[0,"signKey-2026","01","rsa",3072,null,"sha256:' + b"a1" * 32 + b'"]\n'
        b'[1,"Schl\\u00fcssel","02","ec",256,"P-256","sha256:' + b"b2" * 32 + b'"]\n'
    )  # fmt: skip
    assert keys_digest([second, first]) == "sha256:" + hashlib.sha256(lines).hexdigest()
    assert keys_digest([]) == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_check_values_are_those_of_pkcs11() -> None:
    # FIPS 197 C.3 has this key; its encryption of the zero block starts with f29000 (computed with OpenSSL's command line).
    aes = key_material.facts_of("aes", bytes(range(32)))
    assert aes.fingerprint == "kcv:f29000"
    generic = key_material.facts_of("generic", b"abc")
    assert generic.fingerprint == "kcv:a9993e"  # SHA-1("abc"), FIPS 180-4


def test_pages_are_the_inventory_in_order_and_an_etag_saves_them(control: Control) -> None:
    api = Api(control, "node1")
    keys: list[dict[str, t.Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = api("GET", f"/hsm/keys?limit=3{'&cursor=' + cursor if cursor else ''}")
        keys += page.data["hsm_keys"]
        cursor = page.data["next_cursor"]
    order = [(key["slot"], key["label"], key["id"], key["fingerprint"]) for key in keys]
    assert order == sorted(order)
    assert len(keys) == 10
    digest = keys_digest(KeyIdentity.from_dict(key) for key in keys)
    assert page.headers["ETag"] == f'"{digest}"'
    again = api("GET", "/hsm/keys", if_none_match=f'"{digest}"')
    assert (again.status, again.data) == (304, b"")
    assert api("GET", "/node").data["keys_digest"] == digest
    assert Api(control, "node2")("GET", "/node").data["keys_digest"] == digest


@pytest.mark.parametrize("cursor", ["x", "YWZ0ZXI6LTE=", "%00", "a" * 201])
def test_cursor_that_was_never_given_out_is_refused(control: Control, cursor: str) -> None:
    assert Api(control, "node1")("GET", f"/hsm/keys?cursor={cursor}").code == "invalid_request"


@pytest.mark.parametrize("kind", ["rsa-3072", "ec-p256", "ec-p384", "ec-p521"])
def test_a_key_of_any_kind_signs_and_its_fingerprint_is_of_its_public_key(control: Control, kind: str) -> None:
    (made,) = control.generate_key("node1", f"sign-{kind}", kind)
    public = serialization.load_pem_public_key(control.public_key("node1", f"sign-{kind}").encode())
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert made["fingerprint"] == f"sha256:{hashlib.sha256(der).hexdigest()}"
    signature = control.sign("node1", f"sign-{kind}", b"message")
    if isinstance(public, rsa.RSAPublicKey):
        public.verify(signature, b"message", padding.PKCS1v15(), hashes.SHA256())
    else:
        assert isinstance(public, ec.EllipticCurvePublicKey)
        digest = {"P-256": hashes.SHA256(), "P-384": hashes.SHA384(), "P-521": hashes.SHA512()}[made["curve"]]
        public.verify(signature, b"message", ec.ECDSA(digest))


def test_a_damaged_key_and_a_key_of_a_slot_that_is_not_activated_are_unusable(control: Control) -> None:
    control.generate_key("node2", "damaged")
    control.damage_key("node2", "damaged")
    control.set_slot("node2", 1, activation="manual", activated=False)
    node, keys = Api(control, "node2")("GET", "/node").data, Api(control, "node2")("GET", "/hsm/keys").data["hsm_keys"]
    unusable = {key["label"] for key in keys if not key["usable"]}
    assert unusable == {"damaged", *(key["label"] for key in keys if key["slot"] == 1)}
    assert node["unusable_key_count"] == len(unusable)
    control.set_slot("node2", 1, activation="auto", activated=True)


def test_shares_of_two_cards_are_the_mbk_and_one_is_not() -> None:
    mbk = Mbk.generate("TEST", 2, 3)
    shares = mbk.split()
    assert {combine([shares[a], shares[b]]) for a, b in ((0, 1), (0, 2), (1, 2))} == {mbk.key}
    assert combine(shares[:1]) != mbk.key


def test_no_private_key_and_no_mbk_is_in_clear_in_any_file(tmp_path: Path, hsm: str) -> None:
    mbk, place = Mbk.generate("TEST", 2, 3), KeyRef(0, "known", "01")
    device = HsmBackend.of(hsm, None).open(tmp_path / "hsm", lambda dummy: None, "test")
    device.initialize(mbk, [SlotSettings(0, "signing")])
    facts, material = key_material.generate("ec-p256")
    assert key_material.facts_of("ec", material) == facts
    identity = facts.identity(place)
    device.apply(KeySetChange("job", [WrappedKey(identity, facts.public, mbk.wrap(material))], [], []))
    private = (
        t.cast("ec.EllipticCurvePrivateKey", key_material.load_private(material))
        .private_numbers()
        .private_value.to_bytes(32, "big")
    )
    content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())  # the write-ahead log, too
    device.close()
    content += b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert hashlib.sha256(material).digest() != hashlib.sha256(b"").digest()
    assert identity.label.encode() in content  # we are looking at the right files
    assert private not in content
    assert mbk.key not in content


def test_what_a_cluster_keeps_is_private_to_its_owner(control: Control) -> None:
    assert control.folder.stat().st_mode & 0o777 == 0o700
    readable = [path for path in control.folder.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    assert readable == []
    fingerprints = json.loads((control.folder / "fingerprints.json").read_text(encoding="utf-8"))
    assert fingerprints["node1"] == control.node("node1")["tls_fingerprint"]
