# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""State of a job at the PIN pad."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from utrust_appliance.mbk import MbkFacts, Share


class CardCallbacks(t.NamedTuple):
    """Callbacks of an import: after the cards were accepted, and after an end without cards."""

    accepted: t.Callable[[], t.Awaitable[None]]
    ended: t.Callable[[], None]


class CardSession:
    """In-memory state at the PIN pad, for a guided restore or an import that requires cards."""

    def __init__(
        self, mbk: MbkFacts, source_digest: str = "", work: CardCallbacks | None = None, package: Path | None = None
    ) -> None:
        self.mbk = mbk
        self.source_digest = source_digest
        self.package = package
        self.work = work
        self.shares: dict[str, Share] = {}
        self.card: str | None = None
        self.deadline: float | None = None
        self.timer: asyncio.TimerHandle | None = None
