# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Export a Key Synchronization Package from the source node. Private to keyops.utrust."""

from __future__ import annotations

import contextlib
import dataclasses as dc
import pathlib
import shutil
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _package_store as store
from ansible_collections.keyops.utrust.plugins.module_utils._appliance import INVENTORY
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError, Problem, UtrustError, require
from ansible_collections.keyops.utrust.plugins.module_utils._manifest import Manifest, make_manifest
from ansible_collections.keyops.utrust.plugins.module_utils._preflight import (
    facts_of,
    problems_of_clock,
    problems_of_identity,
    problems_of_readiness,
)

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance import Appliance, Node, Reporter

PACKAGE_NAME = "cluster.ksp"
#: Bytes: more than a wrapped RSA-4096 key with its public objects takes.
SPACE_FOR_KEY = 4 * 1024
SPACE_FOR_PACKAGE = 256 * 1024


@dc.dataclass(frozen=True)
class ExportOptions:
    """`dest` None means: a private directory of this run, which `owner_pid` owns, or which lives for `keep_for` seconds."""

    expect_node: str | None
    dest: str | None
    force: bool
    owner_pid: int | None
    keep_for: int
    expect_keys_digest: str | None = None
    max_clock_skew: float = 60.0


def export_package(
    appliance: Appliance, options: ExportOptions, *, dry_run: bool, report: Reporter
) -> dict[str, t.Any]:
    """Write a package and its manifest, unless the one at `dest` already fits the source's inventory.

    With `dry_run` nothing is made on the node or on disk; the manifest in the result is the one that a run would write, as a planned.
    """
    tried = f"exporting from {options.expect_node or 'the node'}"
    swept = store.sweep(dry_run=dry_run)
    if swept:
        report(
            f"{'would sweep' if dry_run else 'swept'} {len(swept)} package(s) that killed runs had left: {', '.join(swept)}"
        )
    source = appliance.node()
    require(
        tried,
        [
            *problems_of_identity(source, options.expect_node),
            *problems_of_readiness(source),
            *problems_of_clock(source, options.max_clock_skew),
            *_problems_of_directory(source.name, options.dest),
        ],
    )
    if INVENTORY not in appliance.capabilities:
        raise UtrustError(
            f"{tried}: this transport cannot read the inventory, so no manifest can be made", code="capability_missing"
        )
    inventory = appliance.inventory()
    planned = make_manifest(source, inventory)
    if options.expect_keys_digest not in (None, planned.keys_digest):
        raise UtrustError(
            f"{tried}: its keys have changed since they were read: inventory {planned.keys_digest}, expected "
            f"{options.expect_keys_digest}; nothing was changed. Let the key generation on the source end, then run again",
            code="source_changed",
        )
    common: dict[str, t.Any] = {"node": facts_of(source), "swept": swept}

    held = _held(options)
    if held is not None and not options.force and _fits(held, planned):
        return {"changed": False, "package": _public(options.dest, held), "manifest": held.as_dict(), **common}
    require(tried, _problems_of_space(source, options.dest))
    if dry_run:
        return {"changed": True, "package": _public(options.dest, planned), "manifest": planned.as_dict(), **common}

    with contextlib.ExitStack() as undo:
        if options.dest is None:
            directory = store.new_run_directory(options.owner_pid, options.keep_for)
            undo.callback(store.remove_directory, directory)
            path = directory / PACKAGE_NAME
        else:
            path = pathlib.Path(options.dest)
        manifest = _download(appliance, path, planned, report)
        undo.pop_all()
    report(
        f"{source.name}: exported {len(inventory)} key(s), {manifest.size} bytes, inventory {manifest.keys_digest[:19]}"
    )
    return {"changed": True, "package": _public(str(path), manifest), "manifest": manifest.as_dict(), **common}


def remove_package(options: ExportOptions, *, dry_run: bool) -> dict[str, t.Any]:
    """Remove the package at `dest` with its manifest (and its run directory), and sweep those of dead runs."""
    swept = store.sweep(dry_run=dry_run)
    there, removed = False, None
    if options.dest is not None:
        path = pathlib.Path(options.dest)
        there = store.is_there(path)
        held = _held(options)
        if not dry_run:
            store.remove_package(path)
        removed = _public(options.dest, held) if held is not None else None
    return {"changed": there, "removed": removed, "swept": swept}


def _problems_of_directory(node: str, dest: str | None) -> list[Problem]:
    """A package is a copy of every CA key: its directory must be there and be the user's alone."""
    if dest is None:
        return []
    directory = pathlib.Path(dest).parent
    if not directory.is_dir():
        return [Problem("directory_missing", node, f"there is no directory {directory}", "create it with mode 0700")]
    mode = directory.stat().st_mode & 0o777
    if mode & 0o077:
        text = f"directory {directory} has mode {mode:04o}, so that others can look into it"
        return [Problem("directory_not_private", node, text, f"chmod 0700 {directory}, or choose another one")]
    return []


def _problems_of_space(source: Node, dest: str | None) -> list[Problem]:
    """How large a package is shows only when it is made; by then it is too late to make room."""
    directory = pathlib.Path(dest).parent if dest is not None else store.base_directories()[0]
    needed = SPACE_FOR_PACKAGE + SPACE_FOR_KEY * source.key_count
    if not directory.is_dir() or (free := shutil.disk_usage(directory).free) >= needed:
        return []
    text = f"{directory} has {free} bytes left, a package of {source.key_count} key(s) may take {needed}"
    return [
        Problem(
            "disk_space_low", source.name, text, "make room there, or choose another place with dest or XDG_RUNTIME_DIR"
        )
    ]


def _download(appliance: Appliance, path: pathlib.Path, planned: Manifest, report: Reporter) -> Manifest:
    """Make the package on the node, stream it to `path`, destroy the node's copy, write the manifest."""
    package = appliance.create_package(planned.keys_digest)
    try:
        if (
            package.keys_digest != planned.keys_digest
            or package.source != planned.source
            or not package.mbk.same_as(planned.mbk)
        ):
            raise ApiError(
                f"exporting from {planned.source}: the package is not of the inventory, node and MBK that were asked for; nothing was kept",
                code="package_mismatch",
            )
        manifest = dc.replace(planned, sha256=package.sha256, size=package.size)
        # An old package must never stand beside a new manifest, nor the other way round: the old manifest goes first.
        store.manifest_path(path).unlink(missing_ok=True)
        with store.replacing(path) as file:
            appliance.download_package(package, file)
        try:
            store.write_manifest(path, manifest)
        except UtrustError:
            path.unlink(missing_ok=True)
            raise
    finally:
        try:
            appliance.delete_package(package)
        except UtrustError as exc:
            report(
                f"{planned.source}: its copy of package {package.id} could not be destroyed ({exc}); it expires by itself"
            )
    return manifest


def _held(options: ExportOptions) -> Manifest | None:
    """The manifest at `dest`, if package and manifest are there and belong together."""
    if options.dest is None:
        return None
    path = pathlib.Path(options.dest)
    try:
        manifest = store.load_manifest(path)
    except UtrustError:
        return None  # an unreadable manifest is replaced with its package
    if manifest is None or (manifest.size, manifest.sha256) != store.measure(path):
        return None
    return manifest


def _fits(held: Manifest, planned: Manifest) -> bool:
    return dc.replace(held, sha256=None, size=None, created_at=planned.created_at) == planned


def _public(path: str | None, manifest: Manifest) -> dict[str, t.Any]:
    return {
        "path": path,
        "sha256": manifest.sha256,
        "size": manifest.size,
        "source": manifest.source,
        "mbk": dc.asdict(manifest.mbk),
        "key_count": len(manifest.inventory),
        "keys_digest": manifest.keys_digest,
    }
