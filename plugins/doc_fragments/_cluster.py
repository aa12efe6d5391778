# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the options with which a cluster is read. Private to keyops.utrust."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  source:
    description:
      - Inventory host of the source node, the node with the latest keys.
      - The operator names the source. The collection never guesses it.
    type: str
    required: true
  hosts:
    description:
      - Inventory hosts of the nodes to read. The source is always read. The default is all hosts of the play.
      - Their variables set the connection options, as described for M(keyops.utrust.utrust_hsm_info).
    type: list
    elements: str
  max_parallel:
    description: Number of nodes that are read at the same time.
    type: int
    default: 16
  node_timeout:
    description: Seconds for the whole reading of one node.
    type: float
    default: 60.0
notes:
  - The vendor documents no API of the appliance. Transport V(rest) is a contract of this project.
    It was tested with the appliance simulator in C(tests/appliance), and never with hardware.
  - The nodes are read from the process of Ansible. The connection and become of the inventory hosts are ignored.
    With C(delegate_to) the nodes are read from that machine, which needs Python 3.11 or newer.
  - Null and blank text count as not set. A text for a list is split at commas and line ends.
"""

    VIEW = r"""
options:
  ejbca_view:
    description:
      - Whether to read the EJBCA view of each node, too. The view has the keys that EJBCA of the node shows, and not the keys of its HSM.
      - The view is read in the thread of its node, after the HSM, and O(node_timeout) covers both.
      - A view that cannot be read is a result of this view. A node that has not joined is not contacted, and neither is its EJBCA.
      - The account comes from the variables C(utrust_ejbca_reader_client_cert) and C(utrust_ejbca_reader_client_key) of each host.
      - If the variable C(utrust_ejbca_view) of a host is false, its EJBCA is not contacted.
    type: bool
    default: false
"""
