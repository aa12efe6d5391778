# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Result of a plan, and a new plan as a later job gets it: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._package.manifest import make_manifest
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.policy import POLICY_SPEC
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.allow_list import DECLARED
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster import plan_file
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.sync import targets_of

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading

Arguments = dict[str, t.Any]


def plan_result(reading: ClusterReading, batches: list[list[str]], params: Arguments, plan: Arguments) -> Arguments:
    """Return the result of a plan without problems."""
    joined = [member for member in reading.source_node.members if member.joined]
    declared = {name: value for name, value in params.items() if name in DECLARED and name not in ("plan", "approvals")}
    return {
        "ansible_facts": {
            "_key_sync__audit": {
                **declared,
                "requester": plan["requested_by"],
                "plan_digest": plan["digest"],
                **{name: plan["changes"][name] for name in ("key_scope", "not_checked")},
            }
        },
        "plan": plan,
        "plan_digest": plan["digest"],
        "manifest": make_manifest(reading.source_node, reading.hsm_keys or ()).to_dict(),
        "members": [member.node for member in joined],
        "members_not_in_play": list(reading.members_not_read),
        "pending": [target.host for target in targets_of(reading) if target.pending],
        "batches": batches,
        "ejbca_view": params["ejbca_view"],
        "ejbca_view_timeout": params["ejbca_view_timeout"],
        # The imports use these options, so that no variable of a target can change what was planned.
        "import_options": {
            name: params[name]
            for name in (*POLICY_SPEC, "max_clock_skew", "allow_outage")
            if params.get(name) is not None
        },
        "targets": {
            target.host: {
                "pending": target.pending,
                "unchanged": target.difference.unchanged,
                "keys_digest": target.digest(reading.hsm_keys or ()),
                "difference": target.difference.to_dict(),
            }
            for target in targets_of(reading)
        },
    }


def handed_over(plan: Arguments) -> Arguments:
    """Return a new plan for a later job, as set_stats does. In a workflow of AWX, the next job gets these names as variables.

    Base64 text and a digest stay the same if Ansible evaluates them as templates.
    """
    text = plan_file.to_base64(plan)
    data = {"key_sync_plan_base64": text, "key_sync_plan_digest": plan["digest"]}
    return {"plan_base64": text, "ansible_stats": {"data": data, "per_host": False, "aggregate": True}}
