# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Apply a package to an HSM and verify the result. Private to keyops.utrust.

A node that can stage an import stages the package and then applies it. On other nodes the upload is the commit.
Every check has passed before. The result is read from the HSM afterwards, not from the response of the node.
"""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import STAGED_IMPORT
from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    ApiError,
    ResponseLostError,
    UnreachableError,
    UtrustError,
)
from ansible_collections.keyops.utrust.plugins.module_utils._keys import Difference, compare, keys_digest
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions, wait_until_available

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey, Import, Node
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance, ProgressCallback
    from ansible_collections.keyops.utrust.plugins.module_utils._package.manifest import Manifest

RUNNING = ("applying", "waiting_for_card", "waiting_for_pin")
UNCHANGED = "Nothing was changed. Fix the problem or wait for the running job, then run again"


class ImportJob(t.NamedTuple):
    """One import of the package at `src`, described by `manifest`. `difference` is what the import changes on `target`."""

    src: str
    manifest: Manifest
    target: Node
    difference: Difference
    patience: WaitOptions

    @property
    def action(self) -> str:
        return f"importing into {self.target.name}"


def apply_package(appliance: Appliance, job: ImportJob, progress: ProgressCallback) -> UtrustError | None:
    """Import the package. Return None if the node reports success, or the error of an import that changed keys.

    Raises UtrustError if the keys of the HSM did not change.
    """
    staging = STAGED_IMPORT in appliance.capabilities
    current: Import | None = None
    try:
        with open(job.src, "rb") as content:
            current = appliance.stage_import(content, job.manifest.size or 0, job.manifest.sha256 or "")
        if staging:
            _check_import_preview(job, current)
            current = appliance.apply_import(current, job.target.keys_digest)
        current = _wait_for_import(appliance, job, current, progress)
    except ResponseLostError as lost:
        if current is None and staging:
            raise  # a staged upload changes no key
        failure: UtrustError = lost
    except ApiError as refusal:
        if staging or "http_status" in refusal.details:
            _discard(appliance, job, current, progress)
            raise refusal.with_context(job.action, UNCHANGED) from refusal
        failure = refusal  # the upload is the commit, and its response is invalid
    except UtrustError as exc:
        if exc.code != "import_timeout":
            _discard(appliance, job, current, progress)
            raise
        failure = exc
    else:
        if current.state == "applied":
            return None
        failure = _import_error(job, current)
    progress(f"{job.target.name}: {failure}. Checking the state of the node")
    if _keys_changed(appliance, job):
        return failure
    _discard(appliance, job, current, progress)
    raise type(failure)(
        f"{failure}. {job.target.name} holds the same keys as before, so nothing was changed. Run again",
        # The outcome is known now.
        code="response_lost" if failure.code == "outcome_unknown" else failure.code,
    ) from failure


def _wait_for_import(appliance: Appliance, job: ImportJob, current: Import, progress: ProgressCallback) -> Import:
    """Return the import as soon as it no longer runs, and show the prompts of the PIN pad. Raises UtrustError (`import_timeout`)."""
    started = job.patience.clock()
    last_line = None
    while current.state in RUNNING:
        line = f"PIN pad {current.pin_pad}: {current.prompt}" if current.prompt else current.state.replace("_", " ")
        if current.notice:
            line = f"{current.notice[1]} [{current.notice[0]}]. {line}"
        if line != last_line:
            last_line = line
            time_left = f" ({current.seconds_left:.0f} s left)" if current.seconds_left else ""
            progress(f"{job.target.name}: {line}{time_left}")
        remaining = job.patience.timeout - (job.patience.clock() - started)
        if remaining <= 0:
            _discard(appliance, job, current, progress)
            raise UtrustError(
                f"{job.action}: timed out after {job.patience.timeout:g} s, last: {line}", code="import_timeout"
            )
        job.patience.sleep(min(job.patience.interval, remaining))
        current = wait_until_available(
            functools.partial(appliance.read_import, current), job.patience, f"reading the import of {job.target.name}"
        )
    return current


def _import_error(job: ImportJob, current: Import) -> UtrustError:
    code, text = current.problem or ("import_not_applied", f"the node reports that the import is {current.state}")
    return UtrustError(f"{job.action}: {text.rstrip('.')}", code=code)


def _keys_changed(appliance: Appliance, job: ImportJob) -> bool:
    """Whether the keys changed, as soon as the node responds and no import runs. Raises UtrustError (`node_wait_timeout`)."""

    def _read_when_idle() -> Node:
        node = appliance.node()
        if node.running is not None:
            raise UnreachableError(f"{node.running[0]} {node.running[1]} is running", code="import_in_progress")
        return node

    after = wait_until_available(
        _read_when_idle, job.patience, f"reading {job.target.name} after an import with unknown outcome"
    )
    return after.keys_digest != job.target.keys_digest


def _discard(appliance: Appliance, job: ImportJob, current: Import | None, progress: ProgressCallback) -> None:
    """Discard a staged import. A node refuses to discard an applied import, so this is safe if the outcome is unknown."""
    if current is None:
        return
    try:
        appliance.discard_import(current)
    except UtrustError as exc:
        progress(f"{job.target.name}: import {current.id} could not be discarded ({exc}). The import expires by itself")


def _check_import_preview(job: ImportJob, staged: Import) -> None:
    """Compare the table of the node with the prediction. Raises UtrustError (`import_preview_mismatch`)."""
    table = {(row.action, row.key, row.current_fingerprint) for row in staged.rows if row.action != "unchanged"}
    predicted = {("add", key, None) for key in job.difference.missing} | {
        ("replace", pair.source_key, pair.target_key.fingerprint) for pair in job.difference.mismatched
    }
    package_digest = keys_digest(row.key for row in staged.rows if row.action != "remove")
    actual = (package_digest, staged.keys_digest)
    if actual != (job.manifest.keys_digest, job.target.keys_digest) or table != predicted:
        raise UtrustError(
            f"{job.action}: the import preview of the node does not match the prediction from the manifest and the keys of the node "
            f"({len(table)} rows would change, {len(predicted)} were predicted). The import was discarded, nothing was changed. Run again",
            code="import_preview_mismatch",
        )


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
