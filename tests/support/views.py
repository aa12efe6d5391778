# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""EJBCA views of the nodes of a cluster."""

from __future__ import annotations

import hashlib
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view import ClusterView, fold_views
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_read import ViewReading
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.identity import NodeIdentity
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import (
    EjbcaView,
    ViewKey,
    ViewProblem,
    ViewToken,
)

TOKEN = "SigningToken"


def fingerprint_of(name: str) -> str:
    return f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"


def view_key(alias: str, public_key: str | None = None, **changes: t.Any) -> ViewKey:
    """Return a row. Rows with the same `public_key` (default: the alias) are the same key pair."""
    name = public_key or alias
    key = ViewKey(alias, "ECDSA", "P-256 / prime256v1", fingerprint_of(name)[7:47], fingerprint_of(name))
    return key._replace(**changes)


def view_token(*keys: ViewKey, number: int = -7, **changes: t.Any) -> ViewToken:
    token = ViewToken(number, TOKEN, "PKCS11CryptoToken", "0", True, True, True, keys)
    return token._replace(**changes)


def view_of(*tokens: ViewToken, host: str = "node1") -> EjbcaView:
    return EjbcaView("8.2.0.1", host, "2026-11-26 07:50:26+00:00", tokens)


def identity(host: str, **changes: t.Any) -> NodeIdentity:
    return NodeIdentity(f"address of {host}", 443, fingerprint_of(host), host)._replace(**changes)


def reading(host: str, *tokens: ViewToken, **identity_changes: t.Any) -> ViewReading:
    return ViewReading(view_of(*tokens, host=host), identity(host, **identity_changes))


def unread(code: str = "ejbca_unreachable", *, left_out: bool = False) -> ViewReading:
    return ViewReading(problem=ViewProblem(code, f"text of {code}"), left_out=left_out)


def cluster_view(hsm: t.Mapping[str, t.Collection[str]] | None = None, /, **readings: ViewReading) -> ClusterView:
    """Return the views of nodes. The first node is the source. `hsm` has the key fingerprints of the HSMs that were read."""
    return fold_views(next(iter(readings)), readings, (hsm or {}).get)
