# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connection options that every module shares. Private to keyops.utrust.

An operation states its own options in its file under `_operations`.
"""

from __future__ import annotations

import re
import typing as t

from ansible.module_utils.common.parameters import env_fallback
from ansible.module_utils.errors import AnsibleFallbackNotFound
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.claim import TOKEN
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.transports import TRANSPORTS
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.suboptions import UNREAD_OPTION, ejbca_option
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._http import Endpoint
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_RETRIES, MAX_TIMEOUT
from ansible_collections.keyops.utrust.plugins.module_utils._secrets import is_header_token

Spec = dict[str, t.Any]
Params = t.Mapping[str, t.Any]


def _set_in_environment(name: str) -> str:
    value = str(env_fallback(name))
    if not value.strip():  # blank text is "not set", as everywhere
        raise AnsibleFallbackNotFound
    return value


def _env(name: str, **spec: t.Any) -> Spec:
    return {**spec, "fallback": (_set_in_environment, [name])}


CONNECTION_SPEC: t.Final[Spec] = {
    "host": {"type": "str", "required": True},
    "port": {"type": "int", "default": 443},
    # Paths of files: the content is secret, the paths are not.
    "client_cert": _env("UTRUST_CLIENT_CERT", type="path"),
    "client_key": _env("UTRUST_CLIENT_KEY", type="path", no_log=False),
    "bearer_token": _env("UTRUST_BEARER_TOKEN", type="str", no_log=True),
    "bearer_token_file": _env("UTRUST_BEARER_TOKEN_FILE", type="path", no_log=False),
    "ca_file": _env("UTRUST_CA_FILE", type="path"),
    "tls_fingerprint": {"type": "list", "elements": "str"},
    "expect_node": {"type": "str"},
    "members": {"type": "list", "elements": "str"},
    "cluster_claim": {"type": "str", "no_log": True},
    "transport": {"type": "str", "choices": sorted(TRANSPORTS), "default": "rest"},
    "declared": {"type": "dict"},
    "page_map": {"type": "str"},
    # The action sets this option, for a transport whose keys are those of the EJBCA view.
    "assisted": {
        "type": "dict",
        "options": {
            "ejbca": ejbca_option(required=False),
            "ejbca_unread": UNREAD_OPTION,
            "members": {"type": "list", "elements": "dict"},
        },
    },
    "connect_timeout": _env("UTRUST_CONNECT_TIMEOUT", type="float", default=10.0),
    "timeout": _env("UTRUST_TIMEOUT", type="float", default=30.0),
    "max_clock_skew": _env("UTRUST_MAX_CLOCK_SKEW", type="float", default=60.0),
    "retries": _env("UTRUST_RETRIES", type="int", default=3),
}
CONNECTION_RULES: t.Final[Spec] = {
    "required_if": [("transport", "rest", ("client_cert", "bearer_token", "bearer_token_file"), True)],
    "required_by": {"client_key": ("client_cert",), "members": ("expect_node",)},
}


def merge_rules(*rules: Spec) -> Spec:
    """Merge the rules of several specifications to keyword arguments of AnsibleModule."""
    merged: Spec = {}
    for rule in rules:
        for name, value in rule.items():
            merged[name] = (
                {**merged.get(name, {}), **value} if isinstance(value, dict) else [*merged.get(name, []), *value]
            )
    return merged


def check_joined(params: Params) -> None:
    """Reject a node that has not joined, before any request. A node that was contacted can no longer join.

    Raises UtrustError (`node_not_joined`).
    """
    members, node = params["members"], params["expect_node"]
    if members is not None and node not in members:
        raise UtrustError(
            f"contacting {node}: the node is not a joined member of the cluster (members: {', '.join(members) or 'none'}). "
            "A node that was contacted can no longer join. Nothing was sent. Let the node join in Webconf, page Cluster, first",
            code="node_not_joined",
        )


#: The largest port number of TCP.
MAX_PORT = 65535


def node_endpoint(params: Params) -> Endpoint:
    """Return where the appliance is and how both sides authenticate. Raises UtrustError (`host_invalid`, `option_invalid`)."""
    return make_endpoint(params, params, "")


def make_endpoint(params: Params, login: Params, prefix: str) -> Endpoint:
    """Return the endpoint of a server. `login` holds its address and credentials, `params` the timeouts.

    `prefix` is the name of the option that holds `login`, for messages. Raises UtrustError (`host_invalid`, `option_invalid`).
    """
    host = login["host"].strip()
    if not re.fullmatch(r"[^/?#@\s\x00-\x1f\x7f]{1,255}", host):
        raise UtrustError(
            f"{prefix}host: {login['host']!r} is not a valid host name or address. Omit scheme and path. HTTPS is always used",
            code="host_invalid",
        )
    if not 0 < login["port"] <= MAX_PORT:
        raise UtrustError(f"{prefix}port: {login['port']} is invalid. Set 1 to {MAX_PORT}", code="option_invalid")
    for name in ("connect_timeout", "timeout"):
        if not 0 < params[name] <= MAX_TIMEOUT:
            raise UtrustError(
                f"{name}: {params[name]:g} is invalid. Set more than 0 and at most {MAX_TIMEOUT:g} seconds",
                code="option_invalid",
            )
    if not 0 <= params["retries"] <= MAX_RETRIES:
        raise UtrustError(
            f"retries: {params['retries']} is invalid. Set 0 or more, and at most {MAX_RETRIES}", code="option_invalid"
        )
    _check_bearer_token(params.get("bearer_token"))
    _check_claim_token(params.get("cluster_claim"))
    return Endpoint(
        host=host.strip("[]"),
        port=login["port"],
        client_cert=login["client_cert"],
        client_key=login["client_key"],
        ca_file=login["ca_file"],
        tls_fingerprint=tuple(login["tls_fingerprint"] or ()),
        connect_timeout=params["connect_timeout"],
        timeout=params["timeout"],
    )


def _check_bearer_token(token: str | None) -> None:
    """Raise UtrustError (`option_invalid`) for a token that a header cannot carry. The message does not quote the token."""
    if token is not None and not is_header_token(token):
        raise UtrustError(
            "bearer_token: the token has a blank, a line end or another character that is not allowed in a token. Nothing was sent. "
            "Check the end of the value: a block in a vault file often ends with a line end",
            code="option_invalid",
        )


def _check_claim_token(token: str | None) -> None:
    """Raise UtrustError (`option_invalid`) for a token that the contract does not allow. The message does not quote the token."""
    if token is not None and not TOKEN.fullmatch(token):
        raise UtrustError(
            "cluster_claim: the token is invalid. Nothing was sent. Remove this option, because the run creates the token itself",
            code="option_invalid",
        )


def parse_key_fingerprints(option: str, given: t.Iterable[str]) -> frozenset[str]:
    """Return key fingerprints. Raises UtrustError (`option_invalid`) for an invalid value, because the value would match no key."""
    found = frozenset(given)
    for fingerprint in sorted(found):
        if not re.fullmatch(r"sha256:[0-9a-f]{64}|kcv:[0-9a-f]{6}", fingerprint):
            raise UtrustError(
                f"{option}: {fingerprint!r} is not a key fingerprint. Nothing was changed. "
                "Copy the key fingerprint from a result: sha256: and 64 lowercase digits, or kcv: and 6 digits for a secret key",
                code="option_invalid",
            )
    return found
