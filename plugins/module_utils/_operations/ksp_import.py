# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Import a Key Synchronization Package into a target node. Private to keyops.utrust."""

from __future__ import annotations

import dataclasses as dc
import pathlib
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import KEY_LIST
from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Params, Spec, parse_key_fingerprints
from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    Problem,
    UtrustError,
    raise_for_problems,
)
from ansible_collections.keyops.utrust.plugins.module_utils._keys import Difference, compare, keys_digest
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_import_apply import (
    ImportJob,
    apply_package,
    verify,
)
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
    check_mbk,
    check_ready,
    node_facts,
)
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.package import check_package
from ansible_collections.keyops.utrust.plugins.module_utils._runner import Invocation, Operation, Result, open_appliance
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions, wait_until_available

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey, Node
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance, ProgressCallback


ARGUMENT_SPEC: t.Final[Spec] = {
    "src": {"type": "path"},
    "manifest": {"type": "dict"},
    # Digests and key fingerprints are public: nothing here is secret.
    "expect_keys_digest": {"type": "str", "no_log": False},
    "extra_keys": {"type": "str", "choices": ["fail", "keep"], "default": "fail", "no_log": False},
    "allowed_extra_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "destroyed_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "expected_new_keys": {"type": "list", "elements": "str", "no_log": False},
    "allow_replace": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "fingerprint": {"type": "str", "required": True},
            "reason": {"type": "str", "required": True},
        },
    },
    "import_effect": {"type": "str", "choices": ["additive", "overwriting", "replacing"]},
    "wait_timeout": {"type": "float", "default": 600.0},
}
RULES: t.Final[Spec] = {
    "required_one_of": [("src", "manifest")],
    "mutually_exclusive": [("src", "manifest")],
    "required_by": {"src": ("expect_node",)},
}


@dc.dataclass(frozen=True)
class ImportOptions:
    """`src` is a package with its manifest beside it; `manifest` alone is enough for a prediction."""

    expect_node: str | None
    src: str | None
    manifest: dict[str, t.Any] | None
    expect_keys_digest: str | None
    policy: Policy
    patience: WaitOptions
    max_clock_skew: float = 60.0

    @classmethod
    def from_params(cls, params: Params) -> ImportOptions:
        """Raises UtrustError (`option_invalid`)."""
        expected_new_keys = params["expected_new_keys"]
        return cls(
            expect_node=params["expect_node"],
            src=params["src"],
            manifest=params["manifest"],
            expect_keys_digest=params["expect_keys_digest"],
            policy=Policy(
                keep_extra=params["extra_keys"] == "keep",
                allowed_extra_keys=parse_key_fingerprints("allowed_extra_keys", params["allowed_extra_keys"]),
                destroyed_keys=parse_key_fingerprints("destroyed_keys", params["destroyed_keys"]),
                expected_new_keys=parse_key_fingerprints("expected_new_keys", expected_new_keys)
                if expected_new_keys is not None
                else None,
                allow_replace=parse_key_fingerprints(
                    "allow_replace", (entry["fingerprint"] for entry in params["allow_replace"])
                ),
                import_effect=params["import_effect"],
            ),
            patience=WaitOptions(params["wait_timeout"]),
            max_clock_skew=params["max_clock_skew"],
        )


def import_package(
    appliance: Appliance, options: ImportOptions, *, dry_run: bool, progress: ProgressCallback
) -> dict[str, t.Any]:
    """Bring the target to the keys of the package, verified key by key; nothing is ever deleted.

    Raises PreflightError before anything is changed; ApiError, ResponseLostError or UtrustError (`import_incomplete`, `import_not_verified`) afterwards, each of
    which says what the node holds as far as it could be read.
    """
    manifest = _manifest(options)
    target = appliance.node()
    if KEY_LIST not in appliance.capabilities:
        raise UtrustError(
            f"importing into {target.name}: its keys cannot be listed, so nothing could be predicted or verified; nothing was changed",
            code="capability_missing",
        )
    action = f"importing into {target.name}"
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
        *check_clock(target, options.max_clock_skew),
        *check_compatibility(target, expected),
        *check_mbk(target, expected),
        *_problems_of_manifest(target, manifest, options),
    ]
    # Equal digests are equal keys, so the inventory is read only where they differ; or where a problem is to be told with all others.
    equal = target.keys_digest == manifest.keys_digest
    readable = target.hsm_state == "operational" and target.driver == "running"
    held = manifest.hsm_keys if equal else appliance.list_keys() if readable else ()
    difference = compare(manifest.hsm_keys, held)
    if readable:
        problems += check_key_changes(target.name, manifest.source, difference, options.policy)
        problems += check_import_effect(target, difference, options.policy)
    raise_for_problems(action, problems)

    if not (difference.missing or difference.mismatched):
        return _result(
            target, target.keys_digest, difference, manifest, changed=False, unusable=target.unusable_key_count
        )
    if dry_run:
        after = keys_digest(_expected_after(held, difference))
        return _result(target, after, difference, manifest, changed=True, predicted=True)
    if options.src is None or manifest.planned:
        raise UtrustError(
            f"importing into {target.name}: a manifest alone predicts, it cannot be imported; give src, or use check mode",
            code="package_missing",
        )

    progress(f"{target.name}: importing {len(difference.missing)} new and {len(difference.mismatched)} replaced key(s)")
    job = ImportJob(options.src, manifest, target, difference, options.patience)
    failure = apply_package(appliance, job, progress)
    progress(f"{target.name}: {'applied' if failure is None else 'its keys have changed'}, verifying")
    return _verified(appliance, job, held, failure)


def _manifest(options: ImportOptions) -> Manifest:
    if options.src is None:
        return read_manifest(options.manifest, "given as a value")
    manifest = store.load_manifest(pathlib.Path(options.src))
    if manifest is None:
        raise UtrustError(
            f"importing {options.src}: its manifest {store.manifest_path(pathlib.Path(options.src))} is missing, so nobody knows what the package holds; "
            "nothing was changed. Export again and keep both files together",
            code="manifest_missing",
        )
    return manifest


def _problems_of_manifest(target: Node, manifest: Manifest, options: ImportOptions) -> list[Problem]:
    problems = []
    if options.src is not None:
        problems += check_package(store.size_and_digest(pathlib.Path(options.src)), manifest, options.src)
    if options.expect_keys_digest not in (None, manifest.keys_digest):
        problems.append(
            Problem(
                "package_stale",
                target.name,
                f"the package of {manifest.source} holds inventory {manifest.keys_digest}, expected is {options.expect_keys_digest}",
                "export the package again",
            )
        )
    if manifest.source == target.name:
        problems.append(
            Problem(
                "source_is_target",
                target.name,
                f"{target.name} is the source of the package",
                "import it into the other nodes",
            )
        )
    return problems


def _expected_after(held: t.Iterable[HsmKey], difference: Difference) -> list[HsmKey]:
    replaced = [pair.target_key for pair in difference.mismatched]
    return [key for key in held if key not in replaced] + [
        *difference.missing,
        *(pair.source_key for pair in difference.mismatched),
    ]


def _verified(
    appliance: Appliance, job: ImportJob, held: t.Sequence[HsmKey], failure: UtrustError | None
) -> dict[str, t.Any]:
    """Read the inventory again, as soon as the node answers, and compare it key by key."""
    target = job.target
    after = wait_until_available(
        appliance.list_keys, job.patience, f"reading the inventory of {target.name} after the import"
    )
    verify(job, held, after, failure)
    result = _result(
        target,
        keys_digest(after),
        job.difference,
        job.manifest,
        changed=True,
        unusable=sum(not key.usable for key in after),
    )
    usable_before = {key for key in held if key.usable}
    locked = [key.label for key in after if key in usable_before and not key.usable]
    if locked:
        result.setdefault("warnings", []).append(
            f"{len(locked)} key(s) of {target.name} could be used before the import and cannot now: {', '.join(locked)}; the import changed their slots. "
            "Activate them before this node takes requests"
        )
    return result


def _result(
    target: Node,
    after: str,
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
        "diff": {
            "before_header": f"inventory of {target.name}",
            "after_header": f"inventory of {target.name}",
            "before": "".join(f"{pair.target_key}\n" for pair in difference.mismatched),
            "after": "".join(
                f"{key}\n" for key in (*difference.missing, *(pair.source_key for pair in difference.mismatched))
            ),
        },
    }
    if unusable is not None:
        result["unusable_key_count"] = unusable
    if unusable:
        result["warnings"] = [
            f"{unusable} key(s) in the HSM of {target.name} are there but not usable: their slot is not activated, or their objects are incomplete"
        ]
    return result


def run(invocation: Invocation) -> Result:
    options = ImportOptions.from_params(invocation.params)
    with open_appliance(invocation.params) as appliance:
        return import_package(appliance, options, dry_run=invocation.check_mode, progress=invocation.progress)


OPERATION: t.Final = Operation("utrust_ksp_import", ARGUMENT_SPEC, RULES, run)
