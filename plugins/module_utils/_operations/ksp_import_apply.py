# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A package's way into an HSM: staged and applied where the node can stage, else by the upload itself. Private to keyops.utrust.

Everything that speaks against it has been checked before. What came of it is not what the node says, but what is read from it afterwards.
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
    """One import: the package at `src`, described by `manifest`, that is to change `target` by `difference`."""

    src: str
    manifest: Manifest
    target: Node
    difference: Difference
    patience: WaitOptions

    @property
    def action(self) -> str:
        return f"importing into {self.target.name}"


def apply_package(appliance: Appliance, job: ImportJob, progress: ProgressCallback) -> UtrustError | None:
    """Bring the package into the HSM. None: the node says that it is in. An error: it failed, and the HSM's keys have changed all the same.

    Raises UtrustError where the keys are as they were.
    """
    staging = STAGED_IMPORT in appliance.capabilities
    made: Import | None = None
    try:
        with open(job.src, "rb") as content:
            made = appliance.stage_import(content, job.manifest.size or 0, job.manifest.sha256 or "")
        if staging:
            _check_import_preview(job, made)
            made = appliance.apply_import(made, job.target.keys_digest)
        made = _wait_for_import(appliance, job, made, progress)
    except ResponseLostError as lost:
        if made is None and staging:
            raise  # an upload that is only staged changes nothing
        failure: UtrustError = lost
    except ApiError as refusal:
        if staging or "http_status" in refusal.details:
            _discard(appliance, job, made, progress)
            raise refusal.with_context(job.action, UNCHANGED) from refusal
        failure = refusal  # the answer to an upload that is the commit makes no sense
    except UtrustError as exc:
        if exc.code != "import_timeout":
            _discard(appliance, job, made, progress)
            raise
        failure = exc
    else:
        if made.state == "applied":
            return None
        failure = _import_error(job, made)
    progress(f"{job.target.name}: {failure}; reading what is true")
    if _changed(appliance, job):
        return failure
    _discard(appliance, job, made, progress)
    raise type(failure)(
        f"{failure}; {job.target.name} holds the same keys as before, so nothing was changed. Run again",
        code="response_lost" if failure.code == "outcome_unknown" else failure.code,  # it is known now
    ) from failure


def _wait_for_import(appliance: Appliance, job: ImportJob, made: Import, progress: ProgressCallback) -> Import:
    """The import when it runs no more; meanwhile, what a PIN pad asks of people is told. Raises UtrustError (`import_timeout`)."""
    started = job.patience.clock()
    told = None
    while made.state in RUNNING:
        line = f"PIN pad {made.pin_pad}: {made.prompt}" if made.prompt else made.state.replace("_", " ")
        if made.notice:
            line = f"{made.notice[1]} [{made.notice[0]}]; {line}"
        if line != told:
            told = line
            progress(f"{job.target.name}: {line}" + (f" ({made.seconds_left:.0f} s left)" if made.seconds_left else ""))
        left = job.patience.timeout - (job.patience.clock() - started)
        if left <= 0:
            _discard(appliance, job, made, progress)
            raise UtrustError(
                f"{job.action}: not finished within {job.patience.timeout:g} s, last: {line}", code="import_timeout"
            )
        job.patience.sleep(min(job.patience.interval, left))
        made = wait_until_available(
            functools.partial(appliance.read_import, made), job.patience, f"reading the import of {job.target.name}"
        )
    return made


def _import_error(job: ImportJob, made: Import) -> UtrustError:
    code, text = made.problem or ("import_not_applied", f"the node says that the import is {made.state}")
    return UtrustError(f"{job.action}: {text}", code=code)


def _changed(appliance: Appliance, job: ImportJob) -> bool:
    """Whether the HSM's keys have changed, as soon as the node answers and no import runs any more."""

    def _read_when_idle() -> Node:
        node = appliance.node()
        if node.running is not None:
            raise UnreachableError(f"{node.running[0]} {node.running[1]} is running", code="import_in_progress")
        return node

    after = wait_until_available(
        _read_when_idle, job.patience, f"reading {job.target.name} after an import whose outcome is not known"
    )
    return after.keys_digest != job.target.keys_digest


def _discard(appliance: Appliance, job: ImportJob, made: Import | None, progress: ProgressCallback) -> None:
    """Discarding cannot hurt where the outcome is unknown: a node refuses it for an import that was applied."""
    if made is None:
        return
    try:
        appliance.discard_import(made)
    except UtrustError as exc:
        progress(f"{job.target.name}: import {made.id} could not be discarded ({exc}); it expires by itself")


def _check_import_preview(job: ImportJob, staged: Import) -> None:
    """The node's own table must say what was predicted, or nothing is applied."""
    table = {(row.action, row.key, row.current_fingerprint) for row in staged.rows if row.action != "unchanged"}
    predicted = {("add", key, None) for key in job.difference.missing} | {
        ("replace", pair.source_key, pair.target_key.fingerprint) for pair in job.difference.mismatched
    }
    carried = keys_digest(row.key for row in staged.rows if row.action != "remove")
    seen = (carried, staged.keys_digest)
    if seen != (job.manifest.keys_digest, job.target.keys_digest) or table != predicted:
        raise UtrustError(
            f"{job.action}: the node's table of what would be restored is not what the manifest and its inventory predict "
            f"({len(table)} rows would change, {len(predicted)} were predicted); the import was discarded, nothing was changed. Run again",
            code="import_preview_mismatch",
        )


def verify(job: ImportJob, held: t.Collection[HsmKey], after: t.Sequence[HsmKey], failure: UtrustError | None) -> None:
    """Compare what the HSM holds `after` with what it `held`, key by key. `failure` is what `apply_package` returned.

    Raises UtrustError: `import_not_verified` if a key was lost, or is not what the node said; `import_incomplete` if an import failed in the middle.
    """
    present = set(after)
    pairs = job.difference.mismatched
    wanted = [*job.difference.missing, *(pair.source_key for pair in pairs)]
    absent = [key for key in wanted if key not in present]
    untouched = set(held) - {pair.target_key for pair in pairs}
    lost = [key for key in held if key in untouched and key not in present]
    lost += [pair.target_key for pair in pairs if not present & {pair.target_key, pair.source_key}]
    kept = [pair.target_key for pair in pairs if pair.source_key in present and pair.target_key in present]
    facts = {"changed": True, "difference": compare(job.manifest.hsm_keys, after).to_dict()}
    if lost or kept or (absent and failure is None):
        said = str(failure) if failure else f"{job.action}: the node says that it applied the package"
        what = [
            ("lost", lost),
            ("not there", [key for key in absent if key not in lost]),
            ("still there beside the key that was to replace it", kept),
        ]
        named = "; ".join(f"{words}: {', '.join(map(str, keys))}" for words, keys in what if keys)
        raise UtrustError(
            f"{said}, but its inventory does not show it: {named}; "
            "do not use these keys on this node, and compare it with the source before anything else",
            code="import_not_verified",
            lost=[key.to_dict() for key in lost],
            **facts,
        )
    if absent:
        arrived = [key for key in wanted if key in present]
        raise UtrustError(
            f"{job.action}: it failed in the middle [{failure.code if failure else 'import_failed'}]: {len(arrived)} of {len(wanted)} keys are there "
            f"({', '.join(map(str, arrived)) or 'none'}), not there yet: {', '.join(map(str, absent))}; no other key has changed. "
            "Run again to continue, and do not use the new keys before",
            code="import_incomplete",
            added=[key.to_dict() for key in arrived],
            pending=len(absent),
            **facts,
        )
