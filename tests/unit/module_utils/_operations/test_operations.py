# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of operations with a fake appliance that violates the contract. Other tests use the appliance simulator."""

from __future__ import annotations

import dataclasses as dc
import itertools
import shutil
import types
import typing as t
from pathlib import Path

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import (
    KEY_LIST,
    RESTORE_JOB,
    STAGED_IMPORT,
    Import,
    ImportBehavior,
    ImportRow,
    Member,
    Package,
)
from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    ApiError,
    PreflightError,
    ResponseLostError,
    UnreachableError,
    UtrustError,
)
from ansible_collections.keyops.utrust.plugins.module_utils._keys import compare
from ansible_collections.keyops.utrust.plugins.module_utils._operations.hsm_info import InfoOptions, read_info
from ansible_collections.keyops.utrust.plugins.module_utils._operations.hsm_restore import (
    RestoreOptions,
    cancel_restore,
    summary,
)
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_export import ExportOptions, export_package
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_import import ImportOptions, import_package
from ansible_collections.keyops.utrust.plugins.module_utils._package import store
from ansible_collections.keyops.utrust.plugins.module_utils._package.manifest import make_manifest
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.keys import Policy
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.restore import Source
from ansible_collections.keyops.utrust.plugins.module_utils._run import life
from ansible_collections.keyops.utrust.plugins.module_utils._run.life import RunEndedError
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions

from tests.support.factories import KEYOPS, OTHER, fingerprint, key, node
from tests.support.fakes import FakeAppliance
from tests.support.operations import (
    AFTER,
    ANY_SKEW,
    APPLIED,
    AWAY,
    DONE,
    JOINING,
    LOST,
    NEW,
    OLD,
    PREVIEW,
    RESTORED,
    RESTORING,
    ROWS,
    SOURCE,
    STAGED,
    TARGET,
    WAITING,
    FakeClock,
    import_into,
    joining,
    restore,
    rows,
    target,
    write_package,
)

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey, Node

# Import


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write_package(tmp_path)


def test_import_stages_checks_applies_and_verifies(package: Path) -> None:
    """The sequence of calls of a successful import."""
    fake = target()
    result = import_into(fake, package)
    assert (result["changed"], result["verified"], result["in_sync"]) == (True, True, True)
    assert fake.calls == ["node", "list_keys", "stage_import", "apply_import", "node", "list_keys"]


def test_import_digest_proves_the_keys_without_a_list(package: Path) -> None:
    """Reading all keys is the slowest request. The digest of the node covers every fact of every key."""
    fake = target(node=[TARGET, AFTER])
    result = import_into(fake, package)
    assert (result["verified"], result["keys_digest"], result["unusable_key_count"]) == (True, AFTER.keys_digest, 0)
    assert fake.calls == ["node", "list_keys", "stage_import", "apply_import", "node"]


def test_import_unusable_keys_force_the_list(package: Path) -> None:
    """The digest does not show which keys cannot be used."""
    unusable = dc.replace(OLD, usable=False)
    fake = target(node=[TARGET, dc.replace(AFTER, unusable_key_count=1)], list_keys=[(OLD,), (unusable, NEW)])
    result = import_into(fake, package)
    assert fake.calls[-2:] == ["node", "list_keys"]
    assert result["unusable_key_count"] == 1
    assert "1 key(s) of node2 cannot be used after the import: old" in result["warnings"][-1]


def import_known(fake: FakeAppliance, package: Path, difference: t.Any) -> dict[str, t.Any]:
    strict = Policy(False, frozenset(), frozenset(), None, frozenset())
    options = ImportOptions("node2", str(package), None, None, strict, FakeClock().patience(), ANY_SKEW)
    known = dc.replace(options, known_difference=difference)
    return import_package(fake.appliance, known, dry_run=False, progress=lambda dummy: None)


def test_import_known_difference_replaces_the_list(package: Path) -> None:
    """With the difference of an earlier reading, an import reads no list of keys."""
    fake = target(node=[TARGET, AFTER])
    result = import_known(fake, package, compare([OLD, NEW], [OLD]).to_dict())
    assert (result["verified"], [each["label"] for each in result["added"]]) == (True, ["new"])
    assert fake.calls == ["node", "stage_import", "apply_import", "node"]


@pytest.mark.parametrize(
    "difference",
    [
        {},
        {"missing": "text"},
        {"missing": [{"label": "new"}]},
        compare([OLD, NEW], [NEW]).to_dict(),
        compare([OLD, NEW], [OLD, NEW]).to_dict(),
        compare([OLD, NEW], [OLD, key("extra")]).to_dict(),
        compare([OLD, NEW], [dc.replace(OLD, usable=False)]).to_dict(),
    ],
    ids=["empty", "text", "half a key", "another key", "nothing missing", "a key more", "an unusable key"],
)
def test_import_known_difference_that_does_not_fit(package: Path, difference: t.Any) -> None:
    """A difference that the digest of the node does not prove is ignored, and the keys are read."""
    fake = target(node=[TARGET, AFTER])
    result = import_known(fake, package, difference)
    assert (result["verified"], [each["label"] for each in result["added"]]) == (True, ["new"])
    assert fake.calls == ["node", "list_keys", "stage_import", "apply_import", "node"]


def member(name: str, connection: str = "connected", *, joined: bool = True) -> Member:
    return Member(name, "127.0.0.2", 443, joined, connection)


def test_import_waits_until_the_members_are_back(package: Path) -> None:
    """The next node must not import while this node or another member is away. Members that were down before do not count."""
    before = (member("node1"), member("node3"), member("node4", "disconnected"), member("node5", joined=False))
    away = (member("node1", "disconnected"), *before[1:])
    fake = target(
        node=[
            dc.replace(TARGET, members=before),
            *[dc.replace(AFTER, members=away)] * 2,
            dc.replace(AFTER, members=before),
        ]
    )
    assert import_into(fake, package)["verified"] is True
    assert fake.calls == ["node", "list_keys", "stage_import", "apply_import", "node", "node", "node"]


def test_import_member_that_does_not_return_is_named(package: Path) -> None:
    """The keys are verified first, so the error is about the member only."""
    before, away = (member("node1"), member("node3")), (member("node1"), member("node3", "disconnected"))
    fake = target(node=[dc.replace(TARGET, members=before), dc.replace(AFTER, members=away)])
    with pytest.raises(UtrustError, match="node2 does not report node3 as Connected") as caught:
        import_into(fake, package)
    assert caught.value.code == "member_wait_timeout"


@pytest.mark.parametrize("change", [{"slot": 1}, {"label": "renamed"}, {"id": "02"}])
def test_import_moved_key_is_refused(package: Path, change: dict[str, t.Any]) -> None:
    """An import does not move a key, so people must move it."""
    moved = dc.replace(NEW, **change)
    fake = target(node=node(OLD, moved, name="node2"), list_keys=(OLD, moved))
    with pytest.raises(PreflightError, match="key_moved") as caught:
        import_into(fake, package)
    assert caught.value.code == "key_moved"
    assert fake.calls == ["node", "list_keys"]


def test_import_dry_run_only_reads(package: Path) -> None:
    """The sequence of calls of a prediction."""
    fake = target()
    result = import_into(fake, package, dry_run=True)
    assert (result["changed"], result["verified"], result["keys_digest"]) == (True, False, AFTER.keys_digest)
    assert fake.calls == ["node", "list_keys"]


IMPOSTOR = key("old", fingerprint=fingerprint("impostor"))


@pytest.mark.parametrize(
    "staged",
    [
        dc.replace(STAGED, rows=rows((OLD, "unchanged", OLD.fingerprint))),
        dc.replace(STAGED, rows=rows((OLD, "replace", IMPOSTOR.fingerprint), (NEW, "add", None))),
        dc.replace(STAGED, rows=rows((OLD, "unchanged", OLD.fingerprint), (NEW, "replace", OLD.fingerprint))),
        dc.replace(STAGED, rows=rows((OLD, "unchanged", OLD.fingerprint), (NEW, "remove", None))),
        dc.replace(STAGED, rows=(*ROWS, ImportRow(key("third"), "add", None))),
        dc.replace(STAGED, rows=rows((IMPOSTOR, "unchanged", IMPOSTOR.fingerprint), (NEW, "add", None))),
        dc.replace(STAGED, rows=()),
        dc.replace(STAGED, keys_digest=AFTER.keys_digest),
    ],
    ids=[
        "key missing",
        "replaces",
        "replaces other key",
        "unknown action",
        "additional key",
        "another key",
        "empty",
        "other keys",
    ],
)
def test_import_preview_mismatch_is_discarded(package: Path, staged: Import) -> None:
    """The import is not applied if the table of the node differs from the prediction."""
    fake = target(stage_import=staged)
    with pytest.raises(UtrustError, match="nothing was changed") as caught:
        import_into(fake, package)
    assert caught.value.code == "import_preview_mismatch"
    assert fake.calls == ["node", "list_keys", "stage_import", "discard_import"]


def test_import_preview_replaces_another_key_is_refused(package: Path) -> None:
    """The operator allows the replacement of one key. The node must not replace a different key."""
    other, third = key("new", fingerprint=fingerprint("impostor")), fingerprint("third")
    staged = Import(
        "1b67",
        "staged",
        node(OLD, other).keys_digest,
        rows((OLD, "unchanged", OLD.fingerprint), (NEW, "replace", third)),
    )
    fake = target(node=node(OLD, other, name="node2"), list_keys=[(OLD, other), (OLD, NEW)], stage_import=staged)
    with pytest.raises(UtrustError) as caught:
        import_into(fake, package, allow_replace=frozenset([NEW.fingerprint]))
    assert caught.value.code == "import_preview_mismatch"
    right = dc.replace(staged, rows=rows((OLD, "unchanged", OLD.fingerprint), (NEW, "replace", other.fingerprint)))
    fake = target(node=node(OLD, other, name="node2"), list_keys=[(OLD, other), (OLD, NEW)], stage_import=right)
    assert import_into(fake, package, allow_replace=frozenset([NEW.fingerprint]))["replaced"]


@pytest.mark.parametrize(
    ("after", "code"),
    [
        ((OLD,), "import_not_verified"),
        ((NEW,), "import_not_verified"),
        ((IMPOSTOR, NEW), "unexpected_keys"),
        ((OLD, key("new", fingerprint=fingerprint("impostor"))), "unexpected_keys"),
        ((), "import_not_verified"),
    ],
    ids=["not imported", "other key lost", "other key overwritten", "other key imported", "all keys lost"],
)
def test_import_keys_not_as_predicted_fails(package: Path, after: tuple[HsmKey, ...], code: str) -> None:
    """The import fails even if the node reports success."""
    with pytest.raises(UtrustError, match="the keys of the HSM are not as expected") as caught:
        import_into(target(list_keys=[(OLD,), after]), package)
    assert caught.value.code == code
    assert "Do not use these keys" in str(caught.value)
    assert "difference" in caught.value.details


def test_import_lost_extra_key_is_named(package: Path) -> None:
    """The lost key is a key that the package does not have."""
    extra = key("extra")
    fake = target(
        node=node(OLD, extra, name="node2"),
        list_keys=[(OLD, extra), (OLD, NEW)],
        stage_import=dc.replace(STAGED, keys_digest=node(OLD, extra).keys_digest),
    )
    with pytest.raises(UtrustError, match="extra") as caught:
        import_into(fake, package, keep_extra=True)
    assert caught.value.code == "import_not_verified"


def test_import_discarded_by_the_node_fails(package: Path) -> None:
    """The state of the import is discarded after the request to apply it."""
    with pytest.raises(UtrustError, match="discarded") as caught:
        import_into(target(apply_import=dc.replace(APPLIED, state="discarded")), package)
    assert caught.value.code == "import_not_applied"


def test_import_apply_refused_discards_the_staged_import(package: Path) -> None:
    """The message has the reason of the node and states that nothing was changed."""
    refusal = ApiError("HTTP 412 keys_changed", code="keys_changed", http_status=412)
    fake = target(apply_import=refusal)
    with pytest.raises(ApiError) as caught:
        import_into(fake, package)
    assert caught.value.code == refusal.code
    assert f"importing into node2: {refusal}. Nothing was changed" in str(caught.value)
    assert fake.calls[-2:] == ["apply_import", "discard_import"]


def test_import_discard_failure_keeps_the_first_error(package: Path) -> None:
    """The error of the import is reported, not the failure to discard it."""
    refusal = ApiError("HTTP 409 slot_full", code="slot_full", http_status=409)
    with pytest.raises(ApiError) as caught:
        import_into(target(apply_import=refusal, discard_import=AWAY), package)
    assert caught.value.code == refusal.code
    assert f"importing into node2: {refusal}. Nothing was changed" in str(caught.value)


def test_import_response_lost_but_applied_succeeds(package: Path) -> None:
    """The request is sent once."""
    fake = target(node=[TARGET, AWAY, AWAY, AFTER], apply_import=LOST)
    result = import_into(fake, package)
    assert (result["changed"], result["verified"]) == (True, True)
    assert fake.calls.count("apply_import") == 1
    assert "discard_import" not in fake.calls


def test_import_response_lost_waits_until_idle(package: Path) -> None:
    """The outcome is read only when no import runs."""
    applying = dc.replace(TARGET, running=("import", "1b67"))
    fake = target(node=[TARGET, applying, applying, AFTER], apply_import=LOST)
    assert import_into(fake, package)["changed"] is True
    assert fake.calls.count("node") == 5


def test_import_response_lost_and_not_applied_fails(package: Path) -> None:
    """The message states that nothing was changed."""
    fake = target(node=[TARGET, AWAY, TARGET], apply_import=LOST)
    with pytest.raises(ResponseLostError, match="holds the same keys as before, so nothing was changed") as caught:
        import_into(fake, package)
    assert caught.value.code == "response_lost"
    assert fake.calls[-3:] == ["node", "discard_import", "node"]


def test_import_response_lost_and_not_discarded_is_not_sure(package: Path) -> None:
    """The request can still arrive, so the message does not state that nothing was changed."""
    with pytest.raises(ResponseLostError, match="A request that is still on its way can change this") as caught:
        import_into(target(apply_import=LOST, discard_import=False), package)
    assert "nothing was changed" not in str(caught.value)


def test_import_applied_while_it_is_discarded(package: Path) -> None:
    """The request arrives after the node was read, and before the import is discarded."""
    fake = target(node=[TARGET, TARGET, AFTER], apply_import=LOST, discard_import=False)
    assert import_into(fake, package)["verified"] is True


NONSENSE = [
    ApiError("reading a response: 'id' is missing", code="response_invalid"),
    ApiError("GET: the response (HTTP 200) is not JSON", code="response_not_json", http_status=200),
    ApiError("GET: the response is larger than 5 bytes", code="response_too_large"),
    ApiError("GET: HTTP 500 internal_error", code="internal_error", http_status=500),
]


@pytest.mark.parametrize("nonsense", NONSENSE, ids=lambda error: error.code)
def test_import_nonsense_while_it_runs_reads_the_node(package: Path, nonsense: ApiError) -> None:
    """The node accepted the request to apply the package, so nothing but the keys is true."""
    applying = dc.replace(APPLIED, state="applying")
    fake = target(node=[TARGET, nonsense, AWAY, AFTER], apply_import=applying, read_import=nonsense)
    assert import_into(fake, package)["verified"] is True
    assert fake.calls.count("apply_import") == 1


@pytest.mark.parametrize("nonsense", NONSENSE, ids=lambda error: error.code)
def test_import_nonsense_for_ever_is_unknown(package: Path, nonsense: ApiError) -> None:
    """The message states both failures, and that the keys may have changed."""
    with pytest.raises(UtrustError, match="The keys may have changed") as caught:
        import_into(target(node=[TARGET, nonsense], apply_import=LOST), package)
    assert caught.value.code == "outcome_unknown"
    assert str(LOST) in str(caught.value)
    assert str(nonsense) in str(caught.value)


@pytest.mark.parametrize("nonsense", [NONSENSE[0], ApiError("other list", code="keys_digest_mismatch")], ids=str)
def test_import_keys_not_readable_after_success(package: Path, nonsense: ApiError) -> None:
    with pytest.raises(UtrustError, match="Do not use the new keys on this node") as caught:
        import_into(target(list_keys=[(OLD,), nonsense]), package)
    assert caught.value.details == {"code": "import_not_verified", "changed": True}


def test_import_unknown_state_has_not_ended(package: Path) -> None:
    """A later version of the contract can have more states. The import is read until it has ended."""
    new = dc.replace(APPLIED, state="brand_new")
    fake = target(apply_import=new, read_import=[new, APPLIED])
    assert import_into(fake, package)["verified"] is True


def test_import_that_is_checked_is_waited_for(package: Path) -> None:
    fake = target(stage_import=dc.replace(STAGED, state="checking", rows=()), read_import=STAGED)
    assert import_into(fake, package)["verified"] is True
    assert fake.calls[2:5] == ["stage_import", "read_import", "apply_import"]


def test_import_node_does_not_come_back_is_unknown(package: Path) -> None:
    """The message states that the keys may have changed."""
    with pytest.raises(UtrustError, match="Its keys may have changed") as caught:
        import_into(target(node=[TARGET, AWAY], apply_import=LOST), package)
    assert caught.value.code == "node_wait_timeout"


def test_import_node_restarts_is_waited_for(package: Path) -> None:
    """The operation waits for the node before it verifies the keys."""
    fake = target(list_keys=[(OLD,), AWAY, AWAY, (OLD, NEW)])
    assert import_into(fake, package)["verified"] is True


def test_import_manifest_without_package_fails() -> None:
    """A manifest without its package is sufficient in check mode only."""
    manifest = make_manifest(SOURCE, (OLD, NEW)).to_dict()
    strict = Policy(False, frozenset(), frozenset(), None, frozenset())
    options = ImportOptions("node2", None, manifest, None, strict, FakeClock().patience(), ANY_SKEW)
    fake = target()
    with pytest.raises(UtrustError, match="Set option src, or use check mode") as caught:
        import_package(fake.appliance, options, dry_run=False, progress=lambda dummy: None)
    assert caught.value.code == "package_missing"
    assert fake.calls == ["node", "list_keys"]


def test_import_transport_cannot_read_keys_fails(package: Path) -> None:
    """An import that cannot be verified is not started."""
    fake = target(capabilities=frozenset({STAGED_IMPORT}))
    with pytest.raises(UtrustError, match="Nothing was changed") as caught:
        import_into(fake, package)
    assert caught.value.code == "capability_missing"
    assert fake.calls == ["node"]


# Import where the upload is the commit

AT_ONCE = frozenset({KEY_LIST})


def test_import_upload_is_commit_sends_once_and_verifies(package: Path) -> None:
    """The sequence of calls where the node cannot stage an import."""
    fake = target(capabilities=AT_ONCE, stage_import=APPLIED)
    assert import_into(fake, package)["verified"] is True
    assert fake.calls == ["node", "list_keys", "stage_import", "node", "list_keys"]


def test_import_upload_is_commit_response_lost(package: Path) -> None:
    """The keys of the node show whether the import succeeded."""
    fake = target(capabilities=AT_ONCE, stage_import=LOST, node=[TARGET, AWAY, AFTER])
    assert import_into(fake, package)["verified"] is True
    with pytest.raises(ResponseLostError, match="A request that is still on its way can change this"):
        import_into(target(capabilities=AT_ONCE, stage_import=LOST), package)


def test_import_upload_is_commit_response_invalid(package: Path) -> None:
    """The keys of the node show whether the import succeeded."""
    nonsense = ApiError("reading a response: 'rows' is missing", code="response_invalid")
    fake = target(capabilities=AT_ONCE, stage_import=nonsense, node=[TARGET, AFTER])
    assert import_into(fake, package)["verified"] is True


def test_import_upload_is_commit_refused(package: Path) -> None:
    """A refused upload changed nothing, so the node is not read again."""
    refusal = ApiError("HTTP 422 package_corrupt", code="package_corrupt", http_status=422)
    fake = target(capabilities=AT_ONCE, stage_import=refusal)
    with pytest.raises(ApiError, match="Nothing was changed") as caught:
        import_into(fake, package)
    assert caught.value.code == "package_corrupt"
    assert fake.calls == ["node", "list_keys", "stage_import"]


def test_import_failed_after_some_keys_names_the_keys(
    package: Path,
) -> None:
    """The message names the imported keys and the missing keys."""
    third = key("third")
    store.write_manifest(
        package, make_manifest(node(OLD, NEW, third), (OLD, NEW, third), sha256=fingerprint("package"), size=7)
    )
    failed = Import("1b67", "failed", "", (), problem=("import_failed", "The import failed: 1 of 2 keys were written"))
    fake = target(capabilities=AT_ONCE, stage_import=failed, node=[TARGET, AFTER], list_keys=[(OLD,), (OLD, NEW)])
    with pytest.raises(UtrustError, match="Run again to continue") as caught:
        import_into(fake, package)
    facts = caught.value.details
    assert (facts["code"], facts["changed"], facts["pending"]) == ("import_incomplete", True, 1)
    assert [one["label"] for one in facts["added"]] == ["new"]
    assert "Missing keys: slot 0 third" in str(caught.value)


def test_import_waiting_for_cards_shows_the_prompts(package: Path) -> None:
    """The progress has each prompt and each error of the PIN pad once."""
    waiting = dc.replace(APPLIED, state="waiting_for_card", pin_pad="front-usb", prompt="Insert MBK card 1 of 2")
    again = dc.replace(waiting, notice=("wrong_card", "Card OTHER-1 is of MBK OTHER"))
    fake = target(apply_import=waiting, read_import=[waiting, again, dc.replace(APPLIED, state="applying"), APPLIED])
    lines: list[str] = []
    strict = Policy(False, frozenset(), frozenset(), None, frozenset())
    options = ImportOptions("node2", str(package), None, None, strict, FakeClock().patience(), ANY_SKEW)
    assert import_package(fake.appliance, options, dry_run=False, progress=lines.append)["verified"] is True
    assert [line for line in lines if "PIN pad" in line] == [
        "node2: PIN pad front-usb: Insert MBK card 1 of 2",
        "node2: Card OTHER-1 is of MBK OTHER [wrong_card]. PIN pad front-usb: Insert MBK card 1 of 2",
    ]


def test_import_waiting_for_cards_times_out(package: Path) -> None:
    """The import is discarded, and nothing was changed."""
    waiting = dc.replace(APPLIED, state="waiting_for_card", pin_pad="front-usb", prompt="Insert MBK card 1 of 2")
    fake = target(apply_import=waiting, read_import=waiting)
    with pytest.raises(UtrustError, match=r"Insert MBK card 1 of 2.*nothing was changed") as caught:
        import_into(fake, package)
    assert caught.value.code == "import_timeout"
    assert "discard_import" in fake.calls


def test_import_key_no_longer_usable_gives_a_warning(package: Path) -> None:
    """The warning names the keys that the import made unusable."""
    locked = dc.replace(OLD, usable=False)
    result = import_into(target(list_keys=[(OLD,), (locked, NEW)]), package)
    assert "1 key(s) of node2 cannot be used after the import: old" in result["warnings"][1]


# Import effects

EXTRA, MISMATCHED = key("extra"), key("new", fingerprint=fingerprint("mismatched"))
BEHAVIORS = [
    ("additive", "not_replicated", None, None, "key_not_replaceable"),
    ("overwriting", "not_replicated", None, None, None),
    ("replacing", "not_replicated", None, "extra_keys_would_be_lost", None),
    ("overwriting", "replicated", None, "extra_keys_would_be_lost", None),
    ("overwriting", "unknown", None, "import_effect_unknown", None),
    ("unknown", "unknown", None, "import_effect_unknown", "import_effect_unknown"),
    ("unknown", "not_replicated", None, "import_effect_unknown", "import_effect_unknown"),
    ("unknown", "unknown", "additive", None, "key_not_replaceable"),
    ("unknown", "unknown", "overwriting", None, None),
    ("unknown", "unknown", "replacing", "extra_keys_would_be_lost", None),
    ("unknown", "replicated", "overwriting", "extra_keys_would_be_lost", None),
    ("overwriting", "unknown", "overwriting", None, None),
    ("additive", "not_replicated", "overwriting", "import_effect_mismatch", "import_effect_mismatch"),
]


@pytest.mark.parametrize(("effect", "deletions", "declared", "for_extra", "for_replace"), BEHAVIORS)
def test_import_effect_forbidden_or_unknown_is_refused(
    package: Path, effect: str, deletions: str, declared: str | None, for_extra: str | None, for_replace: str | None
) -> None:
    """An effect without consequence for the keys is not refused."""
    behavior = ImportBehavior(effect, deletions, restart="nothing")

    def refusal(*present: HsmKey, **policy: t.Any) -> str | None:
        target_node = node(*present, name="node2", import_behavior=behavior)
        try:
            import_into(
                target(node=target_node, list_keys=[present]), package, dry_run=True, import_effect=declared, **policy
            )
        except PreflightError as exc:
            return exc.code
        return None

    assert refusal(OLD, EXTRA, keep_extra=True) == for_extra
    assert refusal(OLD, EXTRA, allowed_extra_keys=frozenset([EXTRA.fingerprint])) == for_extra
    assert refusal(OLD, MISMATCHED, allow_replace=frozenset([NEW.fingerprint])) == for_replace
    # No key must be kept or replaced, so the effect makes no difference.
    assert refusal(OLD) == (for_extra if for_extra == "import_effect_mismatch" else None)
    # The import changes nothing.
    assert refusal(OLD, NEW, EXTRA, keep_extra=True) == (for_extra if for_extra == "import_effect_mismatch" else None)


# Export

OFFERED = Package(
    id="2f1a",
    state="ready",
    sha256=fingerprint("package"),
    size=7,
    source="node1",
    source_serial="UT000001",
    cluster_id=SOURCE.cluster_id,
    mbk=KEYOPS,
    key_count=2,
    keys_digest=SOURCE.keys_digest,
    single_download=False,
)


def export(fake: FakeAppliance, dest: Path, *, dry_run: bool = False) -> dict[str, t.Any]:
    options = ExportOptions("node1", str(dest), force=False, open_private=None, ttl=60, max_clock_skew=ANY_SKEW)
    return export_package(fake.appliance, options, dry_run=dry_run, progress=lambda dummy: None)


def source(**results: t.Any) -> FakeAppliance:
    usual: dict[str, t.Any] = {
        "node": SOURCE,
        "list_keys": (OLD, NEW),
        "create_package": OFFERED,
        "download_package": None,
        "delete_package": None,
    }
    return FakeAppliance(**{**usual, **results})


@pytest.mark.parametrize(
    "change",
    [{"keys_digest": TARGET.keys_digest}, {"source": "node9"}, {"mbk": OTHER}],
    ids=["other keys", "other node", "other MBK"],
)
def test_export_package_mismatch_is_deleted(tmp_path: Path, change: dict[str, t.Any]) -> None:
    """The package is deleted on the node and not downloaded."""
    fake = source(create_package=dc.replace(OFFERED, **change))
    with pytest.raises(ApiError, match="The package was deleted") as caught:
        export(fake, tmp_path / "cluster.ksp")
    assert caught.value.code == "package_mismatch"
    assert fake.calls == ["node", "list_keys", "create_package", "delete_package"]
    assert list(tmp_path.iterdir()) == []


def test_export_download_fails_deletes_the_copy_on_the_node(tmp_path: Path) -> None:
    """The error of the download is reported, and no file stays."""
    damaged = ApiError("other bytes", code="download_corrupt")
    fake = source(download_package=damaged, delete_package=AWAY)
    with pytest.raises(ApiError) as caught:
        export(fake, tmp_path / "cluster.ksp")
    assert caught.value is damaged
    assert fake.calls[-1] == "delete_package"
    assert list(tmp_path.iterdir()) == []


def test_export_manifest_not_written_removes_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package without its manifest is useless."""

    def full(*dummy: t.Any) -> None:
        raise UtrustError("the disk is full", code="package_not_written")

    monkeypatch.setattr(store, "write_manifest", full)
    with pytest.raises(UtrustError, match="the disk is full"):
        export(source(), tmp_path / "cluster.ksp")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dry_run", [True, False])
def test_export_disk_space_low_makes_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dry_run: bool) -> None:
    """Check mode reports the problem too."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=100_000))
    fake = source()
    with pytest.raises(PreflightError) as refused:
        export(fake, tmp_path / "cluster.ksp", dry_run=dry_run)
    assert [problem["code"] for problem in refused.value.details["problems"]] == ["disk_space_low"]
    assert "create_package" not in fake.calls


def earlier_package(folder: Path) -> Path:
    package = folder / "cluster.ksp"
    package.write_bytes(b"old")
    store.write_manifest(package, make_manifest(TARGET, (OLD,), sha256=fingerprint("old"), size=3))
    return package


def test_export_download_fails_keeps_the_earlier_package(tmp_path: Path) -> None:
    """The package that the user has, with its manifest, stays usable until another package is complete."""
    package = earlier_package(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UnreachableError):
        export(source(download_package=AWAY), package)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_export_deletes_the_old_manifest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest is never beside a package that it does not describe."""
    package = earlier_package(tmp_path)
    present: list[bool] = []
    replace = Path.replace

    def replaced(path: Path, other: Path) -> Path:
        if other == package:
            present.append(store.manifest_path(package).exists())
        return replace(path, other)

    monkeypatch.setattr(Path, "replace", replaced)
    export(source(), package)
    assert present == [False]
    assert store.manifest_path(package).exists()


# Guided restore


def test_restore_previews_starts_watches_and_verifies() -> None:
    """The sequence of calls of a successful restore."""
    fake = joining()
    result = restore(fake)
    assert (result["changed"], result["hsm_state"], result["in_sync"]) == (True, "operational", True)
    assert result["events"] == [
        "PIN pad front-usb: Insert MBK card 1 of 2 (card 1 of 2, 120 s left)",
        "PIN pad front-usb: restoring keys",
        "restore succeeded",
    ]
    assert fake.calls == ["node", "pin_pads", "preview_restore", "start_restore", *["watch_restore"] * 2, "node"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"node": "node9"}, "node_name_mismatch"),
        ({"hsm_serial": "UT000009"}, "node_name_mismatch"),
        ({"mbk": OTHER}, "mbk_mismatch"),
        ({"source_keys_digest": TARGET.keys_digest}, "source_changed"),
        ({"cards_required": 3}, "card_quorum_mismatch"),
    ],
    ids=str,
)
def test_restore_preview_mismatch_starts_nothing(change: dict[str, t.Any], code: str) -> None:
    """The restore is not started if the summary differs from the node, the source or the declared cards."""
    fake = joining(preview_restore=dc.replace(PREVIEW, **change))
    with pytest.raises(PreflightError) as caught:
        restore(fake, cards=(2, 3))
    assert caught.value.code == code
    assert "start_restore" not in fake.calls


@pytest.mark.parametrize(
    "after",
    [JOINING, dc.replace(RESTORED, mbk=OTHER), dc.replace(RESTORED, hsm_state="alarm"), dc.replace(RESTORED, mbk=None)],
    ids=["still reset", "other MBK", "alarm", "no MBK"],
)
def test_restore_reported_success_is_verified(after: Node) -> None:
    """The operation fails if the HSM contradicts the reported success."""
    with pytest.raises(UtrustError, match="Do not use this node") as caught:
        restore(joining(node=[JOINING, after]))
    assert caught.value.code == "restore_not_verified"


def test_restore_with_other_keys_fails() -> None:
    """The message names key_sync as the remedy."""
    with pytest.raises(UtrustError, match="Run key_sync before you use the node") as caught:
        restore(joining(node=[JOINING, node(OLD, name="node2", hsm_serial="UT000002")]))
    assert caught.value.code == "restore_not_in_sync"


def test_restore_progress_has_transitions_and_keepalives() -> None:
    """Each transition is shown once, and the last line again every minute."""
    now = itertools.count(
        0, 5
    )  # each reading of the clock is 5 s later, and each long poll reads the clock several times
    lines: list[str] = []
    waiting = [dc.replace(WAITING, seconds_left=120.0 - number) for number in range(20)]
    patience = WaitOptions(6000, 2.0, lambda: float(next(now)), lambda dummy: None)

    result = restore(joining(watch_restore=[*waiting, RESTORING, DONE]), patience=patience, progress=lines.append)

    shown = [line for line in lines if line.startswith("node2 HSM UT000002: ")]
    assert shown[0] == "node2 HSM UT000002: PIN pad front-usb: Insert MBK card 1 of 2 (card 1 of 2, 120 s left)"
    assert shown[1].startswith("node2 HSM UT000002: still waiting, PIN pad front-usb: Insert MBK card 1 of 2")
    assert 1 < len([line for line in shown if "still waiting" in line]) < len(waiting) / 2
    assert len(result["events"]) == 3, "repeated lines are not events"


def test_restore_node_unreachable_is_waited_for() -> None:
    """The operation continues to watch when the node responds again."""
    assert restore(joining(watch_restore=[AWAY, RESTORING, AWAY, DONE]))["changed"] is True


PARTLY = node(OLD, name="node2", hsm_serial="UT000002")
FAILED = dc.replace(RESTORING, state="failed", sequence=6, problem=("restore_failed", "The HSM failed"))


@pytest.mark.parametrize(
    ("after", "text"),
    [
        (JOINING, r"The HSM holds the same 0 key\(s\) as before"),
        (PARTLY, r"The HSM changed: it is operational with MBK KEYOPS \(5c1de3b2a4f60718\) and 1 key\(s\)"),
        (NONSENSE[0], "Its keys are unknown"),
        (AWAY, "Its keys are unknown"),
    ],
    ids=["unchanged", "some keys", "nonsense", "away"],
)
def test_restore_failed_reads_the_node(after: t.Any, text: str) -> None:
    """A restore can fail after some keys, so the message does not state that the HSM was not changed."""
    with pytest.raises(UtrustError, match=text) as caught:
        restore(joining(node=[JOINING, after], watch_restore=[RESTORING, FAILED]))
    assert caught.value.code == "restore_failed"


def test_restore_lost_but_running_is_watched() -> None:
    fake = joining(
        node=[JOINING, dc.replace(JOINING, running=("restore", "7c9e")), RESTORED],
        start_restore=LOST,
        running_restore=WAITING,
    )
    assert restore(fake)["in_sync"] is True


def test_restore_lost_and_not_running_reports_the_node() -> None:
    with pytest.raises(ResponseLostError, match=r"0 key\(s\), and no such restore is running. Run again") as caught:
        restore(joining(node=JOINING, start_restore=LOST))
    assert caught.value.code == "response_lost"


def test_restore_node_that_responds_early_is_not_flooded() -> None:
    """A long poll without a change is repeated after one second, whatever the node does."""
    clock = FakeClock()
    now = clock.now

    def still() -> float:
        return clock.now

    fake = joining(watch_restore=[*[WAITING] * 100, AssertionError("too many requests")])
    with pytest.raises(UtrustError) as caught:
        restore(fake, patience=WaitOptions(60.0, 2.0, still, clock.sleep))
    assert caught.value.code == "restore_timeout"
    assert fake.calls.count("watch_restore") <= 60
    assert clock.now - now >= 60


def test_restore_with_many_changes_keeps_some_events() -> None:
    changes = [dc.replace(WAITING, sequence=number) for number in range(2, 700)]
    result = restore(joining(watch_restore=[*changes, RESTORING, DONE]), timeout=90_000.0)
    assert len(result["events"]) == 500


def test_restore_timeout_does_not_cancel() -> None:
    """The message states that the restore continues at the PIN pad."""
    with pytest.raises(UtrustError, match="The restore continues at PIN pad front-usb") as caught:
        restore(joining(watch_restore=WAITING), timeout=30)
    assert caught.value.code == "restore_timeout"
    assert caught.value.details["restore_id"] == "7c9e"
    assert caught.value.details["events"] == ["PIN pad front-usb: Insert MBK card 1 of 2 (card 1 of 2, 120 s left)"]


def test_restore_running_is_not_started_again() -> None:
    """A running restore is watched without a preview."""
    running = dc.replace(JOINING, running=("restore", "7c9e"))
    fake = joining(node=[running, RESTORED], running_restore=WAITING)
    assert restore(fake)["changed"] is True
    assert "start_restore" not in fake.calls
    assert "preview_restore" not in fake.calls


def test_restore_running_with_other_source_is_refused() -> None:
    """The message names state: canceled as a remedy."""
    running = dc.replace(JOINING, running=("restore", "7c9e"))
    fake = joining(node=running, running_restore=dc.replace(WAITING, source="node3"))
    with pytest.raises(PreflightError, match="state: canceled") as caught:
        restore(fake)
    assert caught.value.code == "restore_in_progress"


def test_restore_unknown_state_is_watched_until_timeout() -> None:
    """A later version of the contract can have more states."""
    with pytest.raises(UtrustError) as caught:
        restore(joining(watch_restore=dc.replace(WAITING, state="thinking", sequence=2)), timeout=30)
    assert caught.value.code == "restore_timeout"


def test_cancel_without_restore_changes_nothing() -> None:
    """The operation only reads the node."""
    options = RestoreOptions("node2", None, None, None, 20.0, FakeClock().patience())
    fake = FakeAppliance(node=JOINING)
    result = cancel_restore(fake.appliance, options, dry_run=False, progress=lambda dummy: None)
    assert result["changed"] is False
    assert fake.calls == ["node"]


def test_restore_capability_missing_fails() -> None:
    """The transport cannot start a guided restore."""
    with pytest.raises(UtrustError) as caught:
        restore(joining(capabilities=frozenset({KEY_LIST})))
    assert caught.value.code == "capability_missing"
    assert RESTORE_JOB not in str(caught.value.details)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {**SOURCE.to_dict(), "mbk": None},
        {**SOURCE.to_dict(), "mbk": "KEYOPS"},
        {**SOURCE.to_dict(), "key_count": "x"},
    ],
    ids=["empty", "no MBK", "MBK is text", "count is text"],
)
def test_restore_source_invalid_is_refused(given: dict[str, t.Any]) -> None:
    """Option source must be a node as utrust_hsm_info returns it."""
    with pytest.raises(UtrustError, match="RETURN value node of utrust_hsm_info") as caught:
        Source.from_dict(given)
    assert caught.value.code == "source_invalid"


# Reading


def test_info_node_name_mismatch_reads_no_keys() -> None:
    """The operation stops after the first request."""
    fake = FakeAppliance(node=SOURCE, list_keys=(OLD,))
    with pytest.raises(PreflightError, match="node1, not node2") as caught:
        read_info(fake.appliance, InfoOptions("node2", ("keys",)))
    assert caught.value.code == "node_name_mismatch"
    assert fake.calls == ["node"]


@pytest.mark.parametrize(
    ("changes", "reads"),
    [
        ({}, False),
        ({"unusable_key_count": 2}, False),
        ({"unusable_key_count": 1}, True),
        ({"keys_digest": fingerprint("other")}, True),
    ],
    ids=["same keys", "all unusable", "one unusable", "other keys"],
)
def test_info_known_keys_are_not_read(changes: dict[str, t.Any], reads: bool) -> None:
    """The keys are read if the digest differs or does not determine which keys are usable."""
    known = node(OLD, NEW)
    fake = FakeAppliance(node=dc.replace(known, **changes), list_keys=(OLD, NEW))
    result = read_info(fake.appliance, InfoOptions(None, ("keys",), known_digest=known.keys_digest))
    assert ("hsm_keys" in result) == reads
    assert fake.calls == ["node", "list_keys"][: 2 if reads else 1]


def test_info_other_hsm_is_refused() -> None:
    """The collection supports Utimaco u.trust HSMs only."""
    fake = FakeAppliance(node=dc.replace(SOURCE, hsm_family="other"))
    with pytest.raises(PreflightError, match="supports Utimaco") as caught:
        read_info(fake.appliance, InfoOptions(None, ()))
    assert caught.value.code == "hsm_not_supported"


@pytest.mark.parametrize(("state", "changed"), [("canceled", True), ("succeeded", False), ("failed", False)])
def test_cancel_reports_how_the_restore_ended(state: str, changed: bool) -> None:
    """A restore that ended before it could be canceled is not reported as canceled."""
    options = RestoreOptions("node2", None, None, None, 20.0, FakeClock().patience())
    running = dc.replace(JOINING, running=("restore", "7c9e"))
    fake = FakeAppliance(node=running, running_restore=WAITING, cancel_restore=dc.replace(WAITING, state=state))
    result = cancel_restore(fake.appliance, options, dry_run=False, progress=lambda dummy: None)
    assert result["changed"] is changed
    assert ("warnings" in result) is not changed


def test_orphan_cancels_no_restore(monkeypatch: pytest.MonkeyPatch) -> None:
    """The card holders can continue when the run that wanted to cancel has ended."""
    options = RestoreOptions("node2", None, None, None, 20.0, FakeClock().patience())
    fake = FakeAppliance(node=dc.replace(JOINING, running=("restore", "7c9e")), running_restore=WAITING)
    monkeypatch.setattr(life, "_ended", [lambda: True])
    with pytest.raises(RunEndedError):
        cancel_restore(fake.appliance, options, dry_run=False, progress=lambda dummy: None)
    assert "cancel_restore" not in fake.calls


# Unknown facts


def test_export_waits_until_the_package_is_prepared(tmp_path: Path) -> None:
    """An opaque package is accepted, because the node has accepted the expected keys digest."""
    preparing = dc.replace(OFFERED, state="preparing", sha256=None, size=None)
    opaque = dc.replace(OFFERED, source=None, mbk=None, key_count=None, keys_digest=None)
    fake = source(create_package=preparing, read_package=opaque)
    result = export(fake, tmp_path / "cluster.ksp")
    assert result["package"]["sha256"] == OFFERED.sha256
    assert fake.calls[2:5] == ["create_package", "read_package", "download_package"]


@pytest.mark.parametrize("problem", [("export_failed", "The export failed: the HSM failed"), None])
def test_export_failed_package_is_an_error(tmp_path: Path, problem: tuple[str, str] | None) -> None:
    fake = source(create_package=dc.replace(OFFERED, state="failed", problem=problem))
    with pytest.raises(UtrustError, match="No package was written") as caught:
        export(fake, tmp_path / "cluster.ksp")
    assert caught.value.code == (problem[0] if problem else "package_not_ready")
    assert fake.calls == ["node", "list_keys", "create_package", "delete_package"]
    assert list(tmp_path.iterdir()) == []


def test_import_without_preview_is_applied(package: Path) -> None:
    """A node may show no preview. The keys of the HSM are verified as always."""
    result = import_into(target(stage_import=dc.replace(STAGED, rows=None, keys_digest=None)), package)
    assert (result["changed"], result["verified"]) == (True, True)


def test_import_into_node_without_digest_is_refused(package: Path) -> None:
    fake = target(node=dc.replace(TARGET, keys_digest=None, key_count=None, unusable_key_count=None))
    with pytest.raises(PreflightError) as caught:
        import_into(fake, package)
    assert caught.value.code == "keys_unknown"
    assert "stage_import" not in fake.calls


def test_import_with_unknown_keys_afterwards_is_unknown(package: Path) -> None:
    """After a lost response, an unknown keys digest is neither the earlier digest nor another one."""
    fake = target(apply_import=LOST, node=[TARGET, dc.replace(AFTER, keys_digest=None)])
    with pytest.raises(UtrustError, match="does not report its keys digest") as caught:
        import_into(fake, package)
    assert caught.value.code == "node_wait_timeout"


def test_restore_without_list_of_keys_is_not_in_sync() -> None:
    """A bridge restores the HSM, but nobody knows whether it holds the keys of the source."""
    unknown: dict[str, t.Any] = dict.fromkeys(("keys_digest", "key_count", "unusable_key_count"))
    result = restore(joining(node=[dc.replace(JOINING, **unknown), dc.replace(RESTORED, **unknown)]))
    assert (result["changed"], result["in_sync"]) == (True, None)
    assert "Compare the keys manually" in result["warnings"][0]


def test_restore_summary_of_unknown_facts() -> None:
    bare = dc.replace(
        PREVIEW, tls_fingerprint=None, mbk=None, source_key_count=None, cards_required=None, cards_total=None
    )
    lines = "\n".join(summary(bare))
    for words in ("TLS fingerprint unknown", "an unknown number of keys", "MBK unknown", "an unknown number out of"):
        assert words in lines
    assert "None" not in lines
