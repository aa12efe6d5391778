# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Limits: each has a unit and a reason, docs/limits.md lists all of them, and they agree with the contract."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import yaml
from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits

ROOT = Path(__file__).resolve().parents[3]
#: Limits of the contract (`x-limits`) and their names here.
CONTRACT = {
    "json_response_bytes": "MAX_JSON_BYTES",
    "json_depth": "MAX_JSON_DEPTH",
    "package_bytes": "MAX_PACKAGE_BYTES",
    "page_keys": "MAX_PAGE_KEYS",
    "keys": "MAX_KEYS",
    "import_rows": "MAX_ROWS",
    "slots": "MAX_SLOTS",
    "members": "MAX_MEMBERS",
    "pin_pads": "MAX_PIN_PADS",
    "capabilities": "MAX_CAPABILITIES",
    "list_objects": "MAX_OBJECTS",
    "job_changes": "MAX_CHANGES",
    "listing_seconds": "MIN_LOOKUP_TIME",
    "text": "MAX_TEXT",
    "long_text": "MAX_LONG_TEXT",
    "name": "MAX_NAME",
    "label": "MAX_LABEL",
    "poll_seconds": "MIN_POLL_INTERVAL",
    "retry_after_seconds": "MAX_RETRY_DELAY",
}
#: Limits of the contract that the client stays below.
BELOW = {"wait_seconds": "MAX_LONG_POLL", "object_seconds": "MAX_PACKAGE_TIME"}
#: Limits of nodes. The client sends small requests, and its own options and limits end what it waits for.
OF_NODES = {"json_request_bytes", "page_keys_default", "request_seconds", "settle_seconds", "retention_seconds"}
#: Limits of the claim.
OF_CLAIM = {"claim_ttl_min", "claim_ttl_max"}


def documented() -> dict[str, tuple[str, str]]:
    """Return the limits of the source: value as text, and the comment above it."""
    source = (ROOT / "plugins/module_utils/_limits.py").read_text(encoding="utf-8")
    found = re.findall(r"^#: (.*)\n([A-Z_]+): t\.Final = .*$", source, re.MULTILINE)
    return {
        name: (
            f"{getattr(limits, name):,g}" if getattr(limits, name) < 10**6 else f"{getattr(limits, name):,}",
            comment,
        )
        for comment, name in found
    }


def rows() -> list[str]:
    """Return the rows that the page must have."""
    made = []
    for name, (value, comment) in documented().items():
        unit, dummy, reason = comment.partition(". ")
        made.append(f"| `{name}` | {value} | {unit}. | {reason} |")
    return made


def test_every_limit_has_unit_and_reason() -> None:
    names = {name for name in vars(limits) if name.isupper()}
    assert len(names) > 30
    assert set(documented()) == names
    assert [row for row in rows() if row.endswith("|  |")] == []


def test_page_lists_every_limit() -> None:
    page = (ROOT / "docs/limits.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `M[AI].*$", page, re.MULTILINE) == rows()


def test_limits_are_those_of_the_contract() -> None:
    contract: dict[str, t.Any] = yaml.safe_load((ROOT / "docs/api/appliance-v1.yaml").read_text(encoding="utf-8"))
    given: dict[str, int] = contract["x-limits"]
    assert set(given) - set(BELOW) - OF_NODES - OF_CLAIM == set(CONTRACT)
    assert {name: getattr(limits, here) for name, here in CONTRACT.items()} == {name: given[name] for name in CONTRACT}
    assert [name for name, here in BELOW.items() if getattr(limits, here) > given[name]] == []
