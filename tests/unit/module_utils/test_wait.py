# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wait with a clock limit. Clock and sleep are fakes."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError, UnreachableError, UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions, wait_until_available

AWAY = UnreachableError("no route to node2", code="node_unreachable")
BUSY = ApiError("HTTP 503", code="unavailable", http_status=503)
REFUSED = ApiError("HTTP 403", code="forbidden", http_status=403)


class FakeClock:
    """A clock that moves only by sleep."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def wait_options(self, timeout: float) -> WaitOptions:
        return WaitOptions(timeout, 2.0, lambda: self.now, self.sleep)


def reading(*responses: t.Any) -> t.Callable[[], t.Any]:
    left = list(responses)

    def read() -> t.Any:
        response = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(response, Exception):
            raise response
        return response

    return read


def test_available_node_needs_no_sleep() -> None:
    clock = FakeClock()
    assert wait_until_available(reading("here"), clock.wait_options(10), "reading") == "here"
    assert clock.slept == []


def test_restarting_node_is_retried() -> None:
    clock = FakeClock()
    assert wait_until_available(reading(AWAY, BUSY, AWAY, "here"), clock.wait_options(10), "reading") == "here"
    assert clock.slept == [2.0, 2.0, 2.0]


def test_rejection_ends_the_wait() -> None:
    clock = FakeClock()
    with pytest.raises(ApiError) as caught:
        wait_until_available(reading(AWAY, REFUSED), clock.wait_options(10), "reading")
    assert caught.value is REFUSED


def test_timeout_names_action_and_last_error() -> None:
    clock = FakeClock()
    with pytest.raises(UtrustError) as caught:
        wait_until_available(reading(AWAY), clock.wait_options(10), "reading the keys of node2")
    assert caught.value.code == "node_wait_timeout"
    for words in ("reading the keys of node2", "timed out after 10 s", "no route to node2", "run again"):
        assert words in str(caught.value)
    assert sum(clock.slept) <= 10


def test_other_error_is_raised_at_once() -> None:
    with pytest.raises(ZeroDivisionError):
        wait_until_available(reading(ZeroDivisionError()), FakeClock().wait_options(10), "reading")
