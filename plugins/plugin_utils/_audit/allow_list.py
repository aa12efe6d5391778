# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names that may be in an audit record. Private to keyops.utrust.

To record a new result of a module, or a new fact of a role, add its name here and to docs/audit.md. A name with an empty allow-list stands for texts,
numbers and lists of them, and a dictionary below the name is dropped. Any other name stands for a dictionary with the listed names, or for a list of such
dictionaries.
"""

from __future__ import annotations

import typing as t

#: Maximum length of a text in an audit record.
MAX_LENGTH: t.Final = 500


class AllowList(dict[str, "AllowList"]):
    """Allowed names, each with the allow-list of the values below it."""


def _names(*names: str, **below: AllowList) -> AllowList:
    return AllowList({**dict.fromkeys(names, AllowList()), **below})


KEY = _names("slot", "label", "id", "type", "size", "curve", "fingerprint", "check_value_only", "usable")
MBK = _names("name", "check_value", "m", "n")
PACKAGE = _names("sha256", "size", "source", "key_count", "keys_digest", "elsewhere", mbk=MBK)
NODE = _names(
    "name",
    "appliance_version",
    "hsm_family",
    "hsm_model",
    "hsm_serial",
    "hsm_firmware",
    "hsm_state",
    "alarm_code",
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
    "ceremony_reference",
    "reactivate_nodes",
    "plan_digest",
    "record_digest",
    "batches",
    "key_scope",
    "not_checked",
    "refused",
    "members_not_in_play",
    "supported",
    "drained",
    nodes=_names("host", "name", "in_sync", node=NODE, problem=_names("code", "node")),
    node=NODE,
    claim=_names("holder", "ttl", "acquired_at", "expires_at"),
    mbk=MBK,
    added=KEY,
    extra=KEY,
    lost=KEY,
    unexpected=AllowList({**KEY, "node": AllowList()}),
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
    proof=_names("fingerprint", "label", "slot", "reached", "passed", "detail", "method", "view"),
    key_states=_names("node", "crypto_token", "alias", "fingerprint", "state"),
    reactivation_affects=_names("crypto_tokens", "cas", "key_bindings"),
    certificates=_names("ca", "serial_number", "username"),
    identity=_names("address", "port", "certificate_fingerprint", "host_name", "version", "server_time"),
)
#: Names in the record of a test signature.
SIGNATURE_TEST: t.Final = _names("crypto_token", "alias", "subject_key_id", "fingerprint", "result", "reason")
#: Names in the record of an option that is weaker than its default.
WEAKER_VALUE: t.Final = _names("option", "value", "default", "reason")
#: Names in the record of a key that an import has overwritten or removed.
DESTROYED_KEY: t.Final = AllowList({**KEY, **_names("node", "replaced_by", "reason", "by")})
#: Names in the record of a step that people confirmed.
CONFIRMED_STEP: t.Final = _names("node", "step", "confirmed_by", "origin", "sha256", "size", "hsm_serial")
#: Names in a fact that a role or playbook declares. The name of the fact ends in `__audit`.
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
    "ignore_members",
    "allow_outage",
    "operator_present",
    "import_effect",
    "cards_required",
    "cards_total",
    "cards_available",
    "hsm_serial_was_read",
    "level",
    "passed",
    "nodes",
    "key_scope",
    "not_checked",
    "excluded_members",
    approvals=_names("name", "time", "expires", "plan_digest", "signature"),
    manual_confirmations=_names("subject", "node", "key", "confirmed_by", "reason", "time"),
    allow_replace=_names("fingerprint", "reason"),
    cards=_names("serial", "holder"),
    hsm_keys=KEY,
)


def allowed(value: t.Any, allow_list: AllowList) -> t.Any:
    """The part of a value that the allow-list names."""
    if isinstance(value, t.Mapping):
        return {name: allowed(value[name], below) for name, below in allow_list.items() if name in value}
    if isinstance(value, (list, tuple)):
        # A dictionary among plain values is dropped, and a text among dictionaries is a message.
        return [allowed(item, allow_list) for item in value if isinstance(item, t.Mapping) == bool(allow_list)]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return type(value)(value) if type(value) in (int, float) else float(value)
    return str(value)[:MAX_LENGTH]
