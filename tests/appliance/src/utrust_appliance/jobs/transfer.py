# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""MBK and keys from one node's HSM into another's: the part of a guided restore that needs no people."""

from __future__ import annotations

import typing as t

from utrust_appliance.errors import ApiError
from utrust_appliance.files import destroy
from utrust_appliance.hsm.base import KeySetChange, UnwrapError
from utrust_appliance.jobs.packages import build_package
from utrust_appliance.package import PackageFile

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.mbk import Mbk
    from utrust_appliance.node import Node

TITLES = {
    "card_timeout": "No card within the time limit",
    "canceled_at_pin_pad": "Canceled at the PIN pad",
    "canceled_by_request": "Canceled by a request",
    "source_unreachable": "The source does not answer",
    "source_changed": "The source's keys have changed",
    "mbk_mismatch": "The cards are of another MBK",
    "interrupted": "The node was restarted",
    "restore_failed": "The keys could not be restored",
}


class RestoreError(Exception):
    """Ends a guided restore; `code` is one of the contract's RestoreProblem."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = {"code": code, "title": TITLES[code], "detail": detail}


def restore_from(target: Node, source: Node, mbk: Mbk, job: str, expect_digest: str | None = None) -> None:
    """MBK and keys of the source into the target's HSM, all of it or nothing."""
    path = target.restore_packages.path(job)
    if not source.reachable():
        raise RestoreError("source_unreachable", f"{source.name} does not answer")
    try:
        header, dummy_sha256, dummy_size = build_package(source, path)
        target.checkpoint("restore.fetched")
        if expect_digest not in (None, header.keys_digest):
            raise RestoreError(
                "source_changed",
                f"{source.name} held {expect_digest} when this restore was started, now {header.keys_digest}",
            )
        restore_package(target, path, mbk, job)
    except ApiError as exc:
        raise RestoreError("restore_failed", str(exc)) from exc
    finally:
        destroy(path)


def restore_package(target: Node, path: Path, mbk: Mbk, job: str) -> None:
    """The same with the keys of a package that is here already."""
    try:
        package = PackageFile(path)
        if package.header.mbk_check_value != mbk.facts.check_value:
            raise RestoreError(
                "mbk_mismatch",
                f"the cards hold MBK {mbk.facts}, {package.header.node} wraps under {package.header.mbk_check_value}",
            )
        package.verify_tag(mbk.mac)
        slots = target.behavior.slots_after_restore(package.header.slots)
        target.hsm.apply(KeySetChange(job=job, put=list(package.wrapped_keys()), remove=[], slots=slots, mbk=mbk))
    except (ApiError, UnwrapError) as exc:
        raise RestoreError("restore_failed", str(exc)) from exc
