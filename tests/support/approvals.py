# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""People who approve plans, with their keys."""

from __future__ import annotations

import base64
import datetime
import json
import typing as t

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

if t.TYPE_CHECKING:
    from pathlib import Path

FORM = "%Y-%m-%dT%H:%M:%SZ"


def at(hours: float = 0) -> str:
    """Return a time in hours from now, in the form of approvals."""
    return (datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=hours)).strftime(FORM)


class Person:
    """A person with a key. `accounts` defaults to the name in lower case."""

    def __init__(self, name: str, *accounts: str, key: Ed25519PrivateKey | None = None) -> None:
        self.name = name
        self.accounts = list(accounts or (name.lower(),))
        self.private_key = key or Ed25519PrivateKey.generate()

    @property
    def public_key(self) -> str:
        public = self.private_key.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def approver(self) -> dict[str, t.Any]:
        """Return the entry of option approvers."""
        return {"name": self.name, "accounts": self.accounts, "public_key": self.public_key}

    def approve(self, digest: str, **changed: str) -> dict[str, str]:
        """Return a signed approval. `changed` replaces members before the person signs."""
        entry = {"name": self.name, "time": at(-1), "expires": at(24), "plan_digest": digest, **changed}
        text = "keyops.utrust approval\n{plan_digest}\n{name}\n{time}\n{expires}\n".format(**entry)
        return {**entry, "signature": base64.b64encode(self.private_key.sign(text.encode())).decode()}


def encode_approvals(*approvals: dict[str, str]) -> str:
    """Return approvals as the text for the survey of a job. People paste the lines of the program `base64`."""
    return base64.encodebytes(json.dumps(approvals).encode()).decode()


def write_approvals(path: Path, *approvals: dict[str, str]) -> str:
    path.write_text(json.dumps(approvals), encoding="utf-8")
    return str(path)
