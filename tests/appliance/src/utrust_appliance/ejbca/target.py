# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The EJBCA that responds to a request, and the client of the request."""

from __future__ import annotations

import asyncio
import ssl
import time
import typing as t

from aiohttp import web

if t.TYPE_CHECKING:
    from utrust_appliance.ejbca.ejbca_node import EjbcaNode

EJBCA: web.AppKey[EjbcaNode] = web.AppKey("ejbca")
LATE_SECONDS = 10.0


def ejbca_of(request: web.Request) -> EjbcaNode:
    """The EJBCA of this node, or the one to which a virtual address forwards the request."""
    own = request.app[EJBCA]
    other = own.state.flags.vip
    return own.node.cluster.ejbca_nodes[other] if other else own


async def client_name(request: web.Request) -> str | None:
    """The common name of the client certificate, or None."""
    tls = request.transport.get_extra_info("ssl_object") if request.transport else None
    if tls is None:
        return None
    if not tls.getpeercert() and request.app[EJBCA].state.flags.client_auth == "late":
        await _ask_late(request, tls)
    certificate = tls.getpeercert() or {}
    subject = dict(pair for rdn in certificate.get("subject", ()) for pair in rdn)
    return subject.get("commonName")


async def _ask_late(request: web.Request, tls: ssl.SSLObject) -> None:
    """Ask for the certificate after the request line (TLS 1.3 post-handshake authentication). Without support of the client, the connection ends."""
    try:
        tls.verify_client_post_handshake()
        tls.do_handshake()
    except ssl.SSLError as exc:
        if request.transport:
            request.transport.abort()
        raise ConnectionResetError("the client does not support post-handshake authentication") from exc
    protocol: t.Any = getattr(
        request.transport, "_ssl_protocol", None
    )  # asyncio does not offer to send a pending record
    protocol._process_outgoing()
    end = time.monotonic() + LATE_SECONDS
    while not tls.getpeercert() and time.monotonic() < end and request.transport and not request.transport.is_closing():
        await asyncio.sleep(0.005)
