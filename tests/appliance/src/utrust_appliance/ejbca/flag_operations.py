# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Operations of the control channel for tests of clients: flags, counters, time, PINs, certificate objects and further crypto tokens."""

from __future__ import annotations

import typing as t
from dataclasses import asdict

from utrust_appliance.ejbca.database import NG, SUN
from utrust_appliance.ejbca.ejbca_node import SLOT
from utrust_appliance.ejbca.errors import EjbcaError
from utrust_appliance.ejbca.flags import Flags
from utrust_appliance.ejbca.node_state import PIN_TRIES
from utrust_appliance.ejbca.roles import ROLES

if t.TYPE_CHECKING:
    from utrust_appliance.ejbca.ejbca_node import EjbcaNode

TYPES = {"sun": SUN, "ng": NG}


def _flags(ejbca: EjbcaNode, *, reset: bool = False, **values: t.Any) -> dict[str, t.Any]:
    """Change flags of this node. `reset` first sets all flags to their defaults. Returns all flags."""
    changed = (Flags() if reset else ejbca.state.flags).changed(values)
    if changed.vip is not None and changed.vip not in ejbca.node.cluster.ejbca_nodes:
        raise EjbcaError(404, f"The node {changed.vip} does not have EJBCA")
    unknown = set(changed.roles.values()) - set(ROLES)
    if unknown:
        raise EjbcaError(400, f"The role {min(unknown)} does not exist. Roles: {', '.join(ROLES)}")
    ejbca.state.flags = changed
    return changed.as_dict()


def _counters(ejbca: EjbcaNode, *, clear: bool = False) -> dict[str, int]:
    """What the node has counted, for example page_views, logins, key_tests and method_POST."""
    counted = dict(ejbca.state.counters)
    if clear:
        ejbca.state.counters.clear()
    return counted


def _advance(ejbca: EjbcaNode, *, seconds: float) -> float:
    """Advance the clock of sessions and caches."""
    return ejbca.state.clock.advance(seconds)


def _end_sessions(ejbca: EjbcaNode) -> None:
    ejbca.sessions.clear()


def _slot_pin(
    ejbca: EjbcaNode, *, slot: int = SLOT, code: str | None = None, tries: int = PIN_TRIES
) -> dict[str, t.Any]:
    """Give a slot of this node another PIN, as on a restored node. Without a code, it is the PIN that EJBCA has stored."""
    return asdict(ejbca.state.pins.change(slot, code, tries))


def _pin_state(ejbca: EjbcaNode, *, slot: int = SLOT) -> dict[str, t.Any]:
    return asdict(ejbca.state.pins.slot(slot))


def _certificate_object(ejbca: EjbcaNode, *, label: str, certificate: str | None = None, slot: int = SLOT) -> None:
    """Set the label of the certificate object of a key in the HSM of this node. None deletes the certificate object."""
    found = [
        key.identity for key in ejbca.node.hsm.list_keys() if (key.identity.slot, key.identity.label) == (slot, label)
    ]
    if not found:
        raise EjbcaError(404, f"The HSM does not have a key {label} in slot {slot}")
    for identity in found:
        ejbca.state.certificates.set(identity.fingerprint, certificate)


def _create_token(
    ejbca: EjbcaNode, *, name: str, slot: int = SLOT, kind: str = "sun", **settings: t.Any
) -> dict[str, t.Any]:
    """Create a crypto token on all nodes. Settings: id, auto_activation, placeholders. `kind` is `sun` or `ng`."""
    return ejbca.create_token(name, slot, type=TYPES[kind], **settings)


def _delete_token(ejbca: EjbcaNode, *, name: str) -> None:
    ejbca.delete_token(name)


FLAG_OPERATIONS: dict[str, t.Callable[..., t.Any]] = {
    "flags": _flags,
    "counters": _counters,
    "advance": _advance,
    "end_sessions": _end_sessions,
    "slot_pin": _slot_pin,
    "pin_state": _pin_state,
    "certificate_object": _certificate_object,
    "create_token": _create_token,
    "delete_token": _delete_token,
}
