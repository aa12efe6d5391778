# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read one node. Private to keyops.utrust."""

from __future__ import annotations

import dataclasses as dc
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import require
from ansible_collections.keyops.utrust.plugins.module_utils._preflight import problems_of_identity

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance import Appliance


@dc.dataclass(frozen=True)
class InfoOptions:
    expect_node: str | None
    gather: tuple[str, ...]


def read_info(appliance: Appliance, options: InfoOptions) -> dict[str, t.Any]:
    """The node, and what `gather` asks for beyond it."""
    node = appliance.node()
    require(f"reading {options.expect_node or 'the node'}", problems_of_identity(node, options.expect_node))
    result: dict[str, t.Any] = {"changed": False, "node": node.public()}
    if "inventory" in options.gather:
        result["hsm_keys"] = [key.public() for key in appliance.inventory()]
    if "pin_pads" in options.gather:
        result["pin_pads"] = [dc.asdict(pin_pad) for pin_pad in appliance.pin_pads()]
    if "restore" in options.gather:
        restore = appliance.running_restore()
        result["restore"] = dc.asdict(restore) if restore is not None else None
    return result
