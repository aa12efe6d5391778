# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The uploaded package for the next guided restore of a node, if the profile requires a package.

A node keeps at most one package for a limited time. The package can be authenticated only when the cards have provided the MBK.
"""

from __future__ import annotations

import secrets
import typing as t

from utrust_appliance.clock import Deadlines
from utrust_appliance.errors import ApiError
from utrust_appliance.files import destroy
from utrust_appliance.package import Header, PackageFile
from utrust_appliance.web.checks import NAME

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.mbk import MbkFacts
    from utrust_appliance.node import Node


class RestorePackage(t.NamedTuple):
    """A package for a restore. `mbk` is the MBK of the required cards."""

    id: str
    path: Path
    header: Header
    mbk: MbkFacts


class RestorePackages:
    """The package in the folder `restore` of a node. A start of the process deletes all packages."""

    def __init__(self, node: Node, folder: Path, ttl: float) -> None:
        self._node = node
        self._folder = folder
        self._deadlines = Deadlines(ttl)
        self._brought: RestorePackage | None = None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in folder.iterdir():
            destroy(file)  # of an interrupted restore or upload

    def path(self, name: str) -> Path:
        return self._folder / f"{name}.ksp"

    def add(self, upload: Path) -> str:
        """Keep this file for the next restore. It replaces an earlier package. Returns the package id."""
        node = self._node
        package = PackageFile(upload)
        header = package.header
        package.verify_header(node.cluster.id if node.behavior.binding == "cluster" else None)
        if not NAME.fullmatch(header.node):
            raise ApiError("package_corrupt", "the name of its source node is invalid")
        sets = {card.mbk.check_value: card.mbk for card in node.cluster.cards.cards()}
        if header.mbk_check_value not in sets:
            raise ApiError(
                "mbk_mismatch",
                f"the package uses MBK {header.mbk_name} ({header.mbk_check_value}), which does not have cards",
            )
        self.forget()
        package_id = secrets.token_hex(16)
        upload.rename(self.path(package_id))
        self._brought = RestorePackage(package_id, self.path(package_id), header, sets[header.mbk_check_value])
        self._deadlines.start(package_id)
        return package_id

    def get(self, package_id: str) -> RestorePackage:
        self.forget_expired()
        if self._brought is None or self._brought.id != package_id:
            raise ApiError("not_found", "the selected package has expired: select the package again")
        return self._brought

    def take(self, package_id: str) -> RestorePackage:
        """Pass the package to a restore. The restore deletes the file at its end."""
        brought = self.get(package_id)
        self._brought = None
        self._deadlines.forget(package_id)
        return brought

    def forget(self) -> None:
        if self._brought is not None:
            self._deadlines.forget(self._brought.id)
            destroy(self._brought.path)
            self._brought = None

    def forget_expired(self) -> None:
        if self._deadlines.passed():
            self.forget()
