# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test every refusal through both runners: its code, its words, and that nothing was changed.

One play runs all cases against one cluster, in which most nodes have a fault. Each case has a test.
"""

from __future__ import annotations

import dataclasses as dc
import json
import socket
import typing as t
from pathlib import Path

import pytest
from utrust_appliance.control import Control  # noqa: TC002
from utrust_appliance.testing import cluster

from tests.support.playbook import inventories
from tests.support.runners import Arguments, connection_args, package_args, task

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.runners import AnsibleRunner

WRONG_PIN = "sha256:" + "ab" * 32
#: Faults of each node. node1 is the source. node2 lacks newKey and caKey, which were generated on node1 later.
FAULTS: dict[str, list[tuple[str, dict[str, t.Any]]]] = {
    "node3": [("api_version", {"version": "9.0"})],
    "node4": [("not_json", {"count": 1000})],
    "node5": [("unknown_key_type", {"type": "ml_dsa"})],
    "node6": [("version_skew", {"version": "5.2.0"}), ("firmware_skew", {"firmware": "6.1.0"})],
    "node7": [("alarm", {"reason": "tamper sensor"})],
    "node8": [("driver_stopped", {})],
    "node9": [("node_down", {})],
}
EXTRA_KEYS, UNTOUCHED, RESET, OTHER_MBK, NOT_JOINED = "node10", "node11", "node12", "node13", "node14"


@dc.dataclass(frozen=True)
class Env:
    """Environment of the cases."""

    control: Control
    folder: Path
    keys: dict[str, str]
    source: dict[str, t.Any]
    unused_port: int

    @property
    def package(self) -> str:
        return str(self.folder / "cluster.ksp")

    def args(self, node: str, **changes: t.Any) -> Arguments:
        return connection_args(self.control, node, **changes)

    def import_args(self, node: str, **changes: t.Any) -> Arguments:
        return self.args(node, **{**package_args(changes.get("src", self.package)), **changes})

    def restore_args(self, node: str, **changes: t.Any) -> Arguments:
        return self.args(node, **{"source": self.source, "pin_pad": "front-usb", **changes})

    def damaged(self, name: str, *, content: t.Callable[[bytes], bytes] | None = None, **manifest: t.Any) -> str:
        """Copy the package and its manifest, and change one of them. `format=None` omits the manifest."""
        path = self.folder / f"{name}.ksp"
        original = (self.folder / "cluster.ksp").read_bytes()
        path.write_bytes(content(original) if content else original)
        document = json.loads((self.folder / "cluster.ksp.manifest.json").read_text())
        if manifest != {"format": None}:
            path.with_name(path.name + ".manifest.json").write_text(json.dumps({**document, **manifest}))
        return str(path)


class Case(t.NamedTuple):
    """A task that must be refused with this code and these words. `also` are the codes of further problems."""

    module: str
    arguments: t.Callable[[Env], Arguments]
    code: str
    words: tuple[str, ...]
    also: tuple[str, ...] = ()


INFO, EXPORT, IMPORT, RESTORE = "utrust_hsm_info", "utrust_ksp_export", "utrust_ksp_import", "utrust_hsm_restore"
OTHER_MBK_FACTS = {"name": "OTHER", "check_value": "0a0a0a0a0a0a0a0a", "m": 2, "n": 3}
CASES: dict[str, Case] = {
    # Identity of the node: nothing is sent
    "certificate of unknown CA": Case(
        INFO,
        lambda env: env.args(UNTOUCHED, tls_fingerprint=None, ca_file=str(env.control.folder / "client-ca.pem")),
        "certificate_not_trusted",
        ("connecting to", "client-ca.pem", "Nothing was sent", "front display"),
    ),
    "no CA file and no pin": Case(
        INFO,
        lambda env: env.args(UNTOUCHED, tls_fingerprint=None),
        "tls_identity_missing",
        ("ca_file and tls_fingerprint are missing", "front display"),
    ),
    "pin mismatch": Case(
        EXPORT,
        lambda env: env.args(UNTOUCHED, tls_fingerprint=[WRONG_PIN]),
        "tls_fingerprint_mismatch",
        ("connecting to", WRONG_PIN, "Nothing was sent", "front display"),
    ),
    "pin invalid": Case(
        INFO,
        lambda env: env.args(UNTOUCHED, tls_fingerprint=["ab:cd"]),
        "tls_fingerprint_invalid",
        ("'ab:cd'", "front display"),
    ),
    "client certificate unreadable": Case(
        INFO,
        lambda env: env.args(UNTOUCHED, client_cert=str(env.folder / "missing.pem")),
        "client_cert_unreadable",
        ("missing.pem", "PEM"),
    ),
    "URL instead of host": Case(
        INFO, lambda env: env.args(UNTOUCHED, host="http://127.0.0.2"), "host_invalid", ("http://127.0.0.2", "HTTPS")
    ),
    "info: node not joined": Case(
        INFO,
        lambda env: env.args(NOT_JOINED, members=["node1", "node2"]),
        "node_not_joined",
        (f"contacting {NOT_JOINED}", "node1, node2", "Nothing was sent", "page Cluster"),
    ),
    "restore: node not joined": Case(
        RESTORE,
        lambda env: env.restore_args(NOT_JOINED, members=["node1"]),
        "node_not_joined",
        (f"contacting {NOT_JOINED}", "can no longer join"),
    ),
    # Logins
    "client certificate not registered": Case(
        INFO,
        lambda env: env.args(
            "node2", client_cert=str(env.control.client("guest")[0]), client_key=str(env.control.client("guest")[1])
        ),
        "forbidden",
        ("GET /api/v1/node", "HTTP 403", "CN=guest", "page Access"),
    ),
    "bearer token rejected": Case(
        INFO,
        lambda env: env.args("node2", client_cert=None, client_key=None, bearer_token="wrong-bearer-token"),
        "unauthenticated",
        ("GET /api/v1/node", "HTTP 401", "page Access"),
    ),
    # Responses
    "nothing listens": Case(
        INFO,
        lambda env: env.args("node2", host="127.0.0.1", port=env.unused_port, retries=1),
        "node_unreachable",
        ("GET /api/v1/node", "2 attempt(s)", "Connection refused", "Check address"),
    ),
    "node down": Case(
        IMPORT, lambda env: env.import_args("node9"), "node_unreachable", ("GET /api/v1/node", "reset", "Check address")
    ),
    "response not JSON": Case(
        INFO, lambda env: env.args("node4"), "response_not_json", ("GET /api/v1/node", "text/html", "proxy or Webconf")
    ),
    "info: API version unknown": Case(
        INFO, lambda env: env.args("node3"), "api_version_unknown", ("9.0", "supports 1.x", "Update the collection")
    ),
    "import: API version unknown": Case(
        IMPORT, lambda env: env.import_args("node3"), "api_version_unknown", ("9.0", "Update the collection")
    ),
    "import: extra key of an unknown type": Case(
        IMPORT, lambda env: env.import_args("node5"), "extra_keys", ("exotic", "synchronize from node5 first")
    ),
    # The node
    "export: node name mismatch": Case(
        EXPORT,
        lambda env: env.args("node2", expect_node="node1"),
        "node_name_mismatch",
        ("exporting from node1", "is node2, not node1", "expect_node"),
    ),
    "import: node name mismatch": Case(
        IMPORT,
        lambda env: env.import_args("node2", expect_node="node11"),
        "node_name_mismatch",
        ("importing into node2", "is node2, not node11"),
    ),
    "import: appliance version and firmware mismatch": Case(
        IMPORT,
        lambda env: env.import_args("node6"),
        "appliance_version_mismatch",
        ("importing into node6", "5.2.0", "5.1.0", "6.1.0", "6.0.0", "update the nodes to the same version"),
        ("hsm_firmware_mismatch",),
    ),
    "import: HSM in alarm": Case(
        IMPORT,
        lambda env: env.import_args("node7"),
        "hsm_not_operational",
        ("importing into node7", "in alarm (tamper sensor)", "page Security"),
    ),
    "export: HSM in alarm": Case(
        EXPORT, lambda env: env.args("node7"), "hsm_not_operational", ("exporting from node7", "tamper sensor")
    ),
    "driver stopped": Case(
        EXPORT, lambda env: env.args("node8"), "driver_stopped", ("node8", "stopped", "page Services")
    ),
    "import: HSM in Factory Reset Mode": Case(
        IMPORT,
        lambda env: env.import_args(RESET),
        "hsm_not_operational",
        (f"importing into {RESET}", "in Factory Reset Mode", "utrust_hsm_restore"),
    ),
    "import: MBK mismatch": Case(
        IMPORT,
        lambda env: env.import_args(OTHER_MBK),
        "mbk_mismatch",
        (f"importing into {OTHER_MBK}", "OTHER", "KEYOPS", "never overwrites an HSM with another MBK"),
    ),
    # Packages
    "package and manifest missing": Case(
        IMPORT,
        lambda env: env.import_args("node2", src=str(env.folder / "none.ksp")),
        "manifest_missing",
        ("none.ksp.manifest.json is missing", "Nothing was changed", "Export the package again"),
    ),
    "manifest missing": Case(
        IMPORT,
        lambda env: env.import_args("node2", src=env.damaged("bare", format=None)),
        "manifest_missing",
        ("bare.ksp.manifest.json is missing", "Nothing was changed", "Export the package again"),
    ),
    "package missing": Case(
        IMPORT,
        lambda env: env.import_args("node2", src=gone(env.damaged("gone"))),
        "package_missing",
        ("the package", "gone.ksp is missing", "export the package again"),
    ),
    "manifest edited after the export": Case(
        IMPORT,
        lambda env: env.import_args(
            "node2",
            src=env.damaged("other-manifest", source="node9"),
            manifest_sha256=package_args(env.package)["manifest_sha256"],
        ),
        "manifest_mismatch",
        (
            "other-manifest.ksp.manifest.json",
            "The manifest was edited",
            "Nothing was changed",
            "Export the package again",
        ),
    ),
    "digest of the manifest invalid": Case(
        IMPORT,
        lambda env: env.import_args("node2", manifest_sha256="\x1b[2K"),
        "manifest_mismatch",
        ("its digest is sha256:", "Export the package again"),
    ),
    "manifest edited": Case(
        IMPORT,
        lambda env: env.import_args("node2", src=env.damaged("edited", hsm_keys=[])),
        "manifest_invalid",
        ("edited.ksp.manifest.json", "hsm_keys and keys_digest do not match", "Export the package again"),
    ),
    "package truncated": Case(
        IMPORT,
        lambda env: env.import_args("node2", src=env.damaged("short", content=lambda whole: whole[:-1])),
        "package_truncated",
        ("importing into node2", "short.ksp has", "export the package again"),
    ),
    "package altered": Case(
        IMPORT,
        lambda env: env.import_args(
            "node2", src=env.damaged("other", content=lambda whole: whole[:-90] + b"\0" + whole[-89:])
        ),
        "package_digest_mismatch",
        ("importing into node2", "other.ksp is sha256:", "export the package again"),
    ),
    "package: cluster mismatch": Case(
        IMPORT,
        lambda env: env.import_args("node2", src=env.damaged("foreign", cluster_id="another-cluster")),
        "cluster_mismatch",
        ("importing into node2", "another-cluster", "check the address of the node"),
    ),
    "package: MBK mismatch": Case(
        IMPORT,
        lambda env: env.import_args("node2", src=env.damaged("mbk", mbk=OTHER_MBK_FACTS)),
        "mbk_mismatch",
        ("importing into node2", "OTHER (0a0a0a0a0a0a0a0a)", "find out which MBK is correct"),
    ),
    "package stale": Case(
        IMPORT,
        lambda env: env.import_args("node2", expect_keys_digest="sha256:" + "0" * 64),
        "package_stale",
        ("importing into node2", "sha256:" + "0" * 64, "export the package again"),
    ),
    "source is target": Case(
        IMPORT, lambda env: env.import_args("node1"), "source_is_target", ("importing into node1", "is the source")
    ),
    # Keys
    "extra key": Case(
        IMPORT,
        lambda env: env.import_args(EXTRA_KEYS, allow_replace=[{"fingerprint": env.keys["caKey"], "reason": "test"}]),
        "extra_keys",
        (f"importing into {EXTRA_KEYS}", "extraKey", "the only copy of the key", "allowed_extra_keys"),
    ),
    "key mismatch": Case(
        IMPORT,
        lambda env: env.import_args(EXTRA_KEYS, extra_keys="keep"),
        "key_mismatch",
        (f"importing into {EXTRA_KEYS}", "caKey", "find out which key is in use"),
    ),
    "destroyed key": Case(
        IMPORT,
        lambda env: env.import_args("node2", destroyed_keys=[env.keys["newKey"]]),
        "destroyed_key_would_return",
        ("importing into node2", "newKey", "node1 would import it", "remove it from destroyed_keys"),
    ),
    "key not expected": Case(
        IMPORT,
        lambda env: env.import_args("node2", expected_new_keys=[env.keys["caKey"]]),
        "key_not_expected",
        ("importing into node2", "newKey", "find out who generated the key"),
    ),
    "several problems": Case(
        IMPORT,
        lambda env: env.import_args(
            EXTRA_KEYS,
            expect_node="node2",
            src=env.damaged("worst", content=lambda whole: whole[:9], cluster_id="another-cluster"),
            destroyed_keys=[env.keys["newKey"]],
            expect_keys_digest="sha256:" + "0" * 64,
        ),
        "node_name_mismatch",
        (f"importing into {EXTRA_KEYS}: 7 problem(s) found, nothing was changed",),
        (
            "cluster_mismatch",
            "package_truncated",
            "package_stale",
            "extra_keys",
            "key_mismatch",
            "destroyed_key_would_return",
        ),
    ),
    "key fingerprint invalid": Case(
        IMPORT,
        lambda env: env.import_args("node2", destroyed_keys=["signKey-2025"]),
        "option_invalid",
        ("destroyed_keys", "'signKey-2025'", "Nothing was changed"),
    ),
    # Guided restore
    "PIN pad not configured": Case(
        RESTORE,
        lambda env: env.restore_args(RESET, pin_pad="rack-9"),
        "pin_pad_not_configured",
        (f"guided restore of {RESET}", "rack-9", "configured: front-usb, rack-2", "choose a configured PIN pad"),
    ),
    "PIN pad not ready": Case(
        RESTORE,
        lambda env: env.restore_args(RESET, pin_pad="rack-2"),
        "pin_pad_not_ready",
        (f"guided restore of {RESET}", "rack-2", "unavailable", "connect the PIN pad"),
    ),
    "card quorum mismatch": Case(
        RESTORE,
        lambda env: env.restore_args(RESET, cards_required=3, cards_total=5),
        "card_quorum_mismatch",
        (f"guided restore of {RESET}", "3 out of 5", "2 out of 3", "which set of MBK cards"),
    ),
    "restore: source changed": Case(
        RESTORE,
        lambda env: env.restore_args(RESET, source={**env.source, "keys_digest": "sha256:" + "0" * 64}),
        "source_changed",
        (f"guided restore of {RESET}", "sha256:" + "0" * 64, "run again"),
    ),
    "restore: source invalid": Case(
        RESTORE,
        lambda env: env.restore_args(RESET, source={"name": "node1"}),
        "source_invalid",
        ("option source", "utrust_hsm_info"),
    ),
    "restore: HSM in alarm": Case(
        RESTORE,
        lambda env: env.restore_args("node7"),
        "not_factory_reset",
        ("guided restore of node7", "in alarm (tamper sensor), not in Factory Reset Mode", "reset it by hand"),
    ),
    "restore: MBK mismatch": Case(
        RESTORE,
        lambda env: env.restore_args(OTHER_MBK),
        "mbk_mismatch",
        (
            f"guided restore of {OTHER_MBK}",
            "OTHER",
            "KEYOPS",
            "never overwrites an HSM with another MBK",
            "reset the other HSM manually",
        ),
    ),
    "restore: appliance version and firmware mismatch": Case(
        RESTORE,
        lambda env: env.restore_args("node6"),
        "appliance_version_mismatch",
        ("guided restore of node6", "5.2.0", "update the nodes to the same version"),
        ("hsm_firmware_mismatch",),
    ),
}


def gone(package: str) -> str:
    Path(package).unlink()
    return package


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    with cluster(nodes=14, joined=13, restored=11, keys=2, key_mix={"ec-p256": 1}, faults=True) as running:
        running.generate_key("node1", "newKey")
        running.generate_key("node1", "caKey")
        running.generate_key(EXTRA_KEYS, "caKey")
        running.generate_key(EXTRA_KEYS, "extraKey")
        running.create_mbk("OTHER")
        running.load_mbk(OTHER_MBK, "OTHER")
        yield running


class Refusals(t.NamedTuple):
    results: dict[str, dict[str, t.Any]]
    before: dict[str, str]
    after: dict[str, str]
    requests: dict[str, list[dict[str, t.Any]]]
    connections: dict[str, int]
    left_over: list[str]
    output: str


@pytest.fixture(scope="module")
def refusals(control: Control, runner: AnsibleRunner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Refusals]:
    """Run all cases, one after the other."""
    folder = tmp_path_factory.mktemp("packages")
    exported, source = runner.run(
        task(EXPORT, connection_args(control, "node1", dest=str(folder / "cluster.ksp"))),
        task(INFO, connection_args(control, "node1")),
    ).results
    assert not exported["failed"], exported
    for node, faults in FAULTS.items():
        for name, params in faults:
            control.fault(name, node=node, **params)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    keys = {key["label"]: key["fingerprint"] for key in control.keys("node1")}
    env = Env(control, folder, keys, source["node"], port)
    tasks = [task(case.module, case.arguments(env)) for case in CASES.values()]
    before, files = inventories(control), {path.name for path in folder.iterdir()}
    control.clear_log()
    ran = runner.run(*tasks)
    nodes = [node["node"] for node in control.status()["nodes"]]
    yield Refusals(
        dict(zip(CASES, ran.results, strict=True)),
        before,
        inventories(control),
        {node: control.requests(node) for node in nodes},
        {node: control.connections(node) for node in nodes},
        sorted({path.name for path in folder.iterdir()} - files),
        ran.output,
    )
    control.clear_faults()


@pytest.mark.parametrize("case", CASES)
def test_refusal_has_its_code_and_words(refusals: Refusals, case: str) -> None:
    """The message has the action, the reason and the remedy."""
    result, expected = refusals.results[case], CASES[case]
    assert result["failed"] is True, result
    assert result["changed"] is False
    assert result["code"] == expected.code, result["msg"]
    for words in expected.words:
        assert words in result["msg"]
    assert result["executed_on"] == socket.gethostname()
    if expected.also:
        assert [problem["code"] for problem in result["problems"]] == [expected.code, *expected.also]
        assert all(
            problem["text"] in result["msg"] and problem["remedy"] in result["msg"] for problem in result["problems"]
        )


def test_refusals_send_only_get_requests(refusals: Refusals) -> None:
    """A refusal changes no key and leaves no file."""
    assert refusals.after == refusals.before
    assert {request["method"] for requests in refusals.requests.values() for request in requests} == {"GET"}
    assert refusals.left_over == []


def test_refusal_unauthenticated_node_gets_no_request(refusals: Refusals) -> None:
    """The module closes the connection after the TLS handshake."""
    assert refusals.connections[UNTOUCHED] == 2, "one TLS handshake each for the unknown CA and the wrong pin"
    assert refusals.requests[UNTOUCHED] == []


def test_refusal_node_not_joined_gets_no_connection(refusals: Refusals) -> None:
    """A node that was contacted before it joined can no longer join."""
    assert refusals.connections[NOT_JOINED] == 0


def test_refusal_login_does_not_show_the_token(refusals: Refusals) -> None:
    """Neither the output nor the result has the bearer token."""
    assert "wrong-bearer-token" not in refusals.output
    assert "wrong-bearer-token" not in json.dumps(refusals.results)
