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
from tests.support.awx_workflow_rules import APPROVAL, LINKS, ROLES, STARTED, check_link, started_by

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
        #: Type, id and name of the object of each role. The id of a role is its place in this list.
        self.roles: list[tuple[str, int, str]] = []
        #: Ids of teams by the id of a role.
        self.granted: dict[int, list[int]] = {}
        self.requests: list[tuple[str, str]] = []
        self.url = ""

    def by_name(self, resource: str, name: str) -> Item:
        label = RESOURCES[resource].label
        (found,) = [item for item in self.items[resource].values() if item[label] == name]
        return found

    def names(self, resource: str) -> list[str]:
        return [item[RESOURCES[resource].label] for item in self.items[resource].values()]

    def associated(self, resource: str, name: str, relation: str) -> list[str]:
        """Return the names of the objects that are associated with an object."""
        ids = self.by_name(resource, name)["_related"].get(relation, [])
        kind = _resource_of(relation)
        return [self.items[kind][number][RESOURCES[kind].label] for number in ids]

    def roles_of(self, team: str) -> set[tuple[str, str]]:
        """Return name of the object and name of the role for each role of a team."""
        number = self.by_name("teams", team)["id"]
        roles = [self.roles[role] for role, teams in self.granted.items() if number in teams]
        return {(self.items[resource][item]["name"], role) for resource, item, role in roles}

    def handle(self, method: str, path: str, query: dict[str, str], data: t.Any) -> tuple[int, t.Any]:
        """Return status and content of a response. Raises RejectedError and KeyError (not found)."""
        parts = path.removeprefix(PREFIX).strip("/").split("/")
        if method == "GET" and len(parts) == 1:
            return 200, self._page(self._search(parts[0], query))
        if method == "POST" and len(parts) == 1:
            return 201, self._shown(parts[0], self._create(parts[0], data))
        if parts[0] == "roles":
            return self._grant(method, int(parts[1]), data)
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
        self.roles += [(resource, number, role) for role in ROLES.get(resource, ())]
        return item

    def _grant(self, method: str, role: int, data: t.Any) -> tuple[int, t.Any]:
        """List the teams with a role, or grant the role to a team."""
        teams = self.granted.setdefault(role, [])
        if method == "GET":
            return 200, self._page([self._shown("teams", self.items["teams"][number]) for number in teams])
        if data["id"] not in self.items["teams"]:
            raise RejectedError({"msg": "Bad data found in related field id."})
        teams.append(data["id"])
        return 204, None

    def _search(self, resource: str, query: dict[str, str]) -> list[Item]:
        if resource == "unified_job_templates":
            return [item for name in STARTED for item in self._search(name, query)]
        every = {name: value for name, value in query.items() if not name.startswith("or__")}
        one = {name.removeprefix("or__"): value for name, value in query.items() if name not in every}
        found = [
            item
            for item in self.items[resource].values()
            if all(str(item.get(name)) == value for name, value in every.items())
            and (not one or any(str(item.get(name)) == value for name, value in one.items()))
        ]
        return [self._shown(resource, item) for item in found]

    def _sub(self, method: str, resource: str, item: Item, relation: str, data: t.Any) -> tuple[int, t.Any]:
        if relation == "survey_spec":
            if method == "POST":
                item["_survey"] = validated(self, "survey_specs", data, item)
            return 200, item["_survey"] if method == "GET" else {}
        if relation == "create_approval_template":
            created = self._create(
                "workflow_approval_templates", {name: data[name] for name in APPROVAL if name in data}
            )
            item["unified_job_template"] = created["id"]
            return 201, self._shown("workflow_approval_templates", created)
        ids = item["_related"].setdefault(relation, [])
        others = self.items[_resource_of(relation)]
        if method == "GET":
            return 200, self._page([self._shown(_resource_of(relation), others[number]) for number in ids])
        if data["id"] not in others:
            raise RejectedError({"msg": f"{relation}: {data['id']} was not found"})
        if data.get("disassociate"):
            ids.remove(data["id"])
        else:
            found = check_link(self, item, relation, others[data["id"]]) if relation in LINKS else {}
            if found:
                raise RejectedError(found)
            ids.append(data["id"])
        return 204, None

    @staticmethod
    def _page(items: list[Item]) -> Item:
        return {"count": len(items), "next": None, "previous": None, "results": items}

    def _shown(self, resource: str, item: Item) -> Item:
        url = f"{PREFIX}{resource}/{item['id']}/"
        content = {name: value for name, value in shown(resource, item).items() if not name.startswith("_")}
        related, summary = {}, {}
        if resource in ("job_templates", "workflow_job_templates"):
            related["survey_spec"] = f"{url}survey_spec/"
        if resource == "workflow_job_template_nodes":
            content |= {name: item["_related"].get(name, []) for name in LINKS}
            started = started_by(self, item["unified_job_template"])
            if started is not None:
                related["unified_job_template"] = f"{PREFIX}{started[0]}/{started[1]['id']}/"
        if resource in ROLES:
            own = [(number, role[2]) for number, role in enumerate(self.roles) if role[:2] == (resource, item["id"])]
            summary["object_roles"] = {name: {"id": number} for number, name in own}
        kind = RESOURCES[resource].kind
        return {**content, "url": url, "type": kind, "related": related, "summary_fields": summary}


def _resource_of(relation: str) -> str:
    if relation in LINKS:
        return "workflow_job_template_nodes"
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
