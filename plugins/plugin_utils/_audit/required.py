# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the audit trail of this run is complete. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import run_state
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.errors import AuditError


def require_audit(*, read_file: bool) -> None:
    """Check the state of the callback, and with `read_file` the file, too. Raises UtrustError."""
    state = run_state.current_run()
    path = state.file if state is not None else ""
    reason = refusal(path, state, {})
    if not reason and read_file:
        from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.verify import verify_file

        try:
            reason = refusal(path, state, verify_file(path))
        except AuditError as exc:
            reason = str(exc)
        except OSError as exc:
            reason = f"{path} cannot be read: {exc.strerror or exc} [audit_unreadable]"
    if reason:
        raise UtrustError(
            f"An audit trail is required, but {reason}. Nothing is changed from here on",
            code=reason.rpartition("[")[2].rstrip("]"),
        )


def refusal(path: str, state: run_state.RunState | None, found: t.Mapping[str, t.Any]) -> str:
    """The reason why the file does not hold a complete audit trail of this run. `found` is empty if the file was not read."""
    if state is None:
        return "the callback keyops.utrust.audit is not active in this run. Add the callback to callbacks_enabled [audit_inactive]"
    if state.failure:
        return f"an event of this run was not recorded: {state.failure} [audit_incomplete]"
    if state.file != path:
        return f"this run records its events in {state.file}, not in {path} [audit_elsewhere]"
    if state.not_persistent:
        return f"{state.not_persistent}. Set another path. To override the check, set assume_persistent: true [audit_not_persistent]"
    if found and not found["intact"]:
        return f"{path} is broken. {'. '.join(found['problems'])} [audit_broken]"
    if found and state.job not in [job["job"] for job in found["open_jobs"]]:
        return f"{path} does not contain the start of this run [audit_missing]"
    return ""
