# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Guards: cheap, permanent tests of what nobody would notice missing. Each fails when it finds nothing to look at."""

from __future__ import annotations

import ast
import importlib
import io
import re
import sys
import tokenize
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keyops.utrust.plugins.module_utils._argspec import CONNECTION_SPEC
from utrust_appliance.arguments import parser

ROOT = Path(__file__).resolve().parents[2]
SENSITIVE = re.compile(r"pin|pass|secret|token|share|seed|material|code|key", re.IGNORECASE)


def load(name: str) -> t.Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def python_files(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if path.name != "__init__.py")


def stems(folder: str) -> list[str]:
    return [path.stem for path in python_files(folder) if not path.stem.startswith("_")]


MODULES = stems("plugins/modules")


def has_main(module: str) -> bool:
    tree = ast.parse((ROOT / f"plugins/modules/{module}.py").read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)


#: Modules without main() are the documentation of an action that runs on the controller only.
CONTROLLER_ONLY = [module for module in MODULES if not has_main(module)]
ROLES = sorted(path.name for path in (ROOT / "roles").glob("*") if path.is_dir())


# Modules


def test_the_four_modules_are_there() -> None:
    assert {"utrust_hsm_info", "utrust_hsm_restore", "utrust_ksp_export", "utrust_ksp_import"} <= set(MODULES)


def test_modules_and_action_plugins_are_the_same() -> None:
    assert stems("plugins/action") == MODULES


def test_public_filters_are_exactly_these() -> None:
    """SemVer keeps a public filter for ever. An action serves the roles instead."""
    expected = ["connection_options", "ejbca_options", "key_matrix", "key_table", "select_keys"]
    assert stems("plugins/filter") == expected
    for name in expected:
        filters = importlib.import_module(f"ansible_collections.keyops.utrust.plugins.filter.{name}").FilterModule()
        assert list(filters.filters()) == [name]


def test_action_group_names_modules_with_connection_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """The group sets connection options, which the other modules would reject."""
    expected = [module for module in MODULES if set(CONNECTION_SPEC) <= set(spec_of(module, monkeypatch))]
    assert expected
    assert sorted(load("meta/runtime.yml")["action_groups"]["utrust"]) == expected


@pytest.mark.parametrize("module", MODULES)
def test_a_test_file_names_the_module(module: str) -> None:
    tests = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__).resolve()]
    assert [path for path in tests if re.search(rf"\b{module}\b", path.read_text(encoding="utf-8"))]


# Controller-only actions


def documentation(module: str) -> dict[str, t.Any]:
    """Return the documentation of a module. Its options include those of its fragments."""
    package = "ansible_collections.keyops.utrust.plugins"
    document = yaml.safe_load(importlib.import_module(f"{package}.modules.{module}").DOCUMENTATION)
    for fragment in document["extends_documentation_fragment"]:
        dummy, dummy, name, *part = fragment.split(".")
        found = importlib.import_module(f"{package}.doc_fragments.{name}").ModuleDocFragment
        options = yaml.safe_load(getattr(found, (part or ["DOCUMENTATION"])[0].upper())).get("options") or {}
        document["options"] = {**options, **document["options"]}
    return t.cast("dict[str, t.Any]", document)


def documented(options: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return documented options in the form of an argument spec."""
    names = ("type", "elements", "required", "default", "choices")
    return {
        name: {key: option[key] for key in names if key in option}
        | ({"options": documented(option["suboptions"])} if "suboptions" in option else {})
        for name, option in options.items()
    }


def specified(spec: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return an argument spec without the keys that documentation does not have."""
    names = ("type", "elements", "required", "default", "choices")
    return {
        name: {key: option[key] for key in names if key in option}
        | ({"options": specified(option["options"])} if "options" in option else {})
        for name, option in spec.items()
    }


def test_controller_only_modules_are_found() -> None:
    assert {"utrust_preflight", "utrust_sync_plan"} <= set(CONTROLLER_ONLY)
    assert {"utrust_cluster_info", "utrust_hsm_info"}.isdisjoint(CONTROLLER_ONLY)


@pytest.mark.parametrize("module", CONTROLLER_ONLY)
def test_controller_only_module_is_documentation(module: str) -> None:
    """Code in the module file would suggest that the module runs on another machine."""
    tree = ast.parse((ROOT / f"plugins/modules/{module}.py").read_text(encoding="utf-8"))
    names = [
        node.targets[0].id
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    ]
    assert names == ["DOCUMENTATION", "EXAMPLES", "RETURN"]
    assert [node for node in tree.body if not isinstance(node, ast.Assign | ast.ImportFrom)] == []


@pytest.mark.parametrize("module", CONTROLLER_ONLY)
def test_controller_only_module_documents_its_options(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other test compares them, because the sanity tests read the spec of a main()."""
    document = documentation(module)
    assert documented(document["options"]) == specified(spec_of(module, monkeypatch))


@pytest.mark.parametrize("module", MODULES)
def test_module_documents_its_action_group(module: str) -> None:
    group = load("meta/runtime.yml")["action_groups"]["utrust"]
    fragments = documentation(module)["extends_documentation_fragment"]
    assert ("keyops.utrust._attributes.actiongroup_utrust" in fragments) == (module in group)


# Secrets


class Seen(BaseException):
    """Ends main() where it hands its argument spec to AnsibleModule; not an Exception, so that nothing catches it."""

    def __init__(self, argument_spec: dict[str, t.Any]) -> None:
        super().__init__()
        self.argument_spec = argument_spec


def argument_spec_of(module: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, t.Any]:
    def stop(
        dummy_self: AnsibleModule, argument_spec: dict[str, t.Any], *dummy: t.Any, **dummy_more: t.Any
    ) -> t.NoReturn:
        raise Seen(argument_spec)

    monkeypatch.setattr(AnsibleModule, "__init__", stop)
    with pytest.raises(Seen) as caught:
        importlib.import_module(f"ansible_collections.keyops.utrust.plugins.modules.{module}").main()
    assert caught.value.argument_spec
    return caught.value.argument_spec


def spec_of(module: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, t.Any]:
    """Return the argument spec of a module, or of the action if there is no module."""
    if module not in CONTROLLER_ONLY:
        return argument_spec_of(module, monkeypatch)
    action = importlib.import_module(f"ansible_collections.keyops.utrust.plugins.action.{module}").ActionModule
    return t.cast("dict[str, t.Any]", action.spec)


def walk(options: dict[str, t.Any], path: str = "") -> t.Iterator[tuple[str, str, dict[str, t.Any]]]:
    """Every option of an argument spec with its path, sub-options included."""
    for name, option in options.items():
        yield name, f"{path}{name}", option
        yield from walk(option.get("options") or {}, f"{path}{name}.")


def silent(options: dict[str, t.Any], prefix: str = "") -> list[str]:
    """Paths of options that sound like a secret, and do not say whether they are one."""
    return [
        path
        for name, path, option in walk(options)
        if SENSITIVE.search(name.removeprefix(prefix)) and "no_log" not in option
    ]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_option_that_sounds_secret_states_no_log(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert silent(spec_of(module, monkeypatch)) == []


def test_that_guard_finds_a_silent_option_at_any_depth() -> None:
    inner = {"card_pin": {"type": "str"}, "shares": {"type": "list", "no_log": True}}
    spec: dict[str, t.Any] = {"host": {"type": "str"}, "cards": {"type": "list", "elements": "dict", "options": inner}}
    assert silent(spec) == ["cards.card_pin"]


@pytest.mark.parametrize("role", ROLES)
def test_every_role_option_that_sounds_secret_states_no_log(role: str) -> None:
    entries = load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]
    assert [path for spec in entries.values() for path in silent(spec.get("options") or {}, f"{role}_")] == []


# Roles


@pytest.mark.parametrize("role", ROLES)
def test_role_defaults_agree_with_the_argument_specs(role: str) -> None:
    defaults = load(f"roles/{role}/defaults/main.yml") or {}
    entries = load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]
    options = {name: option for entry in entries.values() for name, option in (entry.get("options") or {}).items()}
    assert options
    assert sorted(set(defaults) - set(options)) == []
    for name, option in options.items():
        templated = "{{" in str(defaults.get(name, ""))
        if "default" in option or not templated:
            assert ("default" in option) == (name in defaults), name
            assert option.get("default") == defaults.get(name), name


def test_there_are_roles() -> None:
    assert ROLES


# Versions


def floors(text: str, product: str) -> list[str]:
    """Versions that a text states as the lowest: "X 2.18 or later", "X >= 2.18", "X 2.18+"."""
    pattern = rf"{product}\W{{0,4}}(?:(?:>=|≥)\s*(\d+\.\d+)|(\d+\.\d+)(?=(?:\.\d+)?(?:\W{{0,3}}or (?:later|newer)|\+)))"
    return ["".join(found) for found in re.findall(pattern, text)]


@pytest.mark.parametrize("text", ["needs Foo 2.18 or later", "Foo >= 2.18", "Foo>=2.18.0", "`Foo` ≥ 2.18", "Foo 2.18+"])
def test_floors_are_recognized(text: str) -> None:
    assert floors(text, "Foo") == ["2.18"]


def test_the_ansible_core_floor_is_the_same_everywhere() -> None:
    floor = re.fullmatch(r">=(\d+\.\d+)\.0", load("meta/runtime.yml")["requires_ansible"])
    assert floor
    assert floors((ROOT / "README.md").read_text(encoding="utf-8"), "ansible-core") == [floor[1]]
    assert f"\nansible-core=={floor[1]}." in (ROOT / "tests/requirements/floor.txt").read_text(encoding="utf-8")


def test_the_python_floor_is_the_same_everywhere() -> None:
    floor = load("tests/config.yml")["modules"]["python_requires"].removeprefix(">=")
    assert floors((ROOT / "README.md").read_text(encoding="utf-8"), "Python") == [floor]
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'target-version = "py{floor.replace(".", "")}"' in pyproject
    assert f'python_version = "{floor}"' in pyproject
    assert f"OLDEST, NEWEST = ({floor.replace('.', ', ')})," in (ROOT / "tests/tools/setup_env.py").read_text(
        encoding="utf-8"
    )


def test_the_changelog_has_the_version_of_galaxy_yml() -> None:
    version = load("galaxy.yml")["version"]
    assert version in load("changelogs/changelog.yaml")["releases"]
    assert f"## v{version}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("\\.", ".")


# Rules that no tool keeps


def test_no_gate_is_softened() -> None:
    assert list((ROOT / "tests").rglob("ignore*.txt")) == []
    lint = load(".config/ansible-lint.yml")
    assert (lint["profile"], lint["skip_list"], lint["warn_list"], lint["strict"]) == ("production", [], [], True)


def test_lint_settings_work_without_our_environment() -> None:
    """With offline, ansible-lint does not install the collection in a plain clone, and cannot resolve its modules."""
    assert "offline" not in load(".config/ansible-lint.yml")
    assert "ansible-lint --offline" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_molecule_commands_of_the_simulator_parse() -> None:
    """Each list of words for `utrust-appliance` in a scenario is a command that the simulator has."""
    commands = [
        command
        for path in (ROOT / "molecule").rglob("*.yml")
        for play in load(str(path.relative_to(ROOT))) or []
        if isinstance(play, dict)
        for command in (play.get("vars") or {}).get("commands") or []
    ]
    assert commands
    for command in commands:
        parser().parse_args([*map(str, command), "--dir", "cluster"])


def test_no_rule_is_switched_off_in_the_yaml_of_the_collection() -> None:
    files = [
        path for folder in ("roles", "playbooks", "molecule", "extensions") for path in (ROOT / folder).rglob("*.yml")
    ]
    assert files
    assert [path for path in files if re.search(r"#\s*(noqa|yamllint disable)", path.read_text(encoding="utf-8"))] == []


def test_no_task_ignores_errors() -> None:
    """Roles and blocks state `ignore_errors: false`, because a caller could set it."""
    folders = ("roles", "playbooks", "molecule", "docs")
    paths = [ROOT / "README.md", *(path for folder in folders for path in (ROOT / folder).rglob("*"))]
    found = [
        (path.name, value)
        for path in paths
        if path.suffix in {".yml", ".md"}
        for value in re.findall(r"\bignore_errors: *(\S+)", path.read_text(encoding="utf-8"))
    ]
    assert len(found) > 5
    assert [place for place in found if place[1].rstrip("`.,") != "false"] == []


def test_one_place_catches_every_exception() -> None:
    """An error that is caught elsewhere without its type loses its code. A handler of BaseException raises the error again."""
    broad: list[str] = []
    for path in python_files("plugins"):
        for handler in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(handler, ast.ExceptHandler):
                continue
            caught = (
                {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)} if handler.type else {""}
            )
            reraised = isinstance(handler.body[-1], ast.Raise) and handler.body[-1].exc is None
            if caught & {"", "Exception"} or ("BaseException" in caught and not reraised):
                broad.append(path.name)
    assert broad == ["_runner.py"]


BASTION = "{{ utrust_bastion | default('', true) | trim | default(omit, true) }}"


def test_every_delegation_accepts_a_blank_bastion() -> None:
    """A survey sends a blank for a bastion that is not set, and a blank is not a host."""
    found = [
        (path.name, line.strip())
        for folder in ("roles", "playbooks")
        for path in sorted((ROOT / folder).rglob("*.yml"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if "delegate_to:" in line
    ]
    assert len(found) > 10
    assert [place for place in found if place[1] != f'delegate_to: "{BASTION}"'] == []


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    files = [path for path in python_files("tests") if path != Path(__file__).resolve()]
    assert files
    softened = re.compile(r"importorskip|pytest\.(skip|xfail)\b|mark\.(skip|skipif|xfail)\b|unittest\.skip")
    assert [path for path in files if softened.search(path.read_text(encoding="utf-8"))] == []


def imports(path: Path) -> set[str]:
    """Modules that a file imports, wherever in it, relative ones as they are written."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def test_operations_and_judgments_know_neither_ansible_nor_http() -> None:
    utils = ROOT / "plugins/module_utils"
    files = [
        *python_files("plugins/module_utils/_operations"),
        utils / "_keys.py",
        *python_files("plugins/module_utils/_preflight"),
    ]
    assert len(files) > 2
    forbidden = re.compile(r"^(ansible\.|ansible$|http|ssl|socket|urllib)|\._(rest|webconf|http)$")
    assert {
        path.name: bad for path in files if (bad := sorted(name for name in imports(path) if forbidden.search(name)))
    } == {}


def test_third_party_imports_are_required_with_a_lower_bound() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    required = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in required if not re.fullmatch(r"[A-Za-z0-9_.-]+>=[0-9.]+", line)] == []
    assert load("meta/execution-environment.yml")["dependencies"]["python"] == "requirements.txt"
    # ansible-core itself needs these.
    given = {"ansible", "ansible_collections", "cryptography", "jinja2", "markupsafe", "yaml"}
    imported = {
        name.partition(".")[0]
        for path in python_files("plugins")
        for name in imports(path)
        if name.partition(".")[0] not in sys.stdlib_module_names
    }
    assert "ansible" in imported
    assert imported - given == {line.partition(">")[0] for line in required}


def test_private_files_of_plugins_begin_with_an_underscore() -> None:
    folders = [ROOT / "plugins/module_utils"]
    names = [
        path.name for folder in folders for path in folder.iterdir() if path.name not in ("__init__.py", "__pycache__")
    ]
    assert names
    assert [name for name in names if not name.startswith("_")] == []


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


#: Words of an older version, or words that already have another meaning for HSM operators. CONTRIBUTING has the terms to use instead.
OLD_WORDS = frozenset(
    [
        "answer",
        "answered",
        "answers",
        "apart",
        "attestation",
        "attestations",
        "doomed",
        "evidence",
        "held",
        "receipt",
        "retired",
        "sweep",
        "swept",
        "tells",
        "told",
        "wanted",
        "witness",
    ]
)


def identifiers(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {getattr(node, name, None) for node in ast.walk(tree) for name in ("id", "attr", "arg", "name")}
    return {name for name in names if isinstance(name, str)}


def test_names_use_the_terms_of_contributing() -> None:
    """Names of variables, functions, classes and arguments use the same terms as the documents."""
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for folder in ("plugins", "tests", "molecule")
        for path in python_files(folder)
        for name in identifiers(path)
        if OLD_WORDS & set(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().split("_"))
    }
    assert not found


def test_test_names_have_at_most_60_characters() -> None:
    """A test is named test_<subject>_<condition>[_<result>]; the sentence is in the docstring."""
    names = {
        f"{path.relative_to(ROOT)}: {function.name}": len(function.name)
        for path in python_files("tests")
        for function in functions(path)
        if path.name.startswith("test_") and function.name.startswith("test_")
    }
    assert names
    long = [f"{name} ({length})" for name, length in names.items() if length > 60]
    assert not long, f"{len(long)} test names are too long. Shorten them:\n" + "\n".join(long)


def code_lines(path: Path) -> set[int]:
    """Numbers of the lines that hold code: without blank lines, comments, docstrings and plugin documentation."""
    source = path.read_text(encoding="utf-8")
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in layout:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        names = {name.id for name in node.targets if isinstance(name, ast.Name)} if isinstance(node, ast.Assign) else ()
        if docstring or {"DOCUMENTATION", "EXAMPLES", "RETURN"} & set(names):
            assert isinstance(node, ast.stmt)
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def test_files_and_functions_stay_small() -> None:
    """A module has at most 60 lines of code, a file of utilities 250, a function 40."""
    files = [path for path in python_files("plugins") if path.parent.name != "doc_fragments"]
    assert files
    large: list[str] = []
    for path in files:
        lines, name = code_lines(path), path.relative_to(ROOT)
        limit = 60 if path.parent.name == "modules" else 250
        if len(lines) > limit:
            large.append(f"{name}: {len(lines)} lines of code, at most {limit}")
        for function in functions(path):
            size = sum(function.lineno <= line <= (function.end_lineno or 0) for line in lines)
            if size > 40:
                large.append(f"{name}:{function.lineno}: {function.name}: {size} lines of code, at most 40")
    assert not large, "Split these files and functions, one job each:\n" + "\n".join(large)
