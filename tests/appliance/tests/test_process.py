# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command `utrust-appliance`: up, down, status, cards and keys."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from utrust_appliance import process
from utrust_appliance.cli import main
from utrust_appliance.control import Control
from utrust_appliance.errors import OperationError
from utrust_appliance.provision import key_list
from utrust_appliance.testing import Api, cluster

if t.TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    with cluster(nodes=2, keys=2, faults=True) as running:
        yield running


class Result(t.NamedTuple):
    """Exit status and output."""

    status: int
    out: str
    err: str


@pytest.fixture
def run(control: Control, capsys: pytest.CaptureFixture[str]) -> t.Callable[..., Result]:
    def call(*words: str) -> Result:
        status = main([*words, "--dir", str(control.folder)])
        return Result(status, *capsys.readouterr())

    return call


def test_up_shows_nodes_and_writes_inventory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`up` shows every node and writes an Ansible inventory."""
    folder = tmp_path / "d"
    command = [sys.executable, "-m", "utrust_appliance"]
    done = subprocess.run(
        [*command, "up", "--nodes", "2", "--keys", "1", "--dir", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        assert done.returncode == 0, done.stderr
        control = Control(folder)
        for node in control.status()["nodes"]:
            assert {node["url"], node["state"], node["tls_fingerprint"]} <= set(done.stdout.split())
        assert "simulated appliances" in done.stdout
        hosts = yaml.safe_load((folder / "inventory.yml").read_text(encoding="utf-8"))["utrust"]["hosts"]
        assert list(hosts) == ["node1", "node2"]
        facts, node = hosts["node2"], control.node("node2")
        assert (facts["utrust_host"], facts["utrust_port"]) == (node["address"], node["port"])
        assert facts["utrust_tls_fingerprint"] == [node["tls_fingerprint"]]
        for name in ("utrust_client_cert", "utrust_client_key", "utrust_ca_file"):
            assert Path(facts[name]).is_file()
        assert os.getpgid(control.pid) != os.getpgid(0)
        second = subprocess.run([*command, "up", "--dir", str(folder)], capture_output=True, text=True, check=False)
        assert (second.returncode, "in use" in second.stderr) == (1, True)
    finally:
        down = main(["down", "--purge", "--dir", str(folder)])
    assert down == 0
    assert not folder.exists()
    assert "has ended" in capsys.readouterr().out


def test_restart_keeps_state_ports_and_identities(control: Control) -> None:
    """State, ports and identities are kept after `down` and `up`."""
    before = control.status()
    assert control.down()
    assert not control.down()
    with pytest.raises(OperationError, match="No cluster runs"):
        control.status()
    Control.up(control.folder, faults=True)
    assert control.status()["nodes"] == before["nodes"]
    control.down()
    with pytest.raises(OperationError, match="cluster of 2 nodes"):
        Control.up(control.folder, nodes=3)
    Control.up(control.folder, faults=True)


def test_down_stops_only_its_process(control: Control) -> None:
    """`down` stops only the process of its cluster."""
    run = json.loads((control.folder / "run.json").read_text(encoding="utf-8"))
    (control.folder / "run.json").write_text(json.dumps({**run, "pid": os.getpid()}), encoding="utf-8")
    try:
        with pytest.raises(OperationError, match="was not stopped"):
            control.down()
    finally:
        (control.folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    assert control.status()


def test_folder_with_other_files_rejected(tmp_path: Path) -> None:
    """`up` and `purge` reject a folder with other files."""
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(OperationError, match="contains other files"):
        Control.up(tmp_path)
    with pytest.raises(OperationError, match="was not removed"):
        Control(tmp_path).down(purge=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_interrupted_first_start_is_repeated(tmp_path: Path) -> None:
    """An interrupted first start is repeated."""
    process.claim(tmp_path)
    (tmp_path / "nodes").mkdir()
    (tmp_path / "ca.pem").write_text("half", encoding="utf-8")
    control = Control.up(tmp_path, nodes=1, keys=1)
    try:
        assert Api(control, "node1")("GET", "/node").status == 200
    finally:
        control.down(purge=True)


def test_foreground_serves_until_signal(tmp_path: Path) -> None:
    """`up --foreground` serves until a signal."""
    command = [
        sys.executable,
        "-m",
        "utrust_appliance",
        "up",
        "--foreground",
        "--nodes",
        "1",
        "--keys",
        "1",
        "--dir",
        str(tmp_path / "d"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as foreground:
        assert foreground.stdout is not None
        try:
            assert "TLS fingerprint" in foreground.stdout.readline()
            assert Control(tmp_path / "d").pid == foreground.pid
        finally:
            foreground.send_signal(signal.SIGINT)
        assert foreground.wait(timeout=20) == 0


def test_address_mode_ports_uses_port_per_node() -> None:
    """Without addresses, every node has its own port."""
    with cluster(nodes=2, keys=1, address_mode="ports") as control:
        nodes = control.status()["nodes"]
        assert {node["address"] for node in nodes} == {"127.0.0.1"}
        assert len({node["port"] for node in nodes}) == 2
        assert Api(control, "node2")("GET", "/node").data["name"] == "node2"


def test_key_mix_defines_first_keys() -> None:
    """--key-mix defines the types of the first keys."""
    assert [kind for dummy, dummy2, kind in key_list(4, {"ec-p256": 1, "aes-256": 1})] == ["ec-p256", "aes-256"] * 2
    assert len({label for dummy, label, dummy2 in key_list(200, None)}) == 200
    assert {kind for dummy, dummy2, kind in key_list(10, None)} == {"rsa-3072", "ec-p256", "ec-p384", "aes-256"}


def test_status_reports_running_cluster(run: t.Callable[..., Result], control: Control) -> None:
    """`status` reports whether the cluster runs."""
    assert run("status").status == 0
    assert json.loads(run("status", "--json").out)["running"] is True
    assert main(["status", "--dir", str(control.folder.parent / "nothing")]) == 3


def test_sign_verifies_and_missing_key_fails(run: t.Callable[..., Result], tmp_path: Path) -> None:
    """A signature verifies with the public key, and a missing key fails with a clear message."""
    assert run("key", "generate", "--node", "node1", "--label", "cli", "--type", "ec-p384").status == 0
    assert run("key", "public", "--node", "node1", "--label", "cli", "--out", str(tmp_path / "pem")).status == 0
    (tmp_path / "in").write_bytes(b"message")
    assert (
        run(
            "sign", "--node", "node1", "--label", "cli", "--in", str(tmp_path / "in"), "--out", str(tmp_path / "sig")
        ).status
        == 0
    )
    public = serialization.load_pem_public_key((tmp_path / "pem").read_bytes())
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify((tmp_path / "sig").read_bytes(), b"message", ec.ECDSA(hashes.SHA384()))
    printed = run("sign", "--node", "node1", "--label", "cli", "--message", "message", "--out", "-")
    public.verify(base64.b64decode(printed.out), b"message", ec.ECDSA(hashes.SHA384()))
    missing = run("sign", "--node", "node2", "--label", "cli", "--message", "m", "--out", "-")
    assert (missing.status, missing.err) == (1, "utrust-appliance: The HSM of node2 does not have a key cli.\n")
    run("key", "damage", "--node", "node1", "--label", "cli")
    assert "unusable" in run("sign", "--node", "node1", "--label", "cli", "--message", "m", "--out", "-").err
    assert run("key", "delete", "--node", "node1", "--label", "cli").status == 0


def test_cli_guided_restore(run: t.Callable[..., Result], control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guided restore works with commands only."""

    def pin(value: str) -> Result:
        reader, writer = os.pipe()
        os.write(writer, value.encode() + b"\n")
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8") as stdin, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", stdin)
            return run("pin", "--node", "node2")

    Api(control, "node2")("POST", "/hsm/restores", {"pin_pad": "front-usb", "source": "node1"})
    assert "Insert MBK card 1 of 2" in run("pinpad", "status", "--node", "node2").out
    assert run("card", "insert", "KEYOPS-1", "--node", "node2").out == "Enter the PIN of MBK card 1 of 2\n"
    assert run("card", "list").out.count("node2") == 1
    assert pin("wrong").status == 1
    assert pin(control.pin_of("KEYOPS-1")).out == "Insert MBK card 2 of 2\n"
    assert run("card", "insert", "KEYOPS-1", "--node", "node2").status == 1
    assert run("card", "insert", "KEYOPS-2", "--node", "node2").status == 0
    assert pin(control.pin_of("KEYOPS-2")).status == 0
    while control.node("node2")["running"]:
        continue
    assert control.node("node2")["state"] == "operational"
    run("factory-reset", "--node", "node2")
    assert run("restore", "--node", "node2").status == 0
    assert run("mbk", "list").out.split()[-2:] == ["node1,", "node2"]


def test_cli_faults_and_log(run: t.Callable[..., Result], control: Control) -> None:
    """Faults and log work with commands."""
    assert run("fault", "set", "latency", "seconds=0", "--node", "node1", "--path", "/node$").status == 0
    kinds, active = run("fault", "list").out.split("active faults")
    assert "lost_response_after" in kinds
    assert "latency" in active
    assert json.loads(run("fault", "list", "--json").out)["active"][0]["node"] == "node1"
    assert run("fault", "clear", "latency").out == "Cleared faults: 1.\n"
    assert "active faults: none" in run("fault", "list").out
    assert "does not have the parameter" in run("fault", "set", "latency", "hours=1").err
    assert run("fault", "set", "nonsense").status == 1
    run("log", "--clear")
    Api(control, "node1")("GET", "/node")
    assert [entry["event"] for entry in json.loads(run("log", "--node", "node1", "--json").out)] == [
        "connection",
        "request",
    ]
    assert "GET /api/v1/node  200  operator" in run("log", "--node", "node1").out


def test_cli_fault_list_without_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    """`fault list` works without a cluster."""
    assert main(["fault", "list"]) == 0
    assert "restart_during_import" in capsys.readouterr().out


def test_cli_faults_require_option() -> None:
    """Faults require the option --faults."""
    with cluster(nodes=1, keys=1) as control, pytest.raises(OperationError, match="Start the cluster with --faults"):
        control.fault("alarm")
