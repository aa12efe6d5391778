# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A key report of a cluster with every possible finding, including labels of an attacker."""

from __future__ import annotations

import dataclasses as dc
import typing as t

from ansible_collections.keyops.utrust.plugins.filter.key_report import key_report
from ansible_collections.keyops.utrust.plugins.filter.key_report_page import key_report_page

from tests.support.factories import OTHER, ROOT, fingerprint, key, node

if t.TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey

FILES = ROOT / "roles/key_report/files"
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
    return [dc.replace(key(f"{number}"), label=label) for number, label in enumerate(labels)]


def hsm_info_result(name: str, *hsm_keys: HsmKey, **changes: t.Any) -> dict[str, t.Any]:
    """The result of utrust_hsm_info for a node with these keys."""
    unusable = sum(not hsm_key.usable for hsm_key in hsm_keys)
    facts = node(*hsm_keys, name=name, unusable_key_count=unusable, clock=TIME, **changes).to_dict()
    return {"changed": False, "node": facts, "hsm_keys": [hsm_key.to_dict() for hsm_key in hsm_keys]}


def all_results(labels: t.Sequence[str] = ()) -> dict[str, t.Any]:
    """Results of a source, and of nodes in sync, with missing, other and unusable keys, and without a response."""
    others = labeled(labels)
    impostor = dc.replace(SIGN_KEY, fingerprint=fingerprint("impostor"))
    in_sync = hsm_info_result("node2", *KEYS)
    del in_sync["hsm_keys"]
    return {
        "node1": hsm_info_result("node1", *KEYS),
        "node2": in_sync,
        "node3": hsm_info_result(
            "node3", ROOT_KEY, key("signKey-2025"), impostor, SECRET, *others, hsm_firmware="6.1.0"
        ),
        "node4": hsm_info_result("node4", *KEYS[:3], dc.replace(OCSP_KEY, usable=False), SECRET, mbk=OTHER),
        "node5": {"failed": True, "msg": "GET /api/v1/node at 127.0.0.6:8443: no connection"},
    }


def report_data(labels: t.Sequence[str] = (), **options: t.Any) -> dict[str, t.Any]:
    return key_report(all_results(labels), "node1", TIME, **{"cas": CAS, **options})


def render_page(report: dict[str, t.Any]) -> str:
    """The page as the role renders it."""
    template, style, script = ((FILES / f"key_report.{kind}").read_text("utf-8") for kind in ("html.j2", "css", "js"))
    return key_report_page(report, template=template, style=style, script=script)


def write_page(folder: Path, report: dict[str, t.Any]) -> str:
    """Write the page and return its address."""
    path = folder / "key_report.html"
    path.write_text(render_page(report), encoding="utf-8")
    return path.as_uri()
