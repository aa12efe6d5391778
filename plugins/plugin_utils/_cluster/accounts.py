# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Accounts of the person who starts a run. Private to keyops.utrust."""

from __future__ import annotations

import os
import pwd
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.approvals import NOBODY
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.people import normalize_name
from ansible_collections.keyops.utrust.plugins.plugin_utils._connection import in_controller_job, is_blank

Variables = t.Mapping[str, t.Any]

_PREFIXES: t.Final = ("awx", "tower")
#: AWX sets these only in a job of a schedule, or in a job of a workflow that a schedule started.
_SCHEDULE: t.Final = ("schedule_id", "schedule_name", "parent_job_schedule_id", "parent_job_schedule_name")
#: Launch types of jobs that no person starts.
_AUTOMATIC: t.Final = frozenset({"scheduled", "callback", "webhook"})


def launcher_accounts(variables: Variables) -> list[str]:
    """Return the accounts that started this run. The environment does not decide, because every user can set it.

    A job that a schedule of AWX started has no user, so a user name in such a job comes from an inventory.
    The account of the process would be the same for every job.
    """
    if _is_automatic(variables):
        return [NOBODY]
    named = [str(value) for value in _values(variables, "user_name")]
    if named:
        return named
    if in_controller_job(variables):
        return [NOBODY]
    try:
        return [pwd.getpwuid(os.getuid()).pw_name]
    except KeyError:
        return [str(os.getuid())]


def check_requester(accounts: t.Collection[str]) -> None:
    """Check that a new plan can name its requester. Raises UtrustError (`requester_unknown`) for two accounts, because a plan has one account."""
    if len(set(map(normalize_name, accounts))) > 1:
        raise UtrustError(
            f"making a plan: awx_user_name and tower_user_name differ ({', '.join(map(ascii, accounts)):.200}), so the requester is unknown. "
            "Nothing was done. Remove both variables from the inventory, the template and the survey",
            code="requester_unknown",
        )


def _values(variables: Variables, *names: str) -> list[t.Any]:
    found = [variables.get(f"{prefix}_{name}") for name in names for prefix in _PREFIXES]
    return [value for value in found if not is_blank(value)]


def _is_automatic(variables: Variables) -> bool:
    types = {str(value).strip().lower() for value in _values(variables, "job_launch_type", "workflow_job_launch_type")}
    return bool(_values(variables, *_SCHEDULE) or types & _AUTOMATIC)
