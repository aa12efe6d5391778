# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets of a task through both runners: no output, log, file or result has one, not even in another spelling."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import typing as t
import urllib.parse

from tests.support.raw_server import RawServer, reply, send
from tests.support.runners import task

if t.TYPE_CHECKING:
    from pathlib import Path

    from tests.support.runners import AnsibleRunner

INFO, CLUSTER, CLAIM = "utrust_hsm_info", "utrust_cluster_info", "utrust_cluster_claim"
#: Tokens, and the code of a task: a server rejects the valid tokens, and echoes each of them.
TOKENS: t.Final = {
    "p1aiN-0_dWBAUWoVjI7aZX": "forbidden",
    "b64/W1th+padd1ng-8uQ4rT6yU8i==": "forbidden",
    "l1ne-0_dWBAUWoVjI7aZXk\n": "option_invalid",
    "cr1f-0_dWBAUWoVjI7aZXkH\r\n": "option_invalid",
    "  b1ank-0_dWBAUWoVjI7aZ\t": "option_invalid",
    "f1rst-0_dWBAUWoVjI7aZX\nsec0nd-kHlz8uQ4rT6yU8i": "option_invalid",
    "c0ntrol-\x01\x1b[2K-dWBAUWoVjI7": "option_invalid",
    "schlüss3l-dWBAUWoVjI7aZ": "option_invalid",
    "🔑🔑🔑-dWBAUWoVjI7aZXk": "option_invalid",
    "qu0te\"\\-dWBA'UWoVjI7aZ": "option_invalid",
    "p3rc%41&=dWBAUWoVjk3i8e": "option_invalid",
}


def spellings(token: str) -> set[str]:
    """Return the forms in which a client or a server can quote the token."""
    found: set[str] = set()
    for text in {token, token.strip(), *(line for line in token.splitlines() if len(line.strip()) >= 16)}:
        content = text.encode()
        found |= {text, json.dumps(text)[1:-1], repr(text)[1:-1], repr(content)[2:-1], content.hex()}
        found |= {urllib.parse.quote(text), urllib.parse.quote(text, safe=""), urllib.parse.quote_plus(text)}
    return found


def encoded(token: str) -> list[str]:
    """Return Base64 of the token, with other bytes before it."""
    return [base64.b64encode(b"x" * shift + token.strip().encode() + b"y").decode() for shift in range(3)]


def echo(token: str) -> bytes:
    """Return a problem document that quotes the token in every spelling."""
    detail = " , ".join([f"Bearer {token}", *sorted(spellings(token)), *encoded(token)])
    return reply({"code": "forbidden", "title": "no", "detail": detail}, 403, media_type="application/problem+json")


def test_secret_of_a_file_in_no_output_and_no_file(runner: AnsibleRunner, tmp_path: Path) -> None:
    """The server echoes the token. The task has only the path."""
    log, path = runner.folder / "ansible.log", tmp_path / "bearer"
    token = next(iter(TOKENS))
    path.write_text(f"{token}\n", encoding="ascii")
    with RawServer(functools.partial(lambda body, *dummy: send(body), echo(token))) as server:
        endpoint = server.endpoint(10.0)
        login: dict[str, t.Any] = {"host": endpoint.host, "port": endpoint.port, "bearer_token_file": str(path)}
        login["tls_fingerprint"] = list(endpoint.tls_fingerprint)
        nodes = [{"inventory_host": "node1", **login}]
        ran = runner.run(
            task(INFO, {**login, "retries": 0}),
            task(CLUSTER, {"source": "node1", "nodes": nodes}),
            task(CLAIM, {**login, "retries": 0, "state": "present"}),
            arguments=["-vvvv", "--diff"],
            env={"ANSIBLE_LOG_PATH": str(log), "ANSIBLE_PIPELINING": "0", "ANSIBLE_INJECT_INVOCATION": "true"},
        )
    assert [result.get("code") for result in ran.results] == ["forbidden"] * 3, ran.output
    for origin, text in [
        ("output", ran.output),
        ("results", json.dumps(ran.results, ensure_ascii=False)),
        *((name, text) for name, text in files_below(runner.folder) if name != str(path)),
    ]:
        forms = spellings(token) | {piece[4:-4] for piece in encoded(token)}
        assert [form for form in forms if form in text] == [], origin


def files_below(folder: Path) -> t.Iterator[tuple[str, str]]:
    """Yield the files of a run, without the play and the inventory, which have the token."""
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in ("play.yml", "inventory.yml"):
            yield str(path), path.read_text(encoding="utf-8", errors="surrogateescape")


def test_secret_in_no_output_and_no_file(runner: AnsibleRunner) -> None:
    """Tasks are valid, invalid, or have a server that echoes the token. The run shows all that Ansible can show."""
    log, steps = runner.folder / "ansible.log", []
    with contextlib.ExitStack() as servers:
        for token in TOKENS:
            server = servers.enter_context(RawServer(functools.partial(lambda body, *dummy: send(body), echo(token))))
            endpoint = server.endpoint(10.0)
            pins = list(endpoint.tls_fingerprint)
            place = {"host": endpoint.host, "port": endpoint.port, "tls_fingerprint": pins, "retries": 0}
            login = {**place, "bearer_token": token}
            node = {"inventory_host": "node1", "host": endpoint.host, "tls_fingerprint": pins, "bearer_token": token}
            steps += [
                task(INFO, login),
                task(INFO, {**login, "retries": token, "expect_node": token}),
                task(INFO, place, environment={"UTRUST_BEARER_TOKEN": token}),
            ]
            if TOKENS[token] == "forbidden":
                steps += [
                    task(CLUSTER, {"source": "node1", "nodes": [{**node, "port": endpoint.port}]}),
                    task(CLAIM, {**login, "state": "present"}),
                ]
        ran = runner.run(
            *steps,
            arguments=["-vvvv", "--diff"],
            env={"ANSIBLE_LOG_PATH": str(log), "ANSIBLE_PIPELINING": "0", "ANSIBLE_INJECT_INVOCATION": "true"},
        )
    codes = [result.get("code") for result in ran.results]
    expected = [(one, "option_invalid", one, *([one] * 2 if one == "forbidden" else [])) for one in TOKENS.values()]
    assert codes == [code for codes_of_token in expected for code in codes_of_token], ran.output
    assert log.stat().st_size > 10_000
    shown = {"results": json.dumps(ran.results), "texts": json.dumps(ran.results, ensure_ascii=False)}
    for origin, text in [("output", ran.output), *shown.items(), *files_below(runner.folder)]:
        for token in TOKENS:
            forms = spellings(token) | {piece[4:-4] for piece in encoded(token)}
            found = [text[max(0, text.index(form) - 60) :][:160] for form in forms if form in text]
            assert found == [], origin
