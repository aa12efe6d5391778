# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys that nobody predicted: every way through an import names them and fails."""

from __future__ import annotations

import dataclasses as dc
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import (
    KEY_LIST,
    Import,
    ImportBehavior,
    ImportRow,
    Member,
)
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError, PreflightError, UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._keys import keys_digest
from ansible_collections.keyops.utrust.plugins.module_utils._package import store

from tests.support.factories import fingerprint, key, node
from tests.support.operations import (
    APPLIED,
    AWAY,
    LOST,
    NEW,
    OLD,
    ROWS,
    STAGED,
    TARGET,
    import_into,
    target,
    write_package,
)

if t.TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey, Node

    from tests.support.fakes import FakeAppliance

AT_ONCE = frozenset({KEY_LIST})
FAILED = Import("1b67", "failed", "", (), problem=("import_failed", "The import failed"))
DESTROYED, STRANGE = key("destroyed"), key("strange")
#: Keys of the target after the import, and the labels of those that nobody predicted.
AFTERWARDS: dict[str, tuple[tuple[HsmKey, ...], list[str]]] = {
    "one more key": ((OLD, NEW, STRANGE), ["strange"]),
    "a destroyed key": ((OLD, NEW, DESTROYED), ["destroyed"]),
    "both, the destroyed key first": ((OLD, NEW, STRANGE, DESTROYED), ["destroyed", "strange"]),
    "a key twice": ((OLD, NEW, NEW), ["new"]),
    "a key of the target twice": ((OLD, OLD, NEW), ["old"]),
    "the key in another slot, too": ((OLD, NEW, dc.replace(NEW, slot=1)), ["new"]),
    "another key with the same label": ((OLD, NEW, dc.replace(NEW, fingerprint=fingerprint("x"))), ["new"]),
    "a key with an unknown key fingerprint": ((OLD, NEW, key("u", fingerprint="unknown")), ["u"]),
    "not the key of the package": ((OLD, STRANGE), ["strange"]),
}
#: Results of the fake appliance on each way through an import that changes keys.
WAYS: dict[str, dict[str, t.Any]] = {
    "staged": {},
    "staged, response lost": {"apply_import": LOST},
    "staged, failed": {"apply_import": FAILED},
    "staged, nonsense": {"apply_import": ApiError("nonsense", code="response_invalid")},
    "upload": {"capabilities": AT_ONCE, "stage_import": APPLIED},
    "upload, response lost": {"capabilities": AT_ONCE, "stage_import": LOST},
    "upload, failed": {"capabilities": AT_ONCE, "stage_import": FAILED},
    "node restarts": {"list_keys": "away"},
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write_package(tmp_path)


def on_its_way(way: str, after: tuple[HsmKey, ...]) -> FakeAppliance:
    """Return node2, which holds the keys `after` when it is read after the import."""
    results = dict(WAYS[way])
    away = [AWAY, AWAY] if results.pop("list_keys", None) else []
    later = node(*after, name="node2", hsm_serial="UT000002")
    return target(**{"node": [TARGET, later], "list_keys": [(OLD,), *away, after], **results})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("after", "labels"), AFTERWARDS.values(), ids=AFTERWARDS)
def test_import_names_keys_that_nobody_predicted(
    package: Path, way: str, after: tuple[HsmKey, ...], labels: list[str]
) -> None:
    """The destroyed key is named first, as a destroyed key."""
    with pytest.raises(UtrustError) as caught:
        import_into(on_its_way(way, after), package, destroyed_keys=frozenset([DESTROYED.fingerprint]))
    details, text = caught.value.details, str(caught.value)
    assert (details["code"], details["changed"]) == ("unexpected_keys", True)
    assert {found["label"] for found in details["unexpected"]} == set(labels)
    named = [label for label in ("destroyed", "strange") if label in text]
    assert sorted(named, key=text.index) == [label for label in labels if label in ("destroyed", "strange")]
    assert ("Keys destroyed before, but present now" in text) == ("destroyed" in labels)


@pytest.mark.parametrize("way", WAYS)
def test_import_of_predicted_keys_only_succeeds(package: Path, way: str) -> None:
    assert import_into(on_its_way(way, (OLD, NEW)), package)["verified"] is True


def test_import_into_a_node_in_sync_sends_nothing(package: Path) -> None:
    """The digest of the manifest proves every key, so no key can be unexpected."""
    fake = target(node=node(OLD, NEW, name="node2"))
    assert import_into(fake, package)["changed"] is False
    assert fake.calls == ["node"]


@pytest.mark.parametrize("edit", [b" ", b"\n", b"\xef\xbb\xbf"], ids=["blank", "line end", "byte order mark"])
def test_import_of_an_edited_manifest_sends_nothing(package: Path, edit: bytes) -> None:
    """Every byte of the manifest counts, also one without a meaning."""
    manifest = store.manifest_path(package)
    given = store.load_manifest(package)
    assert given is not None
    manifest.write_bytes(edit + manifest.read_bytes())
    fake = target()
    with pytest.raises(UtrustError, match="The manifest was edited") as caught:
        import_into(fake, package, manifest_sha256=given.file_digest)
    assert (caught.value.code, fake.calls) == ("manifest_mismatch", [])


def test_import_of_a_manifest_that_lists_less_sends_nothing(package: Path) -> None:
    """The package has a destroyed key, and the manifest was edited so that it does not name the key."""
    whole = store.load_manifest(package)
    assert whole is not None
    store.write_manifest(package, dc.replace(whole, hsm_keys=(OLD,), keys_digest=keys_digest([OLD])))
    fake = target()
    with pytest.raises(UtrustError) as caught:
        import_into(fake, package, manifest_sha256=whole.file_digest)
    assert (caught.value.code, fake.calls) == ("manifest_mismatch", [])


# Keys that the HSM holds twice

TWICE = dc.replace(OLD, slot=3, label="copy")
EFFECTS = [
    # effect, deletions, declared, whether the copy stays as predicted, whether the import may remove it
    ("replacing", "not_replicated", None, False, True),
    ("unknown", "unknown", "replacing", False, True),
    ("unknown", "unknown", None, True, True),
    ("overwriting", "replicated", None, True, True),
    ("overwriting", "not_replicated", None, True, False),
    ("additive", "not_replicated", None, True, False),
]


@pytest.mark.parametrize(("effect", "deletions", "declared", "stays", "removable"), EFFECTS)
@pytest.mark.parametrize("staged", [True, False])
def test_import_may_remove_a_copy_of_a_key(
    package: Path, effect: str, deletions: str, declared: str | None, stays: bool, removable: bool, staged: bool
) -> None:
    """No key is lost if the HSM still holds the key in the place of the source."""
    behavior = ImportBehavior(effect, deletions, restart="nothing")
    before = node(OLD, TWICE, name="node2", import_behavior=behavior)
    row = ImportRow(TWICE, "remove", TWICE.fingerprint)
    preview = dc.replace(STAGED, keys_digest=before.keys_digest, rows=(*ROWS, row))
    commit: dict[str, t.Any] = (
        {"stage_import": preview} if staged else {"capabilities": AT_ONCE, "stage_import": APPLIED}
    )

    def run(*, dry_run: bool) -> dict[str, t.Any]:
        later = node(OLD, NEW, name="node2")
        fake = target(node=[before, later], list_keys=[(OLD, TWICE), (OLD, NEW)], **commit)
        return import_into(fake, package, dry_run=dry_run, import_effect=declared)

    predicted = run(dry_run=True)["keys_digest"]
    assert predicted == keys_digest([OLD, NEW, TWICE] if stays else [OLD, NEW])
    if removable:
        assert run(dry_run=False)["verified"] is True
    else:
        with pytest.raises(UtrustError) as caught:
            run(dry_run=False)
        assert caught.value.code == ("import_preview_mismatch" if staged else "import_not_verified")


# Quorum, right before the import


def with_members(given: Node, restart: str, down: t.Collection[str]) -> Node:
    """Return the node in a cluster of node1 to node3, and one node that has not joined."""
    members = [
        Member(name, "127.0.0.2", 443, name != "node4", "disconnected" if name in (*down, "node4") else "connected")
        for name in ("node1", "node2", "node3", "node4")
    ]
    behavior = dc.replace(given.import_behavior, restart=restart)
    return dc.replace(given, members=tuple(members), import_behavior=behavior)


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("restart", "down", "allow_outage", "refused"),
    [
        ("node", ["node3"], False, True),
        ("unknown", ["node3"], False, True),
        ("brand_new", ["node3"], False, True),
        ("node", [], False, False),
        ("node", ["node2"], False, False),
        ("node", ["node3"], True, False),
        ("node", ["node1", "node3"], True, False),
        ("driver", ["node3"], False, False),
        ("nothing", ["node1", "node3"], False, False),
    ],
    ids=str,
)
def test_import_reads_the_quorum_again(
    package: Path, restart: str, down: list[str], allow_outage: bool, refused: bool, dry_run: bool
) -> None:
    """The target lists its members, itself included. Check mode predicts the refusal."""
    fake = target(node=with_members(TARGET, restart, down))
    if not refused:
        assert import_into(
            target(node=with_members(TARGET, restart, down)), package, dry_run=True, allow_outage=allow_outage
        )
        return
    with pytest.raises(PreflightError, match="would lose its quorum") as caught:
        import_into(fake, package, dry_run=dry_run, allow_outage=allow_outage)
    assert caught.value.code == "quorum_at_risk"
    assert fake.calls == ["node", "list_keys"]
    assert "Already down: node3" in str(caught.value)


def test_import_that_changes_nothing_needs_no_quorum(package: Path) -> None:
    fake = target(node=with_members(node(OLD, NEW, name="node2"), "node", ["node1", "node3"]))
    assert import_into(fake, package)["changed"] is False
