# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A report with every possible finding, including malicious labels."""

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
    """One key for each label. Labels can contain lone surrogates."""
    return [dc.replace(key(f"{number}"), label=label) for number, label in enumerate(labels)]


def told(name: str, *hsm_keys: HsmKey, **changes: t.Any) -> dict[str, t.Any]:
    """The result of utrust_hsm_info for a node with these keys."""
    unusable = sum(not one.usable for one in hsm_keys)
    facts = node(*hsm_keys, name=name, unusable_key_count=unusable, clock=TIME, **changes).to_dict()
    return {"changed": False, "node": facts, "hsm_keys": [one.to_dict() for one in hsm_keys]}


def everything(labels: t.Sequence[str] = ()) -> dict[str, t.Any]:
    """A source, and nodes with the same keys, missing, mismatched or unusable keys, and without a response."""
    others = labeled(labels)
    impostor = dc.replace(SIGN_KEY, fingerprint=fingerprint("impostor"))
    same = told("node2", *KEYS)
    del same["hsm_keys"]
    return {
        "node1": told("node1", *KEYS),
        "node2": same,
        "node3": told("node3", ROOT_KEY, key("signKey-2025"), impostor, SECRET, *others, hsm_firmware="6.1.0"),
        "node4": told("node4", *KEYS[:3], dc.replace(OCSP_KEY, usable=False), SECRET, mbk=OTHER),
        "node5": {"failed": True, "msg": "GET /api/v1/node at 127.0.0.6:8443: no connection"},
    }


def data(labels: t.Sequence[str] = (), **options: t.Any) -> dict[str, t.Any]:
    return key_report(everything(labels), "node1", TIME, **{"cas": CAS, **options})


def page(report: dict[str, t.Any]) -> str:
    """Render the report like the role."""
    template, style, script = ((FILES / f"key_report.{kind}").read_text("utf-8") for kind in ("html.j2", "css", "js"))
    return key_report_page(report, template=template, style=style, script=script)


def write_page(folder: Path, report: dict[str, t.Any]) -> str:
    """Write the page to a file and return its URL."""
    path = folder / "key_report.html"
    path.write_text(page(report), encoding="utf-8")
    return path.as_uri()
