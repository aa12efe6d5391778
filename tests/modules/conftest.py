# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures of the module tests."""

from __future__ import annotations

import typing as t

import pytest

from tests.support.runners import RUNNERS, AnsibleRunner


@pytest.fixture(scope="module", params=RUNNERS)
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AnsibleRunner:
    """Return a runner. A test runs twice: through the action plugin and through the module."""
    name = t.cast("str", request.param)
    return AnsibleRunner(name, tmp_path_factory.mktemp(name))
