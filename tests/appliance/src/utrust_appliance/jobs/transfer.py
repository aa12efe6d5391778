# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Transfer of MBK and keys to another HSM: the automatic part of a guided restore."""

from __future__ import annotations

import typing as t

from utrust_appliance.errors import ApiError, JobError
from utrust_appliance.files import destroy
from utrust_appliance.hsm.base import KeySetChange, UnwrapError
from utrust_appliance.jobs.packages import build_package
from utrust_appliance.package import PackageFile

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.mbk import Mbk
    from utrust_appliance.node import Node


def restore_from(target: Node, source: Node, mbk: Mbk, job: str, expect_digest: str | None = None) -> None:
    """Transfer MBK and keys of the source to the HSM of the target, atomically."""
    path = target.restore_packages.path(job)
    if not source.reachable():
        raise JobError("source_unreachable", f"{source.name} does not respond")
    try:
        header, dummy_sha256, dummy_size = build_package(source, path)
        target.checkpoint("restore.fetched")
        if expect_digest not in (None, header.keys_digest):
            raise JobError(
                "source_changed",
                f"the keys digest of {source.name} was {expect_digest} at the start of the restore and is now {header.keys_digest}",
            )
        restore_package(target, path, mbk, job)
    except ApiError as exc:
        raise JobError("restore_failed", str(exc)) from exc
    finally:
        destroy(path)


def restore_package(target: Node, path: Path, mbk: Mbk, job: str) -> None:
    """Transfer MBK and keys of a package to the HSM of the target."""
    try:
        package = PackageFile(path)
        if package.header.mbk_check_value != mbk.facts.check_value:
            raise JobError(
                "mbk_mismatch",
                f"the cards hold MBK {mbk.facts}, but {package.header.node} uses {package.header.mbk_check_value}",
            )
        package.verify_tag(mbk.mac)
        slots = target.behavior.slots_after_restore(package.header.slots)
        target.hsm.apply(KeySetChange(job=job, put=list(package.wrapped_keys()), remove=[], slots=slots, mbk=mbk))
    except (ApiError, UnwrapError) as exc:
        raise JobError("restore_failed", str(exc)) from exc
