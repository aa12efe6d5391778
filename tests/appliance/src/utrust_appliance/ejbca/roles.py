# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Roles of the simulated EJBCA: the rights of a client certificate, found by its common name."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from utrust_appliance.ejbca.flags import Flags

VIEW = "/cryptotoken/view"
ACTIVATE, DEACTIVATE = "/cryptotoken/activate", "/cryptotoken/deactivate"
TEST, GENERATE, REMOVE = "/cryptotoken/keys/test", "/cryptotoken/keys/generate", "/cryptotoken/keys/remove"
MODIFY, DELETE = "/cryptotoken/modify", "/cryptotoken/delete"
ISSUE = "/ca_functionality/create_certificate"
_OPERATOR = frozenset({VIEW, ACTIVATE, DEACTIVATE, TEST, GENERATE, ISSUE})
ROLES: dict[str, frozenset[str]] = {
    "nothing": frozenset(),
    "reader": frozenset({VIEW}),
    "tester": frozenset({VIEW, TEST}),
    "operator": _OPERATOR,
    "administrator": _OPERATOR | {REMOVE, MODIFY, DELETE},
}
#: The clients of `D/clients`. `guest` has a certificate of the correct CA and is not a member of any role.
CLIENTS = {"operator": "administrator", "ejbca-operator": "operator", "ejbca-reader": "reader"}


def rights_of(common_name: str, flags: Flags) -> frozenset[str]:
    return ROLES[flags.roles.get(common_name, CLIENTS.get(common_name, "nothing"))]
