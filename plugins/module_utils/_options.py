# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Argument specifications, and from task arguments to the options of an operation. Private to keyops.utrust.

One specification serves a module and its action plugin alike.
"""

from __future__ import annotations

import re
import typing as t

from ansible.module_utils.basic import env_fallback
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._http import Endpoint
from ansible_collections.keyops.utrust.plugins.module_utils._operations.export import ExportOptions
from ansible_collections.keyops.utrust.plugins.module_utils._operations.import_ import ImportOptions
from ansible_collections.keyops.utrust.plugins.module_utils._operations.info import InfoOptions
from ansible_collections.keyops.utrust.plugins.module_utils._operations.restore import LONG_POLL, RestoreOptions, Source
from ansible_collections.keyops.utrust.plugins.module_utils._preflight import Policy
from ansible_collections.keyops.utrust.plugins.module_utils._wait import Patience

Spec = dict[str, t.Any]
Params = t.Mapping[str, t.Any]


def _env(name: str, **spec: t.Any) -> Spec:
    return {**spec, "fallback": (env_fallback, [name])}


def connection_spec() -> Spec:
    """Options of every module: where the node is and how both sides prove who they are."""
    return {
        "host": _env("UTRUST_HOST", type="str", required=True),
        "port": _env("UTRUST_PORT", type="int", default=443),
        # Paths of files; what is in them is secret, the paths are not.
        "client_cert": _env("UTRUST_CLIENT_CERT", type="path"),
        "client_key": _env("UTRUST_CLIENT_KEY", type="path", no_log=False),
        "bearer_token": _env("UTRUST_BEARER_TOKEN", type="str", no_log=True),
        "ca_file": _env("UTRUST_CA_FILE", type="path"),
        "tls_fingerprint": _env("UTRUST_TLS_FINGERPRINT", type="list", elements="str"),
        "expect_node": {"type": "str"},
        "members": {"type": "list", "elements": "str"},
        "transport": {"type": "str", "choices": ["rest"], "default": "rest"},
        "connect_timeout": _env("UTRUST_CONNECT_TIMEOUT", type="float", default=10.0),
        "timeout": _env("UTRUST_TIMEOUT", type="float", default=30.0),
        "max_clock_skew": _env("UTRUST_MAX_CLOCK_SKEW", type="float", default=60.0),
        "retries": _env("UTRUST_RETRIES", type="int", default=3),
    }


CONNECTION_RULES: t.Final[Spec] = {
    "required_one_of": [("client_cert", "bearer_token")],
    "required_by": {"client_key": ("client_cert",), "members": ("expect_node",)},
}


def info_spec() -> Spec:
    return {
        "gather": {
            "type": "list",
            "elements": "str",
            "choices": ["keys", "pin_pads", "restore"],
            "default": [],
        },
        "skip_keys_if_digest": {"type": "str", "no_log": False},
        "wait_for_members": {"type": "list", "elements": "str", "default": []},
        "wait_timeout": {"type": "float", "default": 600.0},
    }


def restore_spec() -> Spec:
    return {
        "state": {"type": "str", "choices": ["restored", "canceled"], "default": "restored"},
        "source": {"type": "dict"},
        # The name of a device, not a PIN.
        "pin_pad": {"type": "str", "no_log": False},
        "cards_required": {"type": "int"},
        "cards_total": {"type": "int"},
        "cards_available": {"type": "int"},
        "expect_hsm_serial": {"type": "str"},
        "restore_timeout": {"type": "float", "default": 1800.0},
    }


RESTORE_RULES: t.Final[Spec] = {
    "required_if": [("state", "restored", ("source", "pin_pad", "expect_node"))],
    "required_together": [("cards_required", "cards_total")],
}


def export_spec() -> Spec:
    return {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "dest": {"type": "path"},
        "force": {"type": "bool", "default": False},
        "keep_for": {"type": "int", "default": 14400},
        "expect_keys_digest": {"type": "str", "no_log": False},
    }


EXPORT_RULES: t.Final[Spec] = {"required_if": [("state", "present", ("expect_node",))]}


def import_spec() -> Spec:
    return {
        "src": {"type": "path"},
        "manifest": {"type": "dict"},
        "expect_keys_digest": {"type": "str", "no_log": False},
        # What to do about keys, and public fingerprints of keys: nothing here is secret.
        "extra_keys": {"type": "str", "choices": ["fail", "keep"], "default": "fail", "no_log": False},
        "allowed_extra_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
        "destroyed_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
        "expected_new_keys": {"type": "list", "elements": "str", "no_log": False},
        "allow_replace": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "fingerprint": {"type": "str", "required": True},
                "reason": {"type": "str", "required": True},
            },
        },
        "import_effect": {"type": "str", "choices": ["additive", "overwriting", "replacing"]},
        "wait_timeout": {"type": "float", "default": 600.0},
    }


IMPORT_RULES: t.Final[Spec] = {
    "required_one_of": [("src", "manifest")],
    "mutually_exclusive": [("src", "manifest")],
    "required_if": [],
    "required_by": {"src": ("expect_node",)},
}


def merged(*specs: Spec) -> Spec:
    """Rules of several specifications as keyword arguments: lists are joined, dicts united."""
    together: Spec = {}
    for spec in specs:
        for name, rule in spec.items():
            together[name] = (
                {**together.get(name, {}), **rule} if isinstance(rule, dict) else [*together.get(name, []), *rule]
            )
    return together


def check_member(params: Params) -> None:
    """Refuse a node that has not joined before anything is sent to it: a node that was contacted can no longer join."""
    members, node = params["members"], params["expect_node"]
    if members is not None and node not in members:
        raise UtrustError(
            f"contacting {node}: it is not among the nodes that have joined the cluster ({', '.join(members) or 'none'}), and a node that anybody has "
            "contacted can no longer join; nothing was sent. Join it in Webconf, page Cluster, first",
            code="node_not_joined",
        )


def endpoint(params: Params) -> Endpoint:
    """Where and as whom to connect. Raises UtrustError (`host_invalid`) for a URL, plain http above all."""
    host = params["host"].strip()
    if "/" in host or not host:
        raise UtrustError(
            f"host: {params['host']!r} is no host name or address; give the name alone, HTTPS is always used and plain http never",
            code="host_invalid",
        )
    for name in ("connect_timeout", "timeout"):
        if not params[name] > 0:
            raise UtrustError(f"{name}: must be more than 0 seconds, is {params[name]:g}", code="option_invalid")
    if params["retries"] < 0:
        raise UtrustError(f"retries: must be 0 or more, is {params['retries']}", code="option_invalid")
    return Endpoint(
        host=host.strip("[]"),
        port=params["port"],
        client_cert=params["client_cert"],
        client_key=params["client_key"],
        ca_file=params["ca_file"],
        tls_fingerprint=tuple(params["tls_fingerprint"] or ()),
        connect_timeout=params["connect_timeout"],
        timeout=params["timeout"],
    )


def info_options(params: Params) -> InfoOptions:
    return InfoOptions(
        expect_node=params["expect_node"],
        gather=tuple(params["gather"]),
        known_digest=params["skip_keys_if_digest"],
        wait_for_members=tuple(params["wait_for_members"]),
        patience=Patience(params["wait_timeout"]),
    )


def export_options(params: Params, owner_pid: int | None) -> ExportOptions:
    return ExportOptions(
        expect_node=params["expect_node"],
        dest=params["dest"],
        force=params["force"],
        owner_pid=owner_pid,
        keep_for=params["keep_for"],
        expect_keys_digest=params["expect_keys_digest"],
        max_clock_skew=params["max_clock_skew"],
    )


def _fingerprints(option: str, given: list[str]) -> frozenset[str]:
    """Fingerprints of keys. Raises UtrustError (`option_invalid`) for one that no key can have: it would silently allow or forbid nothing."""
    for fingerprint in given:
        if not re.fullmatch(r"sha256:[0-9a-f]{64}|kcv:[0-9a-f]{6}", fingerprint):
            raise UtrustError(
                f"{option}: {fingerprint!r} is no fingerprint of a key; nothing was changed. Copy it from a result: sha256: and 64 lower case digits, "
                "or kcv: and 6 for a secret key",
                code="option_invalid",
            )
    return frozenset(given)


def import_options(params: Params) -> ImportOptions:
    expected_new_keys = params["expected_new_keys"]
    return ImportOptions(
        expect_node=params["expect_node"],
        src=params["src"],
        manifest=params["manifest"],
        expect_keys_digest=params["expect_keys_digest"],
        policy=Policy(
            keep_extra=params["extra_keys"] == "keep",
            allowed_extra_keys=_fingerprints("allowed_extra_keys", params["allowed_extra_keys"]),
            destroyed_keys=_fingerprints("destroyed_keys", params["destroyed_keys"]),
            expected_new_keys=_fingerprints("expected_new_keys", expected_new_keys)
            if expected_new_keys is not None
            else None,
            allow_replace=_fingerprints("allow_replace", [entry["fingerprint"] for entry in params["allow_replace"]]),
            declared_effect=params["import_effect"],
        ),
        patience=Patience(params["wait_timeout"]),
        max_clock_skew=params["max_clock_skew"],
    )


def restore_options(params: Params) -> RestoreOptions:
    cards = (params["cards_required"], params["cards_total"]) if params["cards_required"] is not None else None
    return RestoreOptions(
        expect_node=params["expect_node"],
        source=Source.of(params["source"]) if params["source"] is not None else None,
        pin_pad=params["pin_pad"],
        cards=cards,
        # A long poll must be answered before the read times out.
        poll=min(LONG_POLL, params["timeout"] / 2),
        patience=Patience(params["restore_timeout"]),
        cards_available=params["cards_available"],
        expect_hsm_serial=params["expect_hsm_serial"],
        max_clock_skew=params["max_clock_skew"],
    )
