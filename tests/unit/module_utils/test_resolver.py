# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The name resolution of the system has the deadline of the connection."""

from __future__ import annotations

import dataclasses as dc
import socket
import threading
import time
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.rest import APPLIANCE_API, RestAppliance
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UnreachableError
from ansible_collections.keyops.utrust.plugins.module_utils._json_client import JsonClient
from ansible_collections.keyops.utrust.plugins.module_utils._resolver import resolve

from tests.support.fakes import ENDPOINT


def test_resolver_that_does_not_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was sent, so every request may be repeated. The thread does not keep the process alive."""
    release = threading.Event()

    def slow(*dummy: t.Any, **options: t.Any) -> list[t.Any]:
        release.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    endpoint = dc.replace(ENDPOINT, host="node1.example.com", connect_timeout=0.3)
    appliance = RestAppliance(JsonClient(endpoint, APPLIANCE_API, retries=1, sleep=lambda dummy: None))
    started = time.monotonic()
    with pytest.raises(
        UnreachableError, match=r"the name resolution of node1.example.com took longer than 0.3 s"
    ) as caught:
        appliance.node()
    assert caught.value.code == "node_unreachable"
    assert "after 2 attempt(s)" in str(caught.value)
    assert time.monotonic() - started < 10
    assert all(thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread())
    release.set()


@pytest.mark.parametrize(
    "failure", [socket.gaierror(-2, "Name or service not known"), OSError("broken"), UnicodeError("x")]
)
def test_failure_of_the_resolver_is_raised(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def fail(*dummy: t.Any, **options: t.Any) -> t.NoReturn:
        raise failure

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(type(failure)) as caught:
        resolve("node1", 443, 5.0)
    assert caught.value is failure


def test_addresses_keep_their_order() -> None:
    assert resolve("127.0.0.1", 443, 5.0) == socket.getaddrinfo("127.0.0.1", 443, type=socket.SOCK_STREAM)
