# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Import a Key Synchronization Package into a target node. Private to keyops.utrust."""

from __future__ import annotations

import dataclasses as dc
import pathlib
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _package_store as store
from ansible_collections.keyops.utrust.plugins.module_utils._appliance import INVENTORY
from ansible_collections.keyops.utrust.plugins.module_utils._commit import Commit, commit, verify
from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    Problem,
    UtrustError,
    require,
)
from ansible_collections.keyops.utrust.plugins.module_utils._inventory import Difference, compare, keys_digest
from ansible_collections.keyops.utrust.plugins.module_utils._manifest import Manifest, read_manifest
from ansible_collections.keyops.utrust.plugins.module_utils._preflight import (
    Expected,
    Policy,
    facts_of,
    problem_of_mbk,
    problems_of_behavior,
    problems_of_clock,
    problems_of_difference,
    problems_of_fit,
    problems_of_identity,
    problems_of_package,
    problems_of_readiness,
)
from ansible_collections.keyops.utrust.plugins.module_utils._wait import Patience, until_answered

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance import (
        Appliance,
        HsmKey,
        Node,
        Reporter,
    )


@dc.dataclass(frozen=True)
class ImportOptions:
    """`src` is a package with its manifest beside it; `manifest` alone is enough for a prediction."""

    expect_node: str | None
    src: str | None
    manifest: dict[str, t.Any] | None
    expect_keys_digest: str | None
    policy: Policy
    patience: Patience
    max_clock_skew: float = 60.0


def import_package(
    appliance: Appliance, options: ImportOptions, *, dry_run: bool, report: Reporter
) -> dict[str, t.Any]:
    """Bring the target to the keys of the package, verified key by key; nothing is ever deleted.

    Raises ProblemsFound before anything is changed; ApiError, AnswerLost or UtrustError (`import_incomplete`, `import_not_verified`) afterwards, each of
    which says what the node holds as far as it could be read.
    """
    manifest = _manifest(options)
    target = appliance.node()
    if INVENTORY not in appliance.capabilities:
        raise UtrustError(
            f"importing into {target.name}: its keys cannot be listed, so nothing could be predicted or verified; nothing was changed",
            code="capability_missing",
        )
    tried = f"importing into {target.name}"
    expected = Expected(
        f"the package of {manifest.source}",
        manifest.cluster_id,
        manifest.appliance_version,
        manifest.hsm_firmware,
        manifest.mbk,
    )
    problems = [
        *problems_of_identity(target, options.expect_node),
        *problems_of_readiness(target),
        *problems_of_clock(target, options.max_clock_skew),
        *problems_of_fit(target, expected),
        *problem_of_mbk(target, expected),
        *_problems_of_manifest(target, manifest, options),
    ]
    # Equal digests are equal keys, so the inventory is read only where they differ; or where a problem is to be told with all others.
    equal = target.keys_digest == manifest.keys_digest
    readable = target.hsm_state == "operational" and target.driver == "running"
    held = manifest.inventory if equal else appliance.inventory() if readable else ()
    difference = compare(manifest.inventory, held)
    if readable:
        problems += problems_of_difference(target.name, manifest.source, difference, options.policy)
        problems += problems_of_behavior(target, difference, options.policy)
    require(tried, problems)

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

    report(f"{target.name}: importing {len(difference.missing)} new and {len(difference.mismatched)} replaced key(s)")
    job = Commit(options.src, manifest, target, difference, options.patience)
    failure = commit(appliance, job, report)
    report(f"{target.name}: {'applied' if failure is None else 'its keys have changed'}, verifying")
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
        problems += problems_of_package(store.measure(pathlib.Path(options.src)), manifest, options.src)
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
    appliance: Appliance, job: Commit, held: t.Sequence[HsmKey], failure: UtrustError | None
) -> dict[str, t.Any]:
    """Read the inventory again, as soon as the node answers, and compare it key by key."""
    target = job.target
    after = until_answered(
        appliance.inventory, job.patience, f"reading the inventory of {target.name} after the import"
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
    added = [key.public() for key in difference.missing]
    replaced = [pair.public() for pair in difference.mismatched]
    result: dict[str, t.Any] = {
        "changed": changed,
        "node": target.name,
        "hsm_serial": target.hsm_serial,
        "added": added,
        "replaced": replaced,
        "extra": [key.public() for key in difference.extra],
        "pending": len(added) + len(replaced) if predicted else 0,
        "unchanged": difference.unchanged,
        "check_value_only": difference.check_value_only,
        "keys_digest_before": target.keys_digest,
        "keys_digest": after,
        "in_sync": (target.keys_digest if predicted else after) == manifest.keys_digest,
        "verified": not predicted,
        "target": facts_of(target),
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
