# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets of a task: where they are found, and that nothing that leaves an action holds one."""

from __future__ import annotations

import base64
import json
import typing as t
import urllib.parse

import pytest
from ansible.errors import AnsibleError
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._operations.cluster_info import ARGUMENT_SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._secrets import (
    REPLACEMENT,
    secret_values,
    without_secrets,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._errors_of_ansible import errors_without_secrets

TOKEN = "0_dWBAUWoVjI7aZXkHlz8u"
SPEC = {"bearer_token": {"type": "str", "no_log": True}, "host": {"type": "str"}}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"bearer_token": TOKEN, "host": "node1"}, [TOKEN]),
        ({"bearer_token": f"{TOKEN}\n"}, [TOKEN, f"{TOKEN}\n"]),
        ({"bearer_token": [TOKEN, {"value": "another"}]}, [TOKEN, "another"]),
        ({"bearer_token": 123456}, ["123456"]),
        ({"bearer_token": " "}, []),
        ({"bearer_token": None}, []),
        ({}, []),
        ("no dict", []),
    ],
    ids=repr,
)
def test_secret_values_of_a_task(params: t.Any, expected: list[str]) -> None:
    """The parameters can be invalid: an error about them must not show a secret."""
    assert sorted(secret_values(SPEC, params)) == sorted(expected)


def test_secret_values_of_suboptions() -> None:
    nodes = [{"inventory_host": "node1", "bearer_token": TOKEN}, {"inventory_host": "node2"}, "invalid"]
    assert secret_values(ARGUMENT_SPEC, {"nodes": nodes}) == [TOKEN]


def test_without_secrets_replaces_at_any_depth() -> None:
    result = {"msg": f"Bearer {TOKEN}.", TOKEN: 1, "nodes": [{"a": (TOKEN, None, 7, True)}]}
    cleaned = without_secrets(result, [TOKEN])
    assert TOKEN not in str(cleaned)
    assert cleaned["msg"] == f"Bearer {REPLACEMENT}."
    assert cleaned["nodes"] == [{"a": [REPLACEMENT, None, 7, True]}]


def test_without_secrets_replaces_the_longest_first() -> None:
    """A secret can be a part of another one."""
    assert without_secrets("secret-and-more", ["secret", "secret-and-more"]) == REPLACEMENT


@pytest.mark.parametrize(
    "quoted",
    [
        json.dumps('t0ken-ü"\\-0_dWBAUWoVj'),
        repr('t0ken-ü"\\-0_dWBAUWoVj'.encode()),
        urllib.parse.quote('t0ken-ü"\\-0_dWBAUWoVj'),
        urllib.parse.quote('t0ken-ü"\\-0_dWBAUWoVj', safe="").lower().replace("dwbauwovj", "dWBAUWoVj"),
        *(
            base64.b64encode(before + 't0ken-ü"\\-0_dWBAUWoVj'.encode() + b"!").decode()
            for before in (b"", b"a", b"Bearer ", b"ab")
        ),
        't0ken-ü"\\-0_dWBAUWoVj'.encode().hex(),
        't0ken-ü"\\-0_dWBAUWoVj'.encode().decode("latin-1"),
    ],
    ids=ascii,
)
def test_without_secrets_replaces_every_spelling(quoted: str) -> None:
    """An exception quotes a secret escaped, and a server can send it back encoded."""
    cleaned = without_secrets(f"the server sent {quoted}.", ['t0ken-ü"\\-0_dWBAUWoVj'])
    assert REPLACEMENT in cleaned
    assert len(cleaned) <= len("the server sent .") + len(REPLACEMENT) + 14, cleaned


def test_error_of_ansible_with_a_secret_is_replaced() -> None:
    with pytest.raises(UtrustError, match=REPLACEMENT) as caught, errors_without_secrets([TOKEN]):
        raise AnsibleError(f"template error near {TOKEN}")
    assert (caught.value.code, caught.value.__cause__) == ("internal_error", None)
    with pytest.raises(AnsibleError, match="no secret"), errors_without_secrets([TOKEN]):
        raise AnsibleError("no secret")


def test_without_secrets_nothing_to_replace() -> None:
    result = {"msg": "nothing"}
    assert without_secrets(result, []) is result
