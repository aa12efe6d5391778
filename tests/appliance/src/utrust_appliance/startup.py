# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Create or continue the clusters of a folder, with their sockets.

A folder is usually one cluster. With `up --clusters N`, it contains N cluster folders D/cluster01 and so on, clusters.json and a common inventory.
Worker processes, one for each core, create these clusters.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import typing as t
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from utrust_appliance import addresses
from utrust_appliance.behavior import Behavior
from utrust_appliance.cluster import Cluster, ClusterConfig, Options
from utrust_appliance.errors import OperationError
from utrust_appliance.files import write_json, write_private
from utrust_appliance.hsm.backends import HsmBackend
from utrust_appliance.provision import Plan, host_lines, is_first_start, provision, write_inventory

if t.TYPE_CHECKING:
    import socket
    from pathlib import Path

DEFAULT_NODES, DEFAULT_KEYS = 3, 10
MOST = 250  # nodes of a cluster, and clusters; each number is a part of an IPv4 address
MANY = "clusters.json"
# Each of these needs a port or a database for a single cluster.
NOT_FOR_MANY = ("ejbca", "database", "fault_port")


class OpenCluster(t.NamedTuple):
    """A cluster, and one listening socket for each node."""

    cluster: Cluster
    sockets: list[socket.socket]


def open_folder(folder: Path, options: dict[str, t.Any], acquire: t.Callable[[Path], None]) -> list[OpenCluster]:
    """All clusters of the folder. `acquire` locks a cluster folder before it is used."""
    if (folder / MANY).exists() or (options.get("clusters") and not (folder / "cluster.json").exists()):
        return _open_many(folder, options, acquire)
    if options.get("clusters"):
        raise OperationError(f"{folder} contains a single cluster. Omit --clusters or use another folder.")
    if not is_first_start(folder):
        config = _config(folder, options)
        sockets = addresses.listen_all([(node.address, node.port) for node in config.nodes])
        cluster = Cluster(folder, config, Options.of(options))
        write_inventory(cluster)
        return [OpenCluster(cluster, sockets)]
    sockets = addresses.choose(_node_count(options), options.get("address_mode") or "auto", options.get("port") or 0)
    plan = _plan(options, sockets)
    return [OpenCluster(provision(folder, plan, Options.of(options)), sockets)]


def _open_many(folder: Path, options: dict[str, t.Any], acquire: t.Callable[[Path], None]) -> list[OpenCluster]:
    for name in NOT_FOR_MANY:
        if options.get(name) is not None and options[name] is not False:
            raise OperationError(f"--{name.replace('_', '-')} cannot be used with --clusters.")
    if not is_first_start(folder, MANY):
        folders = [folder / name for name in json.loads((folder / MANY).read_text(encoding="utf-8"))]
        if options.get("clusters") not in (None, len(folders)):
            raise OperationError(f"{folder} contains {len(folders)} clusters. Omit --clusters or use another folder.")
        for place in folders:
            acquire(place)
        configs = [_config(place, options) for place in folders]
        listening = addresses.listen_all([(node.address, node.port) for config in configs for node in config.nodes])
    else:
        count, nodes = options["clusters"], _node_count(options)
        if not 1 <= count <= MOST:
            raise OperationError(f"--clusters must be 1 to {MOST}.")
        folders = [folder / f"cluster{number:02d}" for number in range(1, count + 1)]
        listening = addresses.choose(
            nodes, options.get("address_mode") or "auto", options.get("port") or 0, clusters=count
        )
        plans = []
        for index, place in enumerate(folders):
            acquire(place)
            plan = _plan(options, listening[index * nodes : (index + 1) * nodes])
            plans.append(plan._replace(name=f"{plan.name}-{index + 1:02d}", first_serial=index * nodes + 1))
        _make_all(folders, plans, Options.of(options))
        configs = [ClusterConfig.load(place / "cluster.json") for place in folders]
    clusters = [Cluster(place, config, Options.of(options)) for place, config in zip(folders, configs, strict=True)]
    write_private(folder / "inventory.yml", inventory_of_all(clusters).encode())
    write_json(folder / MANY, [place.name for place in folders])
    left = iter(listening)
    return [OpenCluster(cluster, [next(left) for dummy in cluster.nodes]) for cluster in clusters]


def _make_all(folders: list[Path], plans: list[Plan], options: Options) -> None:
    """Create clusters in parallel, because the generation of RSA keys is slow."""
    workers = min(
        len(folders), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    context = multiprocessing.get_context("spawn")  # does not inherit sockets and locks
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent) as pool:
        for done in [pool.submit(_make, *job, options) for job in zip(folders, plans, strict=True)]:
            done.result()


def _end_with_parent() -> None:
    """End a worker whose parent process was killed."""

    def wait() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _make(folder: Path, plan: Plan, options: Options) -> None:
    os.umask(0o077)
    provision(folder, plan, options).close()


def _config(folder: Path, options: dict[str, t.Any]) -> ClusterConfig:
    """The content of cluster.json, updated with the options that may change later."""
    config = known = ClusterConfig.load(folder / "cluster.json")
    if options.get("nodes") not in (None, len(config.nodes)):
        raise OperationError(
            f"{folder} contains a cluster of {len(config.nodes)} nodes. Omit --nodes or use another folder."
        )
    hsm = HsmBackend.of(config.hsm.backend, options.get("module") or config.hsm.module)
    if options.get("hsm") not in (None, hsm.backend):
        raise OperationError(f"{folder} contains a cluster with the HSM backend {hsm.backend}. Omit --hsm.")
    config = replace(config, hsm=hsm)
    if options.get("profile") is not None:
        config = replace(config, profile=Behavior.check(options["profile"]))
    if options.get("no_api"):
        config = replace(config, without_api=[node.name for node in config.nodes])
    if config != known:
        config.save(folder / "cluster.json")
    return config


def _node_count(options: dict[str, t.Any]) -> int:
    nodes = options.get("nodes") or DEFAULT_NODES
    if not 1 <= nodes <= MOST:
        raise OperationError(f"A cluster must have 1 to {MOST} nodes.")
    return int(nodes)


def _plan(options: dict[str, t.Any], sockets: list[socket.socket]) -> Plan:
    nodes = len(sockets)
    joined, restored, keys = options.get("joined"), options.get("restored"), options.get("keys")
    if not 1 <= (nodes if joined is None else joined) <= nodes or not 1 <= (restored or 1) <= (
        nodes if joined is None else joined
    ):
        raise OperationError(
            "The options must satisfy 1 <= restored <= joined <= nodes, because node1 always has the keys."
        )
    return Plan(
        addresses=[server.getsockname() for server in sockets],
        joined=nodes if joined is None else joined,
        restored=1 if restored is None else restored,
        keys=DEFAULT_KEYS if keys is None else keys,
        key_mix=options.get("key_mix"),
        name=options.get("name") or "keyops",
        profile=Behavior.check(options.get("profile") or []),
        hsm=HsmBackend.of(options.get("hsm") or "software", options.get("module")),
        no_api=bool(options.get("no_api")),
    )


def inventory_of_all(clusters: list[Cluster]) -> str:
    """Ansible inventory with one group for each cluster and the hosts cluster01-node1 and so on."""
    lines = ["---", "# Simulated appliances. Written by `utrust-appliance up`.", "utrust:", "  children:"]
    for cluster in clusters:
        name = cluster.folder.name
        lines += [f"    {name}:", f"      vars: {{utrust_source: {name}-{next(iter(cluster.nodes))}}}", "      hosts:"]
        lines += ["    " + line for line in host_lines(cluster, prefix=f"{name}-")]
    return "\n".join(lines) + "\n"
