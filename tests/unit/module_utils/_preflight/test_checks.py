# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Preflight checks of node, package and keys."""

from __future__ import annotations

import dataclasses as dc
import os
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import PinPad
from ansible_collections.keyops.utrust.plugins.module_utils._errors import PreflightError, raise_for_problems
from ansible_collections.keyops.utrust.plugins.module_utils._keys import compare
from ansible_collections.keyops.utrust.plugins.module_utils._package.manifest import make_manifest
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.keys import Policy, check_key_changes
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import (
    SourceFacts,
    check_compatibility,
    check_identity,
    check_mbk,
    check_pin_pad,
    check_ready,
)
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.package import check_directory, check_package

from tests.support.factories import KEYOPS, OTHER, fingerprint, key, node

if t.TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem

STRICT = Policy(False, frozenset(), frozenset(), None, frozenset())
NODE = node(name="node2")
EXPECTED = SourceFacts("the package of node1", NODE.cluster_id, NODE.appliance_version, NODE.hsm_firmware, KEYOPS)


def codes(problems: t.Iterable[Problem]) -> list[str]:
    return [problem.code for problem in problems]


def difference_problems(source_keys: t.Any, target_keys: t.Any, **policy: t.Any) -> list[Problem]:
    return check_key_changes("node2", "node1", compare(source_keys, target_keys), STRICT._replace(**policy))


def test_valid_node_has_no_problems() -> None:
    assert check_identity(NODE, "node2") == []
    assert check_identity(NODE, None) == []
    assert check_ready(NODE) == []
    assert check_compatibility(NODE, EXPECTED) == []
    assert check_mbk(NODE, EXPECTED) == []


def test_all_problems_of_a_node_are_reported_at_once() -> None:
    broken = node(
        name="node9",
        hsm_family="other",
        hsm_model="Luna Network HSM 7",
        hsm_state="alarm",
        alarm="tamper sensor",
        driver="stopped",
        running=("import", "1b67"),
        cluster_id="another",
        appliance_version="5.2.0",
        hsm_firmware="6.1.0",
        mbk=OTHER,
    )
    problems = [
        *check_identity(broken, "node2"),
        *check_ready(broken),
        *check_compatibility(broken, EXPECTED),
        *check_mbk(broken, EXPECTED),
    ]
    with pytest.raises(PreflightError) as caught:
        raise_for_problems("importing into node9", problems)
    assert codes(problems) == [
        "node_name_mismatch",
        "hsm_not_supported",
        "hsm_not_operational",
        "driver_stopped",
        "import_in_progress",
        "cluster_mismatch",
        "appliance_version_mismatch",
        "hsm_firmware_mismatch",
        "mbk_mismatch",
    ]
    assert caught.value.code == "node_name_mismatch"
    assert [problem["code"] for problem in caught.value.details["problems"]] == codes(problems)
    assert "importing into node9: 9 problem(s) found, nothing was changed" in str(caught.value)
    for problem in problems:
        assert f"\nnode9: {problem.code}: {problem.text}. Fix: {problem.remedy}." in str(caught.value)
        assert problem.node == "node9"


def test_raise_for_problems_without_problems() -> None:
    raise_for_problems("importing into node2", [])


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"hsm_state": "factory_reset", "mbk": None}, "hsm_not_operational", "Factory Reset Mode"),
        ({"hsm_state": "maintenance"}, "hsm_not_operational", "maintenance"),
        ({"hsm_state": "alarm", "alarm": "tamper sensor"}, "hsm_not_operational", "tamper sensor"),
        ({"mbk": None}, "mbk_missing", "has no MBK"),
        ({"running": ("restore", "7c9e")}, "restore_in_progress", "7c9e"),
    ],
    ids=str,
)
def test_check_ready_names_reason(changes: dict[str, t.Any], code: str, words: str) -> None:
    [problem] = check_ready(node(name="node2", **changes))
    assert problem.code == code
    assert words in problem.text
    assert problem.remedy


def test_check_mbk_compares_check_value_not_name() -> None:
    renamed = dc.replace(KEYOPS, name="RENAMED")
    assert check_mbk(node(mbk=renamed), EXPECTED) == []
    impostor = dc.replace(OTHER, name=KEYOPS.name)
    [problem] = check_mbk(node(mbk=impostor), EXPECTED)
    assert problem.code == "mbk_mismatch"
    assert impostor.check_value in problem.text
    assert "never overwrites an HSM with another MBK" in problem.remedy


def test_check_package_compares_size_and_digest() -> None:
    manifest = make_manifest(node(), (), sha256=fingerprint("package"), size=100)
    path = "/run/cluster.ksp"
    assert check_package((100, fingerprint("package")), manifest, path) == []
    assert codes(check_package(None, manifest, path)) == ["package_missing"]
    assert codes(check_package((99, fingerprint("part")), manifest, path)) == ["package_truncated"]
    assert codes(check_package((100, fingerprint("other")), manifest, path)) == ["package_digest_mismatch"]
    assert codes(check_package((101, fingerprint("longer")), manifest, path)) == ["package_digest_mismatch"]


def test_unchanged_destroyed_key_is_not_a_problem() -> None:
    assert difference_problems([key()], [key()], destroyed_keys=frozenset([key().fingerprint])) == []


def test_extra_key_is_a_problem_unless_allowed() -> None:
    [problem] = difference_problems([], [key()])
    assert problem.code == "extra_keys"
    assert key().fingerprint in problem.text
    assert difference_problems([], [key()], keep_extra=True) == []
    assert difference_problems([], [key()], allowed_extra_keys=frozenset([key().fingerprint])) == []
    other = key("other")
    assert codes(difference_problems([], [key(), other], allowed_extra_keys=frozenset([key().fingerprint]))) == [
        "extra_keys"
    ]


def test_mismatch_is_a_problem_unless_allowed() -> None:
    target_key = key(fingerprint=fingerprint("impostor"))
    [problem] = difference_problems([key()], [target_key], keep_extra=True)
    assert problem.code == "key_mismatch"
    assert key().fingerprint in problem.text
    assert target_key.fingerprint in problem.text
    assert difference_problems([key()], [target_key], allow_replace=frozenset([key().fingerprint])) == []
    # The key fingerprint of the target does not allow the replacement. The one of the source does.
    assert codes(difference_problems([key()], [target_key], allow_replace=frozenset([target_key.fingerprint]))) == [
        "key_mismatch"
    ]


def test_allow_replace_applies_to_other_key_id() -> None:
    target_key = key(id="02", fingerprint=fingerprint("impostor"))
    assert codes(difference_problems([key()], [target_key])) == ["key_mismatch"]
    assert difference_problems([key()], [target_key], allow_replace=frozenset([key().fingerprint])) == []


def test_destroyed_key_is_a_problem_if_new_or_replacing() -> None:
    destroyed = frozenset([key().fingerprint])
    assert codes(difference_problems([key()], [], destroyed_keys=destroyed)) == ["destroyed_key_would_return"]
    target_key = key(fingerprint=fingerprint("impostor"))
    assert codes(difference_problems([key()], [target_key], destroyed_keys=destroyed, allow_replace=destroyed)) == [
        "destroyed_key_would_return"
    ]


def test_expected_new_keys_limits_new_keys() -> None:
    new, other = key("new"), key("other")
    assert difference_problems([new, other], []) == []
    assert codes(difference_problems([new, other], [], expected_new_keys=frozenset([new.fingerprint]))) == [
        "key_not_expected"
    ]
    assert codes(difference_problems([new], [], expected_new_keys=frozenset())) == ["key_not_expected"]
    assert difference_problems([new], [new], expected_new_keys=frozenset()) == []


def test_check_pin_pad_requires_configured_and_ready() -> None:
    pin_pads = [
        PinPad("front-usb", "local", None, "ready"),
        PinPad("rack-2", "remote", "192.0.2.40:5000", "unavailable"),
    ]
    assert check_pin_pad("node2", pin_pads, "front-usb") == []
    [problem] = check_pin_pad("node2", pin_pads, "rack-2")
    assert (problem.code, "unavailable" in problem.text) == ("pin_pad_not_ready", True)
    [problem] = check_pin_pad("node2", pin_pads, "rack-9")
    assert problem.code == "pin_pad_not_configured"
    assert "front-usb, rack-2" in problem.text
    [problem] = check_pin_pad("node2", [], "rack-9")
    assert "configured: none" in problem.text


# Unknown facts


def test_unknown_versions_are_never_equal() -> None:
    unknown = dict.fromkeys(("appliance_version", "hsm_firmware"))
    bare = node(name="node2", **unknown)
    for facts in (EXPECTED, EXPECTED._replace(appliance_version=None, hsm_firmware=None)):
        assert codes(check_compatibility(bare, facts)) == ["version_unknown", "version_unknown"]


def test_unknown_family_and_driver() -> None:
    """An HSM of an unknown family is read but not changed. A driver with an unknown or new state is not stopped."""
    bare = node(name="node2", hsm_family="unknown")
    assert check_identity(bare, "node2") == []
    assert codes(check_ready(bare)) == ["hsm_family_unknown"]
    for driver in ("unknown", "failed"):
        assert check_ready(node(name="node2", driver=driver)) == []
    assert codes(check_ready(node(name="node2", driver="stopped"))) == ["driver_stopped"]


def test_unknown_job_is_in_progress() -> None:
    (problem,) = check_ready(node(name="node2", running=("unknown", None)))
    assert problem.code == "job_in_progress"
    assert problem.text == "a job of an unknown kind (not started with the API) is running on node2"


@pytest.mark.parametrize("both", [True, False])
def test_key_fingerprint_unknown_stops_import(both: bool) -> None:
    """A new key without a key fingerprint could not be verified, and one that both nodes have could not be compared."""
    unknown = key("vault", fingerprint="unknown")
    difference = compare([unknown], [unknown] if both else [])
    policy = Policy(True, frozenset(), frozenset(), None, frozenset())
    found = check_key_changes("node2", "node1", difference, policy)
    assert codes(found) == ["key_fingerprint_unknown"]
    assert "slot 0 vault (unknown)" in found[0].text


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("cluster.ksp", None),
        ("k" * 200, None),
        ("k" * 201, "package_not_written"),
        ("\u00e4" * 101, "package_not_written"),
        ("folder", "package_not_written"),
        ("folder/cluster.ksp", "directory_not_private"),
        ("missing/cluster.ksp", "directory_missing"),
    ],
)
def test_destination_that_cannot_be_written_is_a_problem(tmp_path: Path, name: str, code: str | None) -> None:
    """Without this check, check mode would promise an export that the last step refuses."""
    tmp_path.chmod(0o700)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder").chmod(0o755)
    problems = check_directory("node1", str(tmp_path / name))
    assert [problem.code for problem in problems] == ([code] if code else [])


def test_private_directory_of_another_user_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mode alone does not show who can read the package."""
    tmp_path.chmod(0o700)
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    [problem] = check_directory("node1", str(tmp_path / "cluster.ksp"))
    assert problem.code == "directory_not_private"
    assert "belongs to another user" in problem.text
