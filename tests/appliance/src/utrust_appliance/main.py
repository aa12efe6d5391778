# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The background process (`python -m utrust_appliance.main DIR OPTIONS READY-FD`) and `up --foreground`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import resource
import ssl
import sys
import typing as t
from pathlib import Path

from utrust_appliance import __version__, process
from utrust_appliance.admin_operations import AdminOperations
from utrust_appliance.control_channel import ControlChannel, remove_stale
from utrust_appliance.errors import OperationError
from utrust_appliance.fault_api import FaultApi
from utrust_appliance.files import write_json
from utrust_appliance.server import Site, serve
from utrust_appliance.startup import OpenCluster, open_folder
from utrust_appliance.webconf.pin_pads import PinPadSite

if t.TYPE_CHECKING:
    from utrust_appliance.cluster import Cluster

LOG = logging.getLogger(__name__)
MANY_FILES = 8192


def run(folder: Path, options: dict[str, t.Any], on_ready: t.Callable[[list[dict[str, t.Any]]], None]) -> None:
    """Serve the clusters of a folder until a stop signal. `on_ready` gets the status of each cluster. Raises OperationError if the start fails."""
    _allow_many_files()
    with contextlib.ExitStack() as locks:

        def acquire(place: Path) -> None:
            locks.enter_context(_lock_folder(place))

        acquire(folder)
        opened = open_folder(folder, options, acquire)
        asyncio.run(_serve(folder, opened, options, on_ready))


@contextlib.contextmanager
def _lock_folder(folder: Path) -> t.Iterator[None]:
    """Hold the lock of the folder, and remove run.json at the end."""
    process.claim(folder)
    lock = process.lock(folder, timeout=0.5)
    if lock is None:
        other = process.read_run(folder) or {}
        raise OperationError(f"{folder} is in use by the cluster with process {other.get('pid', 'unknown')}.")
    with lock:
        stale = process.read_run(folder)
        if stale:
            if "control" in stale:
                remove_stale(Path(stale["control"]))
            (folder / "run.json").unlink()
        yield
        (folder / "run.json").unlink(missing_ok=True)


def _allow_many_files() -> None:
    """Raise the limit of open files. The usual soft limit of 1,024 is too low for a hundred nodes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = MANY_FILES if hard == resource.RLIM_INFINITY else min(MANY_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _ejbca_sites(cluster: Cluster, options: dict[str, t.Any]) -> list[Site]:
    required = options.get("ejbca") or options.get("database")
    if not required and not (cluster.folder / "ejbca").exists():
        return []
    try:
        from utrust_appliance.ejbca.service import open_ejbca_sites  # its database layer is slow to import
    except ImportError as exc:
        raise OperationError(f"--ejbca requires {exc.name}. Run pip install './tests/appliance[ejbca]'.") from exc
    return open_ejbca_sites(cluster, options)


async def _serve(
    folder: Path,
    opened: list[OpenCluster],
    options: dict[str, t.Any],
    on_ready: t.Callable[[list[dict[str, t.Any]]], None],
) -> None:
    sites: list[Site] = []
    for cluster, sockets in opened:
        sites += [Site(node, server) for node, server in zip(cluster.nodes.values(), sockets, strict=True)]
        sites += _ejbca_sites(cluster, options)
    clusters = [cluster for cluster, dummy in opened]
    async with contextlib.AsyncExitStack() as servers:

        async def ready(stop: asyncio.Event) -> None:
            statuses = [await _start_control(cluster, stop, servers) for cluster in clusters]
            if clusters[0].folder != folder:
                write_json(folder / "run.json", {**_this_process(), "clusters": [one.folder.name for one in clusters]})
            LOG.info("serving %d nodes", sum(len(cluster.nodes) for cluster in clusters))
            on_ready(statuses)

        await serve(clusters, sites, check_all, ready)
        LOG.info("stopping")


def _this_process() -> dict[str, t.Any]:
    return {"pid": os.getpid(), "started": process.start_time(os.getpid()), "version": __version__}


async def _start_control(cluster: Cluster, stop: asyncio.Event, servers: contextlib.AsyncExitStack) -> dict[str, t.Any]:
    """Start PIN pads, control channel and fault API of a cluster. Returns the status of the cluster."""
    operations = AdminOperations(cluster, stop)
    pin_pads = PinPadSite(operations)
    servers.push_async_callback(pin_pads.stop)
    await pin_pads.start()
    operations.pin_pads_url = pin_pads.url
    channel = ControlChannel(operations)
    servers.callback(channel.stop)
    await channel.start()
    facts = {**_this_process(), "control": str(channel.path)}
    if cluster.options.fault_port is not None:
        fault_api = FaultApi(operations, cluster.folder)
        servers.push_async_callback(fault_api.stop)
        facts["faults"] = await fault_api.start(cluster.options.fault_port)
    write_json(cluster.folder / "run.json", facts)
    return operations.do_status()


async def check_all(cluster: Cluster) -> None:
    """Check that every node responds. The expected response to a request without a login is 401, or 404 if the API is off."""
    context = ssl.create_default_context(cafile=str(cluster.folder / "ca.pem"))
    for node in cluster.nodes.values():
        reader, writer = await asyncio.open_connection(node.config.address, node.config.port, ssl=context)
        writer.write(b"GET /api/v1/node HTTP/1.1\r\nHost: " + node.name.encode() + b"\r\nConnection: close\r\n\r\n")
        status = await reader.readline()
        writer.close()
        expected = b" 401 " if node.has_api else b" 404 "
        if expected not in status:
            raise OperationError(f"The response of {node.name} is not as expected: {status!r}.")


def main() -> int:
    folder, options, ready_fd = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    with os.fdopen(ready_fd, "w", encoding="utf-8") as pipe:

        def on_ready(dummy_statuses: list[dict[str, t.Any]]) -> None:
            pipe.write("ready")
            pipe.close()

        try:
            run(folder, options, on_ready)
        except OperationError as exc:
            if pipe.closed:
                raise
            pipe.write(str(exc))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
