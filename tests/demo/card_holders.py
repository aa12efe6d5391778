#!/usr/bin/env python3
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plays the people of a key ceremony: they watch the PIN pads, insert their MBK cards and type their PINs.

It knows nothing of Ansible, and Ansible nothing of it: they meet at the PIN pad only. The PINs come from the PIN letters
that exist for rehearsals, go to the PIN pad, and are never printed. A card step is never tried twice.
"""

from __future__ import annotations

import argparse
import sys
import time
import typing as t

from utrust_appliance.control import Control
from utrust_appliance.errors import OperationError

PEOPLE = ("Ada", "Ben", "Cleo")
GLANCE = 0.1  # seconds between two looks at a PIN pad


class CeremonyFailed(Exception):
    """Something that a person at the PIN pad would call out."""


def say(text: str) -> None:
    print(text, flush=True)


class CardHolders:
    """Each holds one card of the set."""

    def __init__(self, control: Control, cards: list[str], patience: float) -> None:
        self._control = control
        self._holders = [(PEOPLE[number % len(PEOPLE)], card) for number, card in enumerate(cards)]
        self._patience = patience

    def introduce(self) -> None:
        say(", ".join(f"{person} holds card {card}" for person, card in self._holders) + "; each knows one PIN")

    def attend(self, node: str, first: int) -> None:
        """Serve the PIN pad of a node until its HSM is restored. `first` tells who begins, because any m of n cards do."""
        queue = self._holders[first:] + self._holders[:first]
        seen: int | None = None
        end = time.monotonic() + self._patience
        while True:
            restore = self._control.pin_pad(node)["restore"]
            facts = self._control.node(node)  # after the PIN pad, so that no restore means that this is how it ended
            if facts["state"] == "operational":
                say(f"{node}: its HSM is operational; everybody takes their card back")
                return
            if restore is None and seen is not None:
                raise CeremonyFailed(f"the ceremony at {node} ended, and its HSM is {facts['state']}")
            if restore is not None and restore["sequence"] != seen:
                if seen is None:
                    say(
                        f"{node}: its front display reads HSM {facts['serial']}, TLS fingerprint {facts['tls_fingerprint']}"
                    )
                seen = restore["sequence"]
                self._answer(node, restore, queue)
                end = time.monotonic() + self._patience
            elif time.monotonic() > end:
                raise CeremonyFailed(
                    f"nothing happened at the PIN pads of {node} for {self._patience:g} s; everybody goes home"
                )
            else:
                time.sleep(GLANCE)

    def _answer(self, node: str, restore: dict[str, t.Any], queue: list[tuple[str, str]]) -> None:
        """Do what the PIN pad asks for now."""
        pad, prompt, notice = restore["pin_pad"], restore["prompt"], restore["notice"]
        if notice:
            raise CeremonyFailed(f"{node}: {pad} complains: {notice['text']}; nobody tries again without thinking")
        if prompt is None:
            return
        if prompt["kind"] == "insert_card":
            if not queue:
                raise CeremonyFailed(f"{node}: {pad} asks for more cards than there are")
            person, card = queue[0]
            say(f"{node}: {pad} reads `{prompt['text']}`: {person} inserts {card}")
            self._control.insert_card(node, card, pad)
        else:
            person, card = queue.pop(0)
            say(f"{node}: {pad} reads `{prompt['text']}`: {person} types the PIN, and nobody looks")
            self._control.enter_pin(node, self._control.pin_of(card))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--dir", required=True, metavar="D", help="the cluster's folder")
    parser.add_argument(
        "--patience",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="go home when nothing happens for so long (300)",
    )
    parser.add_argument("nodes", nargs="+", metavar="NODE", help="the nodes in the order in which they are restored")
    options = parser.parse_args()
    control = Control(options.dir)
    try:
        people = CardHolders(control, [card["card"] for card in control.cards()], options.patience)
        people.introduce()
        for number, node in enumerate(options.nodes):
            people.attend(node, number % len(PEOPLE))
    except (CeremonyFailed, OperationError) as exc:
        say(str(exc))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
