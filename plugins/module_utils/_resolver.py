# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resolve the name of a host within a time limit. Private to keyops.utrust."""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
import typing as t


def resolve(host: str, port: int, seconds: float) -> list[tuple[t.Any, ...]]:
    """Return the addresses of a host. Raises OSError, also if they are not known after `seconds`, and UnicodeError.

    The resolver of the system has its own time limits, and nothing interrupts it. So it runs in a thread, which does not keep the process alive.
    """
    found: queue.SimpleQueue[list[tuple[t.Any, ...]] | OSError | UnicodeError] = queue.SimpleQueue()

    def run() -> None:
        try:
            found.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as exc:
            found.put(exc)

    if _is_address(host):
        run()  # without a name server
    else:
        threading.Thread(target=run, daemon=True).start()
    try:
        result = found.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"the name resolution of {host} took longer than {seconds:g} s") from None
    if isinstance(result, Exception):
        raise result
    return result


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
