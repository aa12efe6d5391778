# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The node name in the variables of an inventory host. Private to keyops.utrust."""

from __future__ import annotations

import typing as t


def node_name(variables: t.Mapping[str, t.Any]) -> str:
    """The expected node name: `utrust_node`, or the name of the inventory host."""
    return str(variables.get("utrust_node") or "").strip() or str(variables["inventory_hostname"])
