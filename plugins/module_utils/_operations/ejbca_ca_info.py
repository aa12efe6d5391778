# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the CAs and the health check of EJBCA on one node. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.suboptions import ejbca_option
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable
from ansible_collections.keyops.utrust.plugins.module_utils._runner import Invocation, Operation, Result, open_ejbca

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Spec
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.protocol import Authority

ARGUMENT_SPEC: t.Final[Spec] = {
    "ejbca": ejbca_option(required=True),
    "ca": {"type": "str"},
    # Public facts.
    "expect_public_key_sha256": {"type": "str", "no_log": False},
    "require_healthy": {"type": "bool", "default": False},
    "only_health": {"type": "bool", "default": False},
}
RULES: t.Final[Spec] = {
    "required_by": {"expect_public_key_sha256": ("ca",)},
}


def run(invocation: Invocation) -> Result:
    """Read EJBCA. Raises UtrustError (`ca_missing`, `ca_key_mismatch`, `ejbca_not_healthy`) if an expectation is not met."""
    params = invocation.params
    if params["only_health"] and params["ca"] is not None:
        raise UtrustError(
            "ca: with only_health, the module reads no CA. Nothing was sent. Remove one of both options",
            code="option_invalid",
        )
    with open_ejbca(params) as ejbca:
        health, authorities = ejbca.health(), [] if params["only_health"] else ejbca.authorities()
    ca = _find(authorities, params["ca"]) if params["ca"] is not None else None
    expected = params["expect_public_key_sha256"]
    if ca is not None and expected not in (None, ca.public_key_sha256):
        raise UtrustError(
            f"CA {ca.name} of {params['expect_node']} has the key {ca.public_key_sha256}, expected {expected}. "
            "If EJBCA generated a second key with the same alias, switch the CA back to its previous key, then renew it with a new alias",
            code="ca_key_mismatch",
        )
    if health is not None and params["require_healthy"]:
        raise UtrustError(
            f"EJBCA of {params['expect_node']} is not healthy: {health}. Fix this before you run again",
            code="ejbca_not_healthy",
        )
    return {
        "changed": False,
        "health": health,
        "authorities": [authority._asdict() for authority in authorities],
        "ca": ca._asdict() if ca is not None else None,
    }


def _find(authorities: list[Authority], name: str) -> Authority:
    found = [authority for authority in authorities if authority.name in (name, escape_unprintable(name))]
    if len(found) != 1:
        names = ", ".join(authority.name for authority in authorities) or "none"
        raise UtrustError(f"CA {name!r} is missing in EJBCA (CAs: {names}). Check the name", code="ca_missing")
    return found[0]


OPERATION: t.Final = Operation("ejbca_ca_info", ARGUMENT_SPEC, RULES, run)
