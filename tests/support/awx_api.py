# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The part of the REST API of AWX that the modules of awx/setup.yml use, in memory.

It follows the sources of AWX 24.6.1: identities, defaults that AWX adds, and requests that AWX rejects.
"""

from __future__ import annotations

import json
import re
import threading
import typing as t
import urllib.parse
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.awx_rules import RESOURCES, RejectedError, shown, validated

if t.TYPE_CHECKING:
    from collections.abc import Iterator

Item = dict[str, t.Any]
TOKEN = "token-of-the-awx-administrator"
PREFIX = "/api/v2/"


class Awx:
    """All objects of a server. `requests` has method and path of each request that can change something."""

    def __init__(self, playbooks: t.Sequence[str]) -> None:
        self.playbooks = list(playbooks)
        self.items: dict[str, dict[int, Item]] = {name: {} for name in RESOURCES}
        self.requests: list[tuple[str, str]] = []
        self.url = ""

    def by_name(self, resource: str, name: str) -> Item:
        (found,) = [item for item in self.items[resource].values() if item["name"] == name]
        return found

    def names(self, resource: str) -> list[str]:
        return [item["name"] for item in self.items[resource].values()]

    def associated(self, resource: str, name: str, relation: str) -> list[str]:
        """Return the names of the objects that are associated with an object."""
        ids = self.by_name(resource, name)["_related"].get(relation, [])
        return [self.items[_resource_of(relation)][number]["name"] for number in ids]

    def handle(self, method: str, path: str, query: dict[str, str], data: t.Any) -> tuple[int, t.Any]:
        """Return status and content of a response. Raises RejectedError and KeyError (not found)."""
        parts = path.removeprefix(PREFIX).strip("/").split("/")
        if method == "GET" and len(parts) == 1:
            return 200, self._page(self._search(parts[0], query))
        if method == "POST" and len(parts) == 1:
            return 201, self._shown(parts[0], self._create(parts[0], data))
        item = self.items[parts[0]][int(parts[1])]
        if len(parts) == 2:
            if method == "PATCH":
                item.update(validated(self, parts[0], {**item, **data}, item))
            return 200, self._shown(parts[0], item)
        return self._sub(method, parts[0], item, parts[2], data)

    def _create(self, resource: str, data: Item) -> Item:
        number = 1 + sum(map(len, self.items.values()))
        item = {**validated(self, resource, data, None), "id": number, "_related": {}, "_survey": {}}
        self.items[resource][number] = item
        return item

    def _search(self, resource: str, query: dict[str, str]) -> list[Item]:
        if resource == "unified_job_templates":
            return [item for name in ("job_templates", "projects") for item in self._search(name, query)]
        conditions = {name: value for name, value in query.items() if not name.startswith("or__")}
        found = [
            item
            for item in self.items[resource].values()
            if all(str(item.get(name)) == value for name, value in conditions.items())
        ]
        return [self._shown(resource, item) for item in found]

    def _sub(self, method: str, resource: str, item: Item, relation: str, data: t.Any) -> tuple[int, t.Any]:
        if relation == "survey_spec":
            if method == "POST":
                item["_survey"] = validated(self, "survey_specs", data, item)
            return 200, item["_survey"] if method == "GET" else {}
        ids = item["_related"].setdefault(relation, [])
        others = self.items[_resource_of(relation)]
        if method == "GET":
            return 200, self._page([self._shown(_resource_of(relation), others[number]) for number in ids])
        if data["id"] not in others:
            raise RejectedError({"msg": f"{relation}: {data['id']} was not found"})
        if data.get("disassociate"):
            ids.remove(data["id"])
        else:
            ids.append(data["id"])
        return 204, None

    @staticmethod
    def _page(items: list[Item]) -> Item:
        return {"count": len(items), "next": None, "previous": None, "results": items}

    @staticmethod
    def _shown(resource: str, item: Item) -> Item:
        url = f"{PREFIX}{resource}/{item['id']}/"
        content = {name: value for name, value in shown(resource, item).items() if not name.startswith("_")}
        related = {"survey_spec": f"{url}survey_spec/"} if resource == "job_templates" else {}
        return {**content, "url": url, "type": RESOURCES[resource].kind, "related": related, "summary_fields": {}}


def _resource_of(relation: str) -> str:
    return "notification_templates" if relation.startswith("notification_templates") else relation


class _Handler(BaseHTTPRequestHandler):
    """One request. Any exception is a bug of this file and ends in a response with status 500."""

    awx: Awx
    protocol_version = "HTTP/1.1"

    def _respond(self) -> None:
        path, dummy, query = self.path.partition("?")
        length = int(self.headers.get("Content-Length") or 0)
        data = json.loads(self.rfile.read(length) or "null")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            status, content = 401, {"detail": "Authentication credentials were not provided."}
        else:
            if self.command != "GET":
                self.awx.requests.append((self.command, path))
            try:
                status, content = self.awx.handle(self.command, path, dict(urllib.parse.parse_qsl(query)), data)
            except RejectedError as exc:
                status, content = exc.status, exc.args[0]
            except KeyError:
                status, content = 404, {"detail": "Not found."}
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("X-API-Product-Name", "AWX")
        self.send_header("X-API-Product-Version", "24.6.1")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def __getattr__(self, name: str) -> t.Any:
        """Every method of HTTP has the same function."""
        if name.startswith("do_"):
            return self._respond
        raise AttributeError(name)

    def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002
        pass


def playbooks_of(texts: t.Mapping[str, str]) -> list[str]:
    """Return the files in which AWX finds a playbook, by the rule of AWX."""
    rule = re.compile(
        r"^\s*?-?\s*?(?:hosts|(ansible\.builtin\.)?include|(ansible\.builtin\.)?import_playbook):\s*?.*?$", re.MULTILINE
    )
    return [name for name, text in texts.items() if rule.search(text)]


@contextmanager
def running(playbooks: t.Sequence[str]) -> Iterator[Awx]:
    """Serve the API on 127.0.0.1. `playbooks` are the playbooks of every project."""
    awx = Awx(playbooks)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"awx": awx}))
    awx.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield awx
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
