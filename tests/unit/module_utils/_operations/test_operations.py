# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Operations where a node misbehaves as no honest one would: a scripted one does. All else is tested against the reference appliance."""

from __future__ import annotations

import dataclasses as dc
import itertools
import shutil
import types
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import (
    KEY_LIST,
    RESTORE_JOB,
    STAGED_IMPORT,
    Import,
    ImportBehavior,
    ImportRow,
    Package,
    PinPad,
    Restore,
    RestorePreview,
)
from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    ApiError,
    PreflightError,
    ResponseLostError,
    UnreachableError,
    UtrustError,
)
from ansible_collections.keyops.utrust.plugins.module_utils._operations.hsm_info import InfoOptions, read_info
from ansible_collections.keyops.utrust.plugins.module_utils._operations.hsm_restore import (
    RestoreOptions,
    Source,
    cancel_restore,
    restore_hsm,
)
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_export import ExportOptions, export_package
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_import import ImportOptions, import_package
from ansible_collections.keyops.utrust.plugins.module_utils._package import store
from ansible_collections.keyops.utrust.plugins.module_utils._package.manifest import make_manifest
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.keys import Policy
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions

from tests.support.factories import KEYOPS, OTHER, fingerprint, key, node
from tests.support.fakes import FakeAppliance

if t.TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey, Node

OLD, NEW = key("old"), key("new")
SOURCE, TARGET = node(OLD, NEW), node(OLD, name="node2", hsm_serial="UT000002")
AFTER = node(OLD, NEW, name="node2", hsm_serial="UT000002")
LOST = ResponseLostError("POST apply: the answer was lost", code="response_lost")
AWAY = UnreachableError("no route to node2", code="node_unreachable")


class FakeClock:
    """A clock that every look at it moves on by a second, and sleeping by what was slept."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        self.now += 1
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def patience(self, timeout: float = 60.0) -> WaitOptions:
        return WaitOptions(timeout, 2.0, self.clock, self.sleep)


# Import


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of OLD and NEW with its manifest."""
    path = tmp_path / "cluster.ksp"
    path.write_bytes(b"package")
    store.write_manifest(path, make_manifest(SOURCE, (OLD, NEW), sha256=fingerprint("package"), size=7))
    return path


def rows(*table: tuple[HsmKey, str, str | None]) -> tuple[ImportRow, ...]:
    return tuple(ImportRow(*row) for row in table)


ROWS = rows((OLD, "unchanged", OLD.fingerprint), (NEW, "add", None))
STAGED = Import("1b67", "staged", TARGET.keys_digest, ROWS)
APPLIED = Import("1b67", "applied", AFTER.keys_digest, ROWS)


def target(**answers: t.Any) -> FakeAppliance:
    """node2 as it behaves when all goes well, but for what a test changes."""
    usual: dict[str, t.Any] = {
        "node": TARGET,
        "list_keys": [(OLD,), (OLD, NEW)],
        "stage_import": STAGED,
        "apply_import": APPLIED,
        "discard_import": None,
    }
    return FakeAppliance(**{**usual, **answers})


def import_into(scripted: FakeAppliance, package: Path, *, dry_run: bool = False, **policy: t.Any) -> dict[str, t.Any]:
    strict = Policy(False, frozenset(), frozenset(), None, frozenset())
    options = ImportOptions("node2", str(package), None, None, strict._replace(**policy), FakeClock().patience())
    return import_package(scripted.appliance, options, dry_run=dry_run, progress=lambda dummy: None)


def test_an_import_stages_looks_at_the_table_applies_and_verifies(package: Path) -> None:
    scripted = target()
    result = import_into(scripted, package)
    assert (result["changed"], result["verified"], result["in_sync"]) == (True, True, True)
    assert scripted.calls == ["node", "list_keys", "stage_import", "apply_import", "list_keys"]


def test_a_prediction_only_reads(package: Path) -> None:
    scripted = target()
    result = import_into(scripted, package, dry_run=True)
    assert (result["changed"], result["verified"], result["keys_digest"]) == (True, False, AFTER.keys_digest)
    assert scripted.calls == ["node", "list_keys"]


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
        "key left out",
        "replaces",
        "replaces another",
        "unknown action",
        "one key more",
        "another key",
        "empty",
        "other inventory",
    ],
)
def test_a_table_that_is_not_what_was_predicted_is_discarded(package: Path, staged: Import) -> None:
    scripted = target(stage_import=staged)
    with pytest.raises(UtrustError, match="nothing was changed") as caught:
        import_into(scripted, package)
    assert caught.value.code == "import_preview_mismatch"
    assert scripted.calls == ["node", "list_keys", "stage_import", "discard_import"]


def test_only_the_key_that_was_judged_may_be_replaced(package: Path) -> None:
    """A row that names the same key but takes the place of another one is not what the operator allowed."""
    held, third = key("new", fingerprint=fingerprint("impostor")), fingerprint("third")
    staged = Import(
        "1b67",
        "staged",
        node(OLD, held).keys_digest,
        rows((OLD, "unchanged", OLD.fingerprint), (NEW, "replace", third)),
    )
    scripted = target(node=node(OLD, held, name="node2"), list_keys=[(OLD, held), (OLD, NEW)], stage_import=staged)
    with pytest.raises(UtrustError) as caught:
        import_into(scripted, package, allow_replace=frozenset([NEW.fingerprint]))
    assert caught.value.code == "import_preview_mismatch"
    right = dc.replace(staged, rows=rows((OLD, "unchanged", OLD.fingerprint), (NEW, "replace", held.fingerprint)))
    scripted = target(node=node(OLD, held, name="node2"), list_keys=[(OLD, held), (OLD, NEW)], stage_import=right)
    assert import_into(scripted, package, allow_replace=frozenset([NEW.fingerprint]))["replaced"]


@pytest.mark.parametrize(
    "after",
    [(OLD,), (NEW,), (IMPOSTOR, NEW), (OLD, key("new", fingerprint=fingerprint("impostor"))), ()],
    ids=["nothing came", "another was lost", "another was overwritten", "another came", "all was lost"],
)
def test_an_inventory_that_is_not_as_predicted_fails_whatever_the_node_said(
    package: Path, after: tuple[HsmKey, ...]
) -> None:
    with pytest.raises(UtrustError, match="its inventory does not show it") as caught:
        import_into(target(list_keys=[(OLD,), after]), package)
    assert caught.value.code == "import_not_verified"
    assert "do not use these keys" in str(caught.value)
    assert "difference" in caught.value.details


def test_a_key_that_the_import_lost_is_named_even_if_the_package_never_had_it(package: Path) -> None:
    extra = key("extra")
    scripted = target(
        node=node(OLD, extra, name="node2"),
        list_keys=[(OLD, extra), (OLD, NEW)],
        stage_import=dc.replace(STAGED, keys_digest=node(OLD, extra).keys_digest),
    )
    with pytest.raises(UtrustError, match="extra") as caught:
        import_into(scripted, package, keep_extra=True)
    assert caught.value.code == "import_not_verified"


def test_an_import_that_is_not_applied_in_the_end_is_no_success(package: Path) -> None:
    with pytest.raises(UtrustError, match="discarded") as caught:
        import_into(target(apply_import=dc.replace(APPLIED, state="discarded")), package)
    assert caught.value.code == "import_not_applied"


def test_a_refusal_to_apply_discards_what_was_staged(package: Path) -> None:
    refusal = ApiError("HTTP 412 keys_changed", code="keys_changed", http_status=412)
    scripted = target(apply_import=refusal)
    with pytest.raises(ApiError) as caught:
        import_into(scripted, package)
    assert caught.value.code == refusal.code
    assert f"importing into node2: {refusal}. Nothing was changed" in str(caught.value)
    assert scripted.calls[-2:] == ["apply_import", "discard_import"]


def test_a_failure_to_discard_does_not_hide_why_the_import_failed(package: Path) -> None:
    refusal = ApiError("HTTP 409 slot_full", code="slot_full", http_status=409)
    with pytest.raises(ApiError) as caught:
        import_into(target(apply_import=refusal, discard_import=AWAY), package)
    assert caught.value.code == refusal.code
    assert f"importing into node2: {refusal}. Nothing was changed" in str(caught.value)


def test_a_lost_answer_of_an_import_that_was_applied_is_a_success(package: Path) -> None:
    scripted = target(node=[TARGET, AWAY, AWAY, AFTER], apply_import=LOST)
    result = import_into(scripted, package)
    assert (result["changed"], result["verified"]) == (True, True)
    assert scripted.calls.count("apply_import") == 1
    assert "discard_import" not in scripted.calls


def test_a_lost_answer_is_judged_only_when_the_import_no_longer_runs(package: Path) -> None:
    applying = dc.replace(TARGET, running=("import", "1b67"))
    scripted = target(node=[TARGET, applying, applying, AFTER], apply_import=LOST)
    assert import_into(scripted, package)["changed"] is True
    assert scripted.calls.count("node") == 4


def test_a_lost_answer_of_an_import_that_was_not_applied_says_that_nothing_was_changed(package: Path) -> None:
    scripted = target(node=[TARGET, AWAY, TARGET], apply_import=LOST)
    with pytest.raises(ResponseLostError, match="holds the same keys as before, so nothing was changed") as caught:
        import_into(scripted, package)
    assert caught.value.code == "response_lost"
    assert scripted.calls[-2:] == ["node", "discard_import"]


def test_a_node_that_does_not_come_back_is_reported_as_unknown(package: Path) -> None:
    with pytest.raises(UtrustError, match="Its keys may have changed") as caught:
        import_into(target(node=[TARGET, AWAY], apply_import=LOST), package)
    assert caught.value.code == "node_wait_timeout"


def test_a_node_that_restarts_after_the_import_is_waited_for(package: Path) -> None:
    scripted = target(list_keys=[(OLD,), AWAY, AWAY, (OLD, NEW)])
    assert import_into(scripted, package)["verified"] is True


def test_a_manifest_alone_cannot_be_imported() -> None:
    manifest = make_manifest(SOURCE, (OLD, NEW)).to_dict()
    strict = Policy(False, frozenset(), frozenset(), None, frozenset())
    options = ImportOptions("node2", None, manifest, None, strict, FakeClock().patience())
    scripted = target()
    with pytest.raises(UtrustError, match="give src, or use check mode") as caught:
        import_package(scripted.appliance, options, dry_run=False, progress=lambda dummy: None)
    assert caught.value.code == "package_missing"
    assert scripted.calls == ["node", "list_keys"]


def test_a_node_whose_keys_cannot_be_listed_takes_no_import(package: Path) -> None:
    scripted = target(capabilities=frozenset({STAGED_IMPORT}))
    with pytest.raises(UtrustError, match="nothing was changed") as caught:
        import_into(scripted, package)
    assert caught.value.code == "capability_missing"
    assert scripted.calls == ["node"]


# Import where the upload is the commit

AT_ONCE = frozenset({KEY_LIST})


def test_where_the_upload_is_the_commit_it_is_sent_once_and_verified(package: Path) -> None:
    scripted = target(capabilities=AT_ONCE, stage_import=APPLIED)
    assert import_into(scripted, package)["verified"] is True
    assert scripted.calls == ["node", "list_keys", "stage_import", "list_keys"]


def test_a_lost_upload_that_was_the_commit_is_settled_by_reading(package: Path) -> None:
    scripted = target(capabilities=AT_ONCE, stage_import=LOST, node=[TARGET, AWAY, AFTER])
    assert import_into(scripted, package)["verified"] is True
    with pytest.raises(ResponseLostError, match="holds the same keys as before, so nothing was changed"):
        import_into(target(capabilities=AT_ONCE, stage_import=LOST), package)


def test_an_answer_without_sense_to_an_upload_that_was_the_commit_is_settled_by_reading(package: Path) -> None:
    nonsense = ApiError("reading an answer: 'rows' is missing", code="response_invalid")
    scripted = target(capabilities=AT_ONCE, stage_import=nonsense, node=[TARGET, AFTER])
    assert import_into(scripted, package)["verified"] is True


def test_an_upload_that_is_refused_changed_nothing_and_is_not_read_again(package: Path) -> None:
    refusal = ApiError("HTTP 422 package_corrupt", code="package_corrupt", http_status=422)
    scripted = target(capabilities=AT_ONCE, stage_import=refusal)
    with pytest.raises(ApiError, match="nothing was changed") as caught:
        import_into(scripted, package)
    assert caught.value.code == "package_corrupt"
    assert scripted.calls == ["node", "list_keys", "stage_import"]


def test_an_import_that_failed_in_the_middle_names_the_keys_that_are_there_and_those_that_are_not(
    package: Path,
) -> None:
    third = key("third")
    store.write_manifest(
        package, make_manifest(node(OLD, NEW, third), (OLD, NEW, third), sha256=fingerprint("package"), size=7)
    )
    failed = Import("1b67", "failed", "", (), problem=("import_failed", "The import failed: 1 of 2 keys were written"))
    scripted = target(capabilities=AT_ONCE, stage_import=failed, node=[TARGET, AFTER], list_keys=[(OLD,), (OLD, NEW)])
    with pytest.raises(UtrustError, match="Run again to continue") as caught:
        import_into(scripted, package)
    facts = caught.value.details
    assert (facts["code"], facts["changed"], facts["pending"]) == ("import_incomplete", True, 1)
    assert [one["label"] for one in facts["added"]] == ["new"]
    assert "not there yet: slot 0 third" in str(caught.value)


def test_an_import_that_waits_for_cards_shows_what_the_pin_pad_asks_for(package: Path) -> None:
    waiting = dc.replace(APPLIED, state="waiting_for_card", pin_pad="front-usb", prompt="Insert MBK card 1 of 2")
    again = dc.replace(waiting, notice=("wrong_card", "Card OTHER-1 is of MBK OTHER"))
    scripted = target(
        apply_import=waiting, read_import=[waiting, again, dc.replace(APPLIED, state="applying"), APPLIED]
    )
    lines: list[str] = []
    strict = Policy(False, frozenset(), frozenset(), None, frozenset())
    options = ImportOptions("node2", str(package), None, None, strict, FakeClock().patience())
    assert import_package(scripted.appliance, options, dry_run=False, progress=lines.append)["verified"] is True
    assert [line for line in lines if "PIN pad" in line] == [
        "node2: PIN pad front-usb: Insert MBK card 1 of 2",
        "node2: Card OTHER-1 is of MBK OTHER [wrong_card]; PIN pad front-usb: Insert MBK card 1 of 2",
    ]


def test_an_import_that_waits_for_cards_too_long_is_discarded(package: Path) -> None:
    waiting = dc.replace(APPLIED, state="waiting_for_card", pin_pad="front-usb", prompt="Insert MBK card 1 of 2")
    scripted = target(apply_import=waiting, read_import=waiting)
    with pytest.raises(UtrustError, match=r"Insert MBK card 1 of 2.*nothing was changed") as caught:
        import_into(scripted, package)
    assert caught.value.code == "import_timeout"
    assert "discard_import" in scripted.calls


def test_a_key_that_could_be_used_before_the_import_and_cannot_now_is_named(package: Path) -> None:
    locked = dc.replace(OLD, usable=False)
    result = import_into(target(list_keys=[(OLD,), (locked, NEW)]), package)
    assert "could be used before the import and cannot now: old" in result["warnings"][1]


# What an import does, where it matters and where it does not

EXTRA, HELD = key("extra"), key("new", fingerprint=fingerprint("held"))
BEHAVIORS = [
    ("additive", "stay", None, None, "key_not_replaceable"),
    ("overwriting", "stay", None, None, None),
    ("replacing", "stay", None, "extra_keys_would_be_lost", None),
    ("overwriting", "travel", None, "extra_keys_would_be_lost", None),
    ("overwriting", "unknown", None, "import_effect_unknown", None),
    ("unknown", "unknown", None, "import_effect_unknown", "import_effect_unknown"),
    ("unknown", "stay", None, "import_effect_unknown", "import_effect_unknown"),
    ("unknown", "unknown", "additive", None, "key_not_replaceable"),
    ("unknown", "unknown", "overwriting", None, None),
    ("unknown", "unknown", "replacing", "extra_keys_would_be_lost", None),
    ("unknown", "travel", "overwriting", "extra_keys_would_be_lost", None),
    ("overwriting", "unknown", "overwriting", None, None),
    ("additive", "stay", "overwriting", "import_effect_mismatch", "import_effect_mismatch"),
]


@pytest.mark.parametrize(("effect", "deletions", "declared", "for_extra", "for_replace"), BEHAVIORS)
def test_what_must_not_happen_or_is_not_known_is_refused_and_all_else_is_not(
    package: Path, effect: str, deletions: str, declared: str | None, for_extra: str | None, for_replace: str | None
) -> None:
    behavior = ImportBehavior(effect, deletions)

    def refusal(*held: HsmKey, **policy: t.Any) -> str | None:
        told = node(*held, name="node2", import_behavior=behavior)
        try:
            import_into(target(node=told, list_keys=[held]), package, dry_run=True, import_effect=declared, **policy)
        except PreflightError as exc:
            return exc.code
        return None

    assert refusal(OLD, EXTRA, keep_extra=True) == for_extra
    assert refusal(OLD, EXTRA, allowed_extra_keys=frozenset([EXTRA.fingerprint])) == for_extra
    assert refusal(OLD, HELD, allow_replace=frozenset([NEW.fingerprint])) == for_replace
    # Neither to be kept nor to be replaced: it is the same whatever an import does.
    assert refusal(OLD) == (for_extra if for_extra == "import_effect_mismatch" else None)
    # Nothing to import: nothing can be lost.
    assert refusal(OLD, NEW, EXTRA, keep_extra=True) == (for_extra if for_extra == "import_effect_mismatch" else None)


# Export

OFFERED = Package(
    "2f1a", fingerprint("package"), 7, "node1", "UT000001", SOURCE.cluster_id, KEYOPS, 2, SOURCE.keys_digest
)


def export(scripted: FakeAppliance, dest: Path, *, dry_run: bool = False) -> dict[str, t.Any]:
    options = ExportOptions("node1", str(dest), force=False, owner_pid=None, ttl=60)
    return export_package(scripted.appliance, options, dry_run=dry_run, progress=lambda dummy: None)


def source(**answers: t.Any) -> FakeAppliance:
    usual: dict[str, t.Any] = {
        "node": SOURCE,
        "list_keys": (OLD, NEW),
        "create_package": OFFERED,
        "download_package": None,
        "delete_package": None,
    }
    return FakeAppliance(**{**usual, **answers})


@pytest.mark.parametrize(
    "change",
    [{"keys_digest": TARGET.keys_digest}, {"source": "node9"}, {"mbk": OTHER}],
    ids=["other inventory", "other node", "other MBK"],
)
def test_a_package_that_is_not_what_was_asked_for_is_destroyed_unread(tmp_path: Path, change: dict[str, t.Any]) -> None:
    scripted = source(create_package=dc.replace(OFFERED, **change))
    with pytest.raises(ApiError, match="nothing was kept") as caught:
        export(scripted, tmp_path / "cluster.ksp")
    assert caught.value.code == "package_mismatch"
    assert scripted.calls == ["node", "list_keys", "create_package", "delete_package"]
    assert list(tmp_path.iterdir()) == []


def test_the_nodes_copy_is_destroyed_when_the_download_fails(tmp_path: Path) -> None:
    damaged = ApiError("other bytes", code="download_corrupt")
    scripted = source(download_package=damaged, delete_package=AWAY)
    with pytest.raises(ApiError) as caught:
        export(scripted, tmp_path / "cluster.ksp")
    assert caught.value is damaged
    assert scripted.calls[-1] == "delete_package"
    assert list(tmp_path.iterdir()) == []


def test_a_package_whose_manifest_cannot_be_written_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*dummy: t.Any) -> None:
        raise UtrustError("the disk is full", code="package_not_written")

    monkeypatch.setattr(store, "write_manifest", full)
    with pytest.raises(UtrustError, match="the disk is full"):
        export(source(), tmp_path / "cluster.ksp")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dry_run", [True, False])
def test_too_little_space_is_a_problem_before_a_package_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dry_run: bool
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=100_000))
    scripted = source()
    with pytest.raises(PreflightError) as refused:
        export(scripted, tmp_path / "cluster.ksp", dry_run=dry_run)
    assert [problem["code"] for problem in refused.value.details["problems"]] == ["disk_space_low"]
    assert "create_package" not in scripted.calls


def test_an_old_manifest_never_stands_beside_a_new_package(tmp_path: Path) -> None:
    package = tmp_path / "cluster.ksp"
    package.write_bytes(b"old")
    store.write_manifest(package, make_manifest(TARGET, (OLD,), sha256=fingerprint("old"), size=3))
    with pytest.raises(UnreachableError):
        export(source(download_package=AWAY), package)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"cluster.ksp": b"old"}


# Guided restore

JOINING = node(name="node2", hsm_serial="UT000002", hsm_state="factory_reset", mbk=None)
RESTORED = node(OLD, NEW, name="node2", hsm_serial="UT000002")
FRONT = PinPad("front-usb", "local", None, "ready")
PREVIEW = RestorePreview("node2", "UT000002", fingerprint("tls"), FRONT, "node1", 2, SOURCE.keys_digest, KEYOPS, 2, 3)
WAITING = Restore(
    "7c9e", "waiting_for_card", 1, "front-usb", "node1", "Insert MBK card 1 of 2", None, 0, 2, 120.0, None
)
RESTORING = dc.replace(WAITING, state="restoring", sequence=5, prompt=None, cards_accepted=2, seconds_left=None)
DONE = dc.replace(RESTORING, state="succeeded", sequence=6)


def joining(**answers: t.Any) -> FakeAppliance:
    usual: dict[str, t.Any] = {
        "node": [JOINING, RESTORED],
        "pin_pads": (FRONT,),
        "preview_restore": PREVIEW,
        "start_restore": WAITING,
        "watch_restore": [RESTORING, DONE],
    }
    return FakeAppliance(**{**usual, **answers})


def restore(
    scripted: FakeAppliance,
    *,
    timeout: float = 600.0,
    progress: t.Callable[[str], None] = lambda dummy: None,
    **changes: t.Any,
) -> dict[str, t.Any]:
    usual: dict[str, t.Any] = {
        "expect_node": "node2",
        "source": Source.from_dict(SOURCE.to_dict()),
        "pin_pad": "front-usb",
        "cards": None,
        "poll": 20.0,
        "patience": FakeClock().patience(timeout),
    }
    options = RestoreOptions(**{**usual, **changes})
    return restore_hsm(scripted.appliance, options, dry_run=False, progress=progress)


def test_a_restore_is_previewed_started_watched_and_verified() -> None:
    scripted = joining()
    result = restore(scripted)
    assert (result["changed"], result["hsm_state"], result["in_sync"]) == (True, "operational", True)
    assert result["events"] == [
        "PIN pad front-usb: Insert MBK card 1 of 2 (card 1 of 2, 120 s left)",
        "PIN pad front-usb: restoring keys",
        "restore succeeded",
    ]
    assert scripted.calls == ["node", "pin_pads", "preview_restore", "start_restore", *["watch_restore"] * 2, "node"]


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
def test_a_summary_that_is_not_what_was_expected_starts_nothing(change: dict[str, t.Any], code: str) -> None:
    scripted = joining(preview_restore=dc.replace(PREVIEW, **change))
    with pytest.raises(PreflightError) as caught:
        restore(scripted, cards=(2, 3))
    assert caught.value.code == code
    assert "start_restore" not in scripted.calls


@pytest.mark.parametrize(
    "after",
    [JOINING, dc.replace(RESTORED, mbk=OTHER), dc.replace(RESTORED, hsm_state="alarm"), dc.replace(RESTORED, mbk=None)],
    ids=["still reset", "other MBK", "alarm", "no MBK"],
)
def test_a_restore_that_succeeded_and_did_not_is_no_success(after: Node) -> None:
    with pytest.raises(UtrustError, match="do not use this node") as caught:
        restore(joining(node=[JOINING, after]))
    assert caught.value.code == "restore_not_verified"


def test_a_restore_that_brought_other_keys_says_so() -> None:
    with pytest.raises(UtrustError, match="synchronize them with key_sync") as caught:
        restore(joining(node=[JOINING, node(OLD, name="node2", hsm_serial="UT000002")]))
    assert caught.value.code == "restore_not_in_sync"


def test_each_transition_is_told_once_and_a_sign_of_life_every_minute() -> None:
    now = itertools.count(0, 5)  # each look at the clock is 5 s later, and each long poll takes several
    lines: list[str] = []
    waiting = [dc.replace(WAITING, seconds_left=120.0 - number) for number in range(20)]
    patience = WaitOptions(6000, 2.0, lambda: float(next(now)), lambda dummy: None)

    result = restore(joining(watch_restore=[*waiting, RESTORING, DONE]), patience=patience, progress=lines.append)

    told = [line for line in lines if line.startswith("node2 HSM UT000002: ")]
    assert told[0] == "node2 HSM UT000002: PIN pad front-usb: Insert MBK card 1 of 2 (card 1 of 2, 120 s left)"
    assert told[1].startswith("node2 HSM UT000002: still waiting, PIN pad front-usb: Insert MBK card 1 of 2")
    assert 1 < len([line for line in told if "still waiting" in line]) < len(waiting) / 2
    assert len(result["events"]) == 3, "signs of life are no events"


def test_a_node_that_goes_away_while_it_is_watched_is_waited_for() -> None:
    assert restore(joining(watch_restore=[AWAY, RESTORING, AWAY, DONE]))["changed"] is True


def test_when_the_time_is_over_the_restore_goes_on_and_the_message_says_so() -> None:
    with pytest.raises(UtrustError, match="it goes on at PIN pad front-usb") as caught:
        restore(joining(watch_restore=WAITING), timeout=30)
    assert caught.value.code == "restore_timeout"
    assert caught.value.details["restore_id"] == "7c9e"
    assert caught.value.details["events"] == ["PIN pad front-usb: Insert MBK card 1 of 2 (card 1 of 2, 120 s left)"]


def test_a_restore_that_runs_already_is_watched_and_not_started_again() -> None:
    running = dc.replace(JOINING, running=("restore", "7c9e"))
    scripted = joining(node=[running, RESTORED], running_restore=WAITING)
    assert restore(scripted)["changed"] is True
    assert "start_restore" not in scripted.calls
    assert "preview_restore" not in scripted.calls


def test_a_restore_that_somebody_else_runs_is_not_taken_over() -> None:
    running = dc.replace(JOINING, running=("restore", "7c9e"))
    scripted = joining(node=running, running_restore=dc.replace(WAITING, source="node3"))
    with pytest.raises(PreflightError, match="state: canceled") as caught:
        restore(scripted)
    assert caught.value.code == "restore_in_progress"


def test_a_state_that_nobody_knows_yet_is_watched_until_the_time_is_over() -> None:
    with pytest.raises(UtrustError) as caught:
        restore(joining(watch_restore=dc.replace(WAITING, state="thinking", sequence=2)), timeout=30)
    assert caught.value.code == "restore_timeout"


def test_canceling_where_nothing_runs_changes_nothing() -> None:
    options = RestoreOptions("node2", None, None, None, 20.0, FakeClock().patience())
    scripted = FakeAppliance(node=JOINING)
    result = cancel_restore(scripted.appliance, options, dry_run=False, progress=lambda dummy: None)
    assert result["changed"] is False
    assert scripted.calls == ["node"]


def test_a_transport_without_guided_restore_says_so() -> None:
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
    ids=["empty", "no MBK", "MBK is a text", "count is a text"],
)
def test_a_source_that_is_no_node_is_refused(given: dict[str, t.Any]) -> None:
    with pytest.raises(UtrustError, match="RETURN value node of utrust_hsm_info") as caught:
        Source.from_dict(given)
    assert caught.value.code == "source_invalid"


# Reading


def test_another_node_than_the_named_one_is_refused_before_more_is_read() -> None:
    scripted = FakeAppliance(node=SOURCE, list_keys=(OLD,))
    with pytest.raises(PreflightError, match="node1, not node2") as caught:
        read_info(scripted.appliance, InfoOptions("node2", ("keys",)))
    assert caught.value.code == "node_name_mismatch"
    assert scripted.calls == ["node"]


@pytest.mark.parametrize(
    ("told", "reads"),
    [
        ({}, False),
        ({"unusable_key_count": 2}, False),
        ({"unusable_key_count": 1}, True),
        ({"keys_digest": fingerprint("other")}, True),
    ],
    ids=["the same", "none can be used", "one cannot be used", "others"],
)
def test_an_inventory_that_is_known_by_its_digest_is_not_read_again(told: dict[str, t.Any], reads: bool) -> None:
    wanted = node(OLD, NEW)
    scripted = FakeAppliance(node=dc.replace(wanted, **told), list_keys=(OLD, NEW))
    result = read_info(scripted.appliance, InfoOptions(None, ("keys",), known_digest=wanted.keys_digest))
    assert ("hsm_keys" in result) == reads
    assert scripted.calls == ["node", "list_keys"][: 2 if reads else 1]


def test_an_hsm_of_another_make_is_refused() -> None:
    scripted = FakeAppliance(node=dc.replace(SOURCE, hsm_model="Luna Network HSM 7"))
    with pytest.raises(PreflightError, match="supports Utimaco u.trust HSMs only") as caught:
        read_info(scripted.appliance, InfoOptions(None, ()))
    assert caught.value.code == "hsm_not_supported"
