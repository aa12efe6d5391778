# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guided restore of a node: people insert cards and enter PINs, then the node gets MBK and keys from the source.

If the profile requires a package, the keys come from a package file (restore_packages.py).

waiting_for_card -> waiting_for_pin -> … until m cards are accepted -> restoring -> succeeded, else failed or canceled. The reader returns a card after
use. After a crash, a restore has succeeded if its change was committed, else it has failed.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
import typing as t

from utrust_appliance.cards import WrongPinError
from utrust_appliance.clock import utc_now
from utrust_appliance.errors import ApiError, JobError, OperationError
from utrust_appliance.files import destroy
from utrust_appliance.jobs.card_session import CardCallbacks, CardSession
from utrust_appliance.jobs.transfer import restore_from, restore_package
from utrust_appliance.mbk import Mbk, combine
from utrust_appliance.store import JOB_CHANGES

if t.TYPE_CHECKING:
    from utrust_appliance.jobs.restore_packages import RestorePackage
    from utrust_appliance.mbk import MbkFacts
    from utrust_appliance.node import Node
    from utrust_appliance.store import Data, Request

LOG = logging.getLogger(__name__)
RUNNING = ("waiting_for_card", "waiting_for_pin", "restoring")


class Restores:
    """The guided restores of one node; at most one is running."""

    def __init__(self, node: Node, card_timeout: float) -> None:
        self._node = node
        self._card_timeout = card_timeout
        self._changed = asyncio.Event()
        self._task: asyncio.Future[None] | None = None
        self.running: Data | None = None
        self._session: CardSession | None = None
        for data in node.store.unfinished("restore"):
            self._settle(data)

    def _settle(self, data: Data) -> None:
        if self._node.hsm.committed(data["id"]):
            data.update(self._success())
        else:
            data.update(
                state="failed",
                problem=JobError("interrupted", "The node was restarted during the restore").problem,
            )
        data.update(prompt=None, notice=None, finished_at=utc_now(), sequence=data["sequence"] + 1)
        self._node.store.save(data)

    def _success(self) -> Data:
        hsm = self._node.hsm
        return {"state": "succeeded", "result": {"key_count": len(hsm.list_keys()), "keys_digest": hsm.digest()}}

    @property
    def kind(self) -> str:
        return "import" if self._session and self._session.work else "restore"

    def ask_for_cards(self, data: Data, pin_pad: str, mbk: MbkFacts, work: CardCallbacks) -> Data:
        """Request m cards for an import, then call `work`."""
        data.update(state="waiting_for_card", pin_pad=pin_pad, cards_accepted=0, cards_required=mbk.m)
        self.running, self._session = data, CardSession(mbk, work=work)
        self._ask_for_card()
        return self.view(data)

    # For clients

    def start(self, request: Request, pin_pad: str, source: Node) -> Data:
        mbk = source.mbk()
        if mbk is None:
            raise ApiError("source_not_ready", f"the HSM of {source.name} does not hold an MBK")
        return self._start(request, pin_pad, source.name, CardSession(mbk, source.hsm.digest()))

    def start_from_package(self, request: Request, pin_pad: str, brought: RestorePackage) -> Data:
        """Start a restore from an uploaded package. The package is deleted at the end of the restore."""
        return self._start(request, pin_pad, brought.header.node, CardSession(brought.mbk, package=brought.path))

    def _start(self, request: Request, pin_pad: str, source: str, session: CardSession) -> Data:
        data = {
            "id": secrets.token_hex(16),
            "idempotency_key": request.key,
            "state": "waiting_for_card",
            "sequence": 1,
            "pin_pad": pin_pad,
            "source": source,
            "prompt": None,
            "notice": None,
            "cards_accepted": 0,
            "cards_required": session.mbk.m,
            "problem": None,
            "result": None,
            "started_at": utc_now(),
            "finished_at": None,
        }
        self._node.store.add("restore", data, request)
        self.running, self._session = data, session
        self._ask_for_card()
        self._node.checkpoint("restore.started")
        return self.view(data)

    def view(self, data: Data) -> Data:
        deadline = (
            self._session.deadline if self._session and self.running and self.running["id"] == data["id"] else None
        )
        return {**data, "seconds_left": None if deadline is None else round(max(0.0, deadline - time.monotonic()), 1)}

    def get(self, restore_id: str) -> Data:
        return self.view(self._node.store.get("restore", restore_id))

    def list(self, key: str = "", running: bool | None = None) -> list[Data]:
        return [self.view(data) for data in self._node.store.list("restore", key=key, running=running)]

    async def wait(self, restore_id: str, sequence: int, seconds: float) -> Data:
        """Wait at most `seconds` until the restore has a higher sequence or has ended. Returns the restore."""
        end = time.monotonic() + seconds
        while True:
            data, changed = self.get(restore_id), self._changed
            left = end - time.monotonic()
            over = data["state"] not in RUNNING or left <= 0 or self._node.cluster.closing.is_set()
            if data["sequence"] > sequence or over:
                return data
            try:
                async with asyncio.timeout(left):
                    await changed.wait()
            except TimeoutError:
                continue

    def cancel(self, restore_id: str) -> Data:
        """Cancel a restore. A restore that has ended stays unchanged."""
        data = self.get(restore_id)
        if data["state"] not in RUNNING:
            return data
        if data["state"] == "restoring":
            detail = f"restore {restore_id} is writing keys and can no longer be canceled"
            raise ApiError("restore_in_progress", detail, running_id=restore_id)
        self._end("canceled", JobError("canceled_by_request", "A client canceled the restore").problem)
        return self.get(restore_id)

    # For people at the PIN pad

    def insert_card(self, name: str) -> Data:
        data, session = self._waiting("waiting_for_card")
        card = self._node.cluster.cards.card(name)
        if card.mbk.check_value != session.mbk.check_value:
            self._ask_for_card("wrong_card", f"Card {name} belongs to MBK {card.mbk.name}, not to {session.mbk.name}")
        elif name in session.shares:
            self._ask_for_card("card_already_used", f"Card {name} was already used")
        elif card.locked:
            self._ask_for_card("card_locked", f"Card {name} is permanently locked")
        else:
            session.card = name
            self._ask_for_pin()
        return self.view(data)

    def remove_card(self) -> Data:
        data, session = self._waiting("waiting_for_pin")
        self._ask_for_card("card_removed", f"Card {session.card} was removed before its PIN was entered")
        return self.view(data)

    def enter_pin(self, pin: str) -> Data:
        data, session = self._waiting("waiting_for_pin")
        card = session.card or ""
        try:
            session.shares[card] = self._node.cluster.cards.read_share(card, pin)
        except WrongPinError as exc:
            if exc.tries_left:
                self._ask_for_pin("wrong_pin", f"Wrong PIN for card {card}. Attempts left: {exc.tries_left}")
            else:
                self._ask_for_card("card_locked", f"Wrong PIN. Card {card} is now permanently locked")
            return self.view(data)
        session.card = None
        data["cards_accepted"] = len(session.shares)
        if len(session.shares) < data["cards_required"]:
            self._ask_for_card()
            self._node.checkpoint("restore.card_accepted")
        else:
            self._limit(None)
            if session.work:
                self._accepted(session.work)
                return self.view(data)
            self._update(state="restoring", prompt=None, notice=None)
            self._task = asyncio.get_running_loop().create_task(self._restore())
        return self.view(data)

    def cancel_at_pin_pad(self) -> Data:
        data, dummy = self._waiting("waiting_for_card", "waiting_for_pin")
        self._end("canceled", JobError("canceled_at_pin_pad", f"Somebody pressed Cancel at {data['pin_pad']}").problem)
        return self.view(data)

    def _accepted(self, work: CardCallbacks) -> None:
        self._update(state="applying", prompt=None, notice=None)
        self.running = self._session = None
        self._task = asyncio.ensure_future(work.accepted())  # the callback sets the state applying immediately

    def cancel_import(self, reason: JobError) -> None:
        """Cancel the import that waits at the PIN pad."""
        self._end("canceled", reason.problem)

    def card_in_reader(self) -> str | None:
        return self._session.card if self._session else None

    # Inside

    def _waiting(self, *states: str) -> tuple[Data, CardSession]:
        if self.running is None or self._session is None:
            raise OperationError(
                f"The PIN pad of {self._node.name} does not show a prompt, because no guided restore is running."
            )
        if self.running["state"] not in states:
            raise OperationError(f"The PIN pad of {self._node.name} is {self.running['state'].replace('_', ' ')}.")
        return self.running, self._session

    def _ask_for_card(self, notice: str | None = None, text: str = "") -> None:
        self._ask("insert_card", "Insert MBK card {} of {}", notice, text)
        if self._session:
            self._session.card = None

    def _ask_for_pin(self, notice: str | None = None, text: str = "") -> None:
        self._ask("enter_pin", "Enter the PIN of MBK card {} of {}", notice, text)

    def _ask(self, kind: str, prompt: str, notice: str | None, text: str) -> None:
        if self.running is None:
            return
        if self.running["sequence"] > JOB_CHANGES - 3:  # the last changes are the write and its end
            detail = f"The job ended after {JOB_CHANGES - 2} changes"
            self._end("failed", JobError(f"{self.kind}_failed", detail).problem)
            return
        number, required = self.running["cards_accepted"] + 1, self.running["cards_required"]
        self._limit(self._card_timeout)
        self._update(
            state="waiting_for_card" if kind == "insert_card" else "waiting_for_pin",
            prompt={"kind": kind, "card": number, "text": prompt.format(number, required)},
            notice={"code": notice, "text": text} if notice else None,
        )

    def _limit(self, seconds: float | None) -> None:
        session = self._session
        if session is None:
            return
        if session.timer:
            session.timer.cancel()
        session.timer = session.deadline = None
        if seconds is not None:
            session.deadline = time.monotonic() + seconds
            session.timer = asyncio.get_running_loop().call_later(seconds, self._time_is_up)

    def _time_is_up(self) -> None:
        if self.running is None:
            return
        what = "No card was inserted" if self.running["state"] == "waiting_for_card" else "No PIN was entered"
        self._end("failed", JobError("card_timeout", f"{what} within {self._card_timeout:g} s").problem)

    def _update(self, **changes: t.Any) -> None:
        if self.running is None:
            return
        self.running.update(changes, sequence=self.running["sequence"] + 1)
        self._node.store.save(self.running)
        self._changed.set()
        self._changed = asyncio.Event()

    def _end(self, state: str, problem: Data | None = None, result: Data | None = None) -> None:
        self._limit(None)
        session = self._session
        if session and session.package:
            destroy(session.package)
        only_restore = {} if session and session.work else {"result": result}
        self._update(state=state, prompt=None, notice=None, problem=problem, finished_at=utc_now(), **only_restore)
        self.running = self._session = None
        if session and session.work:
            session.work.ended()

    async def _restore(self) -> None:
        data, session = self._waiting("restoring")
        node = self._node
        try:
            await node.cluster.faults.hold("hold_restore", node.name)
            facts = session.mbk
            mbk = Mbk(facts.name, combine(list(session.shares.values())), facts.m, facts.n)
            if session.package:
                await asyncio.to_thread(restore_package, node, session.package, mbk, data["id"])
            else:
                source = node.cluster.nodes[data["source"]]
                await asyncio.to_thread(restore_from, node, source, mbk, data["id"], session.source_digest)
        except JobError as exc:
            self._end("failed", exc.problem)
        except Exception as exc:
            LOG.exception("%s: the guided restore failed", node.name)
            self._end(
                "failed", JobError("restore_failed", f"{type(exc).__name__}, see the log of the simulator").problem
            )
            raise
        else:
            self._end(**self._success())
            node.checkpoint("restore.done")

    def wake(self) -> None:
        """Wake all waiting requests before the process ends."""
        self._changed.set()
