# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Protocol of one appliance node. Private to keyops.utrust.

A transport implements `Appliance`. An operation uses nothing else of a node.
"""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import (
        HsmKey,
        Import,
        Node,
        Package,
        PinPad,
        Restore,
        RestorePreview,
    )


class Appliance(t.Protocol):
    """One node. Methods raise `UnreachableError`, `ApiError` or, where a change may have happened, `ResponseLostError`.

    `capabilities` are those of the transport, and of the node as soon as `node` has read it.
    """

    capabilities: frozenset[str]

    def close(self) -> None:
        """Close the connection."""

    def node(self) -> Node:
        """Identity and state."""

    def inventory(self) -> tuple[HsmKey, ...]:
        """Every key in the HSM, from one consistent reading."""

    def pin_pads(self) -> tuple[PinPad, ...]:
        """The configured PIN pads."""

    def preview_restore(self, pin_pad: str, source: str) -> RestorePreview:
        """The HSM Guided Restore Summary; changes nothing."""

    def running_restore(self) -> Restore | None:
        """The guided restore that has not ended, whoever started it."""

    def start_restore(self, pin_pad: str, source: str) -> Restore:
        """Start Restore."""

    def watch_restore(self, restore: Restore, wait: float) -> Restore:
        """The restore, as soon as it differs from the one given, or after `wait` seconds."""

    def cancel_restore(self, restore_id: str) -> Restore:
        """Cancel; the HSM stays in Factory Reset Mode."""

    def create_package(self, expect_keys_digest: str) -> Package:
        """Make a package of exactly this inventory."""

    def download_package(self, package: Package, output: t.BinaryIO) -> None:
        """Stream the content to `output` and prove that it is complete."""

    def delete_package(self, package: Package) -> None:
        """Destroy the node's copy."""

    def stage_import(self, content: t.BinaryIO, size: int, sha256: str) -> Import:
        """Upload; the HSM's keys stay as they are. Without `staged_import` this is the point of no return."""

    def read_import(self, started: Import) -> Import:
        """How it stands now."""

    def apply_import(self, staged: Import, expect_keys_digest: str) -> Import:
        """The point of no return: all of it or nothing, and only onto this inventory."""

    def discard_import(self, staged: Import) -> None:
        """Discard a staged import."""


class ProgressCallback(t.Protocol):
    """Takes one line of progress for people."""

    def __call__(self, line: str, /) -> None:
        """Show the line."""
