# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Apply a package to an HSM and verify the result. Private to keyops.utrust.

A node that can stage an import stages the package and then applies it. On other nodes the upload is the commit.
Every check has passed before. The result is read from the HSM afterwards, not from the response of the node.
"""

from __future__ import annotations

import functools
import io
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import STAGED_IMPORT, UNKNOWN
from ansible_collections.keyops.utrust.plugins.module_utils._errors import (
    ApiError,
    RequestLostError,
    ResponseLostError,
    UnreachableError,
    UtrustError,
)
from ansible_collections.keyops.utrust.plugins.module_utils._interruption import InterruptedTaskError
from ansible_collections.keyops.utrust.plugins.module_utils._keys import Difference, keys_digest
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.keys import Policy, removable_keys
from ansible_collections.keyops.utrust.plugins.module_utils._run.life import RunEndedError, require_run
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions, wait_until_available

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey, Import, Node
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance, ProgressCallback
    from ansible_collections.keyops.utrust.plugins.module_utils._package.manifest import Manifest

#: States after which an import does not change any more. A state that the collection does not know has not ended.
ENDED = ("applied", "failed", "canceled", "discarded", "expired")
UNCHANGED = "Nothing was changed. Fix the problem or wait for the running job, then run again"


class ImportJob(t.NamedTuple):
    """One import of the package at `src`, described by `manifest`. `difference` is what the import changes on `target`, as `policy` allows."""

    src: str
    manifest: Manifest
    target: Node
    difference: Difference
    patience: WaitOptions
    policy: Policy
    #: The import on the node, as soon as it is known.
    known: list[Import]
    #: Seconds until an EJBCA view must show new keys.
    view_timeout: float = limits.MAX_VIEW_TIME

    @property
    def removable(self) -> tuple[HsmKey, ...]:
        """Keys that the import may remove."""
        return removable_keys(self.target, self.difference, self.policy.import_effect)

    @property
    def digest_before(self) -> str:
        """Keys digest of the target that the checks are about."""
        return t.cast(str, self.target.keys_digest)

    @property
    def action(self) -> str:
        return f"importing into {self.target.name}"


def apply_package(appliance: Appliance, job: ImportJob, progress: ProgressCallback) -> UtrustError | None:
    """Import the package. Return None if the node reports success, or the error of an import that changed keys.

    Raises UtrustError if the keys of the HSM did not change, or if the node cannot be read (`outcome_unknown`).
    """
    current: Import | None = None
    if STAGED_IMPORT in appliance.capabilities:
        current = _stage(appliance, job, progress)
        commit: t.Callable[[], Import] = functools.partial(appliance.apply_import, current, job.digest_before)
    else:
        commit = functools.partial(_upload, appliance, job)
    try:
        committed = commit()
    except ApiError as refusal:
        if "http_status" in refusal.details:
            _discard(appliance, job, current, progress)
            raise refusal.with_context(job.action, UNCHANGED) from refusal
        failure: UtrustError = refusal  # the node accepted the request, but its response is invalid
    except ResponseLostError as lost:
        failure = lost
    except RunEndedError as ended:
        if current is not None and _discard(appliance, job, current, progress):
            raise
        failure = ended  # the request may have been sent
    except UtrustError:
        _discard(appliance, job, current, progress)
        raise
    else:
        current = committed
        try:
            current = _wait_for_import(appliance, job, current, progress, ENDED)
        except UtrustError as exc:
            failure = exc
        else:
            if current.state == "applied":
                return None
            failure = _import_error(job, current)
    return _after_failure(appliance, job, current, failure, progress)


def _upload(appliance: Appliance, job: ImportJob) -> Import:
    # People have a package that is not on this machine.
    with io.BytesIO() if job.manifest.elsewhere else open(job.src, "rb") as content:
        uploaded = appliance.stage_import(content, job.manifest.size or 0, job.manifest.sha256 or "", job.digest_before)
    job.known.append(uploaded)
    return uploaded


def _stage(appliance: Appliance, job: ImportJob, progress: ProgressCallback) -> Import:
    """Upload the package and check the preview of the node. Raises UtrustError. No key changes."""
    staged: Import | None = None
    try:
        staged = _upload(appliance, job)
        staged = _wait_for_import(appliance, job, staged, progress, ("staged", *ENDED))
        if staged.state != "staged":
            raise _import_error(job, staged)
        _check_import_preview(job, staged)
    except (ApiError, ResponseLostError) as failure:
        _discard(appliance, job, staged, progress)
        raise failure.with_context(job.action, UNCHANGED) from failure
    except UtrustError:
        _discard(appliance, job, staged, progress)
        raise
    return staged


def after_interruption(
    appliance: Appliance, job: ImportJob, interrupted: InterruptedTaskError, progress: ProgressCallback
) -> UtrustError:
    """Read the node after an interruption at any point of `apply_package` or later. Returns and raises as `apply_package` does."""
    return _after_failure(appliance, job, job.known[-1] if job.known else None, interrupted, progress)


def _after_failure(
    appliance: Appliance, job: ImportJob, current: Import | None, failure: UtrustError, progress: ProgressCallback
) -> UtrustError:
    """Read the node, and return the failure if the keys changed. Raises UtrustError if they did not, or if nobody can know."""
    progress(f"{job.target.name}: {failure}. Checking the state of the node")
    # Nobody waits for an import that still runs, for example for cards.
    discarded = _discard(appliance, job, current, progress) if isinstance(failure, InterruptedTaskError) else None
    if _keys_changed(appliance, job, failure):
        return failure
    if discarded is None:
        discarded = _discard(appliance, job, current, progress)
        # A request that was on its way can have arrived in the meantime.
        if discarded is not None and _keys_changed(appliance, job, failure):
            return failure
    code = "response_lost" if failure.code == "outcome_unknown" else failure.code  # the outcome is known now
    ended = current is not None and current.state in ENDED
    if job.target.sees_only_ejbca:
        outcome = (
            f"The EJBCA view of {job.target.name} shows the same keys as before. The view can be old, so an upload can still show later. "
            "Check the node in Webconf, then run again"
        )
    elif discarded or ended or isinstance(failure, RequestLostError):
        outcome = f"{job.target.name} holds the same keys as before, so nothing was changed. Run again"
    else:
        outcome = (
            f"{job.target.name} holds the same keys as before and does not run an import. "
            "A request that is still on its way can change this. Read the node, then run again"
        )
    raise type(failure)(f"{failure}. {outcome}", code=code) from failure


def _wait_for_import(
    appliance: Appliance, job: ImportJob, current: Import, progress: ProgressCallback, until: t.Container[str]
) -> Import:
    """Return the import as soon as its state is one of `until`, and show the prompts of the PIN pad. Raises UtrustError (`import_timeout`)."""
    started = job.patience.clock()
    last_line = None
    while current.state not in until:
        line = (
            f"PIN pad {current.pin_pad or UNKNOWN}: {current.prompt}"
            if current.prompt
            else current.state.replace("_", " ")
        )
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
        require_run()
        job.patience.sleep(min(job.patience.interval, remaining))
        current = wait_until_available(
            functools.partial(appliance.read_import, current), job.patience, f"reading the import of {job.target.name}"
        )
    return current


def _import_error(job: ImportJob, current: Import) -> UtrustError:
    code, text = current.problem or ("import_not_applied", f"the node reports that the import is {current.state}")
    return UtrustError(f"{job.action}: {text.rstrip('.')}", code=code)


def _keys_changed(appliance: Appliance, job: ImportJob, failure: UtrustError) -> bool:
    """Whether the keys changed, as soon as the node responds and no import runs.

    A node that sends nonsense is read again for a while: a proxy may respond while it restarts. Raises UtrustError (`node_wait_timeout`, `outcome_unknown`).
    """

    if job.target.sees_only_ejbca:
        return _view_changed(appliance, job, failure)

    def _read_when_idle() -> Node:
        node = appliance.node()
        if node.running is not None:
            raise UnreachableError(f"{node.running_job} is running", code="import_in_progress")
        if node.keys_digest is None:
            raise UnreachableError("the node does not report its keys digest", code="keys_unknown")
        return node

    action = f"reading {job.target.name} after an import with unknown outcome"
    try:
        after = wait_until_available(_read_when_idle, job.patience, action, tolerate_errors=limits.MAX_LOOKUP_TIME)
    except (ApiError, RunEndedError) as exc:
        raise UtrustError(
            f"{failure}. {action}: {exc}. The keys may have changed. Check the node, then run again",
            code="outcome_unknown",
        ) from exc
    return after.keys_digest != job.digest_before


def _view_changed(appliance: Appliance, job: ImportJob, failure: UtrustError) -> bool:
    """Whether the EJBCA view of now differs from the view before. A reading can try a PIN, so it is not repeated. Raises UtrustError (`outcome_unknown`)."""
    after = appliance.node()
    if after.keys_digest is not None:
        return after.keys_digest != job.digest_before
    try:
        appliance.list_keys()
        reason = "the keys are unknown"
    except UtrustError as exc:
        reason = str(exc)
    raise UtrustError(
        f"{failure}. Nobody knows whether the keys of {job.target.name} changed: {reason}. Check the node in Webconf and in EJBCA, then run again",
        code="outcome_unknown",
    ) from failure


def _discard(appliance: Appliance, job: ImportJob, current: Import | None, progress: ProgressCallback) -> bool | None:
    """Discard an import. A node refuses to discard an applied import, so this is safe if the outcome is unknown.

    Return whether the import ended without a commit, or None if no import is known.
    """
    if current is None:
        return None
    try:
        return appliance.discard_import(current)
    except UtrustError as exc:
        progress(f"{job.target.name}: import {current.id} could not be discarded ({exc}). The import expires by itself")
        return False


def _check_import_preview(job: ImportJob, staged: Import) -> None:
    """Compare the table of the node with the prediction. Raises UtrustError (`import_preview_mismatch`).

    A node may show no table. Its import then follows from its import behavior, as on a node without a preview.
    """
    if staged.rows is None:
        return
    table = {(row.action, row.key, row.current_fingerprint) for row in staged.rows if row.action != "unchanged"}
    table -= {("remove", key, key.fingerprint) for key in job.removable}
    predicted = {("add", key, None) for key in job.difference.missing} | {
        ("replace", pair.source_key, pair.target_key.fingerprint) for pair in job.difference.mismatched
    }
    package_digest = keys_digest(row.key for row in staged.rows if row.action != "remove")
    # The node compares an unknown digest when it applies the import.
    digests = (package_digest, staged.keys_digest or job.digest_before)
    if digests != (job.manifest.keys_digest, job.digest_before) or table != predicted:
        raise UtrustError(
            f"{job.action}: the import preview of the node does not match the prediction from the manifest and the keys of the node "
            f"({len(table)} rows would change, {len(predicted)} were predicted). The import was discarded, nothing was changed. Run again",
            code="import_preview_mismatch",
        )
