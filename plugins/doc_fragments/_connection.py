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
      - Host name or address of the node, without scheme and path. HTTPS is always used; there is no option that switches TLS or its verification off.
      - If not set, the environment variable E(UTRUST_HOST) is used.
    type: str
    required: true
  port:
    description:
      - Port of the node's appliance API.
      - If not set, the environment variable E(UTRUST_PORT) is used.
    type: int
    default: 443
  client_cert:
    description:
      - PEM file with the client certificate that the node accepts, and its chain if it has one. Use a certificate of its own for automation.
      - The path belongs to the machine that executes the module; with a local connection this is the controller.
      - One of O(client_cert) and O(bearer_token) is needed.
      - If not set, the environment variable E(UTRUST_CLIENT_CERT) is used.
    type: path
  client_key:
    description:
      - PEM file with the private key of O(client_cert), without a passphrase, if it is not in the same file.
      - If not set, the environment variable E(UTRUST_CLIENT_KEY) is used.
    type: path
  bearer_token:
    description:
      - Token that the node accepts instead of a client certificate.
      - If not set, the environment variable E(UTRUST_BEARER_TOKEN) is used.
    type: str
  ca_file:
    description:
      - PEM file with the CA certificates that may have signed the node's certificate.
      - At least one of O(ca_file) and O(tls_fingerprint) is needed. With both, both must agree.
      - If not set, the environment variable E(UTRUST_CA_FILE) is used.
    type: path
  tls_fingerprint:
    description:
      - SHA-256 fingerprints of the node's own certificate, as its front display shows it; colons and the prefix V(sha256:) may be there.
      - The certificate of the very connection that carries a request is compared before anything is sent. With a pin alone, no CA is needed, and
        the host name is not compared.
      - It is a list so that the next certificate can be named before the node changes to it.
      - If not set, the environment variable E(UTRUST_TLS_FINGERPRINT) is used (comma separated).
    type: list
    elements: str
  expect_node:
    description:
      - Name that the node must give itself. Another node at this address is refused before anything is changed.
    type: str
  members:
    description:
      - Names of the nodes that have joined the cluster, as the member list of the source node tells them.
      - If set, a node whose O(expect_node) is not among them gets no connection at all, because a node that anybody has contacted before it joined can no
        longer join.
    type: list
    elements: str
  transport:
    description:
      - How the node is reached. V(rest) is appliance API v1, which is the contract of this project itself; the vendor documents no API.
    type: str
    choices: [rest]
    default: rest
  connect_timeout:
    description:
      - Seconds to wait for a connection.
      - If not set, the environment variable E(UTRUST_CONNECT_TIMEOUT) is used.
    type: float
    default: 10.0
  timeout:
    description:
      - Seconds to wait for an answer.
      - If not set, the environment variable E(UTRUST_TIMEOUT) is used.
    type: float
    default: 30.0
  max_clock_skew:
    description:
      - Seconds that the node's clock may differ from that of the machine that executes the module, because the clocks of a cluster must agree. It is looked at
        before anything is changed; reading a node does not depend on it.
      - If not set, the environment variable E(UTRUST_MAX_CLOCK_SKEW) is used.
    type: float
    default: 60.0
  retries:
    description:
      - How often a request is repeated when the node was busy (HTTP 429 or 503), or when no answer came to a request that changes nothing. A request that may
        have changed something is never sent again after a lost answer; the node is read instead.
      - If not set, the environment variable E(UTRUST_RETRIES) is used.
    type: int
    default: 3
notes:
  - The vendor documents no API of the appliance. This module speaks appliance API v1, a contract of this project, which has been verified against the
    reference appliance in C(tests/appliance) and has not met hardware.
  - With a local connection the operation runs in Ansible's own process and shows its progress on the terminal. With any other connection the module runs on
    that machine, which needs Python 3.11 or newer, nothing else. The result's RV(ignore:executed_on) tells which machine it was.
  - No PIN, no share of the MBK and no key passes through this module.
seealso:
  - name: Synchronize the HSMs of a cluster
    description: What to do with the modules, roles and playbooks of this collection.
    link: https://github.com/keyops/keyops.utrust
"""
