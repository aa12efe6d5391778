# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of checks that each transport can make."""

from __future__ import annotations

import dataclasses as dc
from pathlib import Path

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Slot
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.transports import TRANSPORTS
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.transport import (
    CHECKS,
    not_checked,
    not_checked_line,
)

from tests.support.factories import node

PAGE = Path(__file__).resolve().parents[4] / "docs/transports.md"
ASSISTED = dc.replace(node(), transport="assisted", key_scope="ejbca", slots=())


def test_page_has_the_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for check, how in CHECKS.items():
        assert f"| {check} | {how['rest']} | {how['assisted']} | {how['webconf']} |" in page


def test_every_transport_has_a_column() -> None:
    assert {name for how in CHECKS.values() for name in how} >= set(TRANSPORTS)


def test_complete_transport_leaves_nothing_out() -> None:
    assert not_checked([node()]) == []
    assert not_checked_line([]) == []


def test_assisted_names_declared_and_missing_facts_once() -> None:
    found = not_checked([ASSISTED, ASSISTED])
    assert "MBK (declared)" in found
    assert "last backup" in found
    assert "clock" not in found
    assert len(found) == len(set(found))
    assert not_checked_line(found)[0].startswith("NOT CHECKED on this transport: keys that EJBCA does not show, ")


def test_inactive_token_is_named() -> None:
    inactive = dc.replace(ASSISTED, slots=(Slot(1, "RootToken", "manual", False, None), Slot(0, "A", "auto", True, 1)))
    assert [check for check in not_checked([inactive]) if "token" in check and "active" in check] == [
        f"keys of the inactive crypto token RootToken of {inactive.name}"
    ]
