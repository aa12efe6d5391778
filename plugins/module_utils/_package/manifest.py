# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The manifest beside a Key Synchronization Package: what must be known about it. Private to keyops.utrust.

The package itself is opaque to this project and is never parsed. The manifest holds no secret.
"""

from __future__ import annotations

import dataclasses as dc
import datetime
import json
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance import schema
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey, Mbk, Node
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError, UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._keys import keys_digest

FORMAT = 1
SUFFIX = ".manifest.json"


@dc.dataclass(frozen=True)
class Manifest:
    """`sha256` and `size` are None while there is no package yet: a planned, as check mode gives it."""

    sha256: str | None
    size: int | None
    source: str
    source_serial: str
    cluster_id: str
    cluster_name: str
    appliance_version: str
    hsm_firmware: str
    mbk: Mbk
    inventory: tuple[HsmKey, ...]
    keys_digest: str
    created_at: str

    @property
    def planned(self) -> bool:
        return self.sha256 is None

    def to_dict(self) -> dict[str, t.Any]:
        inventory = [
            {name: value for name, value in dc.asdict(key).items() if name != "usable"} for key in self.inventory
        ]
        return {"format": FORMAT, **dc.asdict(self), "inventory": inventory}

    def as_json(self) -> bytes:
        return json.dumps(self.to_dict(), indent=1, sort_keys=True).encode() + b"\n"


def make_manifest(
    node: Node, inventory: tuple[HsmKey, ...], *, sha256: str | None = None, size: int | None = None
) -> Manifest:
    """The manifest of a package of this inventory; without digest and size a planned. The node must hold an MBK."""
    return Manifest(
        sha256=sha256,
        size=size,
        source=node.name,
        source_serial=node.hsm_serial,
        cluster_id=node.cluster_id,
        cluster_name=node.cluster_name,
        appliance_version=node.appliance_version,
        hsm_firmware=node.hsm_firmware,
        mbk=t.cast(Mbk, node.mbk),
        inventory=inventory,
        keys_digest=keys_digest(inventory),
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def read_manifest(document: t.Any, origin: str) -> Manifest:
    """Decode a manifest, strictly. Raises UtrustError (`manifest_invalid`) that names `origin` and what is wrong."""
    try:
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        sha256, size = document["sha256"], document["size"]
        if (sha256 is None) != (size is None):
            raise ValueError("sha256 and size belong together")
        manifest = Manifest(
            sha256=schema.get_str(document, "sha256") if sha256 is not None else None,
            size=schema.get_int(document, "size") if size is not None else None,
            mbk=schema.mbk(schema.get_field(document, "mbk", dict)),
            inventory=tuple(schema.hsm_key(row, usable=True) for row in schema.get_list(document, "inventory")),
            **{
                name: schema.get_str(document, name)
                for name in (
                    "source",
                    "source_serial",
                    "cluster_id",
                    "cluster_name",
                    "appliance_version",
                    "hsm_firmware",
                    "keys_digest",
                    "created_at",
                )
            },
        )
        if keys_digest(manifest.inventory) != manifest.keys_digest:
            raise ValueError("its inventory does not have the digest that it names")
    except (ApiError, KeyError, TypeError, ValueError) as exc:
        what = f"{exc} is missing" if isinstance(exc, KeyError) else exc
        raise UtrustError(
            f"reading the manifest {origin}: {what}; export the package again, a manifest is never edited by hand",
            code="manifest_invalid",
        ) from exc
    return manifest
