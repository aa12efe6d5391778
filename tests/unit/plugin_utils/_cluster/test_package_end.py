# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The end of a package that people downloaded."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.package_end import (
    kept_line,
    package_elsewhere,
    uploads_between_runs,
)

DIGEST = "sha256:" + "a" * 64
CONFIRMED: t.Final = {"node": "node1", "step": "package_downloaded", "sha256": "A" * 64}


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        ({"sha256": DIGEST, "elsewhere": True}, DIGEST),
        ({"sha256": DIGEST, "elsewhere": False}, None),
        ({"sha256": None, "elsewhere": True}, None),
    ],
)
def test_package_of_this_run_decides(package: dict[str, t.Any], expected: str | None) -> None:
    assert package_elsewhere(package, [CONFIRMED], "node1") == expected


def test_later_run_knows_the_package_by_its_confirmation() -> None:
    assert package_elsewhere(None, [{**CONFIRMED, "step": "package_uploaded"}, CONFIRMED], "node1") == DIGEST
    assert package_elsewhere(None, [CONFIRMED], "node2") is None
    assert package_elsewhere(None, [], "node1") is None


def test_line_of_a_kept_package_names_it() -> None:
    assert kept_line(DIGEST).startswith(f"package {DIGEST}: NOT DESTROYED.")


def test_upload_between_two_runs_is_recorded_once() -> None:
    """A target with an import in this run has its own record."""
    given = [
        {"node": node, "step": "package_uploaded", "confirmed_by": "Ada", "sha256": "A" * 64, "size": None}
        for node in ("node2", "node3", "stranger")
    ]
    found = uploads_between_runs([CONFIRMED, *given], {"h2": "node2", "h3": "node3"}, ["h3"])
    upload = {"node": "node2", "step": "package_uploaded", "confirmed_by": "Ada", "origin": "option", "sha256": DIGEST}
    assert found == [upload]


@pytest.mark.parametrize("change", [{"sha256": "short"}, {"sha256": None}, {"confirmed_by": " "}])
def test_invalid_upload_is_refused(change: dict[str, t.Any]) -> None:
    given = {"node": "node2", "step": "package_uploaded", "confirmed_by": "Ada", "sha256": "a" * 64, **change}
    with pytest.raises(UtrustError) as caught:
        uploads_between_runs([given], {"node2": "node2"}, [])
    assert caught.value.code == "confirmation_invalid"
