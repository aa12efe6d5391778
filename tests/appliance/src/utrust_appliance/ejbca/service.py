# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Start of the simulated EJBCA of a cluster, and its operations of the control channel.

D/ejbca/settings.json has the ports and the database URL. It is kept for the next run.
"""

from __future__ import annotations

import json
import typing as t

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from utrust_appliance import pki
from utrust_appliance.addresses import listen_all
from utrust_appliance.ejbca.certificates import as_pem
from utrust_appliance.ejbca.ejbca_node import CA, TOKEN, EjbcaNode, open_database
from utrust_appliance.ejbca.errors import EjbcaError
from utrust_appliance.ejbca.flag_operations import FLAG_OPERATIONS
from utrust_appliance.ejbca.rest_api import make_app
from utrust_appliance.errors import OperationError
from utrust_appliance.files import write_json
from utrust_appliance.provision import write_inventory
from utrust_appliance.server import Site

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.cluster import Cluster


def open_ejbca_sites(cluster: Cluster, options: dict[str, t.Any]) -> list[Site]:
    """The EJBCA sites of the nodes. Empty if the cluster does not have EJBCA."""
    folder = cluster.folder / "ejbca"
    path = folder / "settings.json"
    url, known = options.get("database"), path.exists()
    if not (known or options.get("ejbca") or url):
        return []
    settings = json.loads(path.read_text(encoding="utf-8")) if known else {"database": url, "ports": {}}
    _make_clients(cluster.folder)
    if url not in (None, settings["database"]):
        raise OperationError(
            f"The EJBCA of {cluster.folder} uses the database {settings['database'] or 'SQLite'}. Omit --database."
        )
    nodes = [node for node in cluster.nodes.values() if node.config.joined]
    database = open_database(folder, settings["database"])
    sockets = listen_all([(node.config.address, settings["ports"].get(node.name, 0)) for node in nodes])
    for node in nodes:
        cluster.ejbca_nodes[node.name] = EjbcaNode(node, database)
        cluster.ejbca_nodes[node.name].start()
    cluster.closers.append(database.close)
    if not known:
        settings["ports"] = {node.name: server.getsockname()[1] for node, server in zip(nodes, sockets, strict=True)}
        write_json(path, settings)
        write_inventory(cluster)
    return [
        Site(node, server, make_app(ejbca := cluster.ejbca_nodes[node.name]), ejbca.client_auth)
        for node, server in zip(nodes, sockets, strict=True)
    ]


def _make_clients(folder: Path) -> None:
    """Client certificates for EJBCA only. Its roles match the common name, so the node itself does not accept these clients."""
    for name in ("ejbca-reader", "ejbca-operator"):
        certificate = folder / "clients" / f"{name}.pem"
        if not certificate.exists():
            ca = pki.read_identity(folder / "client-ca.pem", folder / "private" / "client-ca.key")
            pki.make_client(ca, name).write(certificate, certificate.with_suffix(".key"))


def ports(cluster: Cluster) -> dict[str, int]:
    return t.cast(
        "dict[str, int]",
        json.loads((cluster.folder / "ejbca" / "settings.json").read_text(encoding="utf-8"))["ports"],
    )


def operate(cluster: Cluster, node: str, operation: str, args: dict[str, t.Any]) -> t.Any:
    """Run an operation of the control channel on the EJBCA of a node."""
    cluster.node(node)  # rejects unknown names
    ejbca = cluster.ejbca_nodes.get(node)
    if ejbca is None:
        raise OperationError(
            f"{node} does not have EJBCA. The cluster was started without --ejbca, or {node} has not joined."
        )
    if operation not in _OPERATIONS:
        raise OperationError(f"The EJBCA operation {operation} does not exist.")
    try:
        return _OPERATIONS[operation](ejbca, **args)
    except EjbcaError as exc:
        raise OperationError(f"{exc}.") from exc


def _status(ejbca: EjbcaNode) -> dict[str, t.Any]:
    code, text = ejbca.health()
    node = ejbca.node
    url = f"https://{node.config.address}:{ports(node.cluster)[node.name]}"
    return {**ejbca.describe(), "url": url, "health": {"status": code, "text": text}}


def _issue(ejbca: EjbcaNode, *, ca: str = CA, common_name: str = "test") -> dict[str, str]:
    """Issue a test certificate for a temporary key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    made, issuer = ejbca.issue(ca, request.public_bytes(Encoding.PEM).decode())
    return {"certificate": as_pem(made), "ca_certificate": as_pem(issuer)}


def _renew(ejbca: EjbcaNode, *, ca: str = CA, alias: str | None = None) -> dict[str, str]:
    return {"alias": ejbca.renew(ca, alias).current_alias}


def _next_key(ejbca: EjbcaNode, *, alias: str | None, ca: str = CA) -> None:
    ejbca.set_next_key(ca, alias)


def _create_ca(ejbca: EjbcaNode, *, name: str, alias: str, in_health_check: bool = True) -> dict[str, str]:
    return {
        "ca_certificate": ejbca.create(name, f"CN={name}", TOKEN, alias, in_health_check=in_health_check).certificate
    }


def _activate(ejbca: EjbcaNode, *, token: str = TOKEN, code: str | None = None) -> None:
    """Activate the crypto token. Without a code, use the stored activation code, for rehearsals only."""
    stored = ejbca.node.cluster.folder / "ejbca" / "activation-code"
    ejbca.activate(token, stored.read_text(encoding="ascii").strip() if code is None else code)


def _deactivate(ejbca: EjbcaNode, *, token: str = TOKEN) -> None:
    ejbca.deactivate(token)


def _set(ejbca: EjbcaNode, *, token: str = TOKEN, **settings: t.Any) -> dict[str, t.Any]:
    return ejbca.settings(token, **settings)


_OPERATIONS: dict[str, t.Callable[..., t.Any]] = {
    "status": _status,
    "issue": _issue,
    "renew": _renew,
    "next_key": _next_key,
    "create_ca": _create_ca,
    "activate": _activate,
    "deactivate": _deactivate,
    "set": _set,
    **FLAG_OPERATIONS,
}
