# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Listening addresses of the nodes.

Nodes listen on 127.0.0.2, 127.0.0.3, … with one shared port. If the machine cannot bind these addresses, every node gets a port on 127.0.0.1.
With several clusters, the first cluster uses 127.0.1.2, 127.0.1.3, …, and the second cluster uses 127.0.2.2, …
"""

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
    """Listen on all addresses, or on none if one fails. Port 0 selects a free port."""
    with contextlib.ExitStack() as stack:
        sockets = []
        for address, port in places:
            try:
                sockets.append(stack.enter_context(listen(address, port)))
            except OSError as exc:
                raise OperationError(f"Cannot listen on {address} port {port}: {exc.strerror or exc}.") from exc
        stack.pop_all()
    return sockets


def choose(nodes: int, mode: str, port: int, clusters: int = 0) -> list[socket.socket]:
    """Listening sockets on free addresses and ports. `nodes` is the number of nodes of each cluster."""
    if mode not in MODES:
        raise OperationError(f"--address-mode must be one of {', '.join(MODES)}.")
    if mode == "auto":
        mode = "addresses" if _can_bind(str(FIRST)) else "ports"
    if mode == "ports":
        return listen_all([("127.0.0.1", port + index if port else 0) for index in range(nodes * (clusters or 1))])
    addresses = [str(FIRST + index) for index in range(nodes)]
    if clusters:  # 127.0.1.2, 127.0.1.3, …, 127.0.2.2, …
        addresses = [str(FIRST + 256 * number + index) for number in range(1, clusters + 1) for index in range(nodes)]
    if port:
        return listen_all([(address, port) for address in addresses])
    last = OperationError("No port was tried.")
    for dummy in range(TRIES):
        first = listen(addresses[0], 0)
        try:
            return [first, *listen_all([(address, first.getsockname()[1]) for address in addresses[1:]])]
        except OperationError as exc:
            first.close()
            last = exc
    raise OperationError(f"Found no port that is free on all addresses from {addresses[0]} to {addresses[-1]}. {last}")


def _can_bind(address: str) -> bool:
    try:
        listen(address, 0).close()
    except OSError:
        return False
    return True
