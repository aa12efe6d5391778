# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Argument specifications of the modules that speak with EJBCA, and from task arguments to options. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._application import Profiles
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._http import Endpoint
from ansible_collections.keyops.utrust.plugins.module_utils._operations.prove import (
    LEVELS,
    ManualConfirmation,
    ProofOptions,
    WantedKey,
)
from ansible_collections.keyops.utrust.plugins.module_utils._operations.token_key import TokenKeyOptions
from ansible_collections.keyops.utrust.plugins.module_utils._wait import Patience

Spec = dict[str, t.Any]
Params = t.Mapping[str, t.Any]


def ejbca_spec(*, required: bool) -> Spec:
    """EJBCA is reached at another port, and often another address and login, than Webconf."""
    return {
        "type": "dict",
        "required": required,
        "options": {
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "default": 443},
            "client_cert": {"type": "path", "required": True},
            # Paths of files; what is in them is secret, the paths are not.
            "client_key": {"type": "path", "no_log": False},
            "ca_file": {"type": "path"},
            "tls_fingerprint": {"type": "list", "elements": "str"},
        },
    }


def ca_info_spec() -> Spec:
    return {"ejbca": ejbca_spec(required=True)}


def token_key_spec() -> Spec:
    # Names and kinds of keys: nothing here is secret.
    return {
        "ejbca": ejbca_spec(required=True),
        "crypto_token": {"type": "str", "required": True, "no_log": False},
        "slot": {"type": "int", "default": 0},
        "alias": {"type": "str", "required": True},
        "key_alg": {"type": "str", "choices": ["RSA", "EC"], "required": True, "no_log": False},
        "key_spec": {"type": "str", "required": True, "no_log": False},
        "wait_timeout": {"type": "float", "default": 60.0},
    }


def proof_spec() -> Spec:
    return {
        "ejbca": ejbca_spec(required=False),
        # Public facts of keys, not keys.
        "hsm_keys": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "no_log": False,
            "options": {
                "fingerprint": {"type": "str", "required": True},
                "label": {"type": "str", "required": True},
                "slot": {"type": "int", "required": True},
                "ca": {"type": "str"},
            },
        },
        "level": {"type": "str", "choices": list(LEVELS), "default": "sign"},
        "crypto_token": {"type": "str", "no_log": False},
        "reactivate": {"type": "bool", "default": False},
        "certificate_profile": {"type": "str", "default": "ENDUSER"},
        "end_entity_profile": {"type": "str", "default": "EMPTY"},
        "manual_confirmations": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "key": {"type": "str", "required": True, "no_log": False},
                "confirmed_by": {"type": "str", "required": True},
                "reason": {"type": "str", "required": True},
            },
        },
        "wait_timeout": {"type": "float", "default": 0.0},
    }


PROOF_RULES: t.Final[Spec] = {"required_if": [("reactivate", True, ("crypto_token", "ejbca"))]}


def endpoint(params: Params) -> Endpoint:
    """Raises UtrustError (`host_invalid`) for a URL, plain http above all."""
    given = params["ejbca"]
    host = given["host"].strip()
    if "/" in host or not host:
        raise UtrustError(
            f"ejbca.host: {given['host']!r} is no host name or address; give the name alone, HTTPS is always used and plain http never",
            code="host_invalid",
        )
    return Endpoint(
        host=host.strip("[]"),
        port=given["port"],
        client_cert=given["client_cert"],
        client_key=given["client_key"],
        ca_file=given["ca_file"],
        tls_fingerprint=tuple(given["tls_fingerprint"] or ()),
        connect_timeout=params["connect_timeout"],
        timeout=params["timeout"],
    )


def token_key_options(params: Params) -> TokenKeyOptions:
    return TokenKeyOptions(
        expect_node=params["expect_node"],
        crypto_token=params["crypto_token"],
        slot=params["slot"],
        alias=params["alias"],
        key_alg=params["key_alg"],
        key_spec=params["key_spec"],
        patience=Patience(params["wait_timeout"]),
    )


def proof_options(params: Params) -> ProofOptions:
    """Raises UtrustError (`option_invalid`) where a manual confirmation names nobody or gives no reason."""
    manual_confirmations = tuple(
        ManualConfirmation(given["key"], given["confirmed_by"].strip(), given["reason"].strip())
        for given in params["manual_confirmations"]
    )
    if any(not given.confirmed_by or not given.reason for given in manual_confirmations):
        raise UtrustError(
            "manual_confirmations: confirmed_by or reason is blank. Set both in every entry.", code="option_invalid"
        )
    return ProofOptions(
        expect_node=params["expect_node"],
        level=params["level"],
        wanted=tuple(
            WantedKey(key["fingerprint"], key["label"], key["slot"], key["ca"] or None) for key in params["hsm_keys"]
        ),
        crypto_token=params["crypto_token"],
        reactivate=params["reactivate"],
        profiles=Profiles(params["certificate_profile"], params["end_entity_profile"]),
        manual_confirmations=manual_confirmations,
        patience=Patience(params["wait_timeout"]),
    )
