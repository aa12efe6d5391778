# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fake API of AWX, and awx/setup.yml with the real modules of awx.awx against it."""

from __future__ import annotations

import subprocess
import typing as t
from pathlib import Path

import pytest
import yaml

from tests.support import awx_api
from tests.support.playbook import BIN, environment

if t.TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
#: Makes the collection path of awx.awx.
AWX_COLLECTION = ROOT / "tests/tools/awx_collection.py"
#: Teams of awx/site.yml that approve in the workflow, if a site enables the workflow.
APPROVAL_TEAMS = ["Berlin approvers 1", "Berlin approvers 2"]


class Setup(t.NamedTuple):
    """Runs the setup of a site."""

    awx: awx_api.Awx
    folder: Path

    def run(self, token: str = awx_api.TOKEN, **changes: t.Any) -> subprocess.CompletedProcess[str]:
        """Run the setup with the example of a site and changed variables."""
        changed = self.folder / "changed.yml"
        changed.write_text(yaml.safe_dump(changes), encoding="utf-8")
        site = [f"@{ROOT / 'awx/site.yml'}", f"@{changed}"]
        command = [str(BIN / "ansible-playbook"), "-i", "localhost,", str(ROOT / "awx/setup.yml")]
        paths = f"{ROOT / '.venv-awx'}:{ROOT / '.ansible/collections'}"
        return subprocess.run(
            [*command, *(word for path in site for word in ("-e", path))],
            cwd=self.folder,
            env=environment(
                ANSIBLE_COLLECTIONS_PATH=paths,
                ANSIBLE_PIPELINING="1",
                CONTROLLER_HOST=self.awx.url,
                CONTROLLER_OAUTH_TOKEN=token,
            ),
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )


@pytest.fixture(scope="session")
def awx_collection() -> None:
    subprocess.run([str(Path(BIN) / "python"), str(AWX_COLLECTION)], check=True)


def write_project(folder: Path) -> str:
    """Write the project of AWX into a folder and return the output."""
    command = [str(BIN / "ansible-playbook"), "-i", "localhost,", str(ROOT / "awx/project.yml")]
    more = ["-e", f"project_folder={folder}"]
    return subprocess.run([*command, *more], env=environment(), check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the files of the project of AWX by their names."""
    folder = tmp_path_factory.mktemp("project")
    write_project(folder)
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


@pytest.fixture(scope="module")
def setup(awx_collection: None, project: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    """Return the setup with an empty AWX, whose projects have the files of the project."""
    with awx_api.running(awx_api.playbooks_of(project)) as awx:
        yield Setup(awx, tmp_path_factory.mktemp("site"))
