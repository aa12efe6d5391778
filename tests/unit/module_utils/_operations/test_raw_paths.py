# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paths, ports and host names that the system rejects: each has a code, and none is an unexpected error. No node is needed."""

from __future__ import annotations

import typing as t

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.keyops.utrust.plugins.module_utils._operations import hsm_info, ksp_export, ksp_import
from ansible_collections.keyops.utrust.plugins.module_utils._runner import Invocation, execute

if t.TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.keyops.utrust.plugins.module_utils._runner import Operation

NODE = {"host": "127.0.0.1", "port": 1, "bearer_token": "0123456789" * 3, "tls_fingerprint": ["a1" * 32], "retries": 0}


def run(operation: Operation, **options: t.Any) -> dict[str, t.Any]:
    checked = ArgumentSpecValidator(**operation.module_arguments()).validate(
        {**NODE, "expect_node": "node1", **options}
    )
    assert not checked.error_messages
    return execute(operation, Invocation(checked.validated_parameters, False, lambda line: None, None))


@pytest.mark.parametrize("port", [0, -1, 65536, 70000])
def test_port_outside_of_tcp_is_an_option_error(port: int) -> None:
    """The resolver takes a port modulo 65536, so that another port would be contacted."""
    result = run(hsm_info.OPERATION, port=port)
    assert (result["code"], "port: " in result["msg"]) == ("option_invalid", True)


@pytest.mark.parametrize("host", ["node1..example.com", "x" * 70 + ".example", ".", "a..", "-..-", "bücher..de"])
def test_host_that_cannot_be_a_name_has_a_code(host: str) -> None:
    assert run(hsm_info.OPERATION, host=host)["code"] in ("host_invalid", "node_unreachable")


@pytest.mark.parametrize("name", ["folder", "x" * 300, "file/x"])
def test_package_that_cannot_be_removed_has_a_code(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    result = run(ksp_export.OPERATION, state="absent", dest=str(tmp_path / name))
    assert result.get("code", "package_not_removed") == "package_not_removed"
    assert (tmp_path / "folder").is_dir()


@pytest.mark.parametrize(
    ("operation", "options"),
    [
        (ksp_export.OPERATION, {"dest": "/tmp/a\0b"}),
        (ksp_export.OPERATION, {"dest": "\0", "state": "absent"}),
        (ksp_import.OPERATION, {"src": "a\0", "manifest_sha256": "sha256:" + 64 * "0"}),
        (hsm_info.OPERATION, {"ca_file": "\0x"}),
    ],
)
def test_path_with_a_nul_character_has_a_code(operation: Operation, options: dict[str, t.Any]) -> None:
    assert run(operation, **options)["code"] == "option_invalid"
