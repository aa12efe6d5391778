# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The facts of a node that a commissioning record has, as they are now. Private to keyops.utrust."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.health import HEALTH
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._http import normalize_fingerprint
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_PEM_BYTES
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.data_file import read_file
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.accounts import (
    ACCOUNTS,
    fingerprint_of,
    read_certificate,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._connection import is_blank

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Node

Facts = dict[str, t.Any]
Options = t.Mapping[str, t.Any]

#: Facts of every node of a record. None stands for an unknown fact.
PLAIN: t.Final = (
    *("cluster_id", "cluster_name", "name", "transport", "host", "port", "ca_sha256"),
    *("hsm_serial", "hsm_model", "hsm_firmware", "appliance_version", "mbk_check_value", "page_map"),
    *("import_effect", "restart"),
)
EJBCA: t.Final = ("host", "port", "tls_fingerprint", "ca_sha256", "host_name", "version", "health_path")


class EjbcaFacts(t.NamedTuple):
    """What page 0 of EJBCA shows of a node. None stands for an unknown fact."""

    host_name: str | None = None
    version: str | None = None


def node_facts(options: Options, variables: Options, node: Node, ejbca: EjbcaFacts) -> Facts:
    """Return the facts of a node. `options` are its validated connection options, `variables` those of its inventory host.

    Raises UtrustError (`tls_fingerprint_invalid`).
    """
    page_map = variables.get("utrust_page_map")
    return {
        "cluster_id": node.cluster_id,
        "cluster_name": node.cluster_name,
        "name": node.name,
        "transport": options["transport"],
        "page_map": None if is_blank(page_map) else str(page_map).strip(),
        **_address(options),
        "hsm_serial": node.hsm_serial,
        "hsm_model": node.hsm_model,
        "hsm_firmware": node.hsm_firmware,
        "appliance_version": node.appliance_version,
        "mbk_check_value": node.mbk.check_value if node.mbk is not None else None,
        "import_effect": node.import_behavior.effect,
        "restart": node.import_behavior.restart,
        "accounts": {account: certificate_fingerprint(path) for account, path in account_files(options, variables)},
        "ejbca": _ejbca(options.get("ejbca"), ejbca),
    }


def account_files(options: Options, variables: Options) -> t.Iterator[tuple[str, str | None]]:
    """Yield each account with the path of its client certificate, or None."""
    for account, name in ACCOUNTS.items():
        path = options.get("client_cert") if account == "webconf" else variables.get(name)
        yield account, None if is_blank(path) else str(path).strip()


def certificate_fingerprint(path: str | None) -> str | None:
    """Return the fingerprint of a client certificate, or None if it is not set or not readable."""
    with contextlib.suppress(UtrustError):
        return read_certificate(path).fingerprint if path is not None else None
    return None


def _address(options: Options) -> Facts:
    """Return address, pins and CA of a server. Pins are sorted, so that their order is not a change."""
    return {
        "host": str(options["host"]).strip(),
        "port": options["port"],
        "tls_fingerprint": sorted({normalize_fingerprint(pin) for pin in options.get("tls_fingerprint") or ()}),
        "ca_sha256": _sha256_of_ca(options.get("ca_file")),
    }


def _sha256_of_ca(path: str | None) -> str | None:
    if path is None:
        return None
    with contextlib.suppress(UtrustError):
        return fingerprint_of(read_file(path, "the CA file", limit=MAX_PEM_BYTES, code="ca_file_unreadable"))
    return None


def _ejbca(options: Options | None, found: EjbcaFacts) -> Facts | None:
    """Return the facts of EJBCA, or None if the account that reads EJBCA is not set."""
    return None if options is None else {**_address(options), **found._asdict(), "health_path": HEALTH}
