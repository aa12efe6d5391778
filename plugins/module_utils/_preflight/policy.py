# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that say what an import may do to the keys of a target. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Params, Spec, parse_key_fingerprints
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.keys import Policy

#: What an import may do to the keys of a target. utrust_sync_plan has these options, too.
#: The action checks this option, on the controller.
AUDIT_SPEC: t.Final[Spec] = {
    "audit": {"type": "str", "choices": ["optional", "required"], "default": "optional"},
}
POLICY_SPEC: t.Final[Spec] = {
    # Key fingerprints are public: nothing here is secret.
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
    **AUDIT_SPEC,
}


def policy_of(params: Params) -> Policy:
    """Return what the options of POLICY_SPEC allow. Raises UtrustError (`option_invalid`)."""
    expected_new_keys = params["expected_new_keys"]
    if not params["wait_timeout"] > 0:
        raise UtrustError(
            f"wait_timeout: {params['wait_timeout']:g} is invalid. Set more than 0 seconds", code="option_invalid"
        )
    return Policy(
        keep_extra=params["extra_keys"] == "keep",
        allowed_extra_keys=parse_key_fingerprints("allowed_extra_keys", params["allowed_extra_keys"]),
        destroyed_keys=parse_key_fingerprints("destroyed_keys", params["destroyed_keys"]),
        expected_new_keys=parse_key_fingerprints("expected_new_keys", expected_new_keys)
        if expected_new_keys is not None
        else None,
        allow_replace=parse_key_fingerprints(
            "allow_replace", (entry["fingerprint"] for entry in params["allow_replace"])
        ),
        import_effect=params["import_effect"],
    )
