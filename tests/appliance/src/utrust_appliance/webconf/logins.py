# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Authentication of Webconf: users with hashed passwords, sessions with a timeout, and a lockout after wrong passwords.

Passwords use scrypt (RFC 7914). Sessions and tickets are 256 random bits, and only their digests are stored.
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
NOTE = "For rehearsals with the appliance simulator only. Never store a real password in a file."
SCRYPT = {"n": 2**14, "r": 8, "p": 1, "maxmem": 64 * 1024 * 1024}
LONGEST_PASSWORD = 200
FREE_TRIES, FIRST_LOCK, LONGEST_LOCK = 5, 30.0, 900.0
TICKET_SECONDS = 30.0
MOST_SESSIONS = 1000
Clock = t.Callable[[], float]


class Users:
    """Users and their hashed passwords, shared by all nodes of a cluster. The first start creates a user."""

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

    def verify(self, user: str, password: str) -> bool:
        """Whether the password is correct. Unknown users take the same time. The function is slow on purpose, so call it in a thread."""
        known = self._users.get(user, {"salt": "00" * 16, "hash": ""})
        actual = _hash(password[:LONGEST_PASSWORD], bytes.fromhex(known["salt"]))
        return hmac.compare_digest(actual, known["hash"])


def _hash(password: str, salt: bytes) -> str:
    return hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, **SCRYPT).hex()


class Throttle:
    """Lockout after wrong passwords in a row. Each further wrong password doubles the time. Unknown users share one counter."""

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
        """Count an attempt as wrong until `succeeded` is called, so that parallel attempts are all counted."""
        name = self._name(user)
        self._failures[name] = count = self._failures.get(name, 0) + 1
        if count >= FREE_TRIES:
            self._until[name] = self._clock() + min(FIRST_LOCK * 2 ** min(count - FREE_TRIES, 10), LONGEST_LOCK)

    def succeeded(self, user: str) -> None:
        self._failures.pop(self._name(user), None)
        self._until.pop(self._name(user), None)


@dataclass
class Session:
    """A session on one node. `method` is `certificate` or `password`."""

    user: str
    method: str
    last_seen: float
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32))


class Sessions:
    """The sessions of one node. A session ends after `timeout` seconds without activity."""

    def __init__(self, timeout: float, clock: Clock = time.monotonic) -> None:
        self.timeout = timeout
        self._clock = clock
        self._sessions: dict[str, Session] = {}

    def begin(self, user: str, method: str) -> tuple[str, Session]:
        self._end_expired()
        while len(self._sessions) >= MOST_SESSIONS:
            self._sessions.pop(next(iter(self._sessions)))
        token, session = secrets.token_urlsafe(32), Session(user, method, self._clock())
        self._sessions[_digest(token)] = session
        return token, session

    def get(self, token: str, *, touch: bool) -> Session | None:
        """The session of a token. `touch`: the request is an action of the user, so it restarts the timeout."""
        self._end_expired()
        session = self._sessions.get(_digest(token))
        if session and touch:
            session.last_seen = self._clock()
        return session

    def end(self, token: str) -> None:
        self._sessions.pop(_digest(token), None)

    def _end_expired(self) -> None:
        limit = self._clock() - self.timeout
        for token in [token for token, session in self._sessions.items() if session.last_seen <= limit]:
            del self._sessions[token]


class Tickets:
    """Tickets of the cluster menu bar: a single login on another node, valid for some seconds."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._tickets: dict[str, tuple[str, str, str, float]] = {}

    def issue(self, node: str, session: Session) -> str:
        now = self._clock()
        self._tickets = {ticket: facts for ticket, facts in self._tickets.items() if facts[3] > now}
        ticket = secrets.token_urlsafe(32)
        self._tickets[_digest(ticket)] = (node, session.user, session.method, now + TICKET_SECONDS)
        return ticket

    def redeem(self, node: str, ticket: str) -> tuple[str, str] | None:
        """User and login method. None if the ticket is unknown, used, expired or for another node."""
        facts = self._tickets.pop(_digest(ticket), None)
        if facts is None or facts[0] != node or facts[3] <= self._clock():
            return None
        return facts[1], facts[2]


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class Logins:
    """Users and tickets that all nodes of a cluster share."""

    def __init__(self, folder: Path) -> None:
        self.users = Users(folder)
        self.tickets = Tickets()
