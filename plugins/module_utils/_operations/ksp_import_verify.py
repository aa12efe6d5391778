# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read and compare the keys of a node after an import. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_wait import wait_for_view
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._keys import compare, keys_digest, unexpected_keys
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_LOOKUP_TIME
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import why_not_ready
from ansible_collections.keyops.utrust.plugins.module_utils._wait import wait_until_available

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey, Node
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance
    from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_import_apply import ImportJob

Findings = list[tuple[str, list["HsmKey"]]]


def read_after(
    appliance: Appliance, job: ImportJob, expected: list[HsmKey], failure: UtrustError | None
) -> tuple[Node, list[HsmKey]]:
    """Return the node and its keys after the import. The digest of the `expected` keys replaces the list.

    Raises UtrustError (`node_wait_timeout`, `import_not_verified`) with `changed` set if the keys cannot be read.
    """
    target = job.target
    if target.sees_only_ejbca:
        return _read_view_after(appliance, job, expected, failure)
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


def _read_view_after(
    appliance: Appliance, job: ImportJob, expected: list[HsmKey], failure: UtrustError | None
) -> tuple[Node, list[HsmKey]]:
    """Return the node and its keys as soon as its EJBCA view shows the `expected` keys, or when the time for the view is over."""
    missing = f"its EJBCA view does not show every key yet, for up to {job.view_timeout:g} s"
    node = wait_for_view(appliance, keys_digest(expected), job.view_timeout, job.patience)
    try:
        return node, list(appliance.list_keys())
    except UtrustError as exc:
        reported = str(failure) if failure else "people confirmed the upload"
        raise UtrustError(
            f"importing into {job.target.name}: {reported}, but {missing}: {exc}. "
            "Do not use the new keys on this node. Check the node, then run again",
            code=exc.code,
            changed=True,
        ) from exc


def verify(
    job: ImportJob, before: t.Collection[HsmKey], after: t.Sequence[HsmKey], failure: UtrustError | None
) -> None:
    """Compare the keys before and after the import, key by key. `failure` is the result of `apply_package`.

    Raises UtrustError: `unexpected_keys` if the HSM has a key that it did not have before and that the manifest does not have,
    `import_not_verified` if a key was lost or the keys contradict the response of the node, `import_incomplete` if an import failed after some keys.
    """
    present = set(after)
    pairs = job.difference.mismatched
    expected = [*job.difference.missing, *(pair.source_key for pair in pairs)]
    absent = [key for key in expected if key not in present]
    unexpected = unexpected_keys([*before, *expected], after)
    returned = [key for key in unexpected if key.fingerprint in job.policy.destroyed_keys]
    lost = _lost_keys(job, before, present)
    not_replaced = [pair.target_key for pair in pairs if pair.source_key in present and pair.target_key in present]
    details: dict[str, t.Any] = {
        "changed": True,
        "difference": compare(job.manifest.hsm_keys, after).to_dict(),
        "replaced": [pair.to_dict() for pair in pairs if pair.source_key in present and pair.target_key not in present],
    }
    if job.target.sees_only_ejbca:
        details["changed"] = set(before) != present  # a confirmation of people is not a change
    if unexpected or lost or not_replaced or (absent and failure is None):
        findings: Findings = [
            ("destroyed before, but present now", returned),
            ("that nobody predicted", [key for key in unexpected if key not in returned]),
            ("lost", lost),
            ("missing", [key for key in absent if key not in lost]),
            ("not replaced", not_replaced),
        ]
        details |= {
            name: [key.to_dict() for key in keys] for name, keys in (("unexpected", unexpected), ("lost", lost))
        }
        raise _contradiction(
            job, findings, failure, "unexpected_keys" if unexpected else "import_not_verified", details
        )
    if absent:
        raise _incomplete_error(job, expected, absent, failure, details)


def _lost_keys(job: ImportJob, before: t.Iterable[HsmKey], present: set[HsmKey]) -> list[HsmKey]:
    """Return the keys that the import removed, although it must not remove them."""
    pairs = job.difference.mismatched
    may_go = {*job.removable, *(pair.target_key for pair in pairs)}
    lost = [key for key in before if key not in may_go and key not in present]
    return lost + [pair.target_key for pair in pairs if not present & {pair.target_key, pair.source_key}]


def _contradiction(
    job: ImportJob, findings: Findings, failure: UtrustError | None, code: str, details: dict[str, t.Any]
) -> UtrustError:
    listed = ". ".join(f"Keys {finding}: {', '.join(map(str, keys))}" for finding, keys in findings if keys)
    if job.target.sees_only_ejbca:
        return UtrustError(
            f"{failure or f'{job.action}: people confirmed the upload'}, but the EJBCA view of {job.target.name} is not as expected "
            f"{job.view_timeout:g} s later. {listed}. Do not use these keys on this node. Check which package was uploaded to which node, "
            "and whether the crypto token needs a reactivation to show the keys. Then run again",
            code="ejbca_view_not_verified" if code == "import_not_verified" else code,
            **details,
        )
    outcome = str(failure) if failure else f"{job.action}: the node reports that it applied the package"
    return UtrustError(
        f"{outcome}, but the keys of the HSM are not as expected. {listed}. "
        "Do not use these keys on this node. Compare the node with the source first",
        code=code,
        **details,
    )


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
