# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of utrust_readiness, which runs on the controller only. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._operations.cluster_info import READ_SPEC
from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness.machine import (
    CORE_DUMPS,
    PACKAGE_DIRECTORY,
    SWAP,
)

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Params, Spec

BACKUP: t.Final = "backup"
READINESS_SPEC: t.Final[Spec] = {
    **READ_SPEC,
    "max_clock_skew": {"type": "float", "default": 60.0},
    "min_certificate_days": {"type": "float", "default": 14.0},
    "max_backup_hours": {"type": "float"},
    "manual_confirmations": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "subject": {"type": "str", "choices": [BACKUP, CORE_DUMPS, PACKAGE_DIRECTORY, SWAP], "required": True},
            "node": {"type": "str"},
            "confirmed_by": {"type": "str", "required": True},
            "reason": {"type": "str", "required": True},
        },
    },
    "proc_path": {"type": "path", "default": "/proc"},
    "record_dest": {"type": "path"},
    # The path of a file: the content is secret, the path is not.
    "signing_key": {"type": "path", "no_log": False},
    "made_by": {"type": "str"},
    "declared_by": {"type": "str"},
    "canary_key": {
        "type": "dict",
        "no_log": False,
        "options": {
            "crypto_token": {"type": "str", "required": True, "no_log": False},
            "alias": {"type": "str", "required": True},
        },
    },
}


class Confirmations(t.NamedTuple):
    """Text of each confirmation: of backups by the name of the node, of this machine by its step."""

    backups: dict[str, str]
    machine: dict[str, str]


def confirmations(params: Params) -> Confirmations:
    """Check options and return the confirmations. Raises UtrustError (`option_invalid`)."""
    for name in ("max_clock_skew", "min_certificate_days", "max_backup_hours"):
        if params[name] is not None and not params[name] >= 0:
            raise UtrustError(f"{name}: {params[name]:g} is invalid. Set 0 or more", code="option_invalid")
    found = Confirmations({}, {})
    for given in params["manual_confirmations"]:
        if not given["confirmed_by"].strip() or not given["reason"].strip():
            raise UtrustError(
                "manual_confirmations: confirmed_by or reason is blank. Set both in every entry", code="option_invalid"
            )
        text = f"{given['confirmed_by']} confirms: {given['reason']}"
        if given["subject"] != BACKUP:
            found.machine[given["subject"]] = text
        elif given["node"] is None:
            raise UtrustError(
                "manual_confirmations: the entry of a backup has no node. Set the name of the node",
                code="option_invalid",
            )
        else:
            found.backups[given["node"]] = text
    return found
