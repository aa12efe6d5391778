#!/usr/bin/python
# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: utrust_cluster_info
short_description: Read all nodes of a cluster and compare their keys
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Reads the source node first, then all other nodes that have joined the cluster, in parallel.
  - Compares the keys of each node with the keys of the source, in both directions, by key fingerprint.
  - A node that cannot be read is a result of this node. The module fails only if the source cannot be read.
  - A node that the source does not list as joined is never contacted, because a node that was contacted can no longer join.
extends_documentation_fragment:
  - keyops.utrust._attributes
  - keyops.utrust._attributes.read_only
  - keyops.utrust._cluster
  - keyops.utrust._cluster.view
options:
  nodes:
    description:
      - Connection options of each node, the source included.
      - The action plugin sets this option from the variables of O(hosts). Set it only if the nodes are not in the inventory.
      - Exactly one of O(hosts) and O(nodes) can be set.
    type: list
    elements: dict
    suboptions:
      inventory_host:
        description: Name under which the result lists the node.
        type: str
        required: true
      host:
        description: Host name or address of the node.
        type: str
        required: true
      port:
        description: TCP port of the node.
        type: int
        default: 443
      client_cert:
        description: PEM file with the client certificate.
        type: path
      client_key:
        description: PEM file with the key of the client certificate. If not set, the key must be in O(nodes[].client_cert).
        type: path
      bearer_token:
        description: Token to log in with instead of a client certificate.
        type: str
      bearer_token_file:
        description: File with the token, instead of O(nodes[].bearer_token).
        type: path
      cluster_claim:
        description: Internal. Token of the claim of the cluster. The action sets it if this run has claimed the cluster.
        type: str
      ca_file:
        description: PEM file with the CA certificates that may have signed the certificate of the node.
        type: path
      tls_fingerprint:
        description: SHA-256 fingerprints of the certificate of the node.
        type: list
        elements: str
      expect_node:
        description: Name that the node must report. If not set, O(nodes[].inventory_host) is used.
        type: str
      transport:
        description: Transport to the node.
        type: str
        choices: [assisted, rest]
        default: rest
      declared:
        description: Facts of the node that transport V(assisted) cannot read.
        type: dict
      page_map:
        description: Words of Webconf in the steps for people, V(a) or V(b).
        type: str
      assisted:
        description: Internal. The action sets it, if the keys of the node are those of its EJBCA view.
        type: dict
        suboptions:
          ejbca:
            description: Account that reads EJBCA of the node.
            type: dict
            suboptions:
              host:
                description: Host name or address of EJBCA.
                type: str
                required: true
              port:
                description: TCP port of EJBCA.
                type: int
                default: 443
              client_cert:
                description: PEM file with the client certificate of the account.
                type: path
                required: true
              client_key:
                description: PEM file with the key of the client certificate.
                type: path
              ca_file:
                description: PEM file with the CA certificates that may have signed the certificate of EJBCA.
                type: path
              tls_fingerprint:
                description: SHA-256 fingerprints of the certificate of EJBCA.
                type: list
                elements: str
          ejbca_unread:
            description: Reason why EJBCA is not contacted.
            type: str
            choices: [left_out, activation_failing]
          members:
            description: Nodes that the inventory declares as members, with C(node), C(address) and C(port).
            type: list
            elements: dict
      connect_timeout:
        description: Seconds to wait for a connection.
        type: float
        default: 10.0
      timeout:
        description: Seconds to wait for a response.
        type: float
        default: 30.0
      max_clock_skew:
        description: Seconds by which the clock of the node may differ. Reading does not depend on the clock.
        type: float
        default: 60.0
      retries:
        description: Number of times that a request is repeated.
        type: int
        default: 3
      ejbca:
        description: Connection to EJBCA of this node, with the account that reads.
        type: dict
        suboptions:
          host:
            description: Host name or address of EJBCA.
            type: str
            required: true
          port:
            description: Port of EJBCA.
            type: int
            default: 443
          client_cert:
            description: PEM file with the client certificate of the account.
            type: path
            required: true
          client_key:
            description: PEM file with the key of the client certificate. If not set, the key must be in O(nodes[].ejbca.client_cert).
            type: path
          ca_file:
            description: PEM file with the CA certificates that may have signed the TLS certificate of EJBCA.
            type: path
          tls_fingerprint:
            description: SHA-256 certificate fingerprints of the TLS certificate of EJBCA.
            type: list
            elements: str
      ejbca_unread:
        description:
          - Internal. Why EJBCA of this node is not contacted. The action sets it.
          - The value V(left_out) stands for the variable C(utrust_ejbca_view=false) of the host.
          - The value V(activation_failing) stands for a crypto token that cannot be activated, found by an earlier task of this run.
        type: str
        choices: [left_out, activation_failing]
  keys:
    description: Whether to read and compare the keys.
    type: bool
    default: true
seealso:
  - module: keyops.utrust.utrust_hsm_info
  - plugin: keyops.utrust.key_matrix
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show which node holds which key
  hosts: utrust
  gather_facts: false
  tasks:
    - name: Read the cluster
      keyops.utrust.utrust_cluster_info:
        source: node1
      run_once: true
      register: cluster

    - name: Show the keys
      ansible.builtin.debug:
        msg: "{{ cluster | keyops.utrust.key_matrix | keyops.utrust.key_table }}"
      run_once: true
"""

RETURN = r"""
source:
  description: Inventory host of the source node.
  returned: success
  type: str
  sample: node1
hsm_keys:
  description: Keys of the source, as RV(keyops.utrust.utrust_hsm_info#module:hsm_keys). Null if keys were not read.
  returned: success
  type: list
  elements: dict
ejbca_view:
  description: The EJBCA views, compared with the view of the source. Null without O(ejbca_view).
  returned: success
  type: dict
  contains:
    scope:
      description: Always V(ejbca), because EJBCA can show other keys than the HSM holds.
      type: str
      returned: success
    in_sync:
      description: Whether EJBCA of each node shows every key pair that EJBCA of the source shows.
      type: bool
      returned: success
    out_of_sync:
      description: Inventory hosts whose view differs.
      type: list
      elements: str
      returned: success
    unknown_nodes:
      description: Inventory hosts whose view is unknown.
      type: list
      elements: str
      returned: success
    left_out:
      description: Inventory hosts with the variable C(utrust_ejbca_view=false).
      type: list
      elements: str
      returned: success
    source_view:
      description: View of the source, as RV(keyops.utrust.ejbca_key_info#module:view). Null if the view is unknown.
      type: dict
      returned: success
    nodes:
      description:
        - View of each node by its inventory host. C(read), C(left_out) and C(compared) are whether the view was read, excluded and compared.
        - C(in_sync) is null if the view is unknown. C(listed) is whether the list of crypto tokens was requested.
        - C(present) is the number of key pairs that the node shows as the source does.
        - C(different) has the other key pairs of the source with their C(state) and the reason as C(text).
        - C(problems) has C(code) and C(text) of each reason why the view is unknown.
        - C(identity) has address, port, certificate fingerprint and host name of EJBCA. If two nodes have the same value, its member C(unknown) is true.
        - C(tokens) has the crypto tokens without their keys.
      type: dict
      returned: success
nodes:
  description: Result of each node by its inventory host, the source included.
  returned: success
  type: dict
  contains:
    name:
      description: Name that the node must report.
      type: str
    node:
      description: Facts of the node, as RV(keyops.utrust.utrust_hsm_info#module:node). Null if the node could not be read.
      type: dict
    in_sync:
      description: Whether the node holds exactly the keys of the source and can use them. Null if unknown.
      type: bool
    difference:
      description:
        - Keys that differ from the source, as C(missing), C(extra), C(mismatched), C(moved), C(duplicate) and C(unusable).
        - C(undetermined) has pairs of keys that cannot be compared, because a key fingerprint is unknown.
        - C(unchanged) and C(check_value_only) are numbers. C(check_value_only) counts keys that were compared by a three-byte check value.
        - Null if the keys of the node are unknown.
      type: dict
    problem:
      description: Reason why the node could not be read, with C(code), C(node), C(text) and C(remedy). Null if the node was read.
      type: dict
key_scope:
  description: What the keys are. With V(hsm) all keys of the HSMs, with V(ejbca) the key pairs in active crypto tokens that EJBCA of each node shows.
  returned: success
  type: str
  sample: hsm
in_sync:
  description: Whether every node that was read holds exactly the keys of the source and can use them.
  returned: success
  type: bool
out_of_sync:
  description: Inventory hosts of the nodes whose keys differ from the source.
  returned: success
  type: list
  elements: str
unknown_nodes:
  description: Inventory hosts of the nodes whose keys are unknown, for example because the node could not be read.
  returned: success
  type: list
  elements: str
members_not_read:
  description: Names of joined members that none of the hosts is.
  returned: success
  type: list
  elements: str
summary:
  description: One line for each node, and for each joined member that was not read.
  returned: success
  type: list
  elements: str
executed_on:
  description: Host name of the machine that read the cluster.
  returned: always
  type: str
code:
  description: Stable code of the failure.
  returned: failure
  type: str
  sample: source_missing
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keyops.utrust.plugins.module_utils._operations.cluster_info import OPERATION
from ansible_collections.keyops.utrust.plugins.module_utils._runner import run_module


def main() -> None:
    module = AnsibleModule(supports_check_mode=True, **OPERATION.module_arguments())
    run_module(module, OPERATION)


if __name__ == "__main__":
    main()
