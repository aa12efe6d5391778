# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of removing a package. Private to keyops.utrust."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError


@contextlib.contextmanager
def removal_errors(path: str | None) -> t.Iterator[None]:
    """Turn an error of the system, such as for a directory as path, into UtrustError (`package_not_removed`)."""
    try:
        yield
    except OSError as exc:
        raise UtrustError(
            f"removing the package {path}: {exc.strerror or exc}. The package can still exist. Set dest to the path of a package",
            code="package_not_removed",
        ) from exc
