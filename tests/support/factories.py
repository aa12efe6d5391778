# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Factories for keys, nodes and examples of the contract."""

from __future__ import annotations

import copy
import dataclasses as dc
import datetime
import functools
import hashlib
import typing as t
from pathlib import Path

import yaml
from ansible_collections.keyops.utrust.plugins.module_utils._appliance import schema
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey, Mbk, Node
from ansible_collections.keyops.utrust.plugins.module_utils._keys import keys_digest
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable

ROOT = Path(__file__).resolve().parents[2]
KEYOPS = Mbk("KEYOPS", "5c1de3b2a4f60718", 2, 3)
OTHER = Mbk("OTHER", "0a0a0a0a0a0a0a0a", 2, 3)


@functools.cache
def _contract() -> dict[str, t.Any]:
    document: dict[str, t.Any] = yaml.safe_load((ROOT / "docs/api/appliance-v1.yaml").read_text(encoding="utf-8"))
    return document


def example(name: str) -> dict[str, t.Any]:
    """Return a new copy of an example of the contract."""
    value: dict[str, t.Any] = copy.deepcopy(_contract()["components"]["examples"][name]["value"])
    return value


def fingerprint(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def key(label: str = "signKey", **changes: t.Any) -> HsmKey:
    """Return an EC key. Its key fingerprint is derived from its label by default."""
    facts: dict[str, t.Any] = {
        "slot": 0,
        "label": escape_unprintable(label),
        "id": "01",
        "type": "ec",
        "size": 256,
        "curve": "P-256",
        "fingerprint": fingerprint(label),
    }
    return HsmKey(**{**facts, **changes})


def node(*hsm_keys: HsmKey, **changes: t.Any) -> Node:
    """Return an operational node with these keys. Its name is node1 by default."""
    given: dict[str, t.Any] = {
        "keys_digest": keys_digest(hsm_keys),
        "key_count": len(hsm_keys),
        "mbk": KEYOPS,
        "clock": datetime.datetime.now(datetime.UTC).isoformat(),
        "last_backup_at": None,
        "tls_expires_at": None,
        **changes,
    }
    return dc.replace(schema.parse_node(example("NodeOperational")), **given)
