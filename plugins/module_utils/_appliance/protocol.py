# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Protocol of one appliance node. Private to keyops.utrust.

A transport implements `Appliance`. Operations use a node only by this protocol.
"""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.claim import ClaimStatus
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
    """One node. Methods raise `UnreachableError` or `ApiError`, or `ResponseLostError` if something may have changed.

    `capabilities` are those of the transport. After a call of `node` they are limited to those of the node.
    Only a node without `key_list` gets no `expect_keys_digest`.
    """

    capabilities: frozenset[str]

    def close(self) -> None:
        """Close the connection."""

    def abort(self) -> None:
        """Make a method that another thread has called end soon, with an error."""

    def node(self) -> Node:
        """Return identity and state."""

    def read_claim(self) -> ClaimStatus:
        """Return the claim of the cluster. A reading with its token renews the claim."""

    def take_claim(self, token: str, holder: str, ttl: int) -> ClaimStatus:
        """Claim the cluster with a new token, or renew the claim of this token. Raises ApiError (`cluster_claimed`)."""

    def release_claim(self) -> None:
        """End the claim whose token the requests carry. Nothing changes if the cluster is not claimed."""

    def list_keys(self) -> tuple[HsmKey, ...]:
        """Return all keys of the HSM. The keys did not change while they were read."""

    def pin_pads(self) -> tuple[PinPad, ...]:
        """Return the configured PIN pads."""

    def preview_restore(self, pin_pad: str, source: str) -> RestorePreview:
        """Return the HSM Guided Restore Summary. Changes nothing."""

    def running_restore(self) -> Restore | None:
        """Return the guided restore that has not ended. Another client may have started it."""

    def start_restore(self, pin_pad: str, source: str) -> Restore:
        """Start a guided restore."""

    def watch_restore(self, restore: Restore, wait: float) -> Restore:
        """Return the restore when its sequence number has changed, or after `wait` seconds."""

    def cancel_restore(self, restore_id: str) -> Restore:
        """Cancel a guided restore. The HSM stays in Factory Reset Mode. A restore that has ended is returned unchanged."""

    def create_package(self, expect_keys_digest: str | None) -> Package:
        """Create a package of the keys with this digest. The node may still prepare it."""

    def read_package(self, package: Package) -> Package:
        """Return the current state of the package."""

    def download_package(self, package: Package, output: t.BinaryIO) -> None:
        """Write the content to `output` and check its size and digest."""

    def delete_package(self, package: Package) -> None:
        """Delete the copy of the package on the node, if the node still has it."""

    def stage_import(self, content: t.BinaryIO, size: int, sha256: str, expect_keys_digest: str | None) -> Import:
        """Upload a package if the HSM still has the keys with this digest.

        The keys stay unchanged if the node has `staged_import`. Otherwise the upload is the import.
        """

    def read_import(self, started: Import) -> Import:
        """Return the current state of the import."""

    def apply_import(self, staged: Import, expect_keys_digest: str | None) -> Import:
        """Apply a staged import if the HSM still has the keys with this digest. This cannot be undone."""

    def discard_import(self, staged: Import) -> bool:
        """Discard an import that is not committed. Return whether it ended without a commit, so that it changes no key any more."""


class ProgressCallback(t.Protocol):
    """Shows progress to people."""

    def __call__(self, line: str, /) -> None:
        """Show one line."""
