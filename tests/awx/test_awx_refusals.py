# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wrong data of a site: the setup fails before its first request, or AWX rejects the data."""

from __future__ import annotations

import typing as t

import pytest

if t.TYPE_CHECKING:
    from tests.awx.conftest import Setup

PROJECT = {"name": "p", "scm_url": "https://git.example.com/p.git", "scm_branch": "main"}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"site_project": {"name": "p", "scm_branch": "main"}}, "scm_url"),
        ({"site_project": {**PROJECT, "scm_password": "x"}}, "scm_password"),
        ({"site_nodes": ["node1", "node2"]}, "site_nodes"),
        ({"site_credentials": [{"name": "a"}]}, "type"),
        ({"site_credentials": [{"name": "a", "type": "b", "inputs": {"client_key": "x"}}]}, "inputs"),
        ({"site_execution_environment": {"name": "e"}}, "image"),
        ({"site_instance_groups": {"berlin": 1}}, "site_instance_groups"),
        ({"site_instance_groups": None}, "site_instance_groups"),
        ({"site_variables": {}}, "utrust_source"),
        ({"site_variables": {"utrust_source": "node9"}}, "utrust_source"),
        ({"site_teams": [{"name": "a"}], "site_approval_teams": []}, "role"),
        ({"site_teams": [{"name": "a", "role": "admin"}], "site_approval_teams": []}, "role"),
        ({"site_approval_teams": ["Nobody"]}, "site_approval_teams"),
        ({"site_approval_teams": ["Berlin operators"]}, "site_approval_teams"),
        ({"site_approval_teams": ["Berlin approvers 1", "Berlin approvers 1"]}, "site_approval_teams"),
        (
            {"site_variables": {"utrust_source": "node1", "key_sync_approvals_required": "2"}}
            | {"site_approval_teams": ["Berlin approvers 1"]},
            "cannot ask for the signed",
        ),
    ],
    ids=str,
)
def test_wrong_data_changes_nothing(setup: Setup, changes: dict[str, t.Any], word: str) -> None:
    done = setup.run(**changes)
    assert done.returncode == 2, done.stdout
    assert word in done.stdout + done.stderr
    assert setup.awx.requests == []


def test_data_that_awx_rejects_is_named(setup: Setup) -> None:
    """The project of the site lacks a playbook."""
    setup.awx.playbooks.remove("key_sync.yml")
    done = setup.run()
    assert done.returncode == 2, done.stdout
    assert "Playbook not found for project." in done.stdout
    assert "Berlin key_sync" not in setup.awx.names("job_templates")


def test_instance_group_that_awx_lacks_is_named(setup: Setup) -> None:
    done = setup.run(site_instance_groups=["nowhere"])
    assert done.returncode == 2, done.stdout
    assert "nowhere" in done.stdout
    assert "Berlin key_sync" not in setup.awx.names("job_templates")


def test_wrong_token_changes_nothing(setup: Setup) -> None:
    setup.awx.requests.clear()
    done = setup.run(token="another-token-of-awx")
    assert done.returncode == 2, done.stdout
    assert "HTTP 401" in done.stdout
    assert setup.awx.requests == []
