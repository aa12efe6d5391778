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
      - Where EJBCA of this node is, and how to log in there. P(keyops.utrust.ejbca_options#filter) makes it from inventory variables.
    type: dict
    suboptions:
      host:
        description: Host name or address, without scheme and path. HTTPS is always used.
        type: str
        required: true
      port:
        description: Port of EJBCA's REST interface.
        type: int
        default: 443
      client_cert:
        description: PEM file with the client certificate of an EJBCA administrator or RA operator.
        type: path
        required: true
      client_key:
        description: PEM file with its private key, without a passphrase, if it is not in the same file.
        type: path
      ca_file:
        description: PEM file with the CA certificates that may have signed EJBCA's TLS certificate. One of this and O(ejbca.tls_fingerprint) is needed.
        type: path
      tls_fingerprint:
        description: SHA-256 fingerprints of EJBCA's TLS certificate.
        type: list
        elements: str
notes:
  - EJBCA's paths and members are those of its published OpenAPI description. They have been verified against the reference application in C(tests/appliance),
    not against EJBCA.
  - Certificates are read with the Python library cryptography, which every controller has, because ansible-core needs it. Where the module runs on another
    machine, it must be installed there.
"""
