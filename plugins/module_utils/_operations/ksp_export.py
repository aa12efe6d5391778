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

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import KEY_LIST
from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    ApiError,
    Problem,
    UtrustError,
    raise_for_problems,
)
from ansible_collections.keyops.utrust.plugins.module_utils._package import store
from ansible_collections.keyops.utrust.plugins.module_utils._package.manifest import Manifest, make_manifest
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import (
    check_clock,
    check_identity,
    check_ready,
    node_facts,
)
from ansible_collections.keyops.utrust.plugins.module_utils._runner import Invocation, Operation, Result, open_appliance

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Node
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance, ProgressCallback
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Params, Spec

PACKAGE_NAME = "cluster.ksp"
#: Bytes: more than a wrapped RSA-4096 key with its public objects takes.
SPACE_FOR_KEY = 4 * 1024
SPACE_FOR_PACKAGE = 256 * 1024


ARGUMENT_SPEC: t.Final[Spec] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "dest": {"type": "path"},
    "force": {"type": "bool", "default": False},
    "ttl": {"type": "int", "default": 14400},
    "expect_keys_digest": {"type": "str", "no_log": False},
}
RULES: t.Final[Spec] = {"required_if": [("state", "present", ("expect_node",))]}


@dc.dataclass(frozen=True)
class ExportOptions:
    """`dest` None means: a private directory of this run, which `owner_pid` owns, or which lives for `ttl` seconds."""

    expect_node: str | None
    dest: str | None
    force: bool
    owner_pid: int | None
    ttl: int
    expect_keys_digest: str | None = None
    max_clock_skew: float = 60.0

    @classmethod
    def from_params(cls, params: Params, owner_pid: int | None) -> ExportOptions:
        return cls(
            expect_node=params["expect_node"],
            dest=params["dest"],
            force=params["force"],
            owner_pid=owner_pid,
            ttl=params["ttl"],
            expect_keys_digest=params["expect_keys_digest"],
            max_clock_skew=params["max_clock_skew"],
        )


def export_package(
    appliance: Appliance, options: ExportOptions, *, dry_run: bool, progress: ProgressCallback
) -> dict[str, t.Any]:
    """Write a package and its manifest, unless the one at `dest` already fits the source's inventory.

    With `dry_run` nothing is made on the node or on disk; the manifest in the result is the one that a run would write, as a planned.
    """
    action = f"exporting from {options.expect_node or 'the node'}"
    removed_stale = store.remove_stale(dry_run=dry_run)
    if removed_stale:
        progress(
            f"{'would remove' if dry_run else 'removed'} {len(removed_stale)} package(s) of killed runs: {', '.join(removed_stale)}"
        )
    source = appliance.node()
    raise_for_problems(
        action,
        [
            *check_identity(source, options.expect_node),
            *check_ready(source),
            *check_clock(source, options.max_clock_skew),
            *_problems_of_directory(source.name, options.dest),
        ],
    )
    if KEY_LIST not in appliance.capabilities:
        raise UtrustError(
            f"{action}: this transport cannot read the inventory, so no manifest can be made", code="capability_missing"
        )
    inventory = appliance.list_keys()
    planned = make_manifest(source, inventory)
    if options.expect_keys_digest not in (None, planned.keys_digest):
        raise UtrustError(
            f"{action}: its keys have changed since they were read: inventory {planned.keys_digest}, expected "
            f"{options.expect_keys_digest}; nothing was changed. Let the key generation on the source end, then run again",
            code="source_changed",
        )
    common: dict[str, t.Any] = {"node": node_facts(source), "removed_stale": removed_stale}

    held = _held(options)
    if held is not None and not options.force and _fits(held, planned):
        return {"changed": False, "package": _public(options.dest, held), "manifest": held.to_dict(), **common}
    raise_for_problems(action, _problems_of_space(source, options.dest))
    if dry_run:
        return {"changed": True, "package": _public(options.dest, planned), "manifest": planned.to_dict(), **common}

    with contextlib.ExitStack() as undo:
        if options.dest is None:
            directory = store.new_run_directory(options.owner_pid, options.ttl)
            undo.callback(store.remove_directory, directory)
            path = directory / PACKAGE_NAME
        else:
            path = pathlib.Path(options.dest)
        manifest = _download(appliance, path, planned, progress)
        undo.pop_all()
    progress(
        f"{source.name}: exported {len(inventory)} key(s), {manifest.size} bytes, inventory {manifest.keys_digest[:19]}"
    )
    return {"changed": True, "package": _public(str(path), manifest), "manifest": manifest.to_dict(), **common}


def remove_package(options: ExportOptions, *, dry_run: bool) -> dict[str, t.Any]:
    """Remove the package at `dest` with its manifest (and its run directory), and those of dead runs."""
    removed_stale = store.remove_stale(dry_run=dry_run)
    there, removed = False, None
    if options.dest is not None:
        path = pathlib.Path(options.dest)
        there = store.exists(path)
        held = _held(options)
        if not dry_run:
            store.remove_package(path)
        removed = _public(options.dest, held) if held is not None else None
    return {"changed": there, "removed": removed, "removed_stale": removed_stale}


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


def _download(appliance: Appliance, path: pathlib.Path, planned: Manifest, progress: ProgressCallback) -> Manifest:
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
        with store.atomic_write(path) as file:
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
            progress(
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
    if manifest is None or (manifest.size, manifest.sha256) != store.size_and_digest(path):
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
        "key_count": len(manifest.hsm_keys),
        "keys_digest": manifest.keys_digest,
    }


def run(invocation: Invocation) -> Result:
    options = ExportOptions.from_params(invocation.params, invocation.owner_pid)
    if invocation.params["state"] == "absent":
        return remove_package(options, dry_run=invocation.check_mode)
    with open_appliance(invocation.params) as appliance:
        return export_package(appliance, options, dry_run=invocation.check_mode, progress=invocation.progress)


OPERATION: t.Final = Operation("utrust_ksp_export", ARGUMENT_SPEC, RULES, run)
