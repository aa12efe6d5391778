# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test properties of both runners: environment, options, host variables, strategies, async and secrets."""

from __future__ import annotations

import base64
import json
import socket
import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.playbook import methods
from tests.support.runners import RUNNERS, AnsibleRunner, connection_args, task

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

INFO, EXPORT, IMPORT = "utrust_hsm_info", "utrust_ksp_export", "utrust_ksp_import"


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    with cluster(nodes=2, restored=2, keys=6, key_mix={"ec-p256": 1, "aes-256": 1}) as running:
        yield running


@pytest.fixture
def variables(control: Control) -> dict[str, str]:
    """Return all connection options that the environment can set, and options that it cannot set."""
    return {
        "UTRUST_HOST": "127.0.0.1",
        "UTRUST_PORT": "1",
        "UTRUST_TLS_FINGERPRINT": "ab" * 32,
        "UTRUST_BEARER_TOKEN": control.token,
        "UTRUST_CA_FILE": " ",
        "UTRUST_CONNECT_TIMEOUT": "7.5",
        "UTRUST_TIMEOUT": "20",
        "UTRUST_RETRIES": "0",
    }


# Environment


def where(control: Control, node: str) -> dict[str, t.Any]:
    """Return the options that identify a node. The environment never sets them."""
    facts = control.node(node)
    return {name: facts[key] for name, key in (("host", "address"), ("port", "port"), ("tls_fingerprint",) * 2)}


def test_environment_of_the_controller_sets_options(
    control: Control, runner: AnsibleRunner, variables: dict[str, str]
) -> None:
    """The environment of a bastion is empty, and the module gets the options too. The address and the pin never come from there."""
    result = runner.run(task(INFO, where(control, "node1")), env=variables).result
    assert result["failed"] is False, result
    assert result["node"]["name"] == "node1"
    assert control.token not in json.dumps(result)


def test_environment_precedence(control: Control, runner: AnsibleRunner, variables: dict[str, str]) -> None:
    """Arguments win over the environment of the task, which wins over the environment of the controller."""
    wrong = {**variables, "UTRUST_BEARER_TOKEN": "a-token-that-no-node-accepts"}
    right = {"UTRUST_BEARER_TOKEN": control.token}
    ran = runner.run(
        task(INFO, where(control, "node1"), environment=right),
        task(INFO, {**where(control, "node2"), "bearer_token": control.token}),
        task(INFO, where(control, "node2")),
        env=wrong,
    )
    assert [result.get("code") for result in ran.results] == [None, None, "unauthenticated"]
    assert [result["node"]["name"] for result in ran.results[:2]] == ["node1", "node2"]


def test_environment_of_the_task_sets_options(
    control: Control, runner: AnsibleRunner, variables: dict[str, str]
) -> None:
    """The token of the environment is not in the output."""
    outcome = runner.run(task(INFO, where(control, "node1"), environment=variables))
    assert outcome.result["node"]["name"] == "node1"
    assert control.token not in outcome.output


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"client_cert": "", "client_key": None}, "client_cert, bearer_token"),
        ({"timeout": "soon"}, "timeout"),
        ({"transport": "telnet"}, "transport"),
        # The verification of TLS cannot be switched off.
        ({"validate_certs": False}, "validate_certs"),
    ],
    ids=str,
)
def test_option_invalid_is_named(
    control: Control, runner: AnsibleRunner, changes: dict[str, t.Any], words: str
) -> None:
    """The refusal has a code and names the option."""
    result = runner.run(task(INFO, connection_args(control, "node1", **changes))).result
    assert (result["failed"], result["code"]) == (True, "option_invalid")
    assert words in result["msg"]


def test_option_invalid_does_not_show_the_token(control: Control, runner: AnsibleRunner) -> None:
    """An error is not allowed to quote a secret, even if the task is invalid."""
    token = "a-token-of-a-wrong-option"
    ran = runner.run(
        task(INFO, {**where(control, "node1"), "bearer_token": token, "expect_node": token, "retries": token})
    )
    assert ran.result["code"] == "option_invalid"
    assert token not in json.dumps(ran.result)


def test_blank_options_count_as_not_set(control: Control, runner: AnsibleRunner) -> None:
    """A survey sends blanks. A text for a list is split."""
    pin = control.node("node1")["tls_fingerprint"]
    blanks = {"retries": "", "timeout": "  ", "bearer_token": " ", "transport": "", "members": None, "gather": ""}
    arguments = {**connection_args(control, "node1"), **blanks, "tls_fingerprint": f"{'ab' * 32} , {pin},"}
    result = runner.run(task(INFO, arguments)).result
    assert result["failed"] is False, result
    assert "hsm_keys" not in result


def test_module_defaults_of_the_action_group_apply(control: Control, runner: AnsibleRunner) -> None:
    """The connection options can be set once for all modules."""
    shared = connection_args(control, "node1")
    block = {"module_defaults": {"group/keyops.utrust.utrust": shared}, "block": [task(INFO, {})]}
    assert runner.run(block).result["node"]["name"] == "node1"


# Refusals


def test_run_once_with_strategy_free_is_refused(control: Control, tmp_path: Path) -> None:
    """Strategy free runs a task with run_once on every host."""
    control.clear_log()
    runner = AnsibleRunner("action", tmp_path)
    result = runner.run(
        task(INFO, connection_args(control, "node1"), run_once=True),
        env={"ANSIBLE_STRATEGY": "free"},
        warnings=["Using run_once with the free strategy"],
    ).result
    assert (result["failed"], result["code"]) == (True, "strategy_not_supported")
    assert control.connections("node1") == 0


@pytest.mark.parametrize("level", ["block", "include"])
def test_inherited_run_once_is_refused(control: Control, tmp_path: Path, level: str) -> None:
    """A block with run_once would read the first host only."""
    control.clear_log()
    steps = [task(INFO, connection_args(control, "node1"))]
    (tmp_path / "steps.yml").write_text(json.dumps(steps), encoding="utf-8")
    outer: dict[str, dict[str, t.Any]] = {
        "block": {"block": steps, "run_once": True},
        "include": {
            "ansible.builtin.include_tasks": {"file": str(tmp_path / "steps.yml"), "apply": {"run_once": True}}
        },
    }
    ran = AnsibleRunner("action", tmp_path).run(outer[level], hosts=("here", "there"))
    result = next(result for result in ran.results if result.get("failed"))
    assert result["code"] == "run_once_inherited", result
    assert control.connections("node1") == 0


def test_run_once_of_the_task_itself_is_allowed(control: Control, runner: AnsibleRunner) -> None:
    """The task asks for one reading."""
    block = {"block": [task(INFO, connection_args(control, "node1"), run_once=True)], "run_once": True}
    assert runner.run(block, hosts=("here", "there")).result["node"]["name"] == "node1"


@pytest.mark.parametrize("token", ["a", "e1", "fifteen-letters", " padded-to-be-16 ", 7], ids=str)
def test_short_token_is_refused(control: Control, runner: AnsibleRunner, token: t.Any) -> None:
    """Its removal from a result would remove parts of words."""
    control.clear_log()
    arguments = connection_args(control, "node1", client_cert=None, client_key=None, bearer_token=token)
    nodes = [{"inventory_host": "node1", **arguments}]
    del nodes[0]["retries"]
    ran = runner.run(
        task(INFO, arguments),
        task(INFO, {**arguments, "bearer_token": None}, environment={"UTRUST_BEARER_TOKEN": token}),
        task("utrust_cluster_info", {"source": "node1", "nodes": nodes}),
    )
    assert [result["code"] for result in ran.results] == ["secret_too_short"] * 3, ran.results
    assert all("16 characters" in result["msg"] and "VALUE" not in result["msg"] for result in ran.results)
    assert control.connections("node1") == 0


def test_async_is_refused(control: Control, runner: AnsibleRunner) -> None:
    """An asynchronous task could outlive its run."""
    control.clear_log()
    result = runner.run(task(INFO, connection_args(control, "node1"), **{"async": 10, "poll": 0})).result
    assert result["failed"] is True
    assert "async" in result["msg"]
    assert control.connections("node1") == 0


# Secrets


def windows(content: bytes, length: int = 12) -> Iterator[bytes]:
    yield from (content[start : start + length] for start in range(0, len(content) - length, length))


def traces(content: bytes, shown: str) -> list[str]:
    """Return parts of the content that are in `shown`: as text, in hexadecimal, or in Base64 of any alignment."""
    raw = shown.encode("utf-8", "surrogateescape")
    encoded = [piece for start in range(3) for piece in windows(base64.b64encode(content[start:]), 16)]
    pieces = [*windows(content), *windows(content.hex().encode(), 24), *encoded]
    return [repr(piece) for piece in pieces if piece in raw]


def test_traces_finds_every_encoding() -> None:
    """The helper finds a secret as text, in hexadecimal and in Base64."""
    secret = bytes(range(256))
    for shown in (secret.decode("latin-1").encode("utf-8", "surrogateescape").decode()[:120], secret.hex()):
        assert traces(secret, f"msg: {shown}")
    assert traces(secret, base64.b64encode(b"x" + secret).decode())
    assert not traces(secret, "msg: nothing")


def test_output_and_results_have_no_secret(control: Control, runner: AnsibleRunner, tmp_path: Path) -> None:
    """Not even at the highest verbosity."""
    control.generate_key("node1", f"secretKey-{runner.name}")
    package, kept = tmp_path / "cluster.ksp", tmp_path / "kept.ksp"
    login = {"client_cert": None, "client_key": None, "bearer_token": "{{ lookup('file', token_file) }}"}
    files = {"token_file": str(control.folder / "clients" / "operator.token")}
    given = {"src": str(package), "manifest_sha256": "{{ export.manifest_sha256 }}"}
    ran = runner.run(
        task(EXPORT, connection_args(control, "node1", dest=str(package), **login), vars=files, register="export"),
        task(
            EXPORT, connection_args(control, "node1", dest=str(kept), **login), vars=files, check_mode=True, diff=True
        ),
        task(IMPORT, connection_args(control, "node2", **given, **login), vars=files, diff=True),
        task(
            IMPORT,
            connection_args(control, "node2", **given, expected_new_keys=["nonsense"], **login),
            vars=files,
        ),
        task(INFO, connection_args(control, "node2", gather=["keys", "pin_pads"], **login), vars=files),
        task(INFO, connection_args(control, "node2", host="127.0.0.1", port=1, **login), vars=files),
        task(INFO, connection_args(control, "node1"), vars=files),
        arguments=["-vvvvvv", "--diff"],
        # Older versions of Ansible always return the arguments.
        env={"ANSIBLE_PIPELINING": "0", "ANSIBLE_INJECT_INVOCATION": "true"},
    )
    assert [result["failed"] for result in ran.results] == [False, False, False, True, False, True, False]
    assert ran.results[2]["changed"] is True
    everything = ran.output + json.dumps(ran.results)
    assert control.token not in everything
    assert base64.b64encode(control.token.encode()).decode()[:24] not in everything
    assert "PRIVATE KEY" not in everything
    for card in control.cards():
        assert control.pin_of(card["card"]) not in everything
    content = package.read_bytes()
    # The end of the package has only wrapped keys and their authentication.
    assert traces(content[-200:-20], everything) == []
    for result in ran.results:
        assert result["executed_on"] == socket.gethostname()


def test_module_leaves_no_file_behind(control: Control, runner: AnsibleRunner, tmp_path: Path) -> None:
    """The module leaves no file on the machine that executes it."""
    runner.run(task(INFO, connection_args(control, "node1")), env={"ANSIBLE_PIPELINING": "0"})
    remote = runner.folder / "remote"
    assert [path for path in remote.rglob("*") if path.is_file()] == []
    assert list(tmp_path.iterdir()) == []


# Same results


def test_action_and_module_return_the_same(control: Control, tmp_path: Path) -> None:
    """Both runners return the same results for the same tasks."""
    control.clear_log()
    returned = []
    for name in RUNNERS:
        (tmp_path / name).mkdir()
        tasks = [
            task(INFO, {**connection_args(control, "node1"), "gather": ["keys", "pin_pads", "restore"]}),
            task(EXPORT, connection_args(control, "node1"), check_mode=True),
            task(INFO, connection_args(control, "node2", expect_node="node1")),
        ]
        ran = AnsibleRunner(name, tmp_path / name).run(*tasks)
        for result in ran.results:
            result.pop("invocation", None)
            for variable in ("clock", "clock_skew"):
                result.get("node", {}).pop(variable, None)
            result.get("manifest", {}).pop("created_at", None)
        returned.append([{key: value for key, value in result.items() if key[0] != "_"} for result in ran.results])
    for by_action, by_module in zip(*returned, strict=True):
        assert by_action == by_module
    assert methods(control) == {"GET"}
