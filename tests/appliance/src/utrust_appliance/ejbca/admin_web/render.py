# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rendering of the pages as Mojarra draws them."""

from __future__ import annotations

import typing as t
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from utrust_appliance.ejbca.admin_web.sessions import Action, View
from utrust_appliance.ejbca.admin_web.strings import STRINGS

if t.TYPE_CHECKING:
    from utrust_appliance.ejbca.flags import Flags

ROOT = "/ejbca/adminweb/"
#: Characters of a link that Mojarra does not encode, although some of them have a meaning in a query.
_PLAIN = frozenset("!#$%&'()*+,-./:;=?@[]_~") | frozenset(map(chr, [*range(48, 58), *range(65, 91), *range(97, 123)]))


def text(value: object) -> Markup:
    """Text between tags: `&`, `<` and `>` are escaped, quotes are not."""
    return Markup(str(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def attribute(value: object) -> Markup:
    return Markup(str(text(value)).replace('"', "&quot;"))


def link(value: object) -> Markup:
    """An href: other characters are percent-encoded, so the link of an alias with `+`, `%`, `#` or `&` names another key."""
    return attribute(
        "".join(one if one in _PLAIN else "".join(f"%{byte:02X}" for byte in one.encode()) for one in str(value))
    )


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update({"x": text, "a": attribute, "href": link})
    return made


_TEMPLATES = _environment()


class Page:
    """One rendering of a page: the components without an id get `j_idt<n>`, and buttons register their action in the view."""

    def __init__(self, flags: Flags, view: View, rights: frozenset[str]) -> None:
        self.flags, self.view, self.rights = flags, view, rights
        self.messages: list[tuple[str, str]] = []
        self.v = STRINGS[flags.language]
        self.root = ROOT
        self._number = 60

    def idt(self) -> str:
        self._number += 1
        return f"j_idt{self._number}"

    def button(self, container: str, name: str, token: str = "", alias: str = "", *, stable: str | None = None) -> str:
        """Register a button. Returns its name in the form."""
        full = f"{container}:{stable or self.idt()}"
        self.view.buttons[full] = Action(name, token, alias)
        return full

    def field(self, container: str, purpose: str) -> str:
        """Register an input field. Returns its name in the form."""
        full = self.view.fields[purpose] = f"{container}:{self.idt()}"
        return full

    def render(self, template: str, **values: t.Any) -> str:
        return _TEMPLATES.get_template(template).render(p=self, v=self.v, flags=self.flags, **values)


def blank(title: str, heading: str, detail: str = "") -> str:
    """An error page, which has neither menu nor forms."""
    return _TEMPLATES.get_template("error.html").render(title=title, heading=heading, detail=detail, root=ROOT)


def login(language: str) -> str:
    return _TEMPLATES.get_template("login.html").render(v=STRINGS[language], root=ROOT)
