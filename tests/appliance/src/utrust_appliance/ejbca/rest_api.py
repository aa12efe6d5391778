# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTTPS API of the simulated EJBCA of one node.

Paths under `/ejbca/` have the paths, members and errors of EJBCA. Paths under `/simulator/` do not exist in EJBCA and replace functions of its
Admin Web that the simulated pages do not have.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import typing as t

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from utrust_appliance import __version__
from utrust_appliance.ejbca.admin_web.site import admin_web
from utrust_appliance.ejbca.crypto_token import kind_of
from utrust_appliance.ejbca.errors import EjbcaError
from utrust_appliance.ejbca.front import at_front
from utrust_appliance.ejbca.health_api import health
from utrust_appliance.ejbca.roles import ACTIVATE, CLIENTS, DEACTIVATE, GENERATE, ISSUE, REMOVE, VIEW, rights_of
from utrust_appliance.ejbca.target import EJBCA, client_name, ejbca_of
from utrust_appliance.errors import ApiError
from utrust_appliance.keys import is_unicode
from utrust_appliance.web.middleware import NODE, authenticated, faulty, logged, set_server_header

if t.TYPE_CHECKING:
    from utrust_appliance.ejbca.ejbca_node import EjbcaNode

LOG = logging.getLogger(__name__)
REST = "/ejbca/ejbca-rest-api/v1"
HEALTH = "/ejbca/publicweb/healthcheck/ejbcahealth"
SIMULATOR = "/simulator"
CERTIFICATE_PROFILE, END_ENTITY_PROFILE = "ENDUSER", "EMPTY"
MAX_BODY = 64 * 1024
MAX_NAME = 100
ADMIN_WEB = "/ejbca/adminweb"
#: Method and last part of the path -> right. Other GET requests need the right to view, other requests the right to issue.
RIGHTS = {
    ("PUT", "activate"): ACTIVATE,
    ("PUT", "deactivate"): DEACTIVATE,
    ("POST", "generatekeys"): GENERATE,
    ("POST", "removekeys"): REMOVE,
}
Handler = t.Callable[[web.Request], t.Awaitable[web.StreamResponse]]


def make_app(ejbca: EjbcaNode) -> web.Application:
    app = web.Application(middlewares=[logged, faulty, at_front, handle_errors, check_client], client_max_size=MAX_BODY)
    app[NODE], app[EJBCA] = ejbca.node, ejbca
    app.on_response_prepare.append(set_server_header)
    app.router.add_route("*", ADMIN_WEB, admin_web)
    app.router.add_route("*", ADMIN_WEB + "/{tail:.*}", admin_web)
    for method, path, handler in ROUTES:
        app.router.add_route(method, path, handler)
    return app


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error_code": status, "error_message": message}, status=status)


@web.middleware
async def handle_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Convert all errors to the error format of EJBCA."""
    try:
        return await handler(request)
    except EjbcaError as exc:
        return _error(exc.status, str(exc))
    except ApiError as problem:
        return _error(problem.status, problem.detail)
    except web.HTTPRequestEntityTooLarge:
        return _error(413, f"the body has more than {MAX_BODY} bytes")
    except web.HTTPMethodNotAllowed:
        return _error(405, f"{request.path} does not support {request.method}")
    except web.HTTPNotFound:
        return _error(404, f"{request.path} does not exist")
    except (web.HTTPException, ConnectionError):
        raise
    except Exception:
        LOG.exception("%s: %s %s failed", request.app[NODE].name, request.method, request.path)
        return _error(500, "an unexpected error was logged on the node")


@web.middleware
async def check_client(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Require a registered client, except for the health check, which load balancers use without a login."""
    if request.path == HEALTH or request.path.startswith(ADMIN_WEB):
        return await handler(request)
    name = await client_name(request)
    flags = ejbca_of(request).state.flags
    if name is None or "Authorization" in request.headers or not (name in flags.roles or name in CLIENTS):
        return await authenticated(request, handler)
    request["client"] = name
    right = RIGHTS.get((request.method, request.path.rpartition("/")[2]), VIEW if request.method == "GET" else ISSUE)
    if right not in rights_of(name, flags):
        raise EjbcaError(403, f"The administrator CN={name} is not authorized to {right}")
    return await handler(request)


async def _body(request: web.Request) -> dict[str, t.Any]:
    try:
        data = json.loads(await request.text() or "{}")
    except (ValueError, RecursionError) as exc:
        raise EjbcaError(400, "the body is not JSON") from exc
    if not isinstance(data, dict):
        raise EjbcaError(400, "the body must be a JSON object")
    return data


def _text(data: dict[str, t.Any], name: str, limit: int = MAX_NAME) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= limit or not is_unicode(value):
        raise EjbcaError(400, f"{name} must be a text with 1 to {limit} Unicode characters")
    return value


def _maybe(data: dict[str, t.Any], name: str) -> str | None:
    return None if data.get(name) is None else _text(data, name)


# API of EJBCA


async def status(dummy_request: web.Request) -> web.Response:
    return web.json_response(
        {"status": "OK", "version": "1.0", "revision": f"utrust-appliance {__version__} (simulator)"}
    )


async def activate(request: web.Request) -> web.Response:
    code = _text(await _body(request), "activation_code")
    await asyncio.to_thread(ejbca_of(request).activate, request.match_info["token"], code)
    return web.Response()


async def deactivate(request: web.Request) -> web.Response:
    await asyncio.to_thread(ejbca_of(request).deactivate, request.match_info["token"])
    return web.Response()


async def generate_keys(request: web.Request) -> web.Response:
    data = await _body(request)
    alias, kind = _text(data, "key_pair_alias"), kind_of(_text(data, "key_alg"), _text(data, "key_spec"))
    await asyncio.to_thread(ejbca_of(request).generate, request.match_info["token"], alias, kind)
    return web.Response(status=201)


async def remove_keys(request: web.Request) -> web.Response:
    match = request.match_info
    await asyncio.to_thread(ejbca_of(request).remove, match["token"], match["alias"])
    return web.Response()


async def list_cas(request: web.Request) -> web.Response:
    known = await asyncio.to_thread(ejbca_of(request).authorities)
    return web.json_response(
        {
            "certificate_authorities": [
                {
                    "id": number,
                    "name": authority.name,
                    "subject_dn": authority.subject_dn,
                    "issuer_dn": authority.subject_dn,
                    "expiration_date": x509.load_pem_x509_certificate(authority.certificate.encode())
                    .not_valid_after_utc.isoformat()
                    .replace("+00:00", "Z"),
                }
                for number, authority in enumerate(known, start=1)
            ]
        }
    )


async def download_certificate(request: web.Request) -> web.Response:
    """Return the certificate chain of a CA, which is one certificate."""
    subject_dn = request.match_info["subject_dn"]
    for authority in await asyncio.to_thread(ejbca_of(request).authorities):
        if authority.subject_dn == subject_dn:
            return web.Response(text=authority.certificate, content_type="application/octet-stream")
    raise EjbcaError(404, f"A CA with the subject {subject_dn[:MAX_NAME]} does not exist")


async def pkcs10_enroll(request: web.Request) -> web.Response:
    data = await _body(request)
    for name, profile in (
        ("certificate_profile_name", CERTIFICATE_PROFILE),
        ("end_entity_profile_name", END_ENTITY_PROFILE),
    ):
        if _text(data, name) != profile:
            raise EjbcaError(404, f"The {name} {data[name]} does not exist. The simulator supports {profile}")
    for name in ("username", "password"):
        _text(data, name)
    ca, csr = _text(data, "certificate_authority_name"), _text(data, "certificate_request", MAX_BODY)
    made, issuer = await asyncio.to_thread(ejbca_of(request).issue, ca, csr)
    response: dict[str, t.Any] = {
        "certificate": _der(made),
        "serial_number": f"{made.serial_number:X}",
        "response_format": "DER",
    }
    if data.get("include_chain") is True:
        response["certificate_chain"] = [_der(issuer)]
    return web.json_response(response, status=201)


def _der(certificate: x509.Certificate) -> str:
    return base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()


# Functions of the Admin Web


async def describe(request: web.Request) -> web.Response:
    return web.json_response(await asyncio.to_thread(ejbca_of(request).describe))


async def create_ca(request: web.Request) -> web.Response:
    data = await _body(request)
    names = [_text(data, name) for name in ("name", "subject_dn", "crypto_token", "key_pair_alias")]
    await asyncio.to_thread(
        ejbca_of(request).create, *names, in_health_check=data.get("in_health_check", True) is not False
    )
    return web.json_response({}, status=201)


async def set_next_key(request: web.Request) -> web.Response:
    alias = _maybe(await _body(request), "key_pair_alias")
    await asyncio.to_thread(ejbca_of(request).set_next_key, request.match_info["ca"], alias)
    return web.json_response({})


async def renew_ca(request: web.Request) -> web.Response:
    alias = _maybe(await _body(request), "key_pair_alias")
    renewed = await asyncio.to_thread(ejbca_of(request).renew, request.match_info["ca"], alias)
    return web.json_response({"key_pair_alias": renewed.current_alias})


ROUTES = [
    ("GET", HEALTH, health),
    *(("GET", f"{REST}/{resource}/status", status) for resource in ("ca", "certificate", "cryptotoken")),
    ("PUT", f"{REST}/cryptotoken/{{token}}/activate", activate),
    ("PUT", f"{REST}/cryptotoken/{{token}}/deactivate", deactivate),
    ("POST", f"{REST}/cryptotoken/{{token}}/generatekeys", generate_keys),
    ("POST", f"{REST}/cryptotoken/{{token}}/{{alias}}/removekeys", remove_keys),
    ("GET", f"{REST}/ca", list_cas),
    ("GET", f"{REST}/ca/{{subject_dn}}/certificate/download", download_certificate),
    ("POST", f"{REST}/certificate/pkcs10enroll", pkcs10_enroll),
    ("GET", f"{SIMULATOR}/ejbca", describe),
    ("POST", f"{SIMULATOR}/ca", create_ca),
    ("PUT", f"{SIMULATOR}/ca/{{ca}}/next-key", set_next_key),
    ("POST", f"{SIMULATOR}/ca/{{ca}}/renew", renew_ca),
]
