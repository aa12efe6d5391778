# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Build the collection's tarball, look into it, install it into an empty folder and use it from there."""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

import tree
from tarball import build, call, clean_environment

FOLDERS = ("meta/", "plugins/", "roles/", "playbooks/", "awx/", "extensions/", "docs/", "LICENSES/")
FOR_DEVELOPERS = "docs/dev/"
SINGLE = {
    "README.md",
    "CHANGELOG.md",
    "CODE_OF_CONDUCT.md",
    "COPYING",
    "SECURITY.md",
    "requirements.txt",
    "bindep.txt",
    "changelogs/changelog.yaml",
    "tests/config.yml",
}
MADE_BY_GALAXY = {"MANIFEST.json", "FILES.json"}
NEEDED = {"README.md", "CHANGELOG.md", "COPYING", "meta/runtime.yml", "tests/config.yml"}
DOCUMENTED = {
    "modules": "module",
    "filter": "filter",
    "inventory": "inventory",
    "callback": "callback",
    "lookup": "lookup",
}
INVENTORY = "[utrust]\nnode1 ansible_connection=local\nnode2 ansible_connection=local\nnode3 ansible_connection=local\n"


def shipped(name: str) -> bool:
    return (name.startswith(FOLDERS) and not name.startswith(FOR_DEVELOPERS)) or name in SINGLE


def content_problems(tarball: Path) -> list[str]:
    with tarfile.open(tarball) as archive:
        inside = {member.name for member in archive.getmembers() if member.isfile()} - MADE_BY_GALAXY
    known = set(tree.files())
    expected = {name for name in known if shipped(name)}
    print(f"package: {len(inside)} files in {tarball.name}")
    return (
        [f"in the package, but not for users: {name}" for name in sorted(inside) if not shipped(name)]
        + [f"in the package, but not in git: {name}" for name in sorted(inside - known) if shipped(name)]
        + [f"not in the package: {name}" for name in sorted((expected | NEEDED) - inside)]
    )


def names(folder: str, pattern: str) -> list[str]:
    found = sorted(path.stem for path in (tree.ROOT / folder).glob(pattern))
    return [name for name in found if not name.startswith("_")]


def use(collections: Path, work: Path, environment: dict[str, str]) -> None:
    """Documentation of everything and a syntax check of every playbook, from the installed files alone."""
    for folder, kind in DOCUMENTED.items():
        plugins = names(f"plugins/{folder}", "*.py") + names(f"plugins/{folder}", "*.yml")
        for plugin in sorted(set(plugins)):
            call("ansible-doc", "--type", kind, f"keyops.utrust.{plugin}", cwd=work, environment=environment)
        print(f"package: {len(set(plugins))} documented in {folder}")
        if folder == "modules" and not plugins:
            raise SystemExit("the collection has no module, so nothing was checked")
    for role in names("roles", "*"):
        text = call("ansible-doc", "--type", "role", f"keyops.utrust.{role}", cwd=work, environment=environment)
        if role not in text:
            raise SystemExit(f"role {role} has no argument specification that ansible-doc shows")
    playbooks = names("playbooks", "*.yml")
    if not playbooks:
        raise SystemExit("the collection has no playbook, so nothing was checked")
    for playbook in playbooks:
        call(
            "ansible-playbook",
            "--syntax-check",
            "-i",
            "hosts.ini",
            f"keyops.utrust.{playbook}",
            cwd=work,
            environment=environment,
        )
    setup = str(collections / "ansible_collections/keyops/utrust/awx/setup.yml")
    call("ansible-playbook", "--syntax-check", "-i", "hosts.ini", setup, cwd=work, environment=environment)
    print(
        f"package: {len(names('roles', '*'))} roles documented, {len(playbooks)} playbooks pass the syntax check, installed in {collections}"
    )


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="keyops-package-") as folder:
        work, collections = Path(folder), Path(folder) / "collections"
        environment = clean_environment(ANSIBLE_COLLECTIONS_PATH=str(collections), ANSIBLE_HOME=str(work / "home"))
        tarball = build(work, environment)
        problems = content_problems(tarball)
        for problem in problems:
            print(problem)
        if problems:
            return 1
        install = (
            "ansible-galaxy",
            "collection",
            "install",
            str(tarball),
            "--offline",
            "--collections-path",
            str(collections),
        )
        call(*install, cwd=work, environment=environment)
        (work / "hosts.ini").write_text(INVENTORY, encoding="utf-8")
        use(collections, work, environment)
    return 0


if __name__ == "__main__":
    sys.exit(main())
