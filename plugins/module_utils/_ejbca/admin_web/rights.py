# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the account may do more than read. Private to keyops.utrust.

EJBCA draws a button only for an account that may use it. The button Remove deletes a key without a question, so the collection works with a reader only.
"""

from __future__ import annotations

import typing as t
import urllib.parse

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.tree import Element

_BUTTONS: t.Final = ("submit", "button", "image", "password", "reset")
#: Newer versions download a public key with a button.
_READ_ONLY: t.Final = ":downPub"
#: Each form of newer versions has hidden fields with this beginning.
_NEWER: t.Final = "jakarta."


def check_list_rights(form: Element) -> None:
    """Raise UtrustError (`ejbca_rights_excessive`) if the list of crypto tokens offers a change."""
    if _buttons(form) or any(_changes(link) for link in form.find_all("a")):
        raise _excessive("the list of crypto tokens")


def check_token_rights(form: Element, keys_form: Element | None) -> None:
    """Raise UtrustError (`ejbca_rights_excessive`) if the page of a crypto token offers a change or a test."""
    # Newer versions can show a button Cancel to a reader. Who may edit there also finds the link that creates a crypto token in the list.
    newer = any(e.attributes.get("name", "").startswith(_NEWER) for e in form.find_all("input"))
    offered = [] if newer else _buttons(form)
    if keys_form is not None:
        offered += _buttons(keys_form)
        if any(_changes(link) for link in keys_form.find_all("a")):
            raise _excessive("the page of a crypto token")
    if offered:
        raise _excessive("the page of a crypto token")


def _buttons(form: Element) -> list[Element]:
    """Return the buttons and password fields that the account can use."""
    return [
        e
        for e in form.find_all("input", "button")
        if (e.tag == "button" or e.attributes.get("type", "text").lower() in _BUTTONS)
        and "disabled" not in e.attributes
        and not e.attributes.get("id", "").endswith(_READ_ONLY)
    ]


def _changes(link: Element) -> bool:
    """Whether a link leads to a page that creates or deletes something."""
    target = urllib.parse.urlsplit(link.attributes.get("href", ""))
    creates = ("cryptoTokenId", "0") in urllib.parse.parse_qsl(target.query)
    return creates or target.path.rpartition("/")[2].lower().startswith("delete")


def _excessive(place: str) -> UtrustError:
    return UtrustError(
        f"reading EJBCA's Admin Web: {place} offers buttons to this account, so the account may do more than read. Nothing was changed. "
        "Use a reader whose role has only the rights /administrator and /cryptotoken/view",
        code="ejbca_rights_excessive",
    )
