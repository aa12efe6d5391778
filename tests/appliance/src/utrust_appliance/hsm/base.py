# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the appliance needs of an HSM. A backend implements `Hsm`; nothing above it sees a key in clear."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

if t.TYPE_CHECKING:
    from utrust_appliance.keys import KeyEntry, KeyIdentity, KeyRef, SlotSettings
    from utrust_appliance.mbk import Mbk, MbkFacts

# Called at named points of a change with (point); a test may let the process die there.
Checkpoint = t.Callable[[str], None]


class UnwrapError(Exception):
    """A wrapped key is not what its identity says, or not under this MBK."""


@dataclass(frozen=True)
class WrappedKey:
    """A key on its way between HSMs, wrapped under the MBK; of a key pair the public key (DER) comes along, because tokens cannot compute it."""

    identity: KeyIdentity
    public: bytes | None
    blob: bytes


@dataclass(frozen=True)
class Image:
    """A consistent image of an HSM's keys, slots and MBK facts."""

    mbk: MbkFacts
    slots: list[SlotSettings]
    keys: list[WrappedKey]


@dataclass(frozen=True)
class KeySetChange:
    """What a job does to an HSM, all of it or nothing. `mbk` is set for a restore."""

    job: str
    put: list[WrappedKey]
    remove: list[KeyRef]
    slots: list[SlotSettings]
    mbk: Mbk | None = None
    expect_digest: str | None = None


class Hsm(t.Protocol):
    """One HSM. Every change is durable when its method returns."""

    def mbk(self) -> MbkFacts | None:
        """The MBK's public facts; None in Factory Reset Mode."""

    def slots(self) -> list[SlotSettings]: ...

    def list_keys(self) -> list[KeyEntry]:
        """In the order of the inventory digest."""

    def digest(self) -> str: ...

    def initialize(self, mbk: Mbk, slots: list[SlotSettings]) -> None:
        """Factory Reset Mode to operational, without keys."""

    def generate(
        self, slot: int, label: str, kinds: list[tuple[str, str]], key_id: str | None = None
    ) -> list[KeyEntry]:
        """New keys (label, kind) in a slot; all or none. `label` names the first for messages; `key_id` None is a random id each."""

    def delete(self, ref: KeyRef) -> None: ...

    def damage(self, ref: KeyRef) -> None:
        """Drop the public object, so that PKCS#11 applications cannot use the key."""

    def set_slot(self, settings: SlotSettings) -> None: ...

    def public_key(self, ref: KeyRef) -> bytes:
        """DER SubjectPublicKeyInfo."""

    def sign(self, ref: KeyRef, data: bytes) -> bytes: ...

    def export(self) -> Image: ...

    def package_mac(self, content_sha256: bytes) -> bytes: ...

    def check(self, key: WrappedKey) -> None:
        """Raises UnwrapError unless the wrapped key is what its identity says."""

    def apply(self, change: KeySetChange) -> None:
        """All or nothing. Raises ApiError keys_changed or slot_full, or UnwrapError."""

    def committed(self, job: str) -> bool:
        """Whether the change of this job is in the HSM; what settles the truth after a crash."""

    def factory_reset(self) -> None: ...

    def close(self) -> None: ...
