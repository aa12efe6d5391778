# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""MBK cards: each card holds one share, is protected by a PIN, and locks permanently after three wrong PINs in a row.

Real cards are disabled after three wrong PINs according to StrongKey's Utimaco guide. Cards have a database of their own, because a card outlives
every HSM. The share is encrypted under the PIN (scrypt, RFC 7914, and AES-GCM). The PIN letter `cards/<card>.json` exists for rehearsals only.
"""

from __future__ import annotations

import secrets
import typing as t
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from utrust_appliance.errors import OperationError
from utrust_appliance.files import write_json
from utrust_appliance.mbk import Mbk, MbkFacts, Share
from utrust_appliance.sqlite import Database

if t.TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

MAX_WRONG_PINS = 3
PIN_DIGITS = 6
SCHEMA = """
CREATE TABLE IF NOT EXISTS cards (
  card TEXT PRIMARY KEY, mbk_name TEXT, check_value TEXT, m INTEGER, n INTEGER,
  number INTEGER, salt BLOB, sealed BLOB, wrong_pins INTEGER DEFAULT 0);
"""
NOTE = "For rehearsals with the appliance simulator only. Never store the PIN of a real card in a file."


class WrongPinError(Exception):
    """The PIN does not open the card."""

    def __init__(self, tries_left: int) -> None:
        super().__init__(
            f"Wrong PIN, {tries_left} attempts left." if tries_left else "Wrong PIN, the card is permanently locked."
        )
        self.tries_left = tries_left


@dataclass(frozen=True)
class Card:
    """The public data of a card, readable without a PIN."""

    card: str
    mbk: MbkFacts
    number: int
    wrong_pins: int

    @property
    def locked(self) -> bool:
        return self.wrong_pins >= MAX_WRONG_PINS

    def as_dict(self) -> dict[str, t.Any]:
        return {
            "card": self.card,
            "mbk": self.mbk.as_dict(),
            "number": self.number,
            "wrong_pins": self.wrong_pins,
            "locked": self.locked,
        }


class CardStore:
    """All cards of all sets."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._db = Database(folder / "cards.sqlite3", SCHEMA)

    def create_set(self, mbk: Mbk) -> list[Card]:
        """Create one card and one PIN letter for each share of this MBK."""
        if self._db.query("SELECT 1 FROM cards WHERE mbk_name = ?", mbk.name):
            raise OperationError(f"A card set for the MBK {mbk.name} already exists.")
        facts = mbk.facts
        for number, share in mbk.split():
            card, pin = f"{mbk.name}-{number}", "".join(secrets.choice("0123456789") for dummy in range(PIN_DIGITS))
            salt = secrets.token_bytes(16)
            sealed = AESGCM(_pin_key(pin, salt)).encrypt(
                bytes(12), share, card.encode()
            )  # the key is used once: a fixed nonce is fine
            row = (card, facts.name, facts.check_value, facts.m, facts.n, number, salt, sealed)
            with self._db.transaction() as db:
                db.execute(
                    "INSERT INTO cards (card, mbk_name, check_value, m, n, number, salt, sealed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    row,
                )
            write_json(self._folder / f"{card}.json", {"card": card, "pin": pin, "mbk": facts.as_dict(), "note": NOTE})
        return [card for card in self.cards() if card.mbk == facts]

    def cards(self) -> list[Card]:
        return [_card(row) for row in self._db.query("SELECT * FROM cards ORDER BY mbk_name, number")]

    def card(self, name: str) -> Card:
        for card in self.cards():
            if card.card == name:
                return card
        raise OperationError(f"The card {name} does not exist. Cards: {', '.join(card.card for card in self.cards())}.")

    def read_share(self, name: str, pin: str) -> Share:
        """Raises WrongPinError. The attempt is stored before the PIN is checked, so a crash cannot reset the counter."""
        card = self.card(name)
        if card.locked:
            raise WrongPinError(0)
        with self._db.transaction() as db:
            db.execute("UPDATE cards SET wrong_pins = wrong_pins + 1 WHERE card = ?", (name,))
        (row,) = self._db.query("SELECT * FROM cards WHERE card = ?", name)
        try:
            share = AESGCM(_pin_key(pin, row["salt"])).decrypt(bytes(12), row["sealed"], name.encode())
        except InvalidTag:
            raise WrongPinError(MAX_WRONG_PINS - row["wrong_pins"]) from None
        with self._db.transaction() as db:
            db.execute("UPDATE cards SET wrong_pins = 0 WHERE card = ?", (name,))
        return card.number, share

    def close(self) -> None:
        self._db.close()


def _card(row: sqlite3.Row) -> Card:
    return Card(
        row["card"], MbkFacts(row["mbk_name"], row["check_value"], row["m"], row["n"]), row["number"], row["wrong_pins"]
    )


def _pin_key(pin: str, salt: bytes) -> bytes:
    # n is small because the PINs are stored next to the cards anyway, and tests enter many PINs.
    return Scrypt(salt=salt, length=32, n=2**12, r=8, p=1).derive(pin.encode())
