# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Export a Key Synchronization Package from the source node. Private to keyops.utrust."""

from __future__ import annotations

import contextlib
import dataclasses as dc
import pathlib
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.people import PEOPLE_SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    ApiError,
    UtrustError,
    raise_for_problems,
)
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_export_wait import (
    is_planned,
    wait_for_package,
)
from ansible_collections.keyops.utrust.plugins.module_utils._package import store
from ansible_collections.keyops.utrust.plugins.module_utils._package.manifest import Manifest, make_manifest
from ansible_collections.keyops.utrust.plugins.module_utils._package.removal import removal_errors
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import (
    check_clock,
    check_identity,
    check_ready,
    node_facts,
    require_key_list,
)
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.package import check_directory, check_space
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.policy import AUDIT_SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._run import directory
from ansible_collections.keyops.utrust.plugins.module_utils._runner import (
    Invocation,
    Operation,
    Result,
    open_appliance,
    with_removed,
)
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Node
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance, ProgressCallback
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Params, Spec

PACKAGE_NAME = "cluster.ksp"
PACKAGE_PATIENCE = WaitOptions(limits.MAX_PACKAGE_TIME)


ARGUMENT_SPEC: t.Final[Spec] = {
    **AUDIT_SPEC,
    **PEOPLE_SPEC,
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "dest": {"type": "path"},
    "force": {"type": "bool", "default": False},
    "ttl": {"type": "int", "default": 14400},
    "expect_keys_digest": {"type": "str", "no_log": False},
    "wait_timeout": {"type": "float", "default": limits.MAX_PACKAGE_TIME},
}
RULES: t.Final[Spec] = {"required_if": [("state", "present", ("expect_node",))]}


@dc.dataclass(frozen=True)
class ExportOptions:
    """Options of the module.

    Without `dest`, the package is in the private directory of the run, which `open_private` creates.
    Without `open_private`, the run is on another machine, and the directory expires after `ttl` seconds.
    `claimed` is whether this run has claimed the cluster.
    """

    expect_node: str | None
    dest: str | None
    force: bool
    open_private: t.Callable[[], directory.PrivateDirectory] | None
    ttl: int
    claimed: bool = False
    expect_keys_digest: str | None = None
    max_clock_skew: float = 60.0
    patience: WaitOptions = PACKAGE_PATIENCE

    @classmethod
    def from_params(
        cls, params: Params, open_private: t.Callable[[], directory.PrivateDirectory] | None
    ) -> ExportOptions:
        """Return the options from validated parameters."""
        return cls(
            expect_node=params["expect_node"],
            dest=params["dest"],
            force=params["force"],
            open_private=open_private,
            ttl=params["ttl"],
            claimed=params["cluster_claim"] is not None,
            expect_keys_digest=params["expect_keys_digest"],
            max_clock_skew=params["max_clock_skew"],
            patience=WaitOptions(params["wait_timeout"]),
        )


def export_package(
    appliance: Appliance, options: ExportOptions, *, dry_run: bool, progress: ProgressCallback
) -> dict[str, t.Any]:
    """Write a package and its manifest, unless the package at `dest` already has the keys of the source.

    With `dry_run` the operation only reads. The result then has the manifest that a run would write.
    Raises PreflightError before any change, and UtrustError (`capability_missing`, `source_changed`, `package_mismatch`).
    """
    action = f"exporting from {options.expect_node or 'the node'}"
    source = appliance.node()
    raise_for_problems(
        action,
        [
            *check_identity(source, options.expect_node),
            *check_ready(source),
            *check_clock(source, options.max_clock_skew),
            *check_directory(source.name, options.dest),
        ],
    )
    planned = _plan_manifest(appliance, source, options, action)
    stale = directory.remove_stale(cluster_id=source.cluster_id) if options.claimed else []
    common = with_removed(stale, {"node": node_facts(source)})

    existing = _existing_manifest(options)
    # Nobody knows whether a package that people keep elsewhere still exists.
    if existing is not None and not (existing.elsewhere or options.force) and _fits(existing, planned):
        package = _package_facts(options.dest, existing)
        return {"changed": False, "package": package, **_manifest_facts(existing), **common}
    raise_for_problems(action, check_space(source.name, len(planned.hsm_keys), options.dest))
    if dry_run:
        package = _package_facts(options.dest, planned)
        return {"changed": True, "package": package, **_manifest_facts(planned), **common}
    path, manifest = _write_package(appliance, planned, options, progress)
    progress(
        f"{source.name}: exported {len(manifest.hsm_keys)} key(s), {manifest.size} bytes, keys digest {manifest.keys_digest[:19]}"
    )
    package = _package_facts(str(path), manifest)
    return {"changed": True, "package": package, **_manifest_facts(manifest), **common}


def _plan_manifest(appliance: Appliance, source: Node, options: ExportOptions, action: str) -> Manifest:
    """Return the manifest of a package of the current keys. Raises UtrustError (`capability_missing`, `source_changed`)."""
    require_key_list(appliance, action, "so the export cannot write a manifest")
    planned = make_manifest(source, appliance.list_keys())
    if options.expect_keys_digest not in (None, planned.keys_digest):
        raise UtrustError(
            f"{action}: the keys of {source.name} changed since they were read (keys digest {planned.keys_digest}, "
            f"expected {options.expect_keys_digest}). Nothing was changed. Let the key generation on {source.name} end, then run again",
            code="source_changed",
        )
    return planned


def _write_package(
    appliance: Appliance, planned: Manifest, options: ExportOptions, progress: ProgressCallback
) -> tuple[pathlib.Path, Manifest]:
    """Write the package to `dest` or to a new private directory, which a failure removes."""
    with contextlib.ExitStack() as undo:
        private = undo.enter_context(_private_directory(options, planned.cluster_id))
        if options.dest is not None:
            path = pathlib.Path(options.dest)
            return path, _download(appliance, path, private, planned, options.patience, progress)
        path = private.new_package_directory() / PACKAGE_NAME
        undo.callback(store.remove_package, path)
        manifest = _download(appliance, path, None, planned, options.patience, progress)
        undo.pop_all()
    return path, manifest


def _private_directory(
    options: ExportOptions, cluster_id: str
) -> contextlib.AbstractContextManager[directory.PrivateDirectory]:
    if options.open_private is None:
        return directory.leased_directory(options.ttl, cluster_id)
    return contextlib.nullcontext(options.open_private())


def remove_package(options: ExportOptions, *, dry_run: bool) -> dict[str, t.Any]:
    """Delete the package at `dest`, its manifest and its private directory."""
    found, removed = False, None
    if options.dest is not None:
        path = pathlib.Path(options.dest)
        found = store.exists(path)
        existing = _existing_manifest(options)
        if not dry_run:
            store.remove_package(path)
        removed = _package_facts(options.dest, existing) if existing is not None else None
    return {"changed": found, "removed": removed}


def _download(
    appliance: Appliance,
    path: pathlib.Path,
    private: directory.PrivateDirectory | None,
    planned: Manifest,
    patience: WaitOptions,
    progress: ProgressCallback,
) -> Manifest:
    """Make the package on the node, download it to `path`, delete the copy on the node, and write the manifest.

    If the process is killed, the directory `private` names the incomplete files. Without it, they are in a private directory themselves.
    """
    package = appliance.create_package(planned.keys_digest)
    try:
        package = wait_for_package(appliance, package, planned.source, patience, progress)
        if not is_planned(package, planned):
            raise ApiError(
                f"exporting from {planned.source}: the package has other keys, another node or another MBK than requested. "
                "The package was deleted. Run again",
                code="package_mismatch",
            )
        manifest = dc.replace(planned, sha256=package.sha256, size=package.size)
        if package.elsewhere:
            store.write_manifest(path, manifest, private)
            return manifest
        with contextlib.ExitStack() as notes:
            with store.atomic_write(path, private) as file:
                appliance.download_package(package, file)
                # Only a complete download replaces an earlier package and its manifest.
                # The old manifest is deleted first: a manifest must never be beside a package that it does not describe.
                if private is not None:
                    notes.enter_context(private.note(path))
                store.manifest_path(path).unlink(missing_ok=True)
            try:
                store.write_manifest(path, manifest, private)
            except UtrustError:
                path.unlink(missing_ok=True)
                raise
    finally:
        try:
            appliance.delete_package(package)
        except UtrustError as exc:
            progress(
                f"{planned.source}: the copy of package {package.id} on the node could not be deleted ({exc}). The copy expires by itself"
            )
    return manifest


def _existing_manifest(options: ExportOptions) -> Manifest | None:
    """Return the manifest at `dest` if it is as an export writes it and describes the package at `dest`."""
    if options.dest is None:
        return None
    path = pathlib.Path(options.dest)
    try:
        manifest = store.load_manifest(path)
        if manifest is not None:
            store.load_manifest(path, sha256=manifest.file_digest)
    except UtrustError:
        return None  # the export replaces an unreadable manifest and its package
    if manifest is None:
        return None
    if not manifest.elsewhere and (manifest.size, manifest.sha256) != store.size_and_digest(path):
        return None
    return manifest


def _fits(existing: Manifest, planned: Manifest) -> bool:
    return dc.replace(existing, sha256=None, size=None, created_at=planned.created_at) == planned


def _manifest_facts(manifest: Manifest) -> dict[str, t.Any]:
    return {"manifest": manifest.to_dict(), "manifest_sha256": None if manifest.planned else manifest.file_digest}


def _package_facts(path: str | None, manifest: Manifest) -> dict[str, t.Any]:
    return {
        "path": path,
        "sha256": manifest.sha256,
        "size": manifest.size,
        "source": manifest.source,
        "mbk": dc.asdict(manifest.mbk),
        "key_count": len(manifest.hsm_keys),
        "keys_digest": manifest.keys_digest,
        "elsewhere": manifest.elsewhere,
    }


def run(invocation: Invocation) -> Result:
    """Export or remove a package. Raises UtrustError."""
    options = ExportOptions.from_params(invocation.params, invocation.open_private)
    if invocation.params["state"] == "absent":
        with removal_errors(options.dest):
            return remove_package(options, dry_run=invocation.check_mode)
    with open_appliance(invocation.params, invocation.people) as appliance:
        return export_package(appliance, options, dry_run=invocation.check_mode, progress=invocation.progress)


OPERATION: t.Final = Operation(
    "utrust_ksp_export", ARGUMENT_SPEC, RULES, run, changes=lambda params: params.get("state") != "absent"
)
