# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The execution environment: ansible-builder accepts the definition, and everything in it has the version of the tests."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

from tests.awx.conftest import ROOT
from tests.support.playbook import environment

DEFINITION = ROOT / "awx/execution-environment.yml"


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the build context."""
    folder = tmp_path_factory.mktemp("builder") / "context"
    command = [
        str(Path(sys.executable).with_name("ansible-builder")),
        "create",
        "--file",
        str(DEFINITION),
        "--context",
        str(folder),
    ]
    command += ["--output-filename", "Containerfile"]
    done = subprocess.run(command, env=environment(), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def definition() -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", yaml.safe_load(DEFINITION.read_text(encoding="utf-8")))


def test_build_context_has_all_dependencies(context: Path) -> None:
    build = context / "_build"
    assert yaml.safe_load((build / "requirements.yml").read_text(encoding="utf-8")) == {
        "collections": [{"name": "keyops.utrust", "version": "1.0.0"}]
    }
    assert (build / "requirements.txt").read_text(encoding="utf-8").split() == definition()["dependencies"]["python"]
    assert (build / "bindep.txt").read_text(encoding="utf-8").split() == ["openssh-clients", "[platform:rpm]"]
    containerfile = (context / "Containerfile").read_text(encoding="utf-8")
    for part in (definition()["images"]["base_image"]["name"], "ansible-core==", "ansible-runner==", "python3.12"):
        assert part in containerfile


def test_image_has_a_directory_for_temporary_files(context: Path) -> None:
    """The home directory of a job can be read-only. Only the last stage of the build is the image."""
    image = (context / "Containerfile").read_text(encoding="utf-8").rpartition("\nFROM ")[2]
    assert "\nENV ANSIBLE_LOCAL_TEMP=/tmp\n" in image


def test_execution_environment_has_the_versions_of_the_tests() -> None:
    """The newest ansible-core runs on the Python of the image."""
    locked = (ROOT / "tests/requirements/dev.txt").read_text(encoding="utf-8")
    dependencies = definition()["dependencies"]
    pinned = [dependencies[name]["package_pip"] for name in ("ansible_core", "ansible_runner")]
    pinned += dependencies["python"]
    assert len(pinned) == 4
    assert [pin for pin in pinned if not re.search(rf"^{re.escape(pin)} ", locked, re.MULTILINE)] == []
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    (collection,) = dependencies["galaxy"]["collections"]
    assert (collection["name"], collection["version"]) == ("keyops.utrust", galaxy["version"])


def test_base_image_has_a_fixed_tag() -> None:
    name = definition()["images"]["base_image"]["name"]
    assert re.search(r":\d+[.\d-]*$|@sha256:[0-9a-f]{64}$", name)


def test_packages_of_the_collection_are_in_the_image() -> None:
    """Optional packages of the collection are there, so that no job fails for the lack of one."""
    required = re.findall(r"^([a-z]+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    installed = {pin.partition("==")[0] for pin in definition()["dependencies"]["python"]}
    assert set(required) <= installed


def test_awx_collection_has_the_version_of_the_tests(awx_collection: None) -> None:
    manifest = ROOT / ".venv-awx/ansible_collections/awx/awx/MANIFEST.json"
    tested = json.loads(manifest.read_text(encoding="utf-8"))["collection_info"]
    (listed,) = yaml.safe_load((ROOT / "awx/requirements.yml").read_text(encoding="utf-8"))["collections"]
    assert listed == {"name": f"{tested['namespace']}.{tested['name']}", "version": tested["version"]}
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    assert galaxy["dependencies"] == {}
