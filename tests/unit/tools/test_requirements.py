# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that the set-up or CI downloads is pinned."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import sys
import typing as t
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
REQUIREMENTS = ROOT / "tests" / "requirements"
LOCKED = sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))


def logical_lines(name: str) -> list[str]:
    text = (REQUIREMENTS / name).read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith(("#", "-r "))]


def test_every_source_has_a_lock_file() -> None:
    assert sorted(path.stem for path in REQUIREMENTS.glob("*.in")) == LOCKED
    assert {"demo", "dev", "floor", "next"} <= set(LOCKED)


@pytest.mark.parametrize("name", LOCKED)
def test_every_requirement_has_hashes(name: str) -> None:
    lines = logical_lines(f"{name}.txt")
    assert lines
    assert [line for line in lines if not re.match(r"[a-z0-9-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line)] == []


@pytest.mark.parametrize("name", LOCKED)
def test_lock_file_has_the_versions_of_its_source(name: str) -> None:
    """`make lock` follows a change of a source."""
    locked = {line.split(maxsplit=1)[0] for line in logical_lines(f"{name}.txt")}
    named = {re.sub(r"\[\w+\]", "", line.split(maxsplit=1)[0]).lower() for line in logical_lines(f"{name}.in")}
    assert named
    assert sorted(named - locked) == []


def test_demo_has_the_versions_of_the_tests() -> None:
    """Both are in the same environment."""
    demo, dev = ({line.split(maxsplit=1)[0] for line in logical_lines(f"{name}.txt")} for name in ("demo", "dev"))
    assert sorted(demo - dev) == []


def test_npm_packages_have_hashes() -> None:
    packages = json.loads((REQUIREMENTS / "redocly/package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert len(packages) > 1
    assert [name for name, package in packages.items() if name and "integrity" not in package] == []


def test_actions_of_workflows_are_pinned_by_commit() -> None:
    workflows = sorted((ROOT / ".github/workflows").glob("*.yml"))
    used = [action for path in workflows for action in re.findall(r"uses: (\S+)", path.read_text(encoding="utf-8"))]
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)] == []


def test_workflows_use_only_images_of_a_distribution() -> None:
    """A release of Debian gets fixes, so its image is pinned by the release, as its packages are."""
    jobs = [
        job
        for path in sorted((ROOT / ".github/workflows").glob("*.yml"))
        for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
    ]
    images = [image for job in jobs for image in (job.get("strategy") or {}).get("matrix", {}).get("image", [])]
    images += [job["container"] for job in jobs if "matrix" not in job["container"]]
    assert images
    assert [image for image in images if not re.fullmatch(r"debian:\d+", image)] == []
    assert [job["runs-on"] for job in jobs if not re.fullmatch(r"ubuntu-\d\d\.\d\d", job["runs-on"])] == []


def test_workflows_can_only_read_the_repository() -> None:
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert workflow["permissions"] == {"contents": "read"}
        assert [name for name, job in workflow["jobs"].items() if "permissions" in job] == []


def test_simulator_has_the_version_of_the_collection() -> None:
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]
    assert f'\nversion = "{version}"\n' in (ROOT / "tests/appliance/pyproject.toml").read_text(encoding="utf-8")


# No program downloads anything else

#: Programs that download, and the words with which they do that. An empty set means any word.
DOWNLOADS: dict[str, set[str]] = {
    "pip": {"install", "wheel", "download"},
    "npm": {"install", "i", "add", "exec", "update"},
    "uv": {"sync", "install", "add", "run", "tool"},
    "ansible-galaxy": {"install", "download"},
    "git": {"clone", "fetch", "pull", "submodule"},
    "playwright": {"install"},
} | {name: set() for name in ("pip3", "pipx", "npx", "yarn", "uvx", "curl", "wget", "docker", "podman")}
#: With one of these options, a program takes what a lock file pins, or nothing from a network.
SAFE = {"--require-hashes", "--no-index", "--offline"}
#: ansible-test runs it, and chooses the version of pip.
OF_ANSIBLE_TEST = "tests/tools/pip_bootstrap.py"
#: Not a part of `make test`. The definition of the image names the versions.
OF_THE_IMAGE = "tests/image/test_execution_environment.py"


def texts(node: ast.AST) -> set[str]:
    return {part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def downloads_of_python(source: str) -> list[str]:
    """Return the scopes that run a program to download something that is not pinned."""
    module = ast.parse(source)
    assigned = [node for node in module.body if isinstance(node, ast.Assign)]
    constants = {name.id: texts(node) for node in assigned for name in node.targets if isinstance(name, ast.Name)}
    functions = [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)]
    top = ast.Module([node for node in module.body if not isinstance(node, (ast.FunctionDef, ast.ClassDef))], [])
    found = []
    for scope in (top, *functions):
        names = {node.id for node in ast.walk(scope) if isinstance(node, ast.Name)}
        words = texts(scope).union(*(constants[name] for name in names & set(constants)))
        programs = [name for name in DOWNLOADS if name in words and (not DOWNLOADS[name] or DOWNLOADS[name] & words)]
        if programs and not SAFE & words:
            found.append(getattr(scope, "name", "top"))
    return found


def downloads_of_text(text: str) -> list[str]:
    """Return the lines with a command that downloads something that is not pinned. Comments and help texts do not count."""
    lines = [re.sub(r"(^|\s)#.*", "", line) for line in text.splitlines()]
    found = []
    for name, words in DOWNLOADS.items():
        then = rf"\s(?:.*\s)?(?:{'|'.join(sorted(words))})(?:\s|$)" if words else r"\s"
        command = re.compile(rf"(?:^|[\s/;&|(]){re.escape(name)}{then}")
        found += [line for line in lines if command.search(line) and not any(option in line for option in SAFE)]
    return found


def test_tools_download_only_what_is_pinned() -> None:
    paths = [path for path in sorted((ROOT / "tests").rglob("*.py")) if "unit" not in path.parts]
    assert len(paths) > 100
    found = {str(path.relative_to(ROOT)): downloads_of_python(path.read_text(encoding="utf-8")) for path in paths}
    assert {name: scopes for name, scopes in found.items() if scopes} == {
        OF_ANSIBLE_TEST: ["top"],
        OF_THE_IMAGE: ["podman"],
    }


def test_make_and_ci_download_only_what_is_pinned() -> None:
    """apt-get is the exception: a release of the distribution pins its packages."""
    folders = [*(ROOT / ".ci").iterdir(), *(ROOT / ".github/workflows").iterdir(), *(ROOT / "molecule").rglob("*.yml")]
    paths = [ROOT / "Makefile", *folders]
    assert len(paths) > 10
    found = {str(path.relative_to(ROOT)): downloads_of_text(path.read_text(encoding="utf-8")) for path in paths}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_tools_have_no_client_for_downloads() -> None:
    modules = re.compile(r"^\s*(?:import|from) (urllib\.request|requests|aiohttp|http\.client)\b", re.MULTILINE)
    paths = sorted((ROOT / "tests/tools").glob("*.py"))
    assert paths
    assert [path.name for path in paths if modules.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    "source",
    [
        'def f():\n    run([python, "-m", "pip", "install", "ansible-lint"])',
        'PIP = ("-m", "pip")\ndef f():\n    run([python, *PIP, "wheel", "."])',
        'run("npx", "redocly")',
        'def f():\n    call("ansible-galaxy", "collection", "install", "awx.awx")',
        'class A:\n    def f(self):\n        call("npm", "install", "x")',
    ],
)
def test_guard_finds_downloads_of_python(source: str) -> None:
    assert len(downloads_of_python(source)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "\t@$(BIN)/pip install ansible-lint",
        "\t@$(IN_VENV) $(BIN)/python -m pip install -r tests/requirements/dev.in",
        "      - run: npm install",
        "  cd x && npx redocly lint",
        "curl -O https://example.com/x",
        "        run: ansible-galaxy collection install awx.awx",
        "\tplaywright install chromium",
    ],
)
def test_guard_finds_downloads_of_commands(line: str) -> None:
    assert downloads_of_text(f"x:\n{line}\n") == [line]


@pytest.mark.parametrize("line", ["# pip install x", "setup: ## pip install of all tools", "pip install --no-index x"])
def test_guard_accepts_comments_and_pinned_commands(line: str) -> None:
    assert downloads_of_text(line) == []


def load_tool(name: str, monkeypatch: pytest.MonkeyPatch) -> t.Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tests/tools/{name}.py")
    assert spec
    assert spec.loader
    monkeypatch.setitem(sys.modules, name, tool := importlib.util.module_from_spec(spec))
    spec.loader.exec_module(tool)
    return tool


@pytest.mark.parametrize("name", sorted(set(LOCKED) - {"awx"}))
def test_setup_installs_only_from_the_lock_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip gets the lock file, only wheels, and no other name. The simulator is built without a network."""
    tool = load_tool("setup_env", monkeypatch)
    commands: list[list[str]] = []
    monkeypatch.setattr(tool, "run", lambda command, dummy_what: commands.append(command))
    tool.install(name, Path("/venv"))
    locked, *others = [command[command.index("install") + 1 :] for command in commands]
    options = ["--require-hashes", "--only-binary", ":all:", "--requirement", str(REQUIREMENTS / f"{name}.txt")]
    assert locked == ["--quiet", "--disable-pip-version-check", *options]
    assert len(others) == (name in {"demo", "dev"})
    assert [command for command in others if "--no-index" not in command or "--no-build-isolation" not in command] == []


def test_awx_collection_is_only_from_the_lock_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """pip downloads one wheel with a hash, and installs nothing. A second run downloads nothing."""
    tool = load_tool("awx_collection", monkeypatch)
    commands: list[list[str]] = []

    def download(command: list[str], *, check: bool) -> None:
        assert check
        commands.append(command[command.index("download") + 1 :])
        with zipfile.ZipFile(Path(command[-1]) / "ansible-1.0-py3-none-any.whl", "w") as wheel:
            for name in ("awx/awx/MANIFEST.json", "awx/awx/plugins/modules/host.py", "other/other/MANIFEST.json"):
                wheel.writestr(f"ansible_collections/{name}", "{}")

    monkeypatch.setattr(tool.subprocess, "run", download)
    monkeypatch.setattr(tool, "FOLDER", tmp_path / "collections")
    for dummy in range(2):
        assert tool.ensure() == tmp_path / "collections"
    options = ["--require-hashes", "--only-binary", ":all:", "--requirement", str(REQUIREMENTS / "awx.txt")]
    ((*found, dest, dummy_folder),) = commands
    assert found == ["--quiet", "--disable-pip-version-check", "--no-deps", *options]
    assert dest == "--dest"
    unpacked = [path for path in tmp_path.rglob("*") if path.is_file() and not path.name.startswith(".")]
    assert sorted(path.name for path in unpacked) == ["MANIFEST.json", "host.py"]
