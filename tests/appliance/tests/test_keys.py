# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys of a node: digest, key fingerprints, pages, and encryption on disk."""

from __future__ import annotations

import hashlib
import json
import re
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


def test_keys_digest_matches_manual_value() -> None:
    """The keys digest matches a manually computed value."""
    first = KeyIdentity(0, "signKey-2026", "01", "rsa", 3072, None, f"sha256:{'a1' * 32}")
    second = KeyIdentity(1, "Schlüssel", "02", "ec", 256, "P-256", f"sha256:{'b2' * 32}")
    lines = (
        b'[0,"signKey-2026","01","rsa",3072,null,"sha256:' + b"a1" * 32 + b'"]\n'
        b'[1,"Schl\\u00fcssel","02","ec",256,"P-256","sha256:' + b"b2" * 32 + b'"]\n'
    )  # fmt: skip
    assert keys_digest([second, first]) == "sha256:" + hashlib.sha256(lines).hexdigest()
    assert keys_digest([]) == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_check_values_match_pkcs11() -> None:
    """Key check values match PKCS #11."""
    # Key of FIPS 197 C.3. The encrypted zero block starts with f29000 (computed with openssl).
    aes = key_material.facts_of("aes", bytes(range(32)))
    assert aes.fingerprint == "kcv:f29000"
    generic = key_material.facts_of("generic", b"abc")
    assert generic.fingerprint == "kcv:a9993e"  # SHA-1("abc"), FIPS 180-4


def test_key_pages_in_order_with_etag(control: Control) -> None:
    """Pages have all keys in order, and an ETag avoids a transfer."""
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
    tag = page.headers["ETag"]
    assert re.fullmatch(r'W/"[!#-~]{1,100}"', tag)
    again = api("GET", "/hsm/keys", if_none_match=tag)
    assert (again.status, again.data, again.headers["ETag"]) == (304, b"", tag)
    assert api("GET", "/node").data["keys_digest"] == digest
    assert Api(control, "node2")("GET", "/node").data["keys_digest"] == digest


@pytest.mark.parametrize("cursor", ["x", "YWZ0ZXI6LTE=", "%00", "a" * 201])
def test_key_pages_unknown_cursor_rejected(control: Control, cursor: str) -> None:
    """An unknown cursor is rejected."""
    assert Api(control, "node1")("GET", f"/hsm/keys?cursor={cursor}").code == "invalid_request"


@pytest.mark.parametrize("kind", ["rsa-3072", "ec-p256", "ec-p384", "ec-p521"])
def test_key_signs_and_matches_fingerprint(control: Control, kind: str) -> None:
    """Keys of every kind sign, and the key fingerprint matches the public key."""
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


def test_key_damaged_or_in_inactive_slot_unusable(control: Control) -> None:
    """A damaged key and a key in an inactive slot are unusable."""
    control.generate_key("node2", "damaged")
    control.damage_key("node2", "damaged")
    control.set_slot("node2", 1, activation="manual", activated=False)
    node, keys = Api(control, "node2")("GET", "/node").data, Api(control, "node2")("GET", "/hsm/keys").data["hsm_keys"]
    unusable = {key["label"] for key in keys if not key["usable"]}
    assert unusable == {"damaged", *(key["label"] for key in keys if key["slot"] == 1)}
    assert node["unusable_key_count"] == len(unusable)
    control.set_slot("node2", 1, activation="auto", activated=True)


def test_etag_changes_with_usable(control: Control) -> None:
    """The ETag covers `usable`, which the keys digest does not."""
    api = Api(control, "node1")
    before = api("GET", "/hsm/keys")
    tag = before.headers["ETag"]
    control.set_slot("node1", 1, activation="manual", activated=False)
    changed = api("GET", "/hsm/keys", if_none_match=tag)
    assert (changed.status, changed.data["keys_digest"]) == (200, before.data["keys_digest"])
    assert changed.headers["ETag"] != tag
    control.set_slot("node1", 1, activation="auto", activated=True)
    assert api("GET", "/hsm/keys", if_none_match=f'"other", {tag}').status == 304
    control.generate_key("node1", "new-etag")
    assert api("GET", "/hsm/keys", if_none_match=tag).status == 200


def test_cursor_beyond_last_key_rejected(control: Control) -> None:
    """A cursor that points beyond the last key is rejected, because a last page has at least one key."""
    api = Api(control, "node2")
    count = api("GET", "/node").data["key_count"]
    cursor = api("GET", f"/hsm/keys?limit={count - 1}").data["next_cursor"]
    assert len(api("GET", f"/hsm/keys?cursor={cursor}").data["hsm_keys"]) == 1
    assert api("GET", f"/hsm/keys?limit={count}").data["next_cursor"] is None
    control.delete_key("node2", api("GET", f"/hsm/keys?cursor={cursor}").data["hsm_keys"][0]["label"])
    assert api("GET", f"/hsm/keys?cursor={cursor}").code == "invalid_request"


def test_mbk_requires_two_shares() -> None:
    """Two shares give the MBK, and one share does not."""
    mbk = Mbk.generate("TEST", 2, 3)
    shares = mbk.split()
    assert {combine([shares[a], shares[b]]) for a, b in ((0, 1), (0, 2), (1, 2))} == {mbk.key}
    assert combine(shares[:1]) != mbk.key


def test_files_contain_no_plaintext_keys(tmp_path: Path, hsm: str) -> None:
    """No file contains a plaintext key or MBK."""
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
    content = b"".join(
        path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    )  # includes the write-ahead log
    device.close()
    content += b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert hashlib.sha256(material).digest() != hashlib.sha256(b"").digest()
    assert identity.label.encode() in content  # the files are the correct files
    assert private not in content
    assert mbk.key not in content


def test_files_private_to_owner(control: Control) -> None:
    """All files of a cluster are private to their owner."""
    assert control.folder.stat().st_mode & 0o777 == 0o700
    readable = [path for path in control.folder.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    assert readable == []
    fingerprints = json.loads((control.folder / "fingerprints.json").read_text(encoding="utf-8"))
    assert fingerprints["node1"] == control.node("node1")["tls_fingerprint"]
