# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which EJBCA views a run reads. Private to keyops.utrust.

Each view of a crypto token that cannot be activated tries its PIN again, and the HSM can lock the slot. So a run views such a node once: a file in the
private directory of the run marks it. A person excludes the node from later runs with the variable `utrust_ejbca_view`.
"""

from __future__ import annotations

import hashlib
import typing as t

from ansible_collections.keyops.utrust.plugins.filter.ejbca_options import ejbca_options
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.suboptions import FAILING, LEFT_OUT
from ansible_collections.keyops.utrust.plugins.module_utils._run import life
from ansible_collections.keyops.utrust.plugins.plugin_utils._connection import is_blank, is_true
from ansible_collections.keyops.utrust.plugins.plugin_utils._run_directory import find_run_directory, open_run_directory

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view import ClusterView

Options = dict[str, t.Any]


def view_options(of_host: t.Mapping[str, t.Any]) -> Options:
    """Return the options of a node with which its EJBCA view is read, or why it is not read. They are empty without an account that reads."""
    value = of_host.get("utrust_ejbca_view")
    # A text that is not a boolean leaves the node out, so that a mistake spends no PIN try.
    if not is_blank(value) and not is_true(value):
        return {"ejbca_unread": LEFT_OUT}
    if is_blank(of_host.get("utrust_ejbca_reader_client_cert")):
        return {}
    ejbca = ejbca_options(of_host, "reader")
    return {"ejbca": ejbca, "ejbca_unread": FAILING} if is_failing(ejbca) else {"ejbca": ejbca}


def is_failing(ejbca: t.Mapping[str, t.Any]) -> bool:
    """Whether an earlier task of this run found a crypto token of this node that cannot be activated."""
    directory = find_run_directory(life.run_pid())
    return directory is not None and (directory / _mark(ejbca)).exists()


def mark_failing(ejbca: t.Mapping[str, t.Any]) -> None:
    """Mark the node, so that no later task of this run views it. Raises UtrustError if the run has no private directory."""
    (open_run_directory(life.run_pid()).path / _mark(ejbca)).touch()


def unmark_failing(ejbca: t.Mapping[str, t.Any]) -> None:
    """Remove the mark of a node. Its HSM was restored, so the earlier failure says nothing any more."""
    directory = find_run_directory(life.run_pid())
    if directory is not None:
        (directory / _mark(ejbca)).unlink(missing_ok=True)


def mark_failing_nodes(view: ClusterView, nodes: t.Iterable[Options]) -> None:
    """Mark each node of a reading with a crypto token that cannot be activated. `nodes` are the nodes of the option with this name."""
    failing = {
        node.host for node in view.nodes if "token_activation_failing" in {problem.code for problem in node.problems}
    }
    for node in nodes:
        ejbca = node.get("ejbca") or (node.get("assisted") or {}).get("ejbca")
        if node["inventory_host"] in failing and ejbca is not None:
            mark_failing(ejbca)


def _mark(ejbca: t.Mapping[str, t.Any]) -> str:
    """Return the name of the file that marks a node in the directory of the run."""
    place = f"{ejbca.get('host')} {ejbca.get('port', 443)}".lower()  # host names are equal in any case
    return f"ejbca-failing-{hashlib.sha256(place.encode()).hexdigest()[:16]}"
