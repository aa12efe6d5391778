# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which nodes get requests from the load balancer, and which nodes this run has drained. Private to keyops.utrust.

A file in the private directory of the run marks a drained node, because facts of a host do not say whether they are of this run.
"""

from __future__ import annotations

import hashlib
import typing as t

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._run import life
from ansible_collections.keyops.utrust.plugins.plugin_utils._connection import is_blank
from ansible_collections.keyops.utrust.plugins.plugin_utils._run_directory import find_run_directory, open_run_directory


def gets_traffic(of_host: t.Mapping[str, t.Any]) -> bool:
    """Whether the load balancer may send requests to a node. Raises UtrustError (`option_invalid`)."""
    value = of_host.get("utrust_traffic")
    if is_blank(value):
        return True
    try:
        return boolean(value)
    except TypeError as exc:
        raise UtrustError(
            f"the variable utrust_traffic of {of_host['inventory_hostname']} is {value!s:.40}, which is not a boolean. Nothing was done. Set true or false",
            code="option_invalid",
        ) from exc


def mark_drained(host: str) -> None:
    """Mark a node as drained. Raises UtrustError if the run has no private directory."""
    (open_run_directory(life.run_pid()).path / _mark(host)).touch()


def unmark_drained(host: str) -> None:
    """Remove the mark of a node."""
    directory = find_run_directory(life.run_pid())
    if directory is not None:
        (directory / _mark(host)).unlink(missing_ok=True)


def drained_hosts(hosts: t.Iterable[str]) -> list[str]:
    """Return the hosts that this run has drained and not undrained."""
    directory = find_run_directory(life.run_pid())
    return [host for host in hosts if directory is not None and (directory / _mark(host)).exists()]


def _mark(host: str) -> str:
    return f"drained-{hashlib.sha256(host.encode()).hexdigest()[:16]}"
