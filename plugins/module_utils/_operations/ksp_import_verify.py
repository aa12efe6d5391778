# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read and compare the keys of a node after an import. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._keys import compare, keys_digest
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_LOOKUP_TIME
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import why_not_ready
from ansible_collections.keyops.utrust.plugins.module_utils._wait import wait_until_available

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey, Node
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance
    from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_import_apply import ImportJob


def read_after(
    appliance: Appliance, job: ImportJob, expected: list[HsmKey], failure: UtrustError | None
) -> tuple[Node, list[HsmKey]]:
    """Return the node and its keys after the import. The digest of the `expected` keys replaces the list.

    Raises UtrustError (`node_wait_timeout`, `import_not_verified`) with `changed` set if the keys cannot be read.
    """
    target = job.target
    try:
        # A node that restarts only its HSM driver responds all the time. It is back when the driver runs.
        node = wait_until_available(
            appliance.node,
            job.patience,
            f"reading {target.name} after the import",
            not_ready=why_not_ready,
            tolerate_errors=MAX_LOOKUP_TIME,
        )
        if failure is None and node.has_keys(keys_digest(expected)) and node.unusable_key_count == 0:
            return node, expected
        # The digest does not prove the keys, or which of them are usable.
        action = f"reading the keys of {target.name} after the import"
        return node, list(
            wait_until_available(appliance.list_keys, job.patience, action, tolerate_errors=MAX_LOOKUP_TIME)
        )
    except UtrustError as exc:
        reported = f"the import failed ({failure})" if failure else "the node reports that it applied the package"
        raise UtrustError(
            f"importing into {target.name}: {reported}, but the keys of the node could not be verified: {exc}. "
            "Do not use the new keys on this node. Check the node, then run again",
            code=exc.code if exc.code == "node_wait_timeout" else "import_not_verified",
            changed=True,
        ) from exc


def verify(
    job: ImportJob, before: t.Collection[HsmKey], after: t.Sequence[HsmKey], failure: UtrustError | None
) -> None:
    """Compare the keys before and after the import, key by key. `failure` is the result of `apply_package`.

    Raises UtrustError: `import_not_verified` if a key was lost or the keys contradict the response of the node,
    `import_incomplete` if an import failed after some keys.
    """
    present = set(after)
    pairs = job.difference.mismatched
    expected = [*job.difference.missing, *(pair.source_key for pair in pairs)]
    absent = [key for key in expected if key not in present]
    to_stay = set(before) - {pair.target_key for pair in pairs}
    lost = [key for key in before if key in to_stay and key not in present]
    lost += [pair.target_key for pair in pairs if not present & {pair.target_key, pair.source_key}]
    not_replaced = [pair.target_key for pair in pairs if pair.source_key in present and pair.target_key in present]
    details: dict[str, t.Any] = {
        "changed": True,
        "difference": compare(job.manifest.hsm_keys, after).to_dict(),
    }
    if lost or not_replaced or (absent and failure is None):
        findings = [
            ("lost", lost),
            ("missing", [key for key in absent if key not in lost]),
            ("not replaced", not_replaced),
        ]
        listed = ". ".join(f"Keys {finding}: {', '.join(map(str, keys))}" for finding, keys in findings if keys)
        outcome = str(failure) if failure else f"{job.action}: the node reports that it applied the package"
        raise UtrustError(
            f"{outcome}, but the keys of the HSM are not as expected. {listed}. "
            "Do not use these keys on this node. Compare the node with the source first",
            code="import_not_verified",
            lost=[key.to_dict() for key in lost],
            **details,
        )
    if absent:
        raise _incomplete_error(job, expected, absent, failure, details)


def _incomplete_error(
    job: ImportJob,
    expected: t.Sequence[HsmKey],
    absent: t.Sequence[HsmKey],
    failure: UtrustError | None,
    details: dict[str, t.Any],
) -> UtrustError:
    imported = [key for key in expected if key not in absent]
    return UtrustError(
        f"{job.action}: the import failed after {len(imported)} of {len(expected)} keys [{failure.code if failure else 'import_failed'}]. "
        f"Imported keys: {', '.join(map(str, imported)) or 'none'}. Missing keys: {', '.join(map(str, absent))}. "
        "No other key changed. Run again to continue. Do not use the new keys before",
        code="import_incomplete",
        added=[key.to_dict() for key in imported],
        pending=len(absent),
        **details,
    )
