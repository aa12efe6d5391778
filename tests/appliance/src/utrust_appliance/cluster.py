# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster: its stored configuration, and its nodes, cards and faults at run time."""

from __future__ import annotations

import asyncio
import json
import typing as t
from dataclasses import asdict, dataclass, field, fields, replace

from utrust_appliance.behavior import Behavior
from utrust_appliance.cards import CardStore
from utrust_appliance.claims import Claims
from utrust_appliance.errors import OperationError
from utrust_appliance.faults import Faults
from utrust_appliance.files import write_json
from utrust_appliance.hsm.backends import HsmBackend
from utrust_appliance.node import Node
from utrust_appliance.webconf.logins import Logins

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.ejbca.ejbca_node import EjbcaNode


@dataclass(frozen=True)
class NodeConfig:
    """The permanent facts of a node."""

    name: str
    address: str
    port: int
    serial: str
    joined: bool


@dataclass(frozen=True)
class ClusterConfig:
    """Content of D/cluster.json. `clients` and `tokens` are the SHA-256 of client certificates (DER) and of bearer tokens."""

    id: str
    name: str
    nodes: list[NodeConfig]
    clients: list[str]
    tokens: list[str]
    profile: list[str] = field(default_factory=list)
    hsm: HsmBackend = field(default_factory=HsmBackend)
    without_api: list[str] = field(default_factory=list)  # nodes whose appliance API is off

    def save(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> ClusterConfig:
        data = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            data["id"],
            data["name"],
            [NodeConfig(**node) for node in data["nodes"]],
            data["clients"],
            data["tokens"],
            data.get("profile", []),
            HsmBackend(**data.get("hsm", {})),
            data.get("without_api", []),
        )


@dataclass(frozen=True)
class Options:
    """Options of one run. They are not stored. Times are in seconds, sizes in bytes."""

    card_timeout: float = 120.0
    object_ttl: float = 900.0
    max_upload: int = 64 * 1024 * 1024
    session_timeout: float = 900.0
    restart_time: float = 3.0
    request_time: float = 600.0
    claim_second: float = 1.0  # a claim ends after `ttl` times this number
    faults: bool = False
    fault_port: int | None = None

    @classmethod
    def of(cls, data: dict[str, t.Any]) -> Options:
        known = {known.name for known in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known and value is not None})


class Cluster:
    """All objects of one cluster."""

    def __init__(self, folder: Path, config: ClusterConfig, options: Options) -> None:
        self.folder = folder
        self.config = config
        self.id = config.id
        self.name = config.name
        self.options = options
        self.behavior = Behavior.of(config.profile)
        self.faults = Faults(enabled=options.faults or options.fault_port is not None)
        self.cards = CardStore(folder / "cards")
        self.logins = Logins(folder)
        self.closing = asyncio.Event()
        self.nodes: dict[str, Node] = {}
        self.ejbca_nodes: dict[str, EjbcaNode] = {}
        self.closers: list[t.Callable[[], None]] = []
        for node in config.nodes:
            self.nodes[node.name] = Node(self, node, folder / "nodes" / node.name)
        self.claims = Claims(self)

    def node(self, name: str) -> Node:
        if name not in self.nodes:
            raise OperationError(f"The node {name} does not exist. Nodes: {', '.join(self.nodes)}.")
        return self.nodes[name]

    def set_profile(self, profile: list[str]) -> None:
        """Change the profile now, and store it in D for the next run."""
        self.behavior = Behavior.of(profile)
        self.config = replace(self.config, profile=list(profile))
        self.config.save(self.folder / "cluster.json")

    def set_api(self, names: t.Iterable[str], *, enabled: bool) -> None:
        """Turn the appliance API of nodes on or off now, and store it in D for the next run."""
        off = set(self.config.without_api)
        off = off - set(names) if enabled else off | set(names)
        self.config = replace(self.config, without_api=[name for name in self.nodes if name in off])
        self.config.save(self.folder / "cluster.json")

    def close(self) -> None:
        self.closing.set()
        self.claims.close()
        for node in self.nodes.values():
            node.restores.wake()
            node.close()
        for close in self.closers:
            close()
        self.cards.close()
