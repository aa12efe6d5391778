# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wait for a condition with a timeout."""

from __future__ import annotations

import time
import typing as t

if t.TYPE_CHECKING:
    from utrust_appliance.control import Control


def wait_until_applying(control: Control, node: str, limit: float = 180) -> None:
    """Wait until a node applies an import. Before, the node checks the package, and the import can still be discarded."""
    wait_for(lambda: control.node(node)["import_state"] == "applying", limit)


def wait_for(condition: t.Callable[[], bool], limit: float = 180) -> None:
    """Wait until the condition is true. Fails after `limit` seconds."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "the expected condition did not occur"
        time.sleep(0.05)
