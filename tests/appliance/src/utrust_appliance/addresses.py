# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the nodes listen: 127.0.0.2, .3, … on one port where such addresses can be bound, else 127.0.0.1 with a port each. Where there are
several clusters, those of the first are 127.0.1.2, .3, …, of the second 127.0.2.2, …"""

from __future__ import annotations

import contextlib
import ipaddress
import socket

from utrust_appliance.errors import OperationError

MODES = ("auto", "addresses", "ports")
FIRST = ipaddress.IPv4Address("127.0.0.2")
TRIES = 50


def listen(address: str, port: int) -> socket.socket:
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        server.listen(512)
        server.setblocking(False)
    except OSError:
        server.close()
        raise
    return server


def listen_all(places: list[tuple[str, int]]) -> list[socket.socket]:
    """All of them or none. Port 0 is whatever is free."""
    with contextlib.ExitStack() as stack:
        sockets = []
        for address, port in places:
            try:
                sockets.append(stack.enter_context(listen(address, port)))
            except OSError as exc:
                raise OperationError(f"cannot listen on {address} port {port}: {exc.strerror or exc}") from exc
        stack.pop_all()
    return sockets


def choose(nodes: int, mode: str, port: int, clusters: int = 0) -> list[socket.socket]:
    """Listening sockets for so many nodes (of each cluster, where there are several), at addresses and ports that are free now."""
    if mode not in MODES:
        raise OperationError(f"--address-mode is one of {', '.join(MODES)}")
    if mode == "auto":
        mode = "addresses" if _can_bind(str(FIRST)) else "ports"
    if mode == "ports":
        return listen_all([("127.0.0.1", port + index if port else 0) for index in range(nodes * (clusters or 1))])
    addresses = [str(FIRST + index) for index in range(nodes)]
    if clusters:  # 127.0.1.2, 127.0.1.3, …, 127.0.2.2, …
        addresses = [str(FIRST + 256 * number + index) for number in range(1, clusters + 1) for index in range(nodes)]
    if port:
        return listen_all([(address, port) for address in addresses])
    last = OperationError("no port was tried")
    for dummy in range(TRIES):
        first = listen(addresses[0], 0)
        try:
            return [first, *listen_all([(address, first.getsockname()[1]) for address in addresses[1:]])]
        except OperationError as exc:
            first.close()
            last = exc
    raise OperationError(f"no port is free at all of {addresses[0]} to {addresses[-1]}: {last}")


def _can_bind(address: str) -> bool:
    try:
        listen(address, 0).close()
    except OSError:
        return False
    return True
