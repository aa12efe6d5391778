# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of a package file. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._package.manifest import Manifest


def check_package(measured: tuple[int, str] | None, manifest: Manifest, path: str) -> list[Problem]:
    """Whether the file is the one that the manifest describes."""
    remedy = "export the package again"
    if measured is None:
        return [Problem("package_missing", manifest.source, f"there is no package {path}", remedy)]
    size, sha256 = measured
    if manifest.size is not None and size < manifest.size:
        return [
            Problem(
                "package_truncated",
                manifest.source,
                f"{path} has {size} of the {manifest.size} bytes that its manifest names",
                remedy,
            )
        ]
    if sha256 != manifest.sha256:
        return [
            Problem(
                "package_digest_mismatch",
                manifest.source,
                f"{path} has the digest {sha256}, its manifest names {manifest.sha256}",
                remedy,
            )
        ]
    return []
