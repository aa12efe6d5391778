# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the connection to EJBCA. Private to keyops.utrust."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  ejbca:
    description:
      - Connection to EJBCA on this node.
      - The filter P(keyops.utrust.ejbca_options#filter) returns this option from host variables.
    type: dict
    suboptions:
      host:
        description: Host name or address of EJBCA, without scheme and path. The module always uses HTTPS.
        type: str
        required: true
      port:
        description: Port of EJBCA's REST interface.
        type: int
        default: 443
      client_cert:
        description: Path of a PEM file with the client certificate of an EJBCA administrator or RA operator.
        type: path
        required: true
      client_key:
        description:
          - Path of a PEM file with the private key of O(ejbca.client_cert), without a passphrase.
          - Omit this option if the key is in the file of O(ejbca.client_cert).
        type: path
      ca_file:
        description:
          - Path of a PEM file with the CA certificates that can issue the TLS certificate of EJBCA.
          - At least one of O(ejbca.ca_file) and O(ejbca.tls_fingerprint) is required.
        type: path
      tls_fingerprint:
        description: SHA-256 certificate fingerprints of EJBCA's TLS certificate.
        type: list
        elements: str
notes:
  - The module uses the paths and members of EJBCA's published OpenAPI description.
    It was tested with the EJBCA simulator in C(tests/appliance), and not with EJBCA.
"""
