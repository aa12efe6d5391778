# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Flags of the simulated EJBCA of one node, for tests. They are not stored, so the next `up` has the defaults."""

from __future__ import annotations

import re
import typing as t
from dataclasses import asdict, dataclass, field, fields, replace

from utrust_appliance.ejbca.errors import EjbcaError

CHOICES: dict[str, tuple[t.Any, ...]] = {
    "generation": ("G8", "G95"),
    "list_links": ("link", "title", "none"),
    "language": ("en", "de", "fr"),
    "response": ("normal", "truncated", "bad_gateway", "unavailable", "redirect"),
    "client_auth": ("handshake", "late", "never"),
}


@dataclass(frozen=True)
class Flags:
    """One release of EJBCA, and faults of its front end.

    `version`: the default is 8.2.0.1, or 9.5.0 with `generation: G95`. The scope of the session bean, the name of the view state, error pages, texts,
    the life of the NG cache and the parameters of the health check follow the version.
    """

    # Pages
    generation: str = "G8"
    version: str | None = None
    list_links: str = "link"
    language: str = "en"
    session_bean: bool | None = None  # None: up to version 7.10
    view_state: str | None = None  # None: by version
    cp5: bool = False
    listing_error: str | None = None
    unreadable: list[str] = field(default_factory=list)  # aliases whose key raises a RuntimeException
    explicit_parameters: bool = False
    hidden_tokens: list[str] = field(default_factory=list)
    roles: dict[str, str] = field(default_factory=dict)  # common name -> role
    # Node
    host_name: str | None = None
    vip: str | None = None  # the node that responds at the address of this node
    token_ids: dict[str, int] = field(default_factory=dict)  # name -> id: the database has diverged
    response: str = "normal"
    response_path: str = ""  # regular expression: the paths with this response
    client_auth: str = "handshake"
    # Health check
    health_ips: list[str] = field(default_factory=lambda: ["ANY"])
    health_ok: str = "ALLOK"
    health_error: str | None = None  # the customized message
    health_send_error: bool = True
    health_html: bool = False
    health_delay: float = 0.0  # seconds
    maintenance: str | None = None

    @property
    def release(self) -> str:
        return self.version or ("9.5.0" if self.generation == "G95" else "8.2.0.1")

    def since(self, *version: int) -> bool:
        """Whether this release is this version or later."""
        return tuple(int(part) for part in self.release.split(".")) >= version

    @property
    def view_state_name(self) -> str:
        return self.view_state or f"{'jakarta' if self.since(9) else 'javax'}.faces.ViewState"

    @property
    def bean_of_session(self) -> bool:
        return not self.since(7, 11) if self.session_bean is None else self.session_bean

    def has_response(self, path: str) -> str:
        return self.response if re.search(self.response_path, path) else "normal"

    def changed(self, values: dict[str, t.Any]) -> Flags:
        known = {one.name for one in fields(self)}
        for name, value in values.items():
            if name not in known:
                raise EjbcaError(400, f"The flag {name} does not exist. Flags: {', '.join(sorted(known))}")
            if name in CHOICES and value not in CHOICES[name]:
                raise EjbcaError(400, f"The flag {name} must be one of {', '.join(CHOICES[name])}")
        if values.get("version") and not re.fullmatch(r"[0-9]+([.][0-9]+)+", values["version"]):
            raise EjbcaError(400, "The flag version must be numbers with dots")
        return replace(self, **values)

    def as_dict(self) -> dict[str, t.Any]:
        return asdict(self)
