# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of syslog servers that the callback audit accepts."""

from __future__ import annotations

import pytest
from ansible_collections.keyops.utrust.plugins.callback.audit import _address
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.errors import AuditError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/dev/log", "/dev/log"),
        (" /run/systemd/journal/dev-log ", "/run/systemd/journal/dev-log"),
        ("/odd:514", "/odd:514"),
        ("127.0.0.1:514", ("127.0.0.1", 514)),
        ("syslog.example.com:6514", ("syslog.example.com", 6514)),
        ("[::1]:514", ("::1", 514)),
        ("[2001:db8::7]:1514", ("2001:db8::7", 1514)),
        ("[fe80::1%eth0]:514", ("fe80::1%eth0", 514)),
    ],
)
def test_syslog_address_is_a_path_or_host_and_port(text: str, address: object) -> None:
    assert _address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "localhost",
        "::1",
        "::1:514",
        "2001:db8::7:514",
        "[::1]",
        "[::1]514",
        "[::1]:",
        "[node1]:514",
        "host:0",
        "host:65536",
        "host:syslog",
        "host:-1",
        ":514",
        "udp://host:514",
        "two hosts:514",
        "log/x:514",
        "",
    ],
)
def test_other_syslog_address_is_refused(text: str) -> None:
    """An address that would be read in another way has its own code."""
    with pytest.raises(AuditError) as refused:
        _address(text)
    assert refused.value.code == "audit_syslog_invalid"
