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
from ansible_collections.keyops.utrust.plugins.module_utils._inventory import Difference, compare, inventory_digest
from ansible_collections.keyops.utrust.plugins.module_utils._preflight import (
    Expected,
    Policy,
    facts_of,
    problem_of_mbk,
    problems_of_behaviour,
    problems_of_clock,
    problems_of_difference,
    problems_of_fit,
    problems_of_identity,
    problems_of_package,
    problems_of_readiness,
)
from ansible_collections.keyops.utrust.plugins.module_utils._receipt import Receipt, read_receipt
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
    """`src` is a package with its receipt beside it; `receipt` alone is enough for a prediction."""

    expect_node: str | None
    src: str | None
    receipt: dict[str, t.Any] | None
    expect_inventory_digest: str | None
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
    receipt = _receipt(options)
    target = appliance.node()
    if INVENTORY not in appliance.capabilities:
        raise UtrustError(
            f"importing into {target.name}: its keys cannot be listed, so nothing could be predicted or verified; nothing was changed",
            code="capability_missing",
        )
    tried = f"importing into {target.name}"
    expected = Expected(
        f"the package of {receipt.source}",
        receipt.cluster_id,
        receipt.appliance_version,
        receipt.hsm_firmware,
        receipt.mbk,
    )
    problems = [
        *problems_of_identity(target, options.expect_node),
        *problems_of_readiness(target),
        *problems_of_clock(target, options.max_clock_skew),
        *problems_of_fit(target, expected),
        *problem_of_mbk(target, expected),
        *_problems_of_receipt(target, receipt, options),
    ]
    # Equal digests are equal keys, so the inventory is read only where they differ; or where a problem is to be told with all others.
    equal = target.inventory_digest == receipt.inventory_digest
    readable = target.hsm_state == "operational" and target.driver == "running"
    held = receipt.inventory if equal else appliance.inventory() if readable else ()
    difference = compare(receipt.inventory, held)
    if readable:
        problems += problems_of_difference(target.name, receipt.source, difference, options.policy)
        problems += problems_of_behaviour(target, difference, options.policy)
    require(tried, problems)

    if not (difference.missing or difference.mismatched):
        return _result(
            target, target.inventory_digest, difference, receipt, changed=False, unusable=target.unusable_key_count
        )
    if dry_run:
        after = inventory_digest(_expected_after(held, difference))
        return _result(target, after, difference, receipt, changed=True, predicted=True)
    if options.src is None or receipt.forecast:
        raise UtrustError(
            f"importing into {target.name}: a receipt alone predicts, it cannot be imported; give src, or use check mode",
            code="package_missing",
        )

    report(f"{target.name}: importing {len(difference.missing)} new and {len(difference.mismatched)} replaced key(s)")
    job = Commit(options.src, receipt, target, difference, options.patience)
    failure = commit(appliance, job, report)
    report(f"{target.name}: {'applied' if failure is None else 'its keys have changed'}, verifying")
    return _verified(appliance, job, held, failure)


def _receipt(options: ImportOptions) -> Receipt:
    if options.src is None:
        return read_receipt(options.receipt, "given as a value")
    receipt = store.load_receipt(pathlib.Path(options.src))
    if receipt is None:
        raise UtrustError(
            f"importing {options.src}: its receipt {store.receipt_path(pathlib.Path(options.src))} is missing, so nobody knows what the package holds; "
            "nothing was changed. Export again and keep both files together",
            code="receipt_missing",
        )
    return receipt


def _problems_of_receipt(target: Node, receipt: Receipt, options: ImportOptions) -> list[Problem]:
    problems = []
    if options.src is not None:
        problems += problems_of_package(store.measure(pathlib.Path(options.src)), receipt, options.src)
    if options.expect_inventory_digest not in (None, receipt.inventory_digest):
        problems.append(
            Problem(
                "package_stale",
                target.name,
                f"the package of {receipt.source} holds inventory {receipt.inventory_digest}, expected is {options.expect_inventory_digest}",
                "export the package again",
            )
        )
    if receipt.source == target.name:
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
    replaced = [pair.held for pair in difference.mismatched]
    return [key for key in held if key not in replaced] + [
        *difference.missing,
        *(pair.wanted for pair in difference.mismatched),
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
        inventory_digest(after),
        job.difference,
        job.receipt,
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
    receipt: Receipt,
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
        "weak": difference.weak,
        "inventory_digest_before": target.inventory_digest,
        "inventory_digest": after,
        "in_sync": (target.inventory_digest if predicted else after) == receipt.inventory_digest,
        "verified": not predicted,
        "prediction": "known",
        "target": facts_of(target),
        "diff": {
            "before_header": f"inventory of {target.name}",
            "after_header": f"inventory of {target.name}",
            "before": "".join(f"{pair.held}\n" for pair in difference.mismatched),
            "after": "".join(
                f"{key}\n" for key in (*difference.missing, *(pair.wanted for pair in difference.mismatched))
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
