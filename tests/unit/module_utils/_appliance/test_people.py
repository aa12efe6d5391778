# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps of people, their confirmations, and the words of the page maps."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.page_map import PAGE_MAPS, steps
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.people import (
    HSM_RESTORED,
    PACKAGE_DOWNLOADED,
    PACKAGE_UPLOADED,
    STEP_IDS,
    Step,
    example,
    make_confirmation,
    people_timeout,
)
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError

DIGEST = "0123456789abcdef" * 4
STEP = steps("b", PACKAGE_DOWNLOADED, "node1")


def code(step: Step, **given: t.Any) -> str:
    with pytest.raises(UtrustError) as caught:
        make_confirmation(step, given)
    return caught.value.code


def test_confirmation_has_normal_form() -> None:
    """Prefix, capitals and leading zeros make no difference."""
    given = {
        "node": "node1",
        "step": "package_downloaded",
        "confirmed_by": " Alice ",
        "sha256": DIGEST.upper(),
        "size": "0123",
    }
    assert make_confirmation(STEP, given) == ("Alice", {"sha256": "sha256:" + DIGEST, "size": "123"})
    assert make_confirmation(STEP, {**given, "sha256": "sha256:" + DIGEST, "size": 123}).values["size"] == "123"


@pytest.mark.parametrize(
    "given",
    [
        {"sha256": DIGEST[1:]},
        {"sha256": DIGEST + " x"},
        {"sha256": ["a"]},
        {"size": "0"},
        {"size": "-5"},
        {"size": "9" * 400},
        {"size": True},
        {"size": "१२३"},
        {"confirmed_by": "  "},
        {"confirmed_by": None},
        {"confirmed_by": "x" * 201},
        {"sha265": DIGEST},
    ],
)
def test_invalid_confirmation_is_rejected(given: dict[str, t.Any]) -> None:
    assert code(STEP, **{"confirmed_by": "Alice", "sha256": DIGEST, "size": "5", **given}) == "confirmation_invalid"


def test_confirmation_with_other_value_is_a_mismatch() -> None:
    """Another package or another HSM than the run expects is a code of its own."""
    upload = steps("b", PACKAGE_UPLOADED, "node2", sha256="sha256:" + DIGEST)
    assert make_confirmation(upload, {"confirmed_by": "Alice", "sha256": DIGEST.upper()}).values
    assert code(upload, confirmed_by="Alice", sha256="f" * 64) == "confirmation_mismatch"
    restore = steps("b", HSM_RESTORED, "node2", hsm_serial="UT000002")
    assert code(restore, confirmed_by="Alice", hsm_serial="UT000003") == "confirmation_mismatch"


def test_text_of_people_is_escaped_and_short() -> None:
    confirmed_by = make_confirmation(STEP, {"confirmed_by": "A\x1b[2J", "sha256": DIGEST, "size": 1}).confirmed_by
    assert confirmed_by == "A\\x1b[2J"
    with pytest.raises(UtrustError) as caught:
        make_confirmation(STEP, {"confirmed_by": "A", "sha256": "\x1b" * 5000, "size": 1})
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_example_has_every_field_of_the_step() -> None:
    assert example(STEP) == {
        "node": "node1",
        "step": "package_downloaded",
        "confirmed_by": "NAME",
        "sha256": "SHA256",
        "size": "SIZE",
    }


@pytest.mark.parametrize("page_map", PAGE_MAPS)
@pytest.mark.parametrize("step_id", STEP_IDS)
def test_page_map_has_every_step(page_map: str, step_id: str) -> None:
    """Facts of a node are text: neither a template nor a line of their own."""
    step = steps(page_map, step_id, "node2\x1b", source="{address}", sha256="sha256:" + DIGEST, address="a\nb")
    text = "\n".join(step.lines)
    assert "\x1b" not in text
    assert "a\nb" not in text
    assert step.id == step_id
    assert step.fields
    assert steps(page_map, step_id, "node2").lines


def test_page_map_b_has_the_words_of_the_vendor() -> None:
    words = "\n".join(line for step_id in STEP_IDS for line in steps("b", step_id, "node2", sha256=DIGEST).lines)
    for word in (
        "*Download Cluster Key Synchronization Package*",
        "*Select a File*",
        "*Upload*",
        "*Restore Keys from Key Synchronization Package*",
        "*Finish*",
        "*Synchronize HSM*",
        "*Choose PIN pad*",
        "*Preview Restore*",
        "*HSM Guided Restore Summary*",
        "*Start Restore*",
    ):
        assert word in words


def test_page_map_a_hands_over_after_synchronize_hsm() -> None:
    """The published pages have no words for the rest of the guide."""
    text = "\n".join(steps("a", HSM_RESTORED, "node2").lines)
    assert "*Synchronize HSM*" in text
    assert "Start Restore" not in text


@pytest.mark.parametrize("page_map", PAGE_MAPS)
def test_restore_stops_where_an_initialization_is_offered(page_map: str) -> None:
    text = "\n".join(steps(page_map, HSM_RESTORED, "node2").lines)
    for word in ("*Initialize HSM*", "*Appliance Security Level*", "*Next Step*"):
        assert word in text


@pytest.mark.parametrize("page_map", ["", "c", "latest"])
def test_unknown_page_map_is_rejected(page_map: str) -> None:
    with pytest.raises(UtrustError) as caught:
        steps(page_map, PACKAGE_DOWNLOADED, "node1")
    assert caught.value.code == "page_map_unknown"


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 86401])
def test_invalid_time_of_people_is_refused(seconds: float) -> None:
    with pytest.raises(UtrustError) as caught:
        people_timeout({"people_timeout": seconds})
    assert caught.value.code == "option_invalid"


def test_time_of_people_has_a_default() -> None:
    assert people_timeout({}) == people_timeout({"people_timeout": None}) == 3600
    assert people_timeout({"people_timeout": 0.5}) == 0.5
