# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may log in to Webconf: users with a hashed password, sessions that end, and a lock-out after wrong passwords.

Passwords: scrypt (RFC 7914). Sessions and tickets: 256 random bits, of which only a digest is kept.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
import typing as t
from dataclasses import dataclass, field

from utrust_appliance.files import write_json

if t.TYPE_CHECKING:
    from pathlib import Path

USER = "operator"
NOTE = "For rehearsals with the reference appliance only. A real password is in its owner's head or safe."
SCRYPT = {"n": 2**14, "r": 8, "p": 1, "maxmem": 64 * 1024 * 1024}
LONGEST_PASSWORD = 200
FREE_TRIES, FIRST_LOCK, LONGEST_LOCK = 5, 30.0, 900.0
TICKET_SECONDS = 30.0
MOST_SESSIONS = 1000
Clock = t.Callable[[], float]


class Users:
    """Users and their hashed passwords, the same on all nodes of a cluster. Made when there are none yet."""

    def __init__(self, folder: Path) -> None:
        path = folder / "private" / "webconf-users.json"
        if not path.exists():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            (folder / "clients").mkdir(mode=0o700, exist_ok=True)
            password, salt = secrets.token_urlsafe(12), secrets.token_bytes(16)
            login = {"user": USER, "password": password, "note": NOTE}
            write_json(folder / "clients" / "webconf-login.json", login)
            write_json(path, {USER: {"salt": salt.hex(), "hash": _hash(password, salt)}})
        self._users: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))

    @property
    def names(self) -> list[str]:
        return sorted(self._users)

    def right(self, user: str, password: str) -> bool:
        """Takes the same time for a user who does not exist. Slow on purpose: call it in a thread."""
        known = self._users.get(user, {"salt": "00" * 16, "hash": ""})
        given = _hash(password[:LONGEST_PASSWORD], bytes.fromhex(known["salt"]))
        return hmac.compare_digest(given, known["hash"])


def _hash(password: str, salt: bytes) -> str:
    return hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, **SCRYPT).hex()


class Throttle:
    """Wrong passwords in a row lock a user out, each further one for twice as long. Unknown users share one count."""

    def __init__(self, users: t.Container[str], clock: Clock = time.monotonic) -> None:
        self._users = users
        self._clock = clock
        self._failures: dict[str | None, int] = {}
        self._until: dict[str | None, float] = {}

    def _name(self, user: str) -> str | None:
        return user if user in self._users else None

    def seconds_left(self, user: str) -> float:
        return max(0.0, self._until.get(self._name(user), 0.0) - self._clock())

    def begin(self, user: str) -> None:
        """A try counts as wrong until `succeeded` says otherwise, so that many at once are many."""
        name = self._name(user)
        self._failures[name] = count = self._failures.get(name, 0) + 1
        if count >= FREE_TRIES:
            self._until[name] = self._clock() + min(FIRST_LOCK * 2 ** min(count - FREE_TRIES, 10), LONGEST_LOCK)

    def succeeded(self, user: str) -> None:
        self._failures.pop(self._name(user), None)
        self._until.pop(self._name(user), None)


@dataclass
class Session:
    """Somebody who is logged in to one node. `how`: `certificate` or `password`."""

    user: str
    how: str
    last_seen: float
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32))


class Sessions:
    """The sessions of one node; each ends when it is not used for `timeout` seconds."""

    def __init__(self, timeout: float, clock: Clock = time.monotonic) -> None:
        self.timeout = timeout
        self._clock = clock
        self._sessions: dict[str, Session] = {}

    def begin(self, user: str, how: str) -> tuple[str, Session]:
        self._sweep()
        while len(self._sessions) >= MOST_SESSIONS:
            self._sessions.pop(next(iter(self._sessions)))
        token, session = secrets.token_urlsafe(32), Session(user, how, self._clock())
        self._sessions[_digest(token)] = session
        return token, session

    def get(self, token: str, *, touch: bool) -> Session | None:
        """`touch`: this request is somebody's doing and not a script's, so the time begins anew."""
        self._sweep()
        session = self._sessions.get(_digest(token))
        if session and touch:
            session.last_seen = self._clock()
        return session

    def end(self, token: str) -> None:
        self._sessions.pop(_digest(token), None)

    def _sweep(self) -> None:
        limit = self._clock() - self.timeout
        for token in [token for token, session in self._sessions.items() if session.last_seen <= limit]:
            del self._sessions[token]


class Tickets:
    """What the cluster menu bar gives to somebody who switches to another node: a login there, once, within seconds."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._tickets: dict[str, tuple[str, str, str, float]] = {}

    def issue(self, node: str, session: Session) -> str:
        now = self._clock()
        self._tickets = {ticket: facts for ticket, facts in self._tickets.items() if facts[3] > now}
        ticket = secrets.token_urlsafe(32)
        self._tickets[_digest(ticket)] = (node, session.user, session.how, now + TICKET_SECONDS)
        return ticket

    def redeem(self, node: str, ticket: str) -> tuple[str, str] | None:
        """User and way of login; None for a ticket that is unknown, used, too old, or for another node."""
        facts = self._tickets.pop(_digest(ticket), None)
        if facts is None or facts[0] != node or facts[3] <= self._clock():
            return None
        return facts[1], facts[2]


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class Logins:
    """What the nodes of a cluster share."""

    def __init__(self, folder: Path) -> None:
        self.users = Users(folder)
        self.tickets = Tickets()
