#!/usr/bin/env python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inventory of the running appliance simulators, as `utrust-appliance up` wrote it, or an empty inventory."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

CLUSTER_INVENTORY = Path(__file__).resolve().parents[1] / ".ansible/molecule/cluster/inventory.yml"


def main() -> None:
    hosts = {}
    if CLUSTER_INVENTORY.exists():
        hosts = yaml.safe_load(CLUSTER_INVENTORY.read_text(encoding="utf-8"))["utrust"]["hosts"]
    group = {"hosts": list(hosts), "vars": {"utrust_source": "node1"}}
    print(json.dumps({"utrust": group, "_meta": {"hostvars": hosts}}))


if __name__ == "__main__":
    main()
