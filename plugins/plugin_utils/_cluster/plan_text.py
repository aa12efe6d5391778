# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plan as lines of text, for the people who approve the plan: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.transport import not_checked_line
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable

Document = t.Mapping[str, t.Any]


def describe_plan(plan: Document) -> list[str]:
    """Return a line for each change with the nodes that it concerns. Nothing is left out, because people approve what they read."""
    changes, mbk = plan["changes"], plan["changes"]["mbk"]
    source = f"source: {changes['source']['node']} (HSM {changes['source']['hsm_serial']})"
    lines = [f"{source}, MBK {mbk['name']} ({mbk['check_value']})" if mbk is not None else source]
    if changes.get("commissioning") is not None:
        lines.append(f"commissioning record: {escape_unprintable(changes['commissioning'])}")
    hosts: dict[str, list[str]] = {}
    for target in changes["targets"].values():
        for key in target["add"]:
            hosts.setdefault(f"add {_key(key)}", []).append(target["host"])
        for pair in target["replace"]:
            text = f"REPLACE {_key(pair['target_key'])} by {_key(pair['source_key'])}"
            hosts.setdefault(text, []).append(target["host"])
        for key in target["kept"]:
            hosts.setdefault(f"keep {_key(key)}", []).append(target["host"])
    lines += [f"{text} on {', '.join(names)}" for text, names in hosts.items()]
    order = [" and ".join(batch) for batch in changes["batches"]]
    lines += [f"order: {', then '.join(order)}"] if order else []
    options = {
        name: value for name, value in changes["options"].items() if value is not False and value not in (None, [])
    }
    if changes.get("change_reference"):
        lines.append(f"change reference: {escape_unprintable(changes['change_reference'])}")
    if out := changes.get("out_of_traffic"):
        lines.append(f"out of traffic, so their health is not checked: {escape_unprintable(', '.join(out))}")
    lines += [
        escape_unprintable(
            f"{value['option']} is weaker than its default: {json.dumps(value['value'])} instead of {json.dumps(value['default'])}. Reason: {value['reason']}"
        )
        for value in changes.get("weaker_values", ())
    ]
    lines += not_checked_line([escape_unprintable(str(check)) for check in changes.get("not_checked") or ()])
    return [*lines, "options: " + escape_unprintable(json.dumps(options, sort_keys=True))]


def name_plan(plan: Document) -> str:
    """Return the line that names a plan, its requester and its digest."""
    requester = escape_unprintable(f"{plan['requested_by']} (account {plan['requester_account']})")
    return f"plan of {requester} at {escape_unprintable(plan['requested_at'])}: {plan['digest']}"


def _key(key: Document) -> str:
    return str(HsmKey.from_dict({"usable": True, **key}))
