# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The servlet that returns the public key of a key pair."""

from __future__ import annotations

import re
import typing as t

from aiohttp import web

from utrust_appliance.ejbca.admin_web.facts import find_token
from utrust_appliance.ejbca.admin_web.spki import pem, with_explicit_parameters
from utrust_appliance.ejbca.errors import EjbcaError
from utrust_appliance.ejbca.roles import VIEW
from utrust_appliance.errors import OperationError

if t.TYPE_CHECKING:
    from utrust_appliance.ejbca.ejbca_node import EjbcaNode


def download(ejbca: EjbcaNode, rights: frozenset[str], query: t.Mapping[str, str]) -> tuple[int, str, bytes]:
    """Status, file name and PEM."""
    flags, alias = ejbca.state.flags, query.get("alias", "")
    if VIEW not in rights:
        return 403 if flags.since(7, 5) else 500, "", b""
    try:
        number = int(query.get("cryptoTokenId", ""))
    except ValueError:
        return 404, "", b""
    with ejbca.lock:
        token = find_token(ejbca, number)
        try:
            if token is None or alias in flags.unreadable:
                return 500, "", b""
            spki = token.public_key(alias)
            curve = token.curve(alias)
        except (EjbcaError, OperationError):
            return 500, "", b""
    ejbca.state.counters["downloads"] += 1
    content = pem(with_explicit_parameters(spki, curve) if flags.explicit_parameters else spki)
    return 200, re.sub(r"[^\w.-]", "", alias, flags=re.ASCII), content


def attachment(file_name: str, content: bytes) -> web.Response:
    response = web.Response(body=content, content_type="application/octet-stream")
    response.headers["Content-disposition"] = f' attachment; filename="{file_name}.pem"'
    return response
