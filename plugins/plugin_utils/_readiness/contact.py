# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Contact nodes that have joined: one TLS connection without a request, and the plain health check of EJBCA. Private to keyops.utrust."""

from __future__ import annotations

import contextlib
import ssl
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._argspec import node_endpoint
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.parallel import Job, Limits, run_all
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.argspec import ejbca_endpoint
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._http import HttpsConnection
from ansible_collections.keyops.utrust.plugins.module_utils._http_response import NoResponseError
from ansible_collections.keyops.utrust.plugins.module_utils._runner import coded_errors

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._http import Peer

Options = t.Mapping[str, t.Any]
T = t.TypeVar("T")


class Contact(t.NamedTuple):
    """The server of a node, or why it was not reached. `route` is whether the error came before TLS."""

    peer: Peer | None = None
    error: UtrustError | None = None
    route: bool = False


class Health(t.NamedTuple):
    """Result of the plain health check. Without an `error`, EJBCA reports that all is well."""

    error: str | None


def contact_nodes(nodes: t.Mapping[str, Options], limits: Limits) -> dict[str, Contact | UtrustError]:
    """Connect to each node once. `nodes` has the validated connection options by inventory host."""
    return _run(nodes, _contact, limits)


def health_of_nodes(nodes: t.Mapping[str, Options], limits: Limits) -> dict[str, Health | UtrustError]:
    """Return the plain health check of each EJBCA."""
    return _run(nodes, _health, limits)


def _run(nodes: t.Mapping[str, Options], work: t.Callable[[Options], T], limits: Limits) -> dict[str, T | UtrustError]:
    def job(host: str, options: Options) -> Job[T]:
        def run() -> T:
            with coded_errors():  # an unexpected error of one node must not end the others
                return work(options)

        return Job(host, run, lambda: None)

    return run_all([job(host, options) for host, options in nodes.items()], limits)


def _contact(options: Options) -> Contact:
    try:
        connection = HttpsConnection(node_endpoint(options))
        return Contact(connection.connect())
    except NoResponseError as exc:
        tls = isinstance(exc.__cause__, ssl.SSLError)
        address = f"{options['host']}:{options['port']}"
        reason = f"connecting to {address}: {exc}. " + (
            "Check that this port supports TLS 1.2 or newer" if tls else "Check address, network and firewall"
        )
        return Contact(error=UtrustError(reason, code="node_unreachable"), route=not tls)
    except UtrustError as exc:
        return Contact(error=exc)


def _health(options: Options) -> Health:
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.rest import EjbcaRest

    with contextlib.closing(EjbcaRest(ejbca_endpoint(options), retries=options["retries"])) as ejbca:
        return Health(ejbca.health())
