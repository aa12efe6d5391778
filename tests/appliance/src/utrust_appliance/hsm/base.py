# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Interface of an HSM. Backends implement `Hsm`. Only backends handle plaintext keys."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

if t.TYPE_CHECKING:
    from utrust_appliance.keys import KeyEntry, KeyIdentity, KeyRef, SlotSettings
    from utrust_appliance.mbk import Mbk, MbkFacts

# Called with the name of a point during a change. A test can kill the process at this point.
Checkpoint = t.Callable[[str], None]


class UnwrapError(Exception):
    """A wrapped key does not match its identity, or is wrapped under another MBK."""


@dataclass(frozen=True)
class WrappedKey:
    """A key wrapped under the MBK. A key pair includes its public key (DER), because tokens cannot compute it."""

    identity: KeyIdentity
    public: bytes | None
    blob: bytes


@dataclass(frozen=True)
class Image:
    """A consistent snapshot of keys, slots and MBK facts of an HSM."""

    mbk: MbkFacts
    slots: list[SlotSettings]
    keys: list[WrappedKey]


@dataclass(frozen=True)
class KeySetChange:
    """An atomic change of an HSM. `mbk` is set for a restore."""

    job: str
    put: list[WrappedKey]
    remove: list[KeyRef]
    slots: list[SlotSettings]
    mbk: Mbk | None = None
    expect_digest: str | None = None


class Hsm(t.Protocol):
    """One HSM. Every change is durable when its method returns."""

    def mbk(self) -> MbkFacts | None:
        """The public facts of the MBK, or None in Factory Reset Mode."""

    def slots(self) -> list[SlotSettings]:
        """Return the settings of all slots."""

    def list_keys(self) -> list[KeyEntry]:
        """All keys, in the order of the keys digest."""

    def digest(self) -> str:
        """Return a digest of the keys, which changes with them."""

    def initialize(self, mbk: Mbk, slots: list[SlotSettings]) -> None:
        """Load an MBK into an HSM in Factory Reset Mode, without keys."""

    def generate(
        self, slot: int, label: str, kinds: list[tuple[str, str]], key_id: str | None = None
    ) -> list[KeyEntry]:
        """Generate keys (label, kind) in a slot, atomically. `label` is used in messages. Without `key_id`, every key gets a random id."""

    def delete(self, ref: KeyRef) -> None:
        """Delete a key."""

    def damage(self, ref: KeyRef) -> None:
        """Delete the public object, so that PKCS #11 applications cannot use the key."""

    def set_slot(self, settings: SlotSettings) -> None:
        """Change the settings of a slot."""

    def public_key(self, ref: KeyRef) -> bytes:
        """DER SubjectPublicKeyInfo."""

    def sign(self, ref: KeyRef, data: bytes) -> bytes:
        """Return a signature of the data with a key."""

    def export(self) -> Image:
        """Return all keys, wrapped with the MBK."""

    def package_mac(self, content_sha256: bytes) -> bytes:
        """Return the code that authenticates a package."""

    def check(self, key: WrappedKey) -> None:
        """Raises UnwrapError if the wrapped key does not match its identity."""

    def apply(self, change: KeySetChange) -> None:
        """Apply a change atomically. Raises UnwrapError, or ApiError with keys_changed or slot_full."""

    def committed(self, job: str) -> bool:
        """Whether the change of this job was committed. Used after a crash."""

    def factory_reset(self) -> None:
        """Destroy MBK, slots and keys."""

    def close(self) -> None:
        """End the connection to the backend."""
