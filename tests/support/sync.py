# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Export and import between two simulated nodes with the transport `rest`, without Ansible."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_export import ExportOptions, export_package
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_import import ImportOptions, import_package
from ansible_collections.keyops.utrust.plugins.module_utils._package import store
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.keys import Policy
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions

from tests.support.rest import connected

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.control import Control

STRICT = Policy(
    keep_extra=False,
    allowed_extra_keys=frozenset(),
    destroyed_keys=frozenset(),
    expected_new_keys=None,
    allow_replace=frozenset(),
)
Result = dict[str, t.Any]


class Sync:
    """Synchronizes the keys of node1 to node2. `lines` has the reported progress lines."""

    def __init__(self, control: Control, folder: Path) -> None:
        self.control = control
        self.package = folder / "cluster.ksp"
        self.lines: list[str] = []

    def report(self, line: str) -> None:
        self.lines.append(line)

    def export(self) -> Path:
        options = ExportOptions("node1", str(self.package), force=False, open_private=None, ttl=600)
        with connected(self.control, "node1") as source:
            export_package(source, options, dry_run=False, progress=self.report)
        return self.package

    def manifest(self) -> Result:
        manifest = store.load_manifest(self.package)
        assert manifest is not None
        return manifest.to_dict()

    def run(self, *, dry_run: bool = False, patience: float = 20.0, export: bool = True, **policy: t.Any) -> Result:
        """Run one import. By default, the package is exported first."""
        if export:
            self.export()
        options = ImportOptions(
            expect_node="node2",
            src=str(self.package),
            manifest=None,
            expect_keys_digest=None,
            policy=STRICT._replace(**policy),
            patience=WaitOptions(patience, 0.05),
            allow_outage=True,  # a cluster of two nodes
        )
        with connected(self.control, "node2", retries=0) as target:
            return import_package(target, options, dry_run=dry_run, progress=self.report)


def fingerprints(control: Control, node: str) -> set[str]:
    return {key["fingerprint"] for key in control.keys(node)}


def posts(control: Control, node: str) -> list[str]:
    return [request["path"] for request in control.requests(node) if request["method"] == "POST"]
