# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The check of an uploaded package, and the write of its keys. Everything here uses the HSM and runs in a thread."""

from __future__ import annotations

import typing as t

from utrust_appliance.errors import ApiError, JobError
from utrust_appliance.hsm.base import KeySetChange, UnwrapError
from utrust_appliance.package import PackageFile

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.behavior import ImportPlan
    from utrust_appliance.keys import KeyRef, SlotSettings
    from utrust_appliance.node import Node
    from utrust_appliance.store import Data


def check_package(node: Node, path: Path) -> tuple[PackageFile, ImportPlan]:
    """Return the package and its effect. Raises ApiError for a package that the node cannot import."""
    package = _verified(node, path)
    current = node.hsm.list_keys()
    plan = node.behavior.plan_import(current, package.header.keys, package.header.destroyed)
    after = ({key.identity.ref for key in current} | plan.put) - set(plan.remove)
    slots: dict[int, SlotSettings] = {slot.slot: slot for slot in [*package.header.slots, *node.hsm.slots()]}
    full = node.cluster.faults.find("slot_full", node.name)
    for slot in slots.values():
        count, capacity = sum(1 for ref in after if ref.slot == slot.slot), slot.capacity
        if full and full.params["slot"] == slot.slot:
            capacity = sum(1 for key in current if key.identity.slot == slot.slot)
        if count > capacity:
            raise ApiError(
                "slot_full", f"slot {slot.slot} can hold {capacity} keys, the import would result in {count} keys"
            )
    return package, plan


def keys_changed(digest: str) -> ApiError:
    detail = f"the keys digest of the HSM is {digest}, not the given keys digest"
    return ApiError("keys_changed", detail, keys_digest=digest)


def require_applicable(node: Node, path: Path, data: Data, expect_digest: str | None) -> None:
    """Check everything that can reject the commit of a staged import, because the import fails afterwards."""
    node.require_operational()
    now = node.hsm.digest()
    if expect_digest not in (None, now):
        raise keys_changed(now)
    if now != data["keys_digest"]:
        detail = f"the keys digest was {data['keys_digest']} when the package was staged and is now {now}: stage the package again"
        raise ApiError("keys_changed", detail, keys_digest=now)
    check_package(node, path)
    card_pin_pad(node)


def card_pin_pad(node: Node) -> str | None:
    """The PIN pad that requests cards, or None if no cards are required. Raises ApiError if no PIN pad responds."""
    if node.behavior.cards != "required":
        return None
    for pad in node.pin_pads():
        if pad["status"] == "ready":
            return str(pad["name"])
    detail = f"an import requires cards, but no PIN pad of {node.name} responds"
    raise ApiError("pin_pad_unavailable", detail)


def _verified(node: Node, path: Path) -> PackageFile:
    mbk = node.mbk()
    if mbk is None:
        raise ApiError("hsm_not_operational", "the HSM is in Factory Reset Mode")
    package = PackageFile(path)
    try:
        package.verify(
            mac=node.hsm.package_mac,
            mbk=mbk.check_value,
            cluster_id=node.cluster.id if node.behavior.binding == "cluster" else None,
            check=node.hsm.check,
        )
    except UnwrapError as exc:
        raise ApiError("package_corrupt", str(exc)) from exc
    return package


def write_import(node: Node, job: str, path: Path, expect_digest: str) -> None:
    """Write the keys of a package that was checked. Raises JobError."""
    try:
        package, plan = check_package(node, path)
        put = [key for key in package.wrapped_keys() if key.identity.ref in plan.put]
        slots = node.behavior.slots_after_import(node.hsm.slots(), package.header.slots)
        _restart_instead(node)
        _write(node, KeySetChange(job, put, plan.remove, slots, expect_digest=expect_digest), plan.replaced)
    except (ApiError, UnwrapError) as exc:
        raise JobError.of(exc, "import_failed") from exc
    if node.behavior.deletions == "replicated":
        node.note_destroyed(package.header.destroyed)


def _restart_instead(node: Node) -> None:
    """Fault: the node restarts without a response. With `old`, the import ends before it writes. Otherwise it continues."""
    if restart := node.cluster.faults.find("restart_during_import", node.name):
        node.go_down(float(restart.params["seconds"]))
        if restart.params["keys"] == "old":
            raise JobError("interrupted", "the node was restarted while the import was running")


def _write(node: Node, change: KeySetChange, replaced: dict[KeyRef, KeyRef]) -> None:
    """Write all keys atomically or one by one. If keys are written one by one, keys without a replacement are removed last."""
    fails, count = node.cluster.faults.find("import_failure", node.name), len(change.put)
    after = int(fails.params["after"]) if fails else count + 1
    if node.behavior.atomic == "all":
        if after <= count:
            detail = f"key {after} of {count} could not be written, and no key was changed"
            raise JobError("import_failed", detail)
        node.hsm.apply(change)
        return
    expect, slots, remove = change.expect_digest, change.slots, list(change.remove)
    for number, key in enumerate(change.put):
        if number == after:
            raise JobError("import_failed", f"{number} of {count} keys were written, then the HSM failed")
        beside = [replaced[key.identity.ref]] if key.identity.ref in replaced else []
        try:
            node.hsm.apply(KeySetChange(f"{change.job}/{number}", [key], beside, slots, expect_digest=expect))
        except (ApiError, UnwrapError) as exc:
            if number == 0:
                raise
            raise JobError("import_failed", f"{number} of {count} keys were written, then: {exc}") from exc
        expect, slots, remove = None, [], [ref for ref in remove if ref not in beside]
    if count == after:
        raise JobError("import_failed", "all keys were written, then the HSM failed")
    node.hsm.apply(KeySetChange(change.job, [], remove, slots, expect_digest=expect))
