# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Manifest of a Key Synchronization Package. Private to keyops.utrust.

The collection never parses the package itself. The manifest contains no secret.
"""

from __future__ import annotations

import dataclasses as dc
import datetime
import hashlib
import json
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits
from ansible_collections.keyops.utrust.plugins.module_utils._appliance import fields, schema
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import (
    SCOPE_HSM,
    HsmKey,
    Mbk,
    Node,
)
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError, UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._keys import keys_digest

FORMAT = 1


@dc.dataclass(frozen=True)
class Manifest:
    """Content and origin of a package. Check mode returns a planned manifest, without `sha256` and `size`.

    With `elsewhere`, the package is where a person downloaded it, and this machine has the manifest only. `key_scope` says what `hsm_keys` are.
    """

    sha256: str | None
    size: int | None
    source: str
    source_serial: str
    cluster_id: str
    cluster_name: str
    appliance_version: str | None
    hsm_firmware: str | None
    mbk: Mbk
    hsm_keys: tuple[HsmKey, ...]
    keys_digest: str
    created_at: str
    key_scope: str = SCOPE_HSM
    elsewhere: bool = False

    @property
    def planned(self) -> bool:
        return self.sha256 is None

    def to_dict(self) -> dict[str, t.Any]:
        hsm_keys = [
            {name: value for name, value in dc.asdict(key).items() if name != "usable"} for key in self.hsm_keys
        ]
        return {"format": FORMAT, **dc.asdict(self), "hsm_keys": hsm_keys}

    def as_json(self) -> bytes:
        return json.dumps(self.to_dict(), indent=1, sort_keys=True).encode() + b"\n"

    @property
    def file_digest(self) -> str:
        """SHA-256 of the manifest as a file. An import requires it, so that nobody can edit the manifest between export and import."""
        return "sha256:" + hashlib.sha256(self.as_json()).hexdigest()


def make_manifest(
    node: Node, hsm_keys: tuple[HsmKey, ...], *, sha256: str | None = None, size: int | None = None
) -> Manifest:
    """Return the manifest of a package with these keys. Without digest and size the manifest is planned. The node must have an MBK."""
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
        hsm_keys=hsm_keys,
        keys_digest=keys_digest(hsm_keys),
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        key_scope=node.key_scope,
        elsewhere=node.sees_only_ejbca,
    )


def read_manifest(document: t.Any, origin: str) -> Manifest:
    """Return the manifest of a document. `origin` is part of the error message. Raises UtrustError (`manifest_invalid`)."""
    try:
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ValueError(f"the format is not {FORMAT}")
        sha256, size = document["sha256"], document["size"]
        if (sha256 is None) != (size is None):
            raise ValueError("only one of sha256 and size is set")
        manifest = Manifest(
            sha256=fields.get_match(document, "sha256", fields.DIGEST) if sha256 is not None else None,
            size=fields.get_int(document, "size", limits.MAX_PACKAGE_BYTES) if size is not None else None,
            mbk=schema.parse_mbk(fields.get_object(document, "mbk"), default=None),
            hsm_keys=tuple(
                schema.parse_key(row, usable=True) for row in fields.get_list(document, "hsm_keys", limits.MAX_KEYS)
            ),
            appliance_version=fields.get_optional_str(document, "appliance_version"),
            hsm_firmware=fields.get_optional_str(document, "hsm_firmware"),
            elsewhere=fields.get_bool(document, "elsewhere"),
            key_scope=fields.get_match(document, "key_scope", fields.WORD),
            **{
                name: fields.get_str(document, name)
                for name in (
                    "source",
                    "source_serial",
                    "cluster_id",
                    "cluster_name",
                    "keys_digest",
                    "created_at",
                )
            },
        )
        if keys_digest(manifest.hsm_keys) != manifest.keys_digest:
            raise ValueError("hsm_keys and keys_digest do not match")
    except (ApiError, KeyError, TypeError, ValueError) as exc:
        reason = f"{exc} is missing" if isinstance(exc, KeyError) else str(exc).removeprefix("reading a response: ")
        raise UtrustError(
            f"reading the manifest {origin}: {reason}. Export the package again, and do not edit the manifest",
            code="manifest_invalid",
        ) from exc
    return manifest
