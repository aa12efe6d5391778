# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When keys arrived on a node, because nobody can have tested a key before. Private to keyops.utrust.

Tasks of a run hand the times to later tasks in a fact of the host. The audit trail has the times of earlier runs.
"""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import run_state
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.history import read_arrivals

#: Stands for every key, and for every host.
ANY: t.Final = "*"
FACT: t.Final = "_utrust_key_arrivals"

Arrivals = dict[str, str]


def with_arrivals(
    result: dict[str, t.Any], keys: t.Iterable[t.Mapping[str, t.Any]] | None, variables: t.Mapping[str, t.Any]
) -> dict[str, t.Any]:
    """Return the result of a task that changed keys, with the fact. `keys` None stands for every key of the node."""
    if result.get("failed") or not result.get("changed"):
        return result
    names = [ANY] if keys is None else [str(key["fingerprint"]) for key in keys]
    now = datetime.datetime.now(datetime.UTC).isoformat()
    return {**result, "ansible_facts": {FACT: {**_of_facts(variables), **dict.fromkeys(names, now)}}}


def key_arrivals(hosts: t.Mapping[str, t.Mapping[str, t.Any]], fingerprints: t.Collection[str]) -> dict[str, Arrivals]:
    """Return the latest known arrival of each key on each host. `hosts` are the variables of each host."""
    state = run_state.current_run()
    recorded = read_arrivals(state.file) if state is not None else {}
    found: dict[str, Arrivals] = {}
    for host, variables in hosts.items():
        sources = [_of_facts(variables), recorded.get(host, {}), recorded.get(ANY, {})]
        for fingerprint in fingerprints:
            times = [source[name] for source in sources for name in (fingerprint, ANY) if name in source]
            if times:
                found.setdefault(host, {})[fingerprint] = max(times, key=datetime.datetime.fromisoformat)
    return found


def _of_facts(variables: t.Mapping[str, t.Any]) -> Arrivals:
    facts = variables.get("ansible_facts") or {}
    return {str(name): str(time) for name, time in (facts.get(FACT) or {}).items()}
