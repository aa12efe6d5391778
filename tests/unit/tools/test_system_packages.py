# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What `make test` does about Debian packages that are not there."""

from __future__ import annotations

import importlib.util
import os
import sys
import typing as t
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "system_packages.py"
APT = """#!/bin/sh
echo "$*" >> "$0.log"
case "$*" in
*install*) for name in softhsm2-util pkcs11-tool chromium initdb; do cp "$0" "${0%/*}/$name"; done;;
esac
"""


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> t.Any:
    """On a machine that has none of them, in so far as commands in the PATH show that."""
    spec = importlib.util.spec_from_file_location("system_packages", TOOL)
    assert spec
    assert spec.loader
    monkeypatch.setitem(sys.modules, "system_packages", made := importlib.util.module_from_spec(spec))
    spec.loader.exec_module(made)
    (tmp_path / "cp").symlink_to("/bin/cp")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(
        made, "missing", lambda: [one for one in made.PACKAGES if not (tmp_path / one.command).exists()]
    )
    return made


def apt_in(folder: Path) -> Path:
    apt = folder / "apt-get"
    apt.write_text(APT, encoding="ascii")
    apt.chmod(0o755)
    return apt.with_name("apt-get.log")


@pytest.mark.parametrize("has_apt", [True, False])
@pytest.mark.parametrize("arguments", [[], ["--install"]])
def test_missing_packages_are_listed_without_permission(
    tool: t.Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    has_apt: bool,
    arguments: list[str],
) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(os, "geteuid", lambda: 1000 if has_apt else 0)
    log = apt_in(tmp_path) if has_apt else None
    assert tool.main(arguments) == 1
    *packages, line, other = capsys.readouterr().err.splitlines()
    assert [text.split()[1] for text in packages] == ["softhsm2", "opensc", "chromium", "postgresql"]
    assert "`make check` and `make unit`" in other
    assert "apt-get install -y --no-install-recommends softhsm2 opensc" in line
    assert log is None or not log.exists()


def test_root_installs_nothing_without_being_asked(
    tool: t.Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`make test` on a root account prints the command, and does not run it."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    log = apt_in(tmp_path)
    assert tool.main([]) == 1
    assert "make system-packages" in capsys.readouterr().err
    assert not log.exists()


@pytest.mark.parametrize(("ci", "arguments"), [("true", []), ("", ["--install"])])
def test_root_installs_packages_on_request(
    tool: t.Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ci: str, arguments: list[str]
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    log = apt_in(tmp_path)
    assert tool.main(arguments) == 0
    assert "install -y --no-install-recommends softhsm2 opensc" in log.read_text(encoding="ascii")
    log.unlink()
    assert tool.main(arguments) == 0
    assert not log.exists(), "nothing is installed twice"
