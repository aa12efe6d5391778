# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What may get into the audit file: names that are listed here, and nothing else. Private to keyops.utrust.

To record a new result of a module, or a new fact of a role, add its name here and to docs/audit.md. A name with an empty shape stands for texts, numbers
and lists of them; a dictionary below it is dropped. A name with a shape stands for a dictionary with those names, or a list of such.
"""

from __future__ import annotations

import re
import typing as t

#: A text in the audit file is at most so long.
LONGEST: t.Final = 500


class AllowList(dict[str, "AllowList"]):
    """Names that may stay, each with the shape of what is below it."""


def _names(*names: str, **shapes: AllowList) -> AllowList:
    return AllowList({**dict.fromkeys(names, AllowList()), **shapes})


KEY = _names("slot", "label", "id", "type", "size", "curve", "fingerprint", "check_value_only", "usable")
MBK = _names("name", "check_value", "m", "n")
PACKAGE = _names("sha256", "size", "source", "key_count", "keys_digest", mbk=MBK)
NODE = _names(
    "name",
    "appliance_version",
    "hsm_model",
    "hsm_serial",
    "hsm_firmware",
    "hsm_state",
    "alarm",
    "fips",
    "clock",
    "key_count",
    "unusable_key_count",
    "keys_digest",
    "cluster_id",
    "cluster_name",
    mbk=MBK,
)
RESULT: t.Final = _names(
    "hsm_serial",
    "hsm_state",
    "key_count",
    "unusable_key_count",
    "keys_digest_before",
    "keys_digest",
    "in_sync",
    "pending",
    "unchanged",
    "check_value_only",
    "verified",
    "code",
    "restore_id",
    "events",
    "removed_stale",
    "executed_on",
    "passed",
    "reactivated",
    node=NODE,
    mbk=MBK,
    added=KEY,
    extra=KEY,
    lost=KEY,
    hsm_key=KEY,
    replaced=_names(source_key=KEY, target_key=KEY),
    package=PACKAGE,
    removed=PACKAGE,
    problems=_names("code", "node"),
    restore=_names("id", "pin_pad", "source"),
    preview=_names(
        "node",
        "hsm_serial",
        "tls_fingerprint",
        "source",
        "source_key_count",
        "source_keys_digest",
        "cards_required",
        "cards_total",
        mbk=MBK,
        pin_pad=_names("name", "kind"),
    ),
    proof=_names("fingerprint", "label", "slot", "reached", "passed", "detail"),
    certificates=_names("ca", "serial_number", "username"),
)
#: What roles and playbooks declare in a fact whose name ends in `__audit`.
DECLARED: t.Final = _names(
    "requester",
    "requested_by",
    "requested_at",
    "source",
    "plan",
    "plan_digest",
    "approvals_required",
    "extra_keys",
    "allowed_extra_keys",
    "destroyed_keys",
    "expected_new_keys",
    "ignored_members",
    "allow_outage",
    "import_effect",
    "cards_required",
    "cards_total",
    "cards_available",
    "hsm_serial_was_read",
    "level",
    "passed",
    "nodes",
    "excluded_members",
    approvals=_names("name", "time", "plan_digest", "signature"),
    manual_confirmations=_names("subject", "node", "key", "confirmed_by", "reason", "time"),
    allow_replace=_names("fingerprint", "reason"),
    cards=_names("serial", "holder"),
    hsm_keys=KEY,
)
#: What AWX and the automation controller tell a job about itself; the older names begin with tower_.
CONTROLLER: t.Final = ("job_id", "job_template_name", "workflow_job_id", "project_revision", "inventory_name")

EVENTS: t.Final = {
    "utrust_hsm_info": "node_read",
    "utrust_hsm_restore": "hsm_restored",
    "utrust_ksp_export": "package_exported",
    "utrust_ksp_import": "keys_imported",
    "utrust_key_proof": "keys_verified",
    "ejbca_key": "key_generated",
    "ejbca_ca_info": "cas_read",
}


def event_of(module: str, result: t.Mapping[str, t.Any], *, check_mode: bool) -> str:
    """The name of the event that a module's result stands for."""
    if check_mode and not module.endswith("_info"):
        return "check_mode_result"
    if "removed" in result:
        return "package_removed"
    return EVENTS.get(module, module)


def public(value: t.Any, shape: AllowList) -> t.Any:
    """The part of a value that its shape lets through."""
    if isinstance(value, t.Mapping):
        return {name: public(value[name], below) for name, below in shape.items() if name in value}
    if isinstance(value, (list, tuple)):
        # A dictionary in a list that should hold none leaves nothing behind.
        return [public(item, shape) for item in value if shape or not isinstance(item, t.Mapping)]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return type(value)(value) if type(value) in (int, float) else float(value)
    return str(value)[:LONGEST]


def codes(message: t.Any) -> list[str]:
    """The stable codes in a failure's message, which itself is not recorded."""
    return list(dict.fromkeys(re.findall(r"\[([a-z][a-z0-9_]*)\]", str(message))))
