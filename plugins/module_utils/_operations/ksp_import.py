# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Import a Key Synchronization Package into a target node. Private to keyops.utrust."""

from __future__ import annotations

import dataclasses as dc
import pathlib
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.people import PEOPLE_SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.members import wait_for_members
from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    Problem,
    UtrustError,
    raise_for_problems,
)
from ansible_collections.keyops.utrust.plugins.module_utils._interruption import (
    CodedInterruption,
    InterruptedTaskError,
    shortened,
)
from ansible_collections.keyops.utrust.plugins.module_utils._keys import Difference, compare, keys_digest
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_import_apply import (
    ImportJob,
    after_interruption,
    apply_package,
)
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_import_result import make_result, warn
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_import_verify import read_after, verify
from ansible_collections.keyops.utrust.plugins.module_utils._package import store
from ansible_collections.keyops.utrust.plugins.module_utils._package.manifest import Manifest, read_manifest
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.cluster import check_outage, check_view_complete
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.keys import (
    Policy,
    check_import_effect,
    check_key_changes,
    keys_after_import,
)
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import (
    SourceFacts,
    check_clock,
    check_compatibility,
    check_identity,
    check_keys_known,
    check_mbk,
    check_ready,
    driver_stopped,
    require_key_list,
)
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.package import check_package
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.policy import POLICY_SPEC, policy_of
from ansible_collections.keyops.utrust.plugins.module_utils._runner import Invocation, Operation, Result, open_appliance
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey, Node
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance, ProgressCallback
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Params, Spec


ARGUMENT_SPEC: t.Final[Spec] = {
    **POLICY_SPEC,
    **PEOPLE_SPEC,
    "src": {"type": "path"},
    "manifest_sha256": {"type": "str"},
    "manifest": {"type": "dict"},
    "known_difference": {"type": "dict"},
    "expect_keys_digest": {"type": "str", "no_log": False},
    "allow_outage": {"type": "bool", "default": False},
    "ejbca_view_timeout": {"type": "float", "default": limits.MAX_VIEW_TIME},
}
RULES: t.Final[Spec] = {
    "required_one_of": [("src", "manifest")],
    "mutually_exclusive": [("src", "manifest")],
    "required_by": {"src": ("expect_node", "manifest_sha256")},
}


@dc.dataclass(frozen=True)
class ImportOptions:
    """Options of the module. `src` is a package with its manifest beside it, and `manifest_sha256` the digest of this manifest, as the export returned it.

    A `manifest` alone is sufficient in check mode.
    """

    expect_node: str | None
    src: str | None
    manifest: dict[str, t.Any] | None
    expect_keys_digest: str | None
    policy: Policy
    patience: WaitOptions
    max_clock_skew: float = 60.0
    known_difference: dict[str, t.Any] | None = None
    manifest_sha256: str | None = None
    allow_outage: bool = False
    view_timeout: float = limits.MAX_VIEW_TIME

    @classmethod
    def from_params(cls, params: Params) -> ImportOptions:
        """Return the options from validated parameters. Raises UtrustError (`option_invalid`)."""
        return cls(
            expect_node=params["expect_node"],
            src=params["src"],
            manifest=params["manifest"],
            expect_keys_digest=params["expect_keys_digest"],
            policy=policy_of(params),
            patience=WaitOptions(params["wait_timeout"]),
            max_clock_skew=params["max_clock_skew"],
            known_difference=params["known_difference"],
            manifest_sha256=params["manifest_sha256"],
            allow_outage=params["allow_outage"],
            view_timeout=params["ejbca_view_timeout"],
        )


def import_package(
    appliance: Appliance, options: ImportOptions, *, dry_run: bool, progress: ProgressCallback
) -> dict[str, t.Any]:
    """Import the keys of the package into the target, and verify them key by key. The operation deletes no key.

    Raises PreflightError before any change. Raises ApiError, ResponseLostError or UtrustError (`import_incomplete`,
    `import_not_verified`) afterwards. The message then names the keys that the node holds.
    """
    manifest = _load_manifest(options)
    target = appliance.node()
    require_key_list(appliance, f"importing into {target.name}", "so it cannot verify an import")
    before, difference = _compare_and_check(appliance, target, manifest, options)
    if not (difference.missing or difference.mismatched):
        return make_result(
            target, target.keys_digest, difference, manifest, changed=False, unusable=target.unusable_key_count
        )
    if dry_run:
        after = keys_digest(keys_after_import(target, manifest.hsm_keys, difference, options.policy.import_effect))
        return make_result(target, after, difference, manifest, changed=True, predicted=True)
    if options.src is None or manifest.planned:
        raise UtrustError(
            f"importing into {target.name}: a manifest without its package cannot be imported. Set option src, or use check mode",
            code="package_missing",
        )

    progress(f"{target.name}: importing {len(difference.missing)} new and {len(difference.mismatched)} replaced key(s)")
    job = ImportJob(
        options.src, manifest, target, difference, options.patience, options.policy, [], options.view_timeout
    )
    try:
        with CodedInterruption(job.action):
            failure = apply_package(appliance, job, progress)
            progress(f"{target.name}: {'package applied' if failure is None else 'the keys changed'}, verifying")
            return _verified(appliance, job, before, failure)
    except InterruptedTaskError as interrupted:
        job = job._replace(patience=shortened(job.patience))
        failure = after_interruption(appliance, job, interrupted, progress)
        result = _verified(appliance, job, before, failure)
        warn(result, f"{failure}. The node was read afterwards, and its keys are verified")
        return result


def _compare_and_check(
    appliance: Appliance, target: Node, manifest: Manifest, options: ImportOptions
) -> tuple[t.Sequence[HsmKey], Difference]:
    """Return the keys of the target and their difference from the package. Raises PreflightError with every problem."""
    expected = SourceFacts(
        f"the package of {manifest.source}",
        manifest.cluster_id,
        manifest.appliance_version,
        manifest.hsm_firmware,
        manifest.mbk,
    )
    problems = [
        *check_identity(target, options.expect_node),
        *check_ready(target),
        *check_keys_known(target),
        *check_clock(target, options.max_clock_skew),
        *check_compatibility(target, expected),
        *check_mbk(target, expected),
        *_check_manifest(target, manifest, options),
        *check_view_complete(target, manifest.hsm_keys),
    ]
    # Equal digests are equal keys. Reading the keys of a node is the slowest request.
    readable = target.hsm_state == "operational" and not driver_stopped(target)
    before: t.Sequence[HsmKey] | None = _known_keys(target, manifest, options.known_difference)
    if before is None:
        before = appliance.list_keys() if readable else ()
    difference = compare(manifest.hsm_keys, before)
    if readable:
        problems += check_key_changes(target.name, manifest.source, difference, options.policy)
        problems += check_import_effect(target, difference, options.policy)
        if difference.missing or difference.mismatched:
            problems += check_outage(target, allow_outage=options.allow_outage)
    raise_for_problems(f"importing into {target.name}", problems)
    return before, difference


def _known_keys(
    target: Node, manifest: Manifest, known_difference: dict[str, t.Any] | None
) -> t.Sequence[HsmKey] | None:
    """Return the keys of the target if its digest proves them, or None. `known_difference` is an earlier comparison with the same source."""
    if target.has_keys(manifest.keys_digest):
        return manifest.hsm_keys
    if known_difference is None:
        return None
    try:
        keys = Difference.from_dict(known_difference).target_of(manifest.hsm_keys)
    except (KeyError, TypeError):
        return None
    unusable = sum(not key.usable for key in keys)
    return keys if (keys_digest(keys), unusable) == (target.keys_digest, target.unusable_key_count) else None


def _load_manifest(options: ImportOptions) -> Manifest:
    if options.src is None:
        return read_manifest(options.manifest, "of option manifest")
    path = pathlib.Path(options.src)
    manifest = store.load_manifest(path, sha256=options.manifest_sha256)
    if manifest is None:
        raise UtrustError(
            f"importing {path}: the manifest {store.manifest_path(path)} is missing. Nothing was changed. "
            "Export the package again, and keep both files together",
            code="manifest_missing",
        )
    return manifest


def _check_manifest(target: Node, manifest: Manifest, options: ImportOptions) -> list[Problem]:
    """Check that the package is the package of the manifest, is current, and is of another node."""
    problems = []
    if target.key_scope != manifest.key_scope:
        text = f"the keys of the package of {manifest.source} have the scope {manifest.key_scope}, and those of {target.name} {target.key_scope}"
        problems.append(
            Problem("transport_mismatch", target.name, text, "use one transport for all nodes of a cluster")
        )
    if options.src is not None and not manifest.elsewhere:
        problems += check_package(store.size_and_digest(pathlib.Path(options.src)), manifest, options.src)
    if options.expect_keys_digest not in (None, manifest.keys_digest):
        text = f"the package of {manifest.source} has keys digest {manifest.keys_digest}, expected {options.expect_keys_digest}"
        problems.append(Problem("package_stale", target.name, text, "export the package again"))
    if manifest.source == target.name:
        text = f"{target.name} is the source of the package"
        problems.append(Problem("source_is_target", target.name, text, "import the package into the other nodes"))
    return problems


def _verified(
    appliance: Appliance, job: ImportJob, before: t.Sequence[HsmKey], failure: UtrustError | None
) -> dict[str, t.Any]:
    """Verify the keys as soon as the node responds, wait for the members of the cluster, and return the result."""
    target = job.target
    expected = keys_after_import(target, job.manifest.hsm_keys, job.difference, job.policy.import_effect)
    node, after = read_after(appliance, job, expected, failure)
    verify(job, before, after, failure)
    _wait_for_members(appliance, job, node)
    unusable = sum(not key.usable for key in after)
    result = make_result(target, keys_digest(after), job.difference, job.manifest, changed=True, unusable=unusable)
    usable_before = {key for key in before if key.usable}
    no_longer_usable = [key.label for key in after if key in usable_before and not key.usable]
    if no_longer_usable:
        warn(
            result,
            f"{len(no_longer_usable)} key(s) of {target.name} cannot be used after the import: {', '.join(no_longer_usable)}. "
            "The import changed their slots. Activate the slots before this node serves requests",
        )
    return result


def _wait_for_members(appliance: Appliance, job: ImportJob, node: Node) -> None:
    """Wait until all members are back, because the next node must not import before. Raises UtrustError with `changed` set."""
    try:
        wait_for_members(appliance, node, [member.node for member in job.target.members if member.up], job.patience)
    except UtrustError as exc:
        details = {name: value for name, value in exc.details.items() if name not in ("code", "http_status")}
        text = f"{job.action}: the node has all keys of the package, and they are verified. {exc}"
        raise UtrustError(text, code=exc.code, **details, changed=True) from exc


def run(invocation: Invocation) -> Result:
    """Import a package, or predict the import in check mode. Raises UtrustError."""
    options = ImportOptions.from_params(invocation.params)
    with open_appliance(invocation.params, invocation.people) as appliance:
        return import_package(appliance, options, dry_run=invocation.check_mode, progress=invocation.progress)


OPERATION: t.Final = Operation("utrust_ksp_import", ARGUMENT_SPEC, RULES, run, changes=lambda dummy: True)
