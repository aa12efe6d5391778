# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the EJBCA of one node has in memory: flags, clock, counters, PIN tries, and the certificate objects in the HSM of the node."""

from __future__ import annotations

import hashlib
import time
import typing as t
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field

from utrust_appliance.ejbca.errors import PinError
from utrust_appliance.ejbca.flags import Flags

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.keys import KeyIdentity

PIN_TRIES = 3


class Clock:
    """A monotonic clock that tests can advance. Times are in seconds."""

    def __init__(self) -> None:
        self._offset = 0.0

    def now(self) -> float:
        return time.monotonic() + self._offset

    def advance(self, seconds: float) -> float:
        self._offset += seconds
        return self._offset


@dataclass
class SlotPin:
    """The PIN of a slot. Without `digest`, the slot has the PIN that EJBCA has stored."""

    digest: str | None = None
    tries_left: int = PIN_TRIES
    logins: int = 0
    wrong: int = 0


class SlotPins:
    """The PINs of the slots of one HSM. A wrong PIN spends a try. A slot without tries is locked."""

    def __init__(self) -> None:
        self._slots: dict[int, SlotPin] = {}

    def slot(self, slot: int) -> SlotPin:
        return self._slots.setdefault(slot, SlotPin())

    def is_risky(self, slot: int) -> bool:
        """Whether a login with the stored PIN fails or spends a try."""
        pin = self.slot(slot)
        return pin.digest is not None or pin.tries_left <= 0

    def change(self, slot: int, code: str | None, tries: int) -> SlotPin:
        """Give the slot another PIN, or the stored PIN if `code` is missing."""
        digest = hashlib.sha256(code.encode()).hexdigest() if code is not None else None
        self._slots[slot] = SlotPin(digest, tries)
        return self._slots[slot]

    def login(self, slot: int, digest: str, stored: str) -> None:
        pin = self.slot(slot)
        if pin.tries_left <= 0:
            raise PinError("CKR_PIN_LOCKED")
        if digest != (pin.digest or stored):
            pin.tries_left, pin.wrong = pin.tries_left - 1, pin.wrong + 1
            raise PinError("CKR_PIN_INCORRECT")
        pin.tries_left, pin.logins = PIN_TRIES, pin.logins + 1


class CertificateObjects:
    """The certificate objects of an HSM. The backends do not store them, so every key has one with its own label unless it is changed here."""

    def __init__(self) -> None:
        self._labels: dict[str, str | None] = {}

    def set(self, fingerprint: str, label: str | None) -> None:
        """Set the label of the certificate object of a key. None: the key does not have a certificate object."""
        self._labels[fingerprint] = label

    def label(self, key: KeyIdentity) -> str | None:
        return self._labels.get(key.fingerprint, key.label)


@dataclass
class NodeState:
    """All of it, for one node. `observed`: people look at the simulator, which must not spend PIN tries."""

    flags: Flags = field(default_factory=Flags)
    clock: Clock = field(default_factory=Clock)
    pins: SlotPins = field(default_factory=SlotPins)
    certificates: CertificateObjects = field(default_factory=CertificateObjects)
    counters: Counter[str] = field(default_factory=Counter)
    observed: bool = False

    @contextmanager
    def observing(self) -> Iterator[None]:
        self.observed = True
        try:
            yield
        finally:
            self.observed = False
