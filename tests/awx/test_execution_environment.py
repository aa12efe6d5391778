# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The execution environment: ansible-builder accepts the definition and the tarball, and everything in it has the version of the tests."""

from __future__ import annotations

import json
import re
import tarfile
import typing as t

import pytest
import yaml

from tests.awx.conftest import ROOT
from tests.support.awx_image import DEFINITION, build_context, build_tarball

if t.TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the build context with the tarball of the collection."""
    folder = tmp_path_factory.mktemp("builder")
    build_tarball(folder)
    context, output = build_context(folder)
    assert "WARN" not in output
    return context


def definition() -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", yaml.safe_load(DEFINITION.read_text(encoding="utf-8")))


def test_build_context_has_all_dependencies(context: Path) -> None:
    build = context / "_build"
    (listed,) = yaml.safe_load((build / "requirements.yml").read_text(encoding="utf-8"))["collections"]
    assert listed["type"] == "file"
    tarball = build / listed["name"]
    with tarfile.open(tarball) as archive:
        manifest = json.load(t.cast("t.IO[bytes]", archive.extractfile("MANIFEST.json")))["collection_info"]
    assert f"{manifest['namespace']}-{manifest['name']}-{manifest['version']}.tar.gz" == tarball.name
    assert (build / "requirements.txt").read_text(encoding="utf-8").split() == definition()["dependencies"]["python"]
    assert (build / "bindep.txt").read_text(encoding="utf-8").split() == [
        *("openssh-clients", "[platform:rpm]"),
        *("openssh-client", "[platform:dpkg]"),
    ]
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
    assert collection["name"] == f"collections/keyops-utrust-{galaxy['version']}.tar.gz"


def test_build_context_without_the_tarball_warns(tmp_path: Path) -> None:
    """Nobody has published the collection, so ansible-builder must not take another one from Galaxy."""
    context, output = build_context(tmp_path)
    assert "No matches for 'keyops-utrust-1.0.0.tar.gz'" in output
    assert not (context / "_build/collections").exists()


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
