# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the CAs and the health check of EJBCA on one node. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.argspec import ejbca_option
from ansible_collections.keyops.utrust.plugins.module_utils._runner import Invocation, Operation, Result, open_ejbca

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Spec

ARGUMENT_SPEC: t.Final[Spec] = {"ejbca": ejbca_option(required=True)}


def run(invocation: Invocation) -> Result:
    """Return the health and the CAs. Raises UtrustError."""
    with open_ejbca(invocation.params) as ejbca:
        return {
            "changed": False,
            "health": ejbca.health(),
            "authorities": [authority._asdict() for authority in ejbca.authorities()],
        }


OPERATION: t.Final = Operation("ejbca_ca_info", ARGUMENT_SPEC, {}, run)
