# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the buttons of the pages do. A POST acts without asking, because only JavaScript asks."""

from __future__ import annotations

import typing as t

from utrust_appliance.ejbca.crypto_token import kind_of
from utrust_appliance.ejbca.errors import EjbcaError

if t.TYPE_CHECKING:
    from utrust_appliance.ejbca.admin_web.sessions import Action, Session, View
    from utrust_appliance.ejbca.ejbca_node import EjbcaNode

Message = tuple[str, str]
_SPECS = {"RSA3072": ("RSA", "3072"), "secp256r1": ("EC", "P-256")}


def act(ejbca: EjbcaNode, session: Session, view: View, action: Action, form: t.Mapping[str, str]) -> list[Message]:
    """Do what a button does. Returns the messages of the next page."""
    session.bean.clear()
    try:
        return _ACTIONS[action.name](ejbca, view, action, form)
    except EjbcaError as exc:
        return [("error", f"Error: {exc}")]


def _activate(ejbca: EjbcaNode, view: View, action: Action, form: t.Mapping[str, str]) -> list[Message]:
    ejbca.activate(action.token, form.get(view.fields[f"code:{action.token}"], ""))
    return []


def _deactivate(ejbca: EjbcaNode, dummy_view: View, action: Action, dummy_form: t.Mapping[str, str]) -> list[Message]:
    ejbca.deactivate(action.token)
    return []


def _delete(ejbca: EjbcaNode, dummy_view: View, action: Action, dummy_form: t.Mapping[str, str]) -> list[Message]:
    ejbca.delete_token(action.token)
    return []


def _test(ejbca: EjbcaNode, dummy_view: View, action: Action, dummy_form: t.Mapping[str, str]) -> list[Message]:
    with ejbca.lock:
        ejbca.token(action.token).test(action.alias)
    if ejbca.state.flags.since(9):
        text = f"Keypair with alias {action.alias} tested successfully using signing and verification operations."
    else:
        text = f"{action.alias} tested successfully."
    return [("info", text)]


def _remove(ejbca: EjbcaNode, dummy_view: View, action: Action, dummy_form: t.Mapping[str, str]) -> list[Message]:
    ejbca.remove(action.token, action.alias)
    return []


def _remove_selected(ejbca: EjbcaNode, view: View, action: Action, form: t.Mapping[str, str]) -> list[Message]:
    selected = [purpose.removeprefix("select:") for purpose, name in view.fields.items() if name in form]
    for alias in selected:
        ejbca.remove(action.token, alias)
    return [] if selected else [("error", "Error: No keys selected")]


def _generate(ejbca: EjbcaNode, dummy_view: View, action: Action, dummy_form: t.Mapping[str, str]) -> list[Message]:
    ejbca.generate(action.token, action.alias, "rsa-2048")
    return []


def _generate_new(ejbca: EjbcaNode, view: View, action: Action, form: t.Mapping[str, str]) -> list[Message]:
    specification = _SPECS.get(form.get(view.fields["spec"], ""), ("RSA", "3072"))
    ejbca.generate(action.token, form.get(view.fields["alias"], ""), kind_of(*specification))
    return []


def _nothing(
    dummy_ejbca: EjbcaNode, dummy_view: View, dummy_action: Action, dummy_form: t.Mapping[str, str]
) -> list[Message]:
    return []


_ACTIONS: dict[str, t.Callable[[EjbcaNode, View, Action, t.Mapping[str, str]], list[Message]]] = {
    "activate": _activate,
    "deactivate": _deactivate,
    "delete": _delete,
    "test": _test,
    "remove": _remove,
    "remove_selected": _remove_selected,
    "generate": _generate,
    "generate_new": _generate_new,
    "edit": _nothing,
    "cancel": _nothing,
}
