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
    """Check size and digest of a package file. `measured` holds both (None for a missing file)."""
    code, text = "", ""
    if measured is None:
        code, text = "package_missing", f"the package {path} is missing"
    elif manifest.size is not None and measured[0] < manifest.size:
        code, text = "package_truncated", f"{path} has {measured[0]} of {manifest.size} bytes"
    elif measured[1] != manifest.sha256:
        code = "package_digest_mismatch"
        text = f"the digest of {path} is {measured[1]}, but its manifest has {manifest.sha256}"
    return [Problem(code, manifest.source, text, "export the package again")] if code else []
