# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HSM backend in software: keys of `cryptography`, stored in SQLite with encrypted secrets.

Encryption at rest is AES-256-GCM (NIST SP 800-38D) under a storage key in a separate file. The reference of a key is additional data, so that rows
cannot be swapped. This protects a copied database only.
"""

from __future__ import annotations

import secrets
import typing as t

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from utrust_appliance import key_material
from utrust_appliance.errors import ApiError
from utrust_appliance.files import write_private
from utrust_appliance.hsm.base import Checkpoint, UnwrapError, WrappedKey
from utrust_appliance.hsm.catalog import CatalogHsm, StoredKey, require_identity
from utrust_appliance.mbk import Mbk

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.keys import KeyIdentity, KeyRef


class SoftwareHsm(CatalogHsm[bytes]):
    """`handle` is the key or the MBK, encrypted under the storage key."""

    def __init__(self, folder: Path, checkpoint: Checkpoint) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        storage_key = folder / "storage.key"
        if not storage_key.exists():
            write_private(storage_key, secrets.token_bytes(32))
        self._aead = AESGCM(storage_key.read_bytes())
        super().__init__(folder, checkpoint)

    def _make(self, specs: list[tuple[KeyRef, str]]) -> list[StoredKey[bytes]]:
        made = [(ref, *key_material.generate(kind)) for ref, kind in specs]
        return [self._store(facts.identity(ref), facts.public, material) for ref, facts, material in made]

    def _import_mbk(self, mbk: Mbk) -> bytes:
        return self._seal(b"mbk", mbk.key)

    def _import_keys(self, keys: list[WrappedKey], mbk: Mbk | None, mbk_handle: bytes) -> list[StoredKey[bytes]]:
        mbk = mbk or self._open_mbk(mbk_handle)
        return [self._store(key.identity, key.public, self._unwrap(mbk, key)) for key in keys]

    def _wrap(self, mbk_handle: bytes, keys: list[StoredKey[bytes]]) -> list[bytes]:
        mbk = self._open_mbk(mbk_handle)
        return [mbk.wrap(self._material(key)) for key in keys]

    def _check(self, mbk_handle: bytes, key: WrappedKey) -> None:
        self._unwrap(self._open_mbk(mbk_handle), key)

    def _mac(self, mbk_handle: bytes, content_sha256: bytes) -> bytes:
        return self._open_mbk(mbk_handle).mac(content_sha256)

    def _sign(self, key: StoredKey[bytes], data: bytes) -> bytes:
        return key_material.sign(self._material(key), data)

    def _drop_public(self, key: StoredKey[bytes]) -> None:
        """Nothing to do, because this backend does not have objects."""

    def _clean_up(self) -> None:
        """Nothing to do, because encrypted keys exist only in their rows."""

    # Inside

    @staticmethod
    def _unwrap(mbk: Mbk, key: WrappedKey) -> bytes:
        try:
            material = mbk.unwrap(key.blob)
            facts = key_material.facts_of(key.identity.type, material)
        except (InvalidUnwrap, ValueError) as exc:
            raise UnwrapError(f"{key.identity.ref} cannot be unwrapped: {exc or 'integrity check failed'}") from exc
        require_identity(key, facts)
        return material

    def _store(self, identity: KeyIdentity, public: bytes | None, material: bytes) -> StoredKey[bytes]:
        return StoredKey(identity, public, self._seal(str(identity.ref).encode(), material))

    def _material(self, key: StoredKey[bytes]) -> bytes:
        return self._open(str(key.identity.ref).encode(), key.handle)

    def _open_mbk(self, handle: bytes) -> Mbk:
        if self._mbk is None:
            raise ApiError("mbk_missing", "the HSM is in Factory Reset Mode and holds no Master Backup Key")
        return Mbk(self._mbk.name, self._open(b"mbk", handle), self._mbk.m, self._mbk.n)

    def _seal(self, place: bytes, secret: bytes) -> bytes:
        nonce = secrets.token_bytes(12)
        return nonce + self._aead.encrypt(nonce, secret, place)

    def _open(self, place: bytes, sealed: bytes) -> bytes:
        try:
            return self._aead.decrypt(sealed[:12], sealed[12:], place)
        except InvalidTag as exc:
            raise ApiError("hsm_unavailable", f"the storage of the HSM is corrupt at {place.decode()}") from exc
