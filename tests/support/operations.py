# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes, packages and options for tests of operations with a fake appliance."""

from __future__ import annotations

import dataclasses as dc
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import (
    Import,
    ImportRow,
    PinPad,
    Restore,
    RestorePreview,
)
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ResponseLostError, UnreachableError
from ansible_collections.keyops.utrust.plugins.module_utils._operations.hsm_restore import RestoreOptions, restore_hsm
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_import import ImportOptions, import_package
from ansible_collections.keyops.utrust.plugins.module_utils._package import store
from ansible_collections.keyops.utrust.plugins.module_utils._package.manifest import make_manifest
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.keys import Policy
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.restore import Source
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions

from tests.support.factories import KEYOPS, fingerprint, key, node
from tests.support.fakes import FakeAppliance

if t.TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey

OLD, NEW = key("old"), key("new")
SOURCE, TARGET = node(OLD, NEW), node(OLD, name="node2", hsm_serial="UT000002")
AFTER = node(OLD, NEW, name="node2", hsm_serial="UT000002")
LOST = ResponseLostError("POST apply: the response was lost", code="response_lost")
AWAY = UnreachableError("no route to node2", code="node_unreachable")

#: Seconds. The clocks of the nodes are set when this file is imported, which can be minutes before a test runs.
ANY_SKEW = 86400.0


class FakeClock:
    """A clock that advances by one second with each reading, and by the time of each sleep."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        self.now += 1
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def patience(self, timeout: float = 60.0) -> WaitOptions:
        return WaitOptions(timeout, 2.0, self.clock, self.sleep)


def write_package(folder: Path) -> Path:
    """Write a package of OLD and NEW with its manifest."""
    path = folder / "cluster.ksp"
    path.write_bytes(b"package")
    store.write_manifest(path, make_manifest(SOURCE, (OLD, NEW), sha256=fingerprint("package"), size=7))
    return path


def rows(*table: tuple[HsmKey, str, str | None]) -> tuple[ImportRow, ...]:
    return tuple(ImportRow(*row) for row in table)


ROWS = rows((OLD, "unchanged", OLD.fingerprint), (NEW, "add", None))
STAGED = Import("1b67", "staged", TARGET.keys_digest, ROWS)
APPLIED = Import("1b67", "applied", AFTER.keys_digest, ROWS)


def target(**results: t.Any) -> FakeAppliance:
    """Return node2 for a successful import. `results` changes the results of methods."""
    usual: dict[str, t.Any] = {
        "node": TARGET,
        "list_keys": [(OLD,), (OLD, NEW)],
        "stage_import": STAGED,
        "apply_import": APPLIED,
        "discard_import": True,
    }
    return FakeAppliance(**{**usual, **results})


def import_into(
    fake: FakeAppliance,
    package: Path,
    *,
    dry_run: bool = False,
    manifest_sha256: str | None = None,
    allow_outage: bool = False,
    **policy: t.Any,
) -> dict[str, t.Any]:
    strict = Policy(False, frozenset(), frozenset(), None, frozenset())
    options = ImportOptions(
        expect_node="node2",
        src=str(package),
        manifest=None,
        expect_keys_digest=None,
        policy=strict._replace(**policy),
        patience=FakeClock().patience(),
        max_clock_skew=ANY_SKEW,
        manifest_sha256=manifest_sha256,
        allow_outage=allow_outage,
    )
    return import_package(fake.appliance, options, dry_run=dry_run, progress=lambda dummy: None)


# Guided restore

JOINING = node(name="node2", hsm_serial="UT000002", hsm_state="factory_reset", mbk=None)
RESTORED = node(OLD, NEW, name="node2", hsm_serial="UT000002")
FRONT = PinPad("front-usb", "local", None, "ready")
PREVIEW = RestorePreview("node2", "UT000002", fingerprint("tls"), FRONT, "node1", 2, SOURCE.keys_digest, KEYOPS, 2, 3)
WAITING = Restore(
    "7c9e", "waiting_for_card", 1, "front-usb", "node1", "Insert MBK card 1 of 2", None, 0, 2, 120.0, None, 1
)
RESTORING = dc.replace(WAITING, state="restoring", sequence=5, prompt=None, cards_accepted=2, seconds_left=None)
DONE = dc.replace(RESTORING, state="succeeded", sequence=6)


def joining(**results: t.Any) -> FakeAppliance:
    usual: dict[str, t.Any] = {
        "node": [JOINING, RESTORED],
        "pin_pads": (FRONT,),
        "preview_restore": PREVIEW,
        "start_restore": WAITING,
        "watch_restore": [RESTORING, DONE],
    }
    return FakeAppliance(**{**usual, **results})


def restore(
    fake: FakeAppliance,
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
        "max_clock_skew": ANY_SKEW,
    }
    options = RestoreOptions(**{**usual, **changes})
    return restore_hsm(fake.appliance, options, dry_run=False, progress=progress)
