# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The execution environment with podman: build the image of awx/execution-environment.yml, and run a job template in it.

UTRUST_TEST_PODMAN_BUILD has more options of `podman build`, such as another base image (see docs/dev/testing.md).
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import typing as t

import pytest
from utrust_appliance.testing import cluster

from tests.support.awx_image import build_context, build_tarball
from tests.support.awx_mesh import process, transmit, work
from tests.support.awx_template import TemplateController
from tests.support.playbook import changing_methods

if t.TYPE_CHECKING:
    from pathlib import Path

IMAGE = "localhost/keyops-utrust-ee:test"
#: Private directory of a job in the container.
PLACE = "/runner"


def podman(*arguments: str) -> list[str]:
    return ["podman", *arguments]


def in_image(*command: str) -> list[str]:
    return podman("run", "--rm", "--interactive", "--network=host", IMAGE, *command)


def call(command: list[str]) -> str:
    done = subprocess.run(command, check=False, capture_output=True)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()[-8000:]
    return done.stdout.decode()


@pytest.fixture(scope="module", autouse=True)
def image(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Build the image. The base image comes from a registry, unless a build argument names another one."""
    if shutil.which(podman()[0]) is None:
        pytest.fail(
            "podman is missing, so the image cannot be built. Install it: apt-get install podman", pytrace=False
        )
    folder = tmp_path_factory.mktemp("image")
    build_tarball(folder)
    context, dummy = build_context(folder)
    more = shlex.split(os.environ.get("UTRUST_TEST_PODMAN_BUILD", ""))
    call(podman("build", *more, "--tag", IMAGE, "--file", str(context / "Containerfile"), str(context)))


def test_image_documents_the_modules() -> None:
    shown = call(in_image("ansible-doc", "keyops.utrust.utrust_ksp_import"))
    assert (
        "/usr/share/ansible/collections/ansible_collections/keyops/utrust/plugins/modules/utrust_ksp_import.py" in shown
    )


def test_image_has_ssh_for_a_bastion() -> None:
    call(in_image("ssh", "-V"))


@pytest.mark.parametrize(
    ("name", "replies", "end"),
    [
        ("status", {}, "in sync: node1, node2 hold the same 1 key(s)"),
        ("key_sync", {"key_sync_allow_outage": "true"}, "node2 up to date: 1 key(s) as on the source"),
    ],
)
def test_template_runs_in_the_image(tmp_path: Path, name: str, replies: dict[str, str], end: str) -> None:
    """The job reaches the container as a stream, as AWX sends a job to an execution node. The credentials are files of the job."""
    with cluster(nodes=2, restored=2, keys=1, key_mix={"ec-p256": 1}) as control:
        controller = TemplateController(control, tmp_path)
        controller.place = PLACE
        for host in controller.site["site_nodes"].values():
            host["utrust_ca_file"] = f"{PLACE}/project/ca.pem"
        private, arguments = controller.prepare_launch(name, replies)
        shutil.copy(control.ca_file, private / "project/ca.pem")
        worker = in_image("ansible-runner", "worker", "--private-data-dir", PLACE)
        back = tmp_path / "back"
        back.mkdir()
        result = process(back, *work(worker, transmit(private, *arguments)))
        assert result.status == "successful", result.output
        assert end in result.text
        assert changing_methods(control) == set()
