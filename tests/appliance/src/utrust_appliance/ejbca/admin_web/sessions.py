# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP sessions of the Admin Web. A session ends after 15 minutes without a request."""

from __future__ import annotations

import secrets
import typing as t
from dataclasses import dataclass, field

if t.TYPE_CHECKING:
    from utrust_appliance.ejbca.node_state import NodeState

COOKIE = "JSESSIONID"
MAX_IDLE = 900.0
MAX_VIEWS = 20


class Action(t.NamedTuple):
    """What a button of a page does."""

    name: str
    token: str = ""
    alias: str = ""


@dataclass
class View:
    """A page that the session has received. `buttons`: name of the button -> action. `fields`: purpose -> name of the field."""

    path: str
    state: str = field(default_factory=lambda: f"{secrets.randbits(62)}:{secrets.randbits(62)}")
    buttons: dict[str, Action] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    editing: bool = False


@dataclass
class Session:
    """`bean` has the token pages of this session, for releases whose page bean has the scope of the session."""

    common_name: str
    connection: object
    used_at: float
    id: str = field(default_factory=lambda: secrets.token_urlsafe(30))
    views: dict[str, View] = field(default_factory=dict)
    bean: dict[str, t.Any] = field(default_factory=dict)

    def keep(self, view: View) -> View:
        while len(self.views) >= MAX_VIEWS:
            del self.views[next(iter(self.views))]
        self.views[view.state] = view
        return view


class Sessions:
    """The sessions of one node. Each node has its own."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._sessions: dict[str, Session] = {}

    def find(self, cookie: str | None) -> Session | None:
        """The live session of a cookie."""
        now = self._state.clock.now()
        self._sessions = {key: one for key, one in self._sessions.items() if now - one.used_at < MAX_IDLE}
        session = self._sessions.get(cookie or "")
        if session:
            session.used_at = now
        return session

    def open(self, common_name: str, connection: object) -> Session:
        session = Session(common_name, connection, self._state.clock.now())
        self._sessions[session.id] = session
        return session

    def log_in(self, session: Session, common_name: str, connection: object) -> None:
        """A new session, another certificate and another connection each authenticate again, and write an audit record."""
        session.common_name, session.connection = common_name, connection
        self._state.counters["logins"] += 1

    def clear(self) -> None:
        self._sessions.clear()
