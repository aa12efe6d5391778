# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`pkcs11-tool` of OpenSC with the tokens of a simulated cluster."""

from __future__ import annotations

import os
import subprocess
import typing as t

from utrust_appliance.hsm.backends import HsmBackend

if t.TYPE_CHECKING:
    from pathlib import Path


def softhsm() -> str:
    """Path of the SoftHSM2 module."""
    return str(HsmBackend.of("pkcs11", None).module)


def pkcs11_tool(hsm: Path, *arguments: str, ok: bool = True) -> str:
    """Run pkcs11-tool with the token in the folder of an HSM. Returns the output."""
    login = ["--module", softhsm(), "--login", "--pin", (hsm / "pin").read_text(encoding="ascii")]
    done = subprocess.run(
        ["pkcs11-tool", *login, *arguments],
        env={**os.environ, "SOFTHSM2_CONF": str(hsm / "softhsm2.conf")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) is ok, done.stderr
    return done.stdout


class TokenObject(t.NamedTuple):
    """An object in a token."""

    kind: str
    label: str
    id: str
    access: str


def token_objects(hsm: Path) -> list[TokenObject]:
    """The keys in a token, without objects of the class "Data object"."""
    found: list[dict[str, str]] = []
    facts: dict[str, str] = {}
    for line in pkcs11_tool(hsm, "--list-objects").splitlines():
        what, is_key, dummy = line.partition(" Object;")
        name, is_fact, fact = line.strip().partition(":")
        if is_key:
            facts = {"kind": what}
            found.append(facts)
        elif line.startswith("Data object "):
            facts = {}
        elif is_fact:
            facts[name] = fact.strip()
    return sorted(TokenObject(one["kind"], one["label"], one.get("ID", ""), one["Access"]) for one in found)
