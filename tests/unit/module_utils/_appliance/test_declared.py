# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts of a node that the operator declares."""

from __future__ import annotations

import datetime
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.declared import parse_declared, parse_members
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError

from tests.support.factories import KEYOPS

MINIMUM: t.Final[dict[str, t.Any]] = {"cluster_id": "rack", "hsm_serial": "UT000002"}


def test_minimum_leaves_the_other_facts_unknown() -> None:
    found = parse_declared("node2", MINIMUM)
    assert (found.cluster_id, found.hsm_serial) == ("rack", "UT000002")
    assert (found.mbk, found.hsm_firmware, found.appliance_version, found.fips) == (None, None, None, None)
    assert (found.import_behavior.effect, found.import_behavior.restart) == ("unknown", "unknown")


def test_every_declared_fact_is_used() -> None:
    found = parse_declared(
        "node2",
        {
            **MINIMUM,
            "cluster_name": "rack 4",
            "hsm_model": "Se2k",
            "hsm_firmware": "6.0.1",
            "appliance_version": "5.1.0",
            "mbk_name": KEYOPS.name,
            "mbk_check_value": KEYOPS.check_value,
            "mbk_required": 2,
            "mbk_total": 3,
            "fips": False,
            "import_effect": "additive",
            "restart": "node",
        },
    )
    assert found.mbk == KEYOPS
    assert (found.cluster_name, found.hsm_model, found.hsm_firmware) == ("rack 4", "Se2k", "6.0.1")
    assert found.fips is False
    assert (found.import_behavior.effect, found.import_behavior.restart) == ("additive", "node")


def test_blank_facts_count_as_not_declared() -> None:
    found = parse_declared("node2", {**MINIMUM, "hsm_firmware": " ", "mbk_name": "", "mbk_check_value": None})
    assert (found.hsm_firmware, found.mbk) == (None, None)


def test_serial_number_of_digits_is_text() -> None:
    assert parse_declared("node2", {**MINIMUM, "hsm_serial": 4711}).hsm_serial == "4711"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "the variable is missing"),
        ("rack", "the variable is missing"),
        ({}, "cluster_id and hsm_serial is missing"),
        ({"cluster_id": "rack"}, "hsm_serial is missing"),
        ({**MINIMUM, "mbk_checkvalue": "0"}, "'mbk_checkvalue' is unknown"),
        ({**MINIMUM, "mbk_name": "KEYOPS"}, "'check_value'"),
        ({**MINIMUM, "mbk_name": "KEYOPS", "mbk_check_value": "xyz"}, "'check_value'"),
        ({**MINIMUM, "restart": "sometimes"}, "'restart'"),
        ({**MINIMUM, "fips": "perhaps"}, "'fips'"),
        ({**MINIMUM, "cluster_name": "x" * 100}, "'cluster_name'"),
    ],
    ids=str,
)
def test_invalid_declaration_names_node_and_reason(given: t.Any, words: str) -> None:
    with pytest.raises(UtrustError) as caught:
        parse_declared("node2", given)
    assert caught.value.code == "declaration_invalid"
    assert words in str(caught.value)
    assert "utrust_declared of node2" in str(caught.value)


def test_declared_members_count_as_up() -> None:
    """Nobody can read their connection, so the list of checks that nobody made names it."""
    (member,) = parse_members([{"node": "node1", "address": "192.0.2.1", "port": 443}])
    assert (member.joined, member.connection, member.up) == (True, "declared", True)


def test_declared_text_is_escaped() -> None:
    """The text of an inventory must not move the cursor of the terminal, and blanks at its ends are not a part of it."""
    found = parse_declared("node2", {"cluster_id": " rack\x1b[2K ", "hsm_serial": 2})
    assert (found.cluster_id, found.hsm_serial) == ("rack\\x1b[2K", "2")


@pytest.mark.parametrize("value", [["UT000002"], {"serial": "UT000002"}, datetime.date(2026, 1, 1)], ids=str)
def test_declared_fact_that_is_not_one_value_is_refused(value: t.Any) -> None:
    with pytest.raises(UtrustError) as caught:
        parse_declared("node2", {"cluster_id": "rack", "hsm_serial": value})
    assert caught.value.code == "declaration_invalid"
    assert "hsm_serial must be one value" in str(caught.value)
