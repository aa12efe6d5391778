# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures of the simulator tests."""

from __future__ import annotations

import typing as t

import pytest
from utrust_appliance.hsm.backends import BACKENDS


@pytest.fixture(scope="module", params=BACKENDS)
def hsm(request: pytest.FixtureRequest) -> str:
    """Each HSM backend, for tests of keys: `cluster(hsm=hsm)`."""
    return t.cast("str", request.param)
