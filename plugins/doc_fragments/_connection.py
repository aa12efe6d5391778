# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the connection options. Private to keyops.utrust."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  host:
    description:
      - Host name or address of the node, without scheme and path.
      - The module always uses HTTPS and always verifies the node. This cannot be switched off.
      - If not set, the variables of the inventory host set all connection options, such as C(utrust_port) for O(port).
      - The variable C(utrust_host) sets O(host). The default is C(ansible_host), then the name of the inventory host.
      - The variable C(utrust_node) sets O(expect_node). The default is the name of the inventory host.
      - If set in the task or in C(module_defaults), the module reads none of these variables.
    type: str
    required: true
  port:
    description:
      - Port of the appliance API of the node.
    type: int
    default: 443
  client_cert:
    description:
      - Path of a PEM file with the client certificate and, if there is one, its chain.
      - Use a separate certificate for automation.
      - The path is on the machine that executes the module. Without C(delegate_to) this machine is the controller.
      - One of O(client_cert), O(bearer_token) and O(bearer_token_file) is required with transport V(rest).
      - If not set, the module uses the environment variable E(UTRUST_CLIENT_CERT).
    type: path
  client_key:
    description:
      - Path of a PEM file with the private key of O(client_cert), without a passphrase.
      - Omit this option if the key is in the file of O(client_cert).
      - If not set, the module uses the environment variable E(UTRUST_CLIENT_KEY).
    type: path
  bearer_token:
    description:
      - Token that the node accepts instead of a client certificate.
      - The module rejects a token with a blank or a line end before it sends anything.
      - If not set, the module uses the environment variable E(UTRUST_BEARER_TOKEN).
    type: str
  bearer_token_file:
    description:
      - Path of a file with the token, instead of O(bearer_token). A line end after the token is ignored.
      - The path is on the machine that executes the module. The file must be a regular file of at most 8 KiB.
      - If not set, the module uses the environment variable E(UTRUST_BEARER_TOKEN_FILE).
    type: path
  ca_file:
    description:
      - Path of a PEM file with the CA certificates that can issue the certificate of the node.
      - At least one of O(ca_file) and O(tls_fingerprint) is required. If both are set, the certificate must match both.
      - If not set, the module uses the environment variable E(UTRUST_CA_FILE).
    type: path
  tls_fingerprint:
    description:
      - SHA-256 certificate fingerprints of the node, as its front display shows them. Colons and the prefix V(sha256:) are optional.
      - The module compares the certificate of each connection before it sends a request.
      - With this option alone, the module needs no CA certificate and does not compare the host name.
      - To replace the certificate of a node, add the fingerprint of the new certificate first.
    type: list
    elements: str
  expect_node:
    description:
      - Expected node name. The module fails before any change if the node reports another name.
    type: str
  members:
    description:
      - Names of the nodes that have joined the cluster, as the source node reports them.
      - If set, the module does not connect to a node whose O(expect_node) is not in the list.
        A node that was contacted before it joined can no longer join.
      - If neither O(host) nor O(members) is set, the module reads the members from the source node first.
        The variable C(utrust_source) names the inventory host of the source node. The module fails if this variable is not set.
    type: list
    elements: str
  cluster_claim:
    description:
      - Internal. Token of the claim of the cluster. The action sets it if this run has claimed the cluster.
      - See M(keyops.utrust.utrust_cluster_claim).
    type: str
  transport:
    description:
      - Interface of the node.
      - V(rest) is appliance API v1, a contract of this project.
      - V(assisted) sends nothing to Webconf. People click there, and the EJBCA view of the node shows the keys.
        It needs the variables C(utrust_declared), C(utrust_page_map) and C(utrust_ejbca_reader_client_cert), and runs only on the controller.
    type: str
    choices: [assisted, rest]
    default: rest
  declared:
    description:
      - Facts of the node that transport V(assisted) cannot read, usually from the variable C(utrust_declared).
      - Required are C(cluster_id) and C(hsm_serial). Optional are C(cluster_name), C(hsm_model), C(hsm_firmware), C(appliance_version),
        C(mbk_name), C(mbk_check_value), C(mbk_required), C(mbk_total), C(fips), C(import_effect) and C(restart).
    type: dict
  page_map:
    description:
      - Words of Webconf in the steps for people, V(a) or V(b). The operator must choose, because no page of the vendor states its version.
    type: str
  assisted:
    description:
      - Internal. The action sets it from the inventory, if the keys of the node are those of its EJBCA view.
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
    description:
      - Seconds to wait for a connection, for each address of the node.
      - If not set, the module uses the environment variable E(UTRUST_CONNECT_TIMEOUT).
    type: float
    default: 10.0
  timeout:
    description:
      - Seconds for one whole request. The module sends the request and reads the whole response in this time.
      - The download and the upload of a package get more time, by the size of the package.
      - If not set, the module uses the environment variable E(UTRUST_TIMEOUT).
    type: float
    default: 30.0
  max_clock_skew:
    description:
      - Maximum difference in seconds between the clock of the node and the clock of the machine that executes the module.
      - Modules that change a node check the difference first, because all clocks of a cluster must agree.
      - If not set, the module uses the environment variable E(UTRUST_MAX_CLOCK_SKEW).
    type: float
    default: 60.0
  retries:
    description:
      - Maximum number of repetitions of a request, at most 20.
      - The module repeats a request if the node is busy (HTTP 429 or 503), or if a reading request gets no response.
      - The module never repeats a request that can change something after a lost response. It reads the node instead.
      - If not set, the module uses the environment variable E(UTRUST_RETRIES).
    type: int
    default: 3
notes:
  - The vendor documents no API of the appliance. Transport V(rest) is a contract of this project.
    It was tested with the appliance simulator in C(tests/appliance), and never with hardware.
  - The operation runs in the process of Ansible and ignores connection and become of the inventory host.
    With C(delegate_to) it runs as a module on that machine, which needs Python 3.11 or newer.
  - The variables of an inventory host do not include the C(vars) of a play.
  - Null and blank text count as not set. A text for a list is split at commas and line ends.
  - PINs, shares of the Master Backup Key (MBK) and plaintext keys never pass through this module.
seealso:
  - name: keyops.utrust on GitHub
    description: Modules, roles and playbooks that synchronize the HSMs of a cluster.
    link: https://github.com/keyops/keyops.utrust
"""
