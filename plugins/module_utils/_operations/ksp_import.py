# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Import a Key Synchronization Package into a target node. Private to keyops.utrust."""

from __future__ import annotations

import dataclasses as dc
import pathlib
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._cluster.members import wait_for_members
from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    Problem,
    UtrustError,
    raise_for_problems,
)
from ansible_collections.keyops.utrust.plugins.module_utils._keys import Difference, compare, keys_digest
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_import_apply import ImportJob, apply_package
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_import_verify import read_after, verify
from ansible_collections.keyops.utrust.plugins.module_utils._package import store
from ansible_collections.keyops.utrust.plugins.module_utils._package.manifest import Manifest, read_manifest
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.keys import (
    Policy,
    check_import_effect,
    check_key_changes,
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
    node_facts,
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
    "src": {"type": "path"},
    "manifest": {"type": "dict"},
    "known_difference": {"type": "dict"},
    "expect_keys_digest": {"type": "str", "no_log": False},
}
RULES: t.Final[Spec] = {
    "required_one_of": [("src", "manifest")],
    "mutually_exclusive": [("src", "manifest")],
    "required_by": {"src": ("expect_node",)},
}


@dc.dataclass(frozen=True)
class ImportOptions:
    """Options of the module. `src` is a package with its manifest beside it. A `manifest` alone is sufficient in check mode."""

    expect_node: str | None
    src: str | None
    manifest: dict[str, t.Any] | None
    expect_keys_digest: str | None
    policy: Policy
    patience: WaitOptions
    max_clock_skew: float = 60.0
    known_difference: dict[str, t.Any] | None = None

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
        return _result(
            target, target.keys_digest, difference, manifest, changed=False, unusable=target.unusable_key_count
        )
    if dry_run:
        after = keys_digest(_expected_after(before, difference))
        return _result(target, after, difference, manifest, changed=True, predicted=True)
    if options.src is None or manifest.planned:
        raise UtrustError(
            f"importing into {target.name}: a manifest without its package cannot be imported. Set option src, or use check mode",
            code="package_missing",
        )

    progress(f"{target.name}: importing {len(difference.missing)} new and {len(difference.mismatched)} replaced key(s)")
    job = ImportJob(options.src, manifest, target, difference, options.patience)
    failure = apply_package(appliance, job, progress)
    progress(f"{target.name}: {'package applied' if failure is None else 'the keys changed'}, verifying")
    return _verified(appliance, job, before, failure)


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
    manifest = store.load_manifest(path)
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
    if options.src is not None:
        problems += check_package(store.size_and_digest(pathlib.Path(options.src)), manifest, options.src)
    if options.expect_keys_digest not in (None, manifest.keys_digest):
        text = f"the package of {manifest.source} has keys digest {manifest.keys_digest}, expected {options.expect_keys_digest}"
        problems.append(Problem("package_stale", target.name, text, "export the package again"))
    if manifest.source == target.name:
        text = f"{target.name} is the source of the package"
        problems.append(Problem("source_is_target", target.name, text, "import the package into the other nodes"))
    return problems


def _expected_after(before: t.Iterable[HsmKey], difference: Difference) -> list[HsmKey]:
    replaced = [pair.target_key for pair in difference.mismatched]
    return [key for key in before if key not in replaced] + [
        *difference.missing,
        *(pair.source_key for pair in difference.mismatched),
    ]


def _verified(
    appliance: Appliance, job: ImportJob, before: t.Sequence[HsmKey], failure: UtrustError | None
) -> dict[str, t.Any]:
    """Verify the keys as soon as the node responds, wait for the members of the cluster, and return the result."""
    target = job.target
    node, after = read_after(appliance, job, _expected_after(before, job.difference), failure)
    verify(job, before, after, failure)
    # The next node must not import before this one and all others are back.
    wait_for_members(appliance, node, [member.node for member in target.members if member.up], job.patience)
    unusable = sum(not key.usable for key in after)
    result = _result(target, keys_digest(after), job.difference, job.manifest, changed=True, unusable=unusable)
    usable_before = {key for key in before if key.usable}
    no_longer_usable = [key.label for key in after if key in usable_before and not key.usable]
    if no_longer_usable:
        result.setdefault("warnings", []).append(
            f"{len(no_longer_usable)} key(s) of {target.name} cannot be used after the import: {', '.join(no_longer_usable)}. "
            "The import changed their slots. Activate the slots before this node serves requests"
        )
    return result


def _result(
    target: Node,
    after: str | None,
    difference: Difference,
    manifest: Manifest,
    *,
    changed: bool,
    predicted: bool = False,
    unusable: int | None = None,
) -> dict[str, t.Any]:
    added = [key.to_dict() for key in difference.missing]
    replaced = [pair.to_dict() for pair in difference.mismatched]
    result: dict[str, t.Any] = {
        "changed": changed,
        "node": target.name,
        "hsm_serial": target.hsm_serial,
        "added": added,
        "replaced": replaced,
        "extra": [key.to_dict() for key in difference.extra],
        "pending": len(added) + len(replaced) if predicted else 0,
        "unchanged": difference.unchanged,
        "check_value_only": difference.check_value_only,
        "keys_digest_before": target.keys_digest,
        "keys_digest": after,
        "in_sync": (target.keys_digest if predicted else after) == manifest.keys_digest,
        "verified": not predicted,
        "target": node_facts(target),
        "diff": _diff(target.name, difference),
    }
    if unusable is not None:
        result["unusable_key_count"] = unusable
    if unusable:
        result["warnings"] = [
            f"{unusable} key(s) in the HSM of {target.name} are not usable: their slot is not activated, or their objects are incomplete"
        ]
    return result


def _diff(node: str, difference: Difference) -> dict[str, str]:
    new_keys = [*difference.missing, *(pair.source_key for pair in difference.mismatched)]
    return {
        "before_header": f"keys of {node}",
        "after_header": f"keys of {node}",
        "before": "".join(f"{pair.target_key}\n" for pair in difference.mismatched),
        "after": "".join(f"{key}\n" for key in new_keys),
    }


def run(invocation: Invocation) -> Result:
    """Import a package, or predict the import in check mode. Raises UtrustError."""
    options = ImportOptions.from_params(invocation.params)
    with open_appliance(invocation.params) as appliance:
        return import_package(appliance, options, dry_run=invocation.check_mode, progress=invocation.progress)


OPERATION: t.Final = Operation("utrust_ksp_import", ARGUMENT_SPEC, RULES, run, changes=lambda dummy: True)
