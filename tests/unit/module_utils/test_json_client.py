# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules for repeated requests."""

from __future__ import annotations

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.rest import APPLIANCE_API
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.rest import EJBCA_API
from ansible_collections.keyops.utrust.plugins.module_utils._json_client import delay_before_retry
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_RETRY_DELAY

LIMIT = 3


@pytest.mark.parametrize(
    ("method", "status", "attempt", "retry_after", "delay"),
    [
        # The node did not start the request: every method is repeated after the delay of the node.
        ("GET", 429, 1, 2.0, 2.0),
        ("POST", 429, 1, 2.0, 2.0),
        ("POST", 503, 1, 0.0, 0.0),
        ("DELETE", 503, 2, None, 1.0),
        ("POST", 503, 3, None, 2.0),
        # The delay of the node is limited.
        ("POST", 503, 1, 86400.0, MAX_RETRY_DELAY),
        # No response: only repeatable methods are repeated.
        ("GET", None, 1, None, 0.5),
        ("DELETE", None, 1, None, 0.5),
        ("PUT", None, 2, None, 1.0),
        ("GET", 502, 1, None, 0.5),
        ("GET", 504, 1, None, 0.5),
        ("POST", None, 1, None, None),
        ("POST", 502, 1, None, None),
        ("POST", 504, 1, 1.0, None),
        ("PATCH", None, 1, None, None),
        # Every other status is final.
        ("GET", 200, 1, None, None),
        ("GET", 404, 1, 1.0, None),
        ("GET", 409, 1, 1.0, None),
        ("GET", 412, 1, 1.0, None),
        ("GET", 500, 1, None, None),
        # No retry is left.
        ("GET", 503, LIMIT + 1, 0.0, None),
        ("GET", None, LIMIT + 1, None, None),
    ],
)
def test_delay_before_retry_of_method_and_status(
    method: str, status: int | None, attempt: int, retry_after: float | None, delay: float | None
) -> None:
    assert delay_before_retry(APPLIANCE_API, method, status, attempt, limit=LIMIT, retry_after=retry_after) == delay


def test_delay_before_retry_with_limit_zero_is_none() -> None:
    assert delay_before_retry(APPLIANCE_API, "GET", 503, 1, limit=0, retry_after=0.0) is None


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_ejbca_unsent_request_is_repeated(method: str) -> None:
    """If the connection to EJBCA was refused, nothing was sent. A request that may have arrived is never repeated."""
    assert delay_before_retry(EJBCA_API, method, None, 1, limit=LIMIT, sent=False) == 0.5
    assert delay_before_retry(EJBCA_API, method, None, LIMIT + 1, limit=LIMIT, sent=False) is None
    assert (delay_before_retry(EJBCA_API, method, None, 1, limit=LIMIT, sent=True) is None) == (method != "GET")


def test_appliance_unsent_post_is_not_repeated() -> None:
    assert delay_before_retry(APPLIANCE_API, "POST", None, 1, limit=LIMIT, sent=False) is None
