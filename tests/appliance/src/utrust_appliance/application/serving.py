# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The applications of a running cluster: where they listen, and what the control channel may ask of them.

D/application/settings.json says that a cluster has an application, on which ports and with which database. It stays for the next run.
"""

from __future__ import annotations

import json
import typing as t

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from utrust_appliance.addresses import listen_all
from utrust_appliance.application.authority import CA, TOKEN, Application, open_database
from utrust_appliance.application.certificates import as_pem
from utrust_appliance.application.errors import ApplicationError
from utrust_appliance.application.web import make_app
from utrust_appliance.errors import Refused
from utrust_appliance.files import write_json, write_private
from utrust_appliance.provision import ansible_inventory
from utrust_appliance.server import Site

if t.TYPE_CHECKING:
    from utrust_appliance.cluster import Cluster


def open_applications(cluster: Cluster, options: dict[str, t.Any]) -> list[Site]:
    """The sites of the nodes' applications; none where the cluster has no application."""
    folder = cluster.folder / "application"
    path = folder / "settings.json"
    url, known = options.get("database"), path.exists()
    if not (known or options.get("application") or url):
        return []
    settings = json.loads(path.read_text(encoding="utf-8")) if known else {"database": url, "ports": {}}
    if url not in (None, settings["database"]):
        raise Refused(
            f"the application of {cluster.folder} uses the database {settings['database'] or 'SQLite'}; leave --database out"
        )
    nodes = [node for node in cluster.nodes.values() if node.config.joined]
    database = open_database(folder, settings["database"])
    sockets = listen_all([(node.config.address, settings["ports"].get(node.name, 0)) for node in nodes])
    for node in nodes:
        cluster.applications[node.name] = Application(node, database)
        cluster.applications[node.name].start()
    cluster.closers.append(database.close)
    if not known:
        settings["ports"] = {node.name: server.getsockname()[1] for node, server in zip(nodes, sockets, strict=True)}
        write_private(cluster.folder / "inventory.yml", ansible_inventory(cluster, settings["ports"]).encode())
        write_json(path, settings)
    return [
        Site(node, server, make_app(cluster.applications[node.name]))
        for node, server in zip(nodes, sockets, strict=True)
    ]


def ports(cluster: Cluster) -> dict[str, int]:
    return t.cast(
        "dict[str, int]",
        json.loads((cluster.folder / "application" / "settings.json").read_text(encoding="utf-8"))["ports"],
    )


def operate(cluster: Cluster, node: str, operation: str, args: dict[str, t.Any]) -> t.Any:
    """An operation of the control channel on the application of one node."""
    cluster.node(node)  # refuses a name that it does not know
    application = cluster.applications.get(node)
    if application is None:
        raise Refused(
            f"{node} has no application; the cluster was started without --application, or {node} has not joined"
        )
    if operation not in _OPERATIONS:
        raise Refused(f"the application knows no operation {operation}")
    try:
        return _OPERATIONS[operation](application, **args)
    except ApplicationError as exc:
        raise Refused(str(exc)) from exc


def _status(application: Application) -> dict[str, t.Any]:
    code, text = application.health()
    node = application.node
    url = f"https://{node.config.address}:{ports(node.cluster)[node.name]}"
    return {**application.describe(), "url": url, "health": {"status": code, "text": text}}


def _issue(application: Application, *, ca: str = CA, common_name: str = "throw-away") -> dict[str, str]:
    """A certificate for a key that nobody keeps."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    made, issuer = application.issue(ca, request.public_bytes(Encoding.PEM).decode())
    return {"certificate": as_pem(made), "ca_certificate": as_pem(issuer)}


def _renew(application: Application, *, ca: str = CA, alias: str | None = None) -> dict[str, str]:
    return {"alias": application.renew(ca, alias).current_alias}


def _next(application: Application, *, alias: str | None, ca: str = CA) -> None:
    application.set_next_key(ca, alias)


def _create(application: Application, *, name: str, alias: str, in_health_check: bool = True) -> dict[str, str]:
    return {
        "ca_certificate": application.create(
            name, f"CN={name}", TOKEN, alias, in_health_check=in_health_check
        ).certificate
    }


def _activate(application: Application) -> None:
    """With the code that lies beside the database, for rehearsals only."""
    code = application.node.cluster.folder / "application" / "activation-code"
    application.activate(TOKEN, code.read_text(encoding="ascii").strip())


def _deactivate(application: Application) -> None:
    application.deactivate(TOKEN)


def _set(application: Application, **settings: bool | None) -> dict[str, t.Any]:
    return application.settings(TOKEN, **settings)


_OPERATIONS: dict[str, t.Callable[..., t.Any]] = {
    "status": _status,
    "issue": _issue,
    "renew": _renew,
    "next": _next,
    "create": _create,
    "activate": _activate,
    "deactivate": _deactivate,
    "set": _set,
}
