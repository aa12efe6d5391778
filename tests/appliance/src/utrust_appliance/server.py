# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTTPS sites of all nodes."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
import struct
import typing as t

from aiohttp import web

from utrust_appliance.pki import server_context
from utrust_appliance.web.app import Protocol, make_app

if t.TYPE_CHECKING:
    import ssl

    from utrust_appliance.cluster import Cluster
    from utrust_appliance.node import Node

LOG = logging.getLogger(__name__)
HANDSHAKE_TIMEOUT = 10.0
SHUTDOWN_TIMEOUT = 1.0
KEEPALIVE = 75.0
SILENT = logging.Logger("access", level=logging.CRITICAL + 1)  # nodes have their own request log


class Site:
    """An HTTPS site of a node: its API or its EJBCA. It accepts connections itself, so that connections without a request are logged."""

    def __init__(
        self,
        node: Node,
        server: socket.socket,
        app: web.Application | None = None,
        client_auth: t.Callable[[], str] = lambda: "handshake",
    ) -> None:
        """`client_auth` returns when TLS asks for a client certificate: `handshake`, `late` (after the request) or `never`."""
        self._node = node
        self._client_auth = client_auth
        self._socket = server
        self._runner = web.AppRunner(app or make_app(node), access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._read_certificate()
        await self._runner.setup()
        self._spawn(self._accept())

    def _read_certificate(self) -> None:
        folder = self._node.folder
        files = (folder / "tls.pem", folder / "tls.key", self._node.cluster.folder / "client-ca.pem")
        self._tls = {kind: server_context(*files, client_auth=kind) for kind in ("handshake", "late", "never")}
        self._presented = self._node.tls_fingerprint

    def _spawn(self, work: t.Coroutine[t.Any, t.Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(self._socket)
            except OSError as exc:
                if exc.errno not in (errno.EMFILE, errno.ENFILE, errno.ECONNABORTED):
                    raise
                LOG.warning("%s: accept: %s", self._node.name, exc)
                await asyncio.sleep(0.1)  # wait for a free descriptor
                continue
            name = f"{peer[0]}:{peer[1]}"
            self._node.log.connection(name)
            if self._node.rejects_clients():
                connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )  # close() sends a reset
                connection.close()
                continue
            if self._presented != self._node.tls_fingerprint:
                self._read_certificate()
            self._spawn(self._serve(connection, name, self._tls[self._client_auth()]))

    async def _serve(self, connection: socket.socket, peer: str, tls: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                self._protocol, connection, ssl=tls, ssl_handshake_timeout=HANDSHAKE_TIMEOUT
            )
        except (OSError, EOFError) as exc:  # ssl.SSLError is an OSError
            self._node.log.handshake_failed(peer, str(exc) or type(exc).__name__)
            connection.close()

    def _protocol(self) -> asyncio.Protocol:
        manager = self._runner.server
        if manager is None:
            raise ConnectionAbortedError("the site is closed")
        loop = asyncio.get_running_loop()
        return Protocol(manager, loop=loop, access_log=SILENT, keepalive_timeout=KEEPALIVE, auto_decompress=False)

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._socket.close()
        await self._runner.cleanup()


async def serve(
    clusters: t.Sequence[Cluster],
    sites: t.Sequence[Site],
    check: t.Callable[[Cluster], t.Awaitable[None]],
    ready: t.Callable[[asyncio.Event], t.Awaitable[None]],
) -> None:
    """Serve until SIGTERM, SIGINT or the event that `ready` gets. `ready` is called after `check` has succeeded for every cluster."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    nodes = [node for cluster in clusters for node in cluster.nodes.values()]
    try:
        for site in sites:
            await site.start()
        for cluster in clusters:
            await check(cluster)
        for node in nodes:
            node.log.recording = True
        await ready(stop)
        await stop.wait()
    finally:
        for cluster in clusters:
            cluster.closing.set()
        for node in nodes:
            node.restores.wake()
        await asyncio.gather(*(site.stop() for site in sites))
        for cluster in clusters:
            cluster.close()
