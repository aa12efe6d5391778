# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Option bearer_token_file: what is read, what is rejected, and which setting wins."""

from __future__ import annotations

import os
import socket
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils import _token_file
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._runner import Invocation, Operation, execute
from ansible_collections.keyops.utrust.plugins.plugin_utils._connection import with_nearer

if t.TYPE_CHECKING:
    from pathlib import Path

TOKEN = "t0ken-0_dWBAUWoVjI7aZX"


def read(path: Path | str, **more: t.Any) -> dict[str, t.Any]:
    params, dummy = _token_file.with_tokens_of_files({"bearer_token_file": str(path), **more})
    return params


def rejected(path: Path | str, **more: t.Any) -> UtrustError:
    with pytest.raises(UtrustError, match="Nothing was sent") as caught:
        read(path, **more)
    return caught.value


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"], ids=repr)
def test_token_file_line_end_is_not_in_the_token(tmp_path: Path, end: str) -> None:
    (tmp_path / "token").write_bytes(f"{TOKEN}{end}".encode())
    assert read(tmp_path / "token")["bearer_token"] == TOKEN


@pytest.mark.parametrize("inner", [f" {TOKEN}", f"{TOKEN} ", f"{TOKEN}\nX: y", f"\ufeff{TOKEN}"], ids=repr)
def test_token_file_with_another_character_is_named(tmp_path: Path, inner: str) -> None:
    """A header cannot carry the token. The message names the option that is set, and does not quote the token."""
    (tmp_path / "token").write_text(inner, encoding="utf-8")
    refused = rejected(tmp_path / "token")
    assert refused.code == "bearer_token_file_invalid"
    assert str(refused).startswith("bearer_token_file: ")
    assert TOKEN not in str(refused)


def test_token_file_behind_a_link_with_any_mode_is_read(tmp_path: Path) -> None:
    """Kubernetes mounts a secret as a link, and AWX writes files of its own mode."""
    (tmp_path / "data").write_text(TOKEN, encoding="ascii")
    (tmp_path / "data").chmod(0o644)
    (tmp_path / "token").symlink_to("data")
    assert read(tmp_path / "token")["bearer_token"] == TOKEN


@pytest.mark.parametrize("kind", ["missing", "directory", "pipe", "socket", "device", "too large", "NUL"])
def test_token_file_that_is_not_a_file_is_rejected(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "token"
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind == "too large":
        path.write_text("x" * 8193, encoding="ascii")
    error = rejected({"device": "/dev/zero", "NUL": f"{path}\0"}.get(kind, path))
    assert error.code == "bearer_token_file_invalid"
    assert "x" * 16 not in str(error)


def test_token_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x" * 8191 + "\n", encoding="ascii")
    assert read(tmp_path / "token")["bearer_token"] == "x" * 8191


@pytest.mark.parametrize("content", ["", "\n", "short", "fifteen-letters\n"], ids=repr)
def test_token_file_with_a_short_token_is_rejected(tmp_path: Path, content: str) -> None:
    (tmp_path / "token").write_text(content, encoding="ascii")
    error = rejected(tmp_path / "token")
    assert error.code == "secret_too_short"
    assert str(error).startswith("bearer_token_file:")


def test_token_and_token_file_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN, encoding="ascii")
    error = rejected(tmp_path / "token", bearer_token="another-token-of-a-node")
    assert (error.code, TOKEN in str(error), "another-token" in str(error)) == ("option_invalid", False, False)


def test_token_files_of_all_nodes_are_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"{TOKEN}-{name}\n", encoding="ascii")
    nodes = [{"bearer_token_file": str(tmp_path / name), "port": 1} for name in ("a", "b")] + [{"port": 2}]
    params, tokens = _token_file.with_tokens_of_files({"nodes": nodes})
    assert [node.get("bearer_token") for node in params["nodes"]] == [f"{TOKEN}-a", f"{TOKEN}-b", None]
    assert tokens == [f"{TOKEN}-a", f"{TOKEN}-b"]
    assert "bearer_token" not in nodes[0]


@pytest.mark.parametrize("fails", [False, True])
def test_token_of_a_file_leaves_no_operation(tmp_path: Path, fails: bool) -> None:
    """Neither in the result, nor in an error, nor in progress."""
    (tmp_path / "token").write_text(f"{TOKEN}\n", encoding="ascii")
    shown: list[str] = []

    def run(invocation: Invocation) -> dict[str, t.Any]:
        invocation.progress(f"sending {invocation.params['bearer_token']}")
        if fails:
            raise UtrustError(f"the node rejects {invocation.params['bearer_token']}", code="forbidden")
        return {"echo": [invocation.params["bearer_token"]]}

    operation = Operation("utrust_hsm_info", {}, {}, run)
    result = execute(operation, Invocation({"bearer_token_file": str(tmp_path / "token")}, False, shown.append, None))
    assert result.get("code") == ("forbidden" if fails else None)
    assert shown == ["sending VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"]
    assert TOKEN not in f"{result}{shown}"


@pytest.mark.parametrize(
    ("farther", "nearer", "expected"),
    [
        ({"bearer_token": "a"}, {"bearer_token_file": "/b"}, {"bearer_token": None, "bearer_token_file": "/b"}),
        ({"bearer_token_file": "/a"}, {"bearer_token": "b"}, {"bearer_token": "b", "bearer_token_file": None}),
        ({"bearer_token_file": "/a"}, {"bearer_token_file": "/b"}, {"bearer_token": None, "bearer_token_file": "/b"}),
        ({"bearer_token_file": "/a", "port": 1}, {"port": 2}, {"bearer_token_file": "/a", "port": 2}),
    ],
    ids=str,
)
def test_nearer_token_replaces_the_file_of_a_token(
    farther: dict[str, t.Any], nearer: dict[str, t.Any], expected: dict[str, t.Any]
) -> None:
    """A host with a token of its own must not conflict with the credential of a job."""
    assert with_nearer(farther, nearer) == expected
