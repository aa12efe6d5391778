# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Simulates the card holders of a key ceremony, who watch the PIN pads, insert their MBK cards and enter their PINs.

The program is independent of Ansible and uses the PIN pads only. It reads the PINs from the PIN letters of the rehearsal and never prints them. It
does not repeat a card step.
"""

from __future__ import annotations

import argparse
import sys
import time
import typing as t

from utrust_appliance.control import Control
from utrust_appliance.errors import OperationError

PEOPLE = ("Ada", "Ben", "Cleo")
POLL_INTERVAL = 0.1  # seconds between polls of a PIN pad


class CeremonyError(Exception):
    """A problem that stops the ceremony."""


def say(text: str) -> None:
    print(text, flush=True)


class CardHolders:
    """Card holders, each with one card of the set. `timeout` is in seconds."""

    def __init__(self, control: Control, cards: list[str], timeout: float) -> None:
        self._control = control
        self._holders = [(PEOPLE[number % len(PEOPLE)], card) for number, card in enumerate(cards)]
        self._timeout = timeout

    def introduce(self) -> None:
        say(", ".join(f"{person} holds card {card}" for person, card in self._holders) + ". Each person has one PIN.")

    def attend(self, node: str, first: int) -> None:
        """Use the PIN pad of a node until its HSM is restored. `first` selects the first card holder."""
        queue = self._holders[first:] + self._holders[:first]
        seen: int | None = None
        end = time.monotonic() + self._timeout
        while True:
            restore = self._control.pin_pad(node)["restore"]
            facts = self._control.node(
                node
            )  # read after the PIN pad, so that the state is final if the restore has ended
            if facts["state"] == "operational":
                say(f"{node}: the HSM is operational. All card holders remove their cards.")
                return
            if restore is None and seen is not None:
                raise CeremonyError(f"The ceremony at {node} ended, but its HSM is {facts['state']}.")
            if restore is not None and restore["sequence"] != seen:
                if seen is None:
                    say(
                        f"{node}: the front display shows HSM {facts['serial']}, TLS fingerprint {facts['tls_fingerprint']}"
                    )
                seen = restore["sequence"]
                self._respond(node, restore, queue)
                end = time.monotonic() + self._timeout
            elif time.monotonic() > end:
                raise CeremonyError(f"The PIN pads of {node} did not change for {self._timeout:g} s.")
            else:
                time.sleep(POLL_INTERVAL)

    def _respond(self, node: str, restore: dict[str, t.Any], queue: list[tuple[str, str]]) -> None:
        """Respond to the prompt of the PIN pad."""
        pad, prompt, notice = restore["pin_pad"], restore["prompt"], restore["notice"]
        if notice:
            raise CeremonyError(f"{node}: {pad} shows: {notice['text']}. The card step is not repeated.")
        if prompt is None:
            return
        if prompt["kind"] == "insert_card":
            if not queue:
                raise CeremonyError(f"{node}: {pad} requests more cards than available.")
            person, card = queue[0]
            say(f"{node}: {pad} shows `{prompt['text']}`: {person} inserts {card}")
            self._control.insert_card(node, card, pad)
        else:
            person, card = queue.pop(0)
            say(f"{node}: {pad} shows `{prompt['text']}`: {person} enters the PIN")
            self._control.enter_pin(node, self._control.pin_of(card))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--dir", required=True, metavar="D", help="folder of the cluster")
    parser.add_argument(
        "--timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="end if the PIN pads do not change for this time (300)",
    )
    parser.add_argument("nodes", nargs="+", metavar="NODE", help="nodes in the order of their restores")
    options = parser.parse_args()
    control = Control(options.dir)
    try:
        people = CardHolders(control, [card["card"] for card in control.cards()], options.timeout)
        people.introduce()
        for number, node in enumerate(options.nodes):
            people.attend(node, number % len(PEOPLE))
    except (CeremonyError, OperationError) as exc:
        say(str(exc))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
