# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Webconf client without a browser. It keeps cookies and does not follow redirects."""

from __future__ import annotations

import http.client
import json
import re
import secrets
import ssl
import typing as t
import urllib.parse
from http.cookies import SimpleCookie

if t.TYPE_CHECKING:
    from utrust_appliance.control import Control

FORM = "application/x-www-form-urlencoded"


class Response(t.NamedTuple):
    """A response of Webconf."""

    status: int
    text: str
    headers: http.client.HTTPMessage
    content: bytes

    @property
    def code(self) -> str | None:
        """The error code on the page, or None."""
        found = re.search(r'<p class="code">(\w+)</p>', self.text)
        return found[1] if found else None

    def field(self, name: str) -> str:
        found = re.search(rf'name="{name}" value="([^"]*)"', self.text)
        assert found, f"no field {name} in the page"
        return found[1]


class WebconfClient:
    """A session on the site of one node."""

    def __init__(self, control: Control, node: str, *, client: str | None = None) -> None:
        self.control, self.node = control, node
        facts = control.node(node)
        self.url = facts["url"]
        self._place = facts["address"], facts["port"]
        self._tls = ssl.create_default_context(cafile=str(control.ca_file))
        if client:
            self._tls.load_cert_chain(*control.client(client))
        self.cookies: dict[str, str] = {}

    def __call__(self, method: str, path: str, body: bytes | str | None = None, **headers: str) -> Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection = http.client.HTTPSConnection(*self._place, timeout=30, context=self._tls)
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        for line in response.headers.get_all("Set-Cookie") or []:
            for name, morsel in SimpleCookie(line).items():
                if morsel["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value
        return Response(response.status, content.decode("utf-8", "replace"), response.headers, content)

    def get(self, path: str, **headers: str) -> Response:
        return self("GET", path, **headers)

    def post(self, path: str, fields: dict[str, str], **headers: str) -> Response:
        headers.setdefault("content_type", FORM)
        return self("POST", path, urllib.parse.urlencode(fields), **headers)

    def log_in(self, user: str | None = None, password: str | None = None, **fields: str) -> Response:
        login = json.loads((self.control.folder / "clients" / "webconf-login.json").read_text(encoding="utf-8"))
        sent = {"user": user or login["user"], "password": password or login["password"], **fields}
        return self.post("/login", {"csrf": self.get("/login").field("csrf"), **sent})

    def csrf(self) -> str:
        return self.get("/security").field("csrf")

    def upload(self, content: bytes, *, csrf: str | None = None, once: str | None = None, **headers: str) -> Response:
        fields = {"csrf": self.csrf() if csrf is None else csrf, "once": once or secrets.token_hex(16)}
        return self.send("/security/import", fields, content, **headers)

    def send(self, path: str, fields: dict[str, str], content: bytes, **headers: str) -> Response:
        """Send a form with a file."""
        boundary = secrets.token_hex(16)
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in fields.items()
        ]
        parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="package"; filename="a.ksp"\r\n\r\n')
        body = "".join(parts).encode() + content + f"\r\n--{boundary}--\r\n".encode()
        headers.setdefault("content_type", f"multipart/form-data; boundary={boundary}")
        return self("POST", path, body, **headers)
