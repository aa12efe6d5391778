# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Import a Key Synchronization Package into a target node. Private to keyops.utrust."""

from __future__ import annotations

import dataclasses as dc
import pathlib
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _package_store as store
from ansible_collections.keyops.utrust.plugins.module_utils._appliance import INVENTORY, STAGED_IMPORT
from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    AnswerLost,
    ApiError,
    Problem,
    Unreachable,
    UtrustError,
    require,
)
from ansible_collections.keyops.utrust.plugins.module_utils._inventory import Difference, compare, inventory_digest
from ansible_collections.keyops.utrust.plugins.module_utils._preflight import (
    Expected,
    Policy,
    problem_of_mbk,
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
        Import,
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

    Raises ProblemsFound before anything is changed; ApiError, AnswerLost or UtrustError (`import_not_verified`) afterwards, each of which says what
    the node holds as far as it could be read.
    """
    receipt = _receipt(options)
    target = appliance.node()
    for capability in (INVENTORY, STAGED_IMPORT):
        if capability not in appliance.capabilities:
            raise UtrustError(
                f"importing into {target.name}: this transport lacks {capability}", code="capability_missing"
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
    held = receipt.inventory if equal else appliance.inventory() if target.hsm_state == "operational" else ()
    difference = compare(receipt.inventory, held)
    if target.hsm_state == "operational":
        problems += problems_of_difference(target.name, receipt.source, difference, options.policy)
    require(tried, problems)

    if not (difference.missing or difference.mismatched):
        return _result(
            target, target.inventory_digest, difference, receipt, changed=False, unusable=target.unusable_key_count
        )
    after_all = _expected_after(held, difference)
    if dry_run:
        return _result(target, inventory_digest(after_all), difference, receipt, changed=True, predicted=True)

    report(f"{target.name}: importing {len(difference.missing)} new and {len(difference.mismatched)} replaced key(s)")
    _stage_and_apply(appliance, target, options, receipt, difference, report)
    report(f"{target.name}: applied, verifying")
    return _verified(appliance, target, options, receipt, difference, after_all)


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


def _stage_and_apply(
    appliance: Appliance,
    target: Node,
    options: ImportOptions,
    receipt: Receipt,
    difference: Difference,
    report: Reporter,
) -> None:
    if options.src is None or receipt.size is None or receipt.sha256 is None:
        raise UtrustError(
            f"importing into {target.name}: a receipt alone predicts, it cannot be imported; give src, or use check mode",
            code="package_missing",
        )
    tried = f"importing into {target.name}"
    unchanged = "nothing was changed. When that is mended, or the other job has ended, run again"
    try:
        with open(options.src, "rb") as content:
            staged = appliance.stage_import(content, receipt.size, receipt.sha256)
    except ApiError as refusal:
        raise refusal.within(tried, unchanged) from refusal
    try:
        _check_table(target, staged, receipt, difference)
        applied = appliance.apply_import(staged, target.inventory_digest)
    except AnswerLost as lost:
        report(f"{target.name}: {lost}; reading what is true")
        if _changed(appliance, target, options):
            return
        _discard(appliance, target, staged, report)
        raise AnswerLost(
            f"{lost}; {target.name} holds the same keys as before, so nothing was changed. Run again", code=lost.code
        ) from lost
    except ApiError as refusal:
        _discard(appliance, target, staged, report)
        raise refusal.within(tried, unchanged) from refusal
    except UtrustError:
        _discard(appliance, target, staged, report)
        raise
    if applied.state != "applied":
        raise UtrustError(
            f"importing into {target.name}: the node says that the import is {applied.state}", code="import_not_applied"
        )


def _changed(appliance: Appliance, target: Node, options: ImportOptions) -> bool:
    """After a lost answer: whether the HSM's keys have changed, as soon as the node answers and no import runs any more."""

    def settled() -> Node:
        node = appliance.node()
        if node.running is not None:
            raise Unreachable(f"{node.running[0]} {node.running[1]} is running", code="import_in_progress")
        return node

    after = until_answered(settled, options.patience, f"reading {target.name} after a lost answer")
    return after.inventory_digest != target.inventory_digest


def _discard(appliance: Appliance, target: Node, staged: Import, report: Reporter) -> None:
    """Discarding cannot hurt where the outcome is unknown: a node refuses it for an import that was applied."""
    try:
        appliance.discard_import(staged)
    except UtrustError as exc:
        report(f"{target.name}: staged import {staged.id} could not be discarded ({exc}); it expires by itself")


def _check_table(target: Node, staged: Import, receipt: Receipt, difference: Difference) -> None:
    """The node's own table must say what was predicted, or nothing is applied."""
    table = {(row.action, row.key, row.current_fingerprint) for row in staged.rows if row.action != "unchanged"}
    predicted = {("add", key, None) for key in difference.missing} | {
        ("replace", pair.wanted, pair.held.fingerprint) for pair in difference.mismatched
    }
    carried = inventory_digest(row.key for row in staged.rows)
    if carried != receipt.inventory_digest or table != predicted or staged.inventory_digest != target.inventory_digest:
        raise UtrustError(
            f"importing into {target.name}: the node's table of what would be restored is not what the receipt and its inventory predict "
            f"({len(table)} rows would change, {len(predicted)} were predicted); the import was discarded, nothing was changed. Run again",
            code="table_differs",
        )


def _expected_after(held: t.Iterable[HsmKey], difference: Difference) -> list[HsmKey]:
    replaced = [pair.held for pair in difference.mismatched]
    return [key for key in held if key not in replaced] + [
        *difference.missing,
        *(pair.wanted for pair in difference.mismatched),
    ]


def _verified(
    appliance: Appliance,
    target: Node,
    options: ImportOptions,
    receipt: Receipt,
    difference: Difference,
    predicted: list[HsmKey],
) -> dict[str, t.Any]:
    """Read the inventory again, as soon as the node answers, and compare it key by key with the receipt."""
    after = until_answered(
        appliance.inventory, options.patience, f"reading the inventory of {target.name} after the import"
    )
    remaining = compare(receipt.inventory, after)
    lost = compare(predicted, after)
    if remaining.missing or remaining.mismatched or lost.missing or lost.mismatched:
        gone = [str(key) for key in (*lost.missing, *(pair.wanted for pair in lost.mismatched))]
        raise UtrustError(
            f"importing into {target.name}: the node says that it applied the package, but its inventory does not show it: {', '.join(gone)}; "
            "do not use these keys on this node, and compare it with the source before anything else",
            code="import_not_verified",
            difference=remaining.public(),
        )
    return _result(
        target,
        inventory_digest(after),
        difference,
        receipt,
        changed=True,
        unusable=sum(not key.usable for key in after),
    )


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
