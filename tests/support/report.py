# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A key report of a cluster with every possible finding, including labels of an attacker."""

from __future__ import annotations

import dataclasses as dc
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.html import render
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.report import report

from tests.support.factories import OTHER, fingerprint, key
from tests.support.readings import cluster_reading

if t.TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading

NODES = ("node1", "node2", "node3", "node4", "node5", "node6")
TIME = "2026-11-23T12:00:00Z"
HOSTILE = (
    "<script>alert(1)</script>",
    "</style><img src=https://evil.example/x.png onerror=alert(2)>",
    '"><a href=javascript:alert(3)>key</a>',
    "{{ 7 * 7 }}{% raw %}",
    "\u202egnihton\x1b[2J\n",
    "--></title>&lt;b&gt;\ud800",
)
ROOT_KEY = key("rootKey-2024", type="rsa", size=4096, curve=None)
SIGN_KEY = key("signKey-2026", id="02")
OCSP_KEY = key("ocspKey-2026", slot=1, curve="P-384", size=384)
SECRET = key("backupKey", slot=1, type="aes", curve=None, fingerprint="kcv:3fa2b1")
KEYS = (ROOT_KEY, key("signKey-2025"), SIGN_KEY, OCSP_KEY, SECRET)
CAS = (
    {"name": "RootCA", "label": "rootKey-2024"},
    {"name": "IssuingCA", "public_key_sha256": SIGN_KEY.fingerprint, "not_after": "2031-01-01T00:00:00Z"},
    {"name": "OCSP", "label": "ocspKey-2026", "slot": 1},
)


def labeled(labels: t.Sequence[str]) -> list[HsmKey]:
    """A key for each label. A label may be a text without an encoding."""
    return [dc.replace(key(f"{number}"), label=escape_unprintable(label)) for number, label in enumerate(labels)]


def all_readings(labels: t.Sequence[str] = (), nodes: t.Collection[str] = NODES, **options: t.Any) -> ClusterReading:
    """Return the reading of a source, and of nodes in sync, with every difference, with unusable keys, and without a response."""
    impostor = dc.replace(SIGN_KEY, fingerprint=fingerprint("impostor"))
    keys_of: dict[str, t.Any] = {
        "node1": KEYS,
        "node2": KEYS,
        "node3": (ROOT_KEY, key("signKey-2025"), impostor, SECRET, *labeled(labels)),
        "node4": (*KEYS[:3], dc.replace(OCSP_KEY, usable=False), SECRET),
        "node5": "GET /api/v1/node at 127.0.0.6:8443: no connection",
        "node6": (dc.replace(ROOT_KEY, slot=3), *KEYS[1:], dc.replace(SIGN_KEY, label="copy")),
    }
    changes = {name: {"clock": TIME} for name in keys_of}
    changes["node3"]["hsm_firmware"] = "6.1.0"
    facts: t.Any = {**changes, "node4": {"clock": TIME, "mbk": OTHER}}
    return cluster_reading({name: keys_of[name] for name in keys_of if name in nodes}, changes=facts, **options)


def report_of(reading: ClusterReading, **options: t.Any) -> dict[str, t.Any]:
    return report(reading, **{"time": TIME, "version": "1.0.0", **options})


def report_data(labels: t.Sequence[str] = (), **options: t.Any) -> dict[str, t.Any]:
    return report_of(all_readings(labels), **{"cas": CAS, **options})


def write_page(folder: Path, report: dict[str, t.Any]) -> str:
    """Write the page and return its address."""
    path = folder / "key_report.html"
    path.write_text(render(report), encoding="utf-8")
    return path.as_uri()
