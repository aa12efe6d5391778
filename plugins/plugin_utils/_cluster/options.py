# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of utrust_preflight and utrust_sync_plan, which run on the controller only. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._operations.cluster_claim import CLAIM_SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._operations.cluster_info import READ_SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.cluster import INITIAL_SYNC, KEY_SYNC, RENEW_CA
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.policy import POLICY_SPEC
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.preflight import PreflightOptions

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Params, Spec

CONFIRMATION_SPEC: t.Final[Spec] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "subject": {"type": "str", "choices": ["backup"], "required": True},
        "node": {"type": "str", "required": True},
        "confirmed_by": {"type": "str", "required": True},
        "reason": {"type": "str", "required": True},
    },
}
#: Rules for the cluster, which both actions have.
CLUSTER_SPEC: t.Final[Spec] = {
    **READ_SPEC,
    **CLAIM_SPEC,
    "max_clock_skew": {"type": "float", "default": 60.0},
    "min_certificate_days": {"type": "float", "default": 14.0},
    "max_backup_hours": {"type": "float"},
    "manual_confirmations": CONFIRMATION_SPEC,
    "ignore_members": {"type": "list", "elements": "str", "default": []},
    "allow_outage": {"type": "bool", "default": False},
}
#: Options whose default depends on the transports of the nodes, and the reasons for weaker values.
DEFAULTS_SPEC: t.Final[Spec] = {
    "audit": {"type": "str", "choices": ["optional", "required"]},
    "reasons": {"type": "dict", "default": {}},
}
PREFLIGHT_SPEC: t.Final[Spec] = {
    **CLUSTER_SPEC,
    **DEFAULTS_SPEC,
    "operation": {"type": "str", "choices": [KEY_SYNC, INITIAL_SYNC, RENEW_CA], "default": KEY_SYNC},
    "cards_available": {"type": "int"},
    "hsm_serials": {"type": "dict", "default": {}},
    "strict_defaults": {"type": "bool", "default": False},
    "drain_tasks": {"type": "path"},
    "undrain_tasks": {"type": "path"},
    "ejbca_view": {"type": "bool"},
}
SYNC_SPEC: t.Final[Spec] = {
    **CLUSTER_SPEC,
    **POLICY_SPEC,
    **DEFAULTS_SPEC,
    "canary": {"type": "str"},
    "batch_size": {"type": "int"},
    "drain_tasks": {"type": "path"},
    "undrain_tasks": {"type": "path"},
    "settle_time": {"type": "float"},
    "health_check": {"type": "bool"},
    "operator_present": {"type": "bool", "default": False},
    "ejbca_view": {"type": "bool"},
    "ejbca_view_timeout": {"type": "float", "default": 150.0},
    "dest": {"type": "path"},
    "plan_dest": {"type": "path"},
    "plan": {"type": "path"},
    "plan_base64": {"type": "str"},
    "plan_required": {"type": "bool", "default": False},
    "requested_by": {"type": "str"},
    "approvals_required": {"type": "int"},
    "approvals": {"type": "path"},
    "approvals_base64": {"type": "str"},
    "approvers": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "accounts": {"type": "list", "elements": "str", "required": True},
            "public_key": {"type": "str", "required": True, "no_log": False},
        },
    },
}
#: A plan covers every other option. It names the source and the targets itself. The rest is how a run reads and waits, who allows it, and who records it.
NOT_IN_A_PLAN: t.Final = frozenset(
    {"source", "hosts", "max_parallel", "node_timeout", "wait_timeout", "claim", "claim_wait", "audit", "requested_by"}
    | {
        "plan",
        "plan_base64",
        "plan_dest",
        "plan_required",
        "approvals_required",
        "approvals",
        "approvals_base64",
        "approvers",
    }
    | {"ejbca_view", "ejbca_view_timeout", "reasons"}
)
SYNC_RULES: t.Final[Spec] = {"mutually_exclusive": [("plan", "plan_base64"), ("approvals", "approvals_base64")]}


def preflight_options(params: Params, managed: t.Iterable[str]) -> PreflightOptions:
    """Raises UtrustError (`option_invalid`). `managed` are the names of the nodes that are hosts of this run."""
    for name in ("max_clock_skew", "min_certificate_days", "max_backup_hours"):
        if params[name] is not None and not params[name] >= 0:
            raise UtrustError(f"{name}: {params[name]:g} is invalid. Set 0 or more", code="option_invalid")
    confirmed = set()
    for given in params["manual_confirmations"]:
        if not given["confirmed_by"].strip() or not given["reason"].strip():
            raise UtrustError(
                "manual_confirmations: confirmed_by or reason is blank. Set both in every entry", code="option_invalid"
            )
        confirmed.add(given["node"])
    return PreflightOptions(
        operation=params.get("operation", KEY_SYNC),
        max_clock_skew=params["max_clock_skew"],
        min_certificate_days=params["min_certificate_days"],
        max_backup_hours=params["max_backup_hours"],
        confirmed_backups=frozenset(confirmed),
        cards_available=params.get("cards_available"),
        # YAML reads a serial number of digits as a number.
        hsm_serials={host: str(serial).strip() for host, serial in params.get("hsm_serials", {}).items()},
        managed=frozenset(managed),
        ignored_members=frozenset(params["ignore_members"]),
    )
