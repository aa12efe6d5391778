# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the background process runs (`python -m utrust_appliance.main DIR OPTIONS READY-FD`), and `up --foreground`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import ssl
import sys
import typing as t
from dataclasses import replace
from pathlib import Path

from utrust_appliance import __version__, addresses, process
from utrust_appliance.behaviour import Behaviour
from utrust_appliance.channel import Channel, remove_stale
from utrust_appliance.cluster import Cluster, ClusterConfig, Options
from utrust_appliance.console import Console
from utrust_appliance.errors import Refused
from utrust_appliance.faultport import FaultPort
from utrust_appliance.files import write_json
from utrust_appliance.hsm.choice import HsmChoice
from utrust_appliance.provision import Plan, is_first_start, provision
from utrust_appliance.server import Site, serve
from utrust_appliance.webconf.room import Room

if t.TYPE_CHECKING:
    import socket

LOG = logging.getLogger(__name__)
DEFAULT_NODES, DEFAULT_KEYS = 3, 10
MANY_FILES = 8192


def run(folder: Path, options: dict[str, t.Any], on_ready: t.Callable[[dict[str, t.Any]], None]) -> None:
    """Serve a cluster until it is told to stop. Raises Refused when it cannot be served."""
    process.claim(folder)
    _allow_many_files()
    held = process.lock(folder, patience=0.5)
    if held is None:
        other = process.read_run(folder) or {}
        raise Refused(f"{folder} is in use: a cluster runs there as process {other.get('pid', 'unknown')}")
    with held:
        stale = process.read_run(folder)
        if stale:
            remove_stale(Path(stale["control"]))
            (folder / "run.json").unlink()
        cluster, sockets = open_cluster(folder, options)
        asyncio.run(_serve(cluster, sockets, _applications(cluster, options), on_ready))
        (folder / "run.json").unlink(missing_ok=True)


def _allow_many_files() -> None:
    """Every node has some databases and many connections; the usual soft limit of 1,024 is too low for a hundred nodes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MANY_FILES if hard == resource.RLIM_INFINITY else min(MANY_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def open_cluster(folder: Path, options: dict[str, t.Any]) -> tuple[Cluster, list[socket.socket]]:
    run_options = Options.of(options)
    if not is_first_start(folder):
        config = ClusterConfig.load(folder / "cluster.json")
        if options.get("nodes") not in (None, len(config.nodes)):
            raise Refused(
                f"{folder} holds a cluster of {len(config.nodes)} nodes; leave --nodes out or name another folder"
            )
        hsm = HsmChoice.of(config.hsm.backend, options.get("module") or config.hsm.module)
        if options.get("hsm") not in (None, hsm.backend):
            raise Refused(f"{folder} holds a cluster with HSMs of the backend {hsm.backend}; leave --hsm out")
        if hsm != config.hsm:
            config = replace(config, hsm=hsm)
            config.save(folder / "cluster.json")
        if options.get("profile") is not None:
            config = replace(config, profile=Behaviour.check(options["profile"]))
            config.save(folder / "cluster.json")
        sockets = addresses.listen_all([(node.address, node.port) for node in config.nodes])
        return Cluster(folder, config, run_options), sockets
    nodes = options.get("nodes") or DEFAULT_NODES
    if not 1 <= nodes <= 250:
        raise Refused("a cluster has 1 to 250 nodes")
    joined, restored, keys = options.get("joined"), options.get("restored"), options.get("keys")
    if not 1 <= (nodes if joined is None else joined) <= nodes or not 1 <= (restored or 1) <= (
        nodes if joined is None else joined
    ):
        raise Refused("1 <= restored <= joined <= nodes must hold: node1 always has the keys")
    hsm = HsmChoice.of(options.get("hsm") or "software", options.get("module"))
    sockets = addresses.choose(nodes, options.get("address_mode") or "auto", options.get("port") or 0)
    plan = Plan(
        addresses=[server.getsockname() for server in sockets],
        joined=nodes if joined is None else joined,
        restored=1 if restored is None else restored,
        keys=DEFAULT_KEYS if keys is None else keys,
        key_mix=options.get("key_mix"),
        name=options.get("name") or "keyops",
        profile=Behaviour.check(options.get("profile") or []),
        hsm=hsm,
    )
    return provision(folder, plan, run_options), sockets


def _applications(cluster: Cluster, options: dict[str, t.Any]) -> list[Site]:
    wanted = options.get("application") or options.get("database")
    if not wanted and not (cluster.folder / "application").exists():
        return []
    try:
        from utrust_appliance.application.serving import open_applications  # its database layer takes long to import
    except ImportError as exc:
        raise Refused(
            f"the application needs {exc.name}: pip install 'utrust-appliance[application]', from tests/appliance"
        ) from exc
    return open_applications(cluster, options)


async def _serve(
    cluster: Cluster,
    sockets: list[socket.socket],
    applications: list[Site],
    on_ready: t.Callable[[dict[str, t.Any]], None],
) -> None:
    channels: list[Channel] = []
    rooms: list[Room] = []
    ports: list[FaultPort] = []

    async def ready(stop: asyncio.Event) -> None:
        console = Console(cluster, stop)
        room = Room(console)
        rooms.append(room)
        await room.start()
        console.pin_pads_url = room.url
        channel = Channel(console)
        channels.append(channel)
        await channel.start()
        facts = {
            "pid": os.getpid(),
            "started": process.start_time(os.getpid()),
            "control": str(channel.path),
            "version": __version__,
        }
        if cluster.options.fault_port is not None:
            ports.append(FaultPort(console, cluster.folder))
            facts["faults"] = await ports[0].start(cluster.options.fault_port)
        write_json(cluster.folder / "run.json", facts)
        LOG.info("serving %d nodes", len(cluster.nodes))
        on_ready(console.do_status())

    try:
        await serve(cluster, sockets, check_all, ready, applications)
    finally:
        LOG.info("stopping")
        for channel in channels:
            channel.stop()
        for room in rooms:
            await room.stop()
        for port in ports:
            await port.stop()


async def check_all(cluster: Cluster) -> None:
    """Every node answers (a request without a login is refused, which is an answer)."""
    context = ssl.create_default_context(cafile=str(cluster.folder / "ca.pem"))
    for node in cluster.nodes.values():
        reader, writer = await asyncio.open_connection(node.config.address, node.config.port, ssl=context)
        writer.write(b"GET /api/v1/node HTTP/1.1\r\nHost: " + node.name.encode() + b"\r\nConnection: close\r\n\r\n")
        status = await reader.readline()
        writer.close()
        if b" 401 " not in status:
            raise Refused(f"{node.name} does not answer as it should: {status!r}")


def main() -> int:
    folder, options, ready_fd = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    with os.fdopen(ready_fd, "w", encoding="utf-8") as pipe:

        def on_ready(dummy_status: dict[str, t.Any]) -> None:
            pipe.write("ready")
            pipe.close()

        try:
            run(folder, options, on_ready)
        except Refused as exc:
            if pipe.closed:
                raise
            pipe.write(str(exc))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
