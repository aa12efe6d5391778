# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of the documentation against the files: error codes, trees, links, paths, commands."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml

from tests.support.error_codes import CODE, codes_of_collection, codes_of_contract

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
REPOSITORY = "https://github.com/keyops/keyops.utrust"
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


pages = pytest.mark.parametrize("page", PAGES, ids=page_id)


# Error codes


def codes_of_page() -> list[str]:
    """Return the first cell of every row in the order of the page."""
    return re.findall(r"^\| `([a-z_0-9]+)` \|", read(ROOT / "docs/error-codes.md"), re.MULTILINE)


def test_error_codes_page_lists_every_code_of_the_sources() -> None:
    found = codes_of_collection()
    assert len(found) > 100
    listed = set(codes_of_page())
    assert {code: sorted(files) for code, files in found.items() if code not in listed} == {}


def test_error_codes_page_lists_every_code_of_the_contract() -> None:
    found = codes_of_contract()
    assert len(found) > 30
    assert sorted(found - set(codes_of_page())) == []


def test_error_codes_page_has_no_other_codes() -> None:
    assert sorted(set(codes_of_page()) - set(codes_of_collection()) - codes_of_contract()) == []


def test_error_codes_page_lists_each_code_once() -> None:
    codes = codes_of_page()
    assert sorted({code for code in codes if codes.count(code) > 1}) == []


def test_error_codes_have_meaning_and_remedy() -> None:
    rows = re.findall(r"^\| `.*$", read(ROOT / "docs/error-codes.md"), re.MULTILINE)
    assert [row for row in rows if not re.fullmatch(r"\| `[a-z_0-9]+` \| [^|]+\. \| [^|]+\. \|", row)] == []


@pytest.mark.parametrize(
    "code",
    # One code for each way in which a source names its codes.
    ["response_lost", "node_unreachable", "extra_keys", "hsm_erased", "hsm_firmware_mismatch", "import_not_applied"]
    + ["restore_in_progress", "restore_failed", "import_failed", "audit_inactive", "gate_closed", "plan_missing"],
)
def test_error_codes_are_collected_in_every_form(code: str) -> None:
    assert CODE.fullmatch(code)
    assert code in codes_of_collection()
