# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts of the person who starts a run."""

from __future__ import annotations

import os
import pwd
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.accounts import (
    check_requester,
    launcher_accounts,
)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"awx_job_id": 7, "awx_user_name": "anna"}, ["anna"]),
        ({"tower_job_id": 7, "tower_user_name": "anna"}, ["anna"]),
        ({"awx_job_id": 7, "awx_user_name": "anna", "tower_user_name": "ben"}, ["anna", "ben"]),
        ({"awx_job_id": 7, "awx_user_name": 2505, "tower_user_name": " "}, ["2505"]),
        ({"awx_job_id": 7, "awx_user_name": "anna", "awx_job_launch_type": "manual"}, ["anna"]),
        ({"awx_job_id": 7, "awx_user_name": "anna", "awx_job_launch_type": "relaunch"}, ["anna"]),
        ({"awx_job_id": 7, "awx_user_name": "anna", "awx_job_launch_type": "workflow"}, ["anna"]),
        ({"awx_job_id": 7}, ["unknown"]),
        ({"tower_job_id": 7, "awx_user_name": None}, ["unknown"]),
    ],
)
def test_launcher_is_every_account_of_the_job(variables: dict[str, t.Any], expected: list[str]) -> None:
    assert launcher_accounts(variables) == expected


@pytest.mark.parametrize("prefix", ["awx", "tower"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("schedule_id", 3),
        ("schedule_name", "nightly"),
        ("parent_job_schedule_id", 3),
        ("parent_job_schedule_name", "nightly"),
        ("job_launch_type", "scheduled"),
        ("job_launch_type", " Scheduled"),
        ("workflow_job_launch_type", "scheduled"),
        ("job_launch_type", "webhook"),
        ("job_launch_type", "callback"),
    ],
)
def test_launcher_of_an_automatic_job_is_unknown(prefix: str, name: str, value: t.Any) -> None:
    """An inventory sets the name of a person, but no person started the job."""
    variables = {"awx_job_id": 7, "awx_user_name": "zoe", "tower_user_name": "zoe"}
    assert launcher_accounts({**variables, f"{prefix}_{name}": value}) == ["unknown"]


def test_launcher_outside_of_awx_is_the_user_of_the_process() -> None:
    try:
        expected = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        expected = str(os.getuid())
    assert launcher_accounts({}) == [expected]


@pytest.mark.parametrize("accounts", [["anna"], ["anna", "anna"], ["anna", "ANNA "], ["unknown"]])
def test_requester_with_one_account_is_accepted(accounts: list[str]) -> None:
    check_requester(accounts)


@pytest.mark.parametrize("accounts", [["anna", "ben"], ["ben", "unknown"], ["7", "007"]])
def test_requester_with_two_accounts_is_refused(accounts: list[str]) -> None:
    with pytest.raises(UtrustError, match="differ") as refused:
        check_requester(accounts)
    assert refused.value.code == "requester_unknown"
