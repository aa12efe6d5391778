# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Collects the stable error codes of the collection from its sources, and those of a node from the contract."""

from __future__ import annotations

import ast
import re
import typing as t
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CODE = re.compile(r"[a-z]+(?:_[a-z0-9]+)+")
#: A code in brackets. A word before the bracket makes it a subscript, an equals sign makes it a list.
BRACKETS = re.compile(rf"(?<![\w=])(?<!= )\[({CODE.pattern})\]")
#: A code that a template falls back to.
FALLBACK = re.compile(rf"code\s*\|\s*default\('({CODE.pattern})'")
#: Calls whose first argument is a code.
CALLS = {"Problem", "AuditError", "ChainError", "ProblemDetails", "ViewProblem"}
#: Codes that are made of a fixed part and a value of the contract.
COMPOSED: t.Final = {
    "*_in_progress": {"restore_in_progress", "import_in_progress", "package_in_progress", "job_in_progress"},
    "restore_*": {"restore_failed", "restore_canceled"},
}
DOCUMENTATION = {"DOCUMENTATION", "EXAMPLES", "RETURN"}


def codes_of_collection() -> dict[str, set[str]]:
    """Return each code with the files that it is in. A composed code is expanded by `COMPOSED`."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "plugins").rglob("*.py")):
        for code in _PythonFile(path).codes():
            found.setdefault(code, set()).add(str(path.relative_to(ROOT)))
    for folder in ("roles", "playbooks"):
        for path in sorted((ROOT / folder).rglob("*.yml")):
            text = path.read_text(encoding="utf-8")
            for code in (*BRACKETS.findall(text), *FALLBACK.findall(text)):
                found.setdefault(code, set()).add(str(path.relative_to(ROOT)))
    return found


def codes_of_contract() -> set[str]:
    """Return every code that appliance API v1 lists: of problems, of ended jobs and of PIN pads. `unknown` is the missing code."""
    document = yaml.safe_load((ROOT / "docs/api/appliance-v1.yaml").read_text(encoding="utf-8"))
    schemas = document["components"]["schemas"]
    return {*schemas["ProblemCode"]["enum"], *_enums(schemas)} - {"unknown"}


def _enums(document: t.Any) -> t.Iterator[str]:
    if isinstance(document, dict):
        code = document.get("code")
        if isinstance(code, dict):
            yield from code.get("enum", [])
        for value in document.values():
            yield from _enums(value)
    elif isinstance(document, list):
        for value in document:
            yield from _enums(value)


class _PythonFile:
    """One file of plugins/ as a syntax tree."""

    def __init__(self, path: Path) -> None:
        self._tree = ast.parse(path.read_text(encoding="utf-8"))
        # The first argument of these functions of the file is a code, too.
        self._calls = CALLS | {
            node.name
            for node in ast.walk(self._tree)
            if isinstance(node, ast.FunctionDef) and node.args.args and node.args.args[0].arg == "code"
        }

    def codes(self) -> set[str]:
        found: set[str] = set()
        for statement in self._tree.body:
            if not (isinstance(statement, ast.Assign) and _names(statement.targets[0]) & DOCUMENTATION):
                for node in ast.walk(statement):
                    found |= self._of_node(node)
        return found

    def _of_node(self, node: ast.AST) -> set[str]:
        found: set[str] = set()
        if isinstance(node, ast.keyword) and node.arg and re.fullmatch(r"(\w+_)?code", node.arg):
            found |= _values(node.value)
        elif isinstance(node, ast.Call) and node.args and _called(node) in self._calls:
            found |= _values(node.args[0])
        elif isinstance(node, ast.Assign):
            found |= _assigned(node.targets[0], [node.value])
        elif isinstance(node, ast.For):
            found |= _assigned(node.target, node.iter.elts if isinstance(node.iter, (ast.Tuple, ast.List)) else [])
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "code":
                    found |= _values(value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= set(BRACKETS.findall(node.value))
        elif isinstance(node, ast.JoinedStr):
            for before, value in zip(node.values, node.values[1:], strict=False):
                if isinstance(before, ast.Constant) and str(before.value).endswith("["):
                    found |= _values(value.value) if isinstance(value, ast.FormattedValue) else set()
        return found


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _names(target: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}


def _assigned(target: ast.expr, values: list[ast.expr]) -> set[str]:
    """Return what is assigned to a name `code`, alone or as one of several names."""
    if isinstance(target, ast.Name) and target.id == "code":
        return set().union(*(_values(value) for value in values))
    if not isinstance(target, ast.Tuple):
        return set()
    places = [place for place, name in enumerate(target.elts) if isinstance(name, ast.Name) and name.id == "code"]
    tuples = [node for value in values for node in ast.walk(value) if isinstance(node, ast.Tuple)]
    return {
        code
        for place in places
        for one in tuples
        if len(one.elts) == len(target.elts)
        for code in _values(one.elts[place])
    }


def _values(expression: ast.expr) -> set[str]:
    """Return the codes that an expression can have as its value."""
    if isinstance(expression, ast.IfExp):
        return _values(expression.body) | _values(expression.orelse)
    if isinstance(expression, ast.BoolOp):
        return set().union(*(_values(value) for value in expression.values))
    if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
        return {expression.value} if CODE.fullmatch(expression.value) else set()
    if isinstance(expression, ast.JoinedStr):
        shape = "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in expression.values)
        return COMPOSED[shape]
    return set()
