#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: utrust_node_traffic
short_description: "[INTERNAL] Record that a node is in or out of traffic"
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Internal to the roles of this collection. It can change or disappear in any release.
  - Marks the node of the host as drained in this run, or removes the mark. The summary of the run names the nodes that stay drained.
  - In check mode, the action only names the task file that the run would include.
  - The action plugin runs on the controller only.
extends_documentation_fragment:
  - keyops.utrust._attributes
  - keyops.utrust._attributes.read_only
options:
  state:
    description: Whether the node is drained, or in traffic again.
    type: str
    choices: [drained, in_traffic]
    required: true
  tasks:
    description: Path of the task file that drains or undrains the node.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Record that the node is drained
  keyops.utrust.utrust_node_traffic:
    state: drained
    tasks: /srv/traffic/drain.yml
"""

RETURN = r"""
msg:
  description: The state as a line for people.
  returned: always
  type: str
"""
