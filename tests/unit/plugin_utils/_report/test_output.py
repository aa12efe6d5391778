# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the files of a key report go, and that they are written as a whole."""

from __future__ import annotations

import os
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.output import check_files, write_files

if t.TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory. PWD and HOME name another directory, as under ansible-runner."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", "/")
    return tmp_path


def test_relative_paths_begin_at_the_working_directory(folder: Path) -> None:
    files = check_files("keys.html", None, "0640")
    assert files == (folder / "keys.html", folder / "keys.json", 0o640)
    (folder / "sub").mkdir()
    assert check_files("sub/../sub/keys.html", "data.json", "0600").data == folder / "data.json"


def test_both_files_are_written_with_the_mode(folder: Path) -> None:
    (folder / "keys.html").write_text("an older and longer page")
    write_files(check_files("keys.html", "keys.json", "0604"), "page ä", "data")
    assert {path.name: path.read_text("utf-8") for path in folder.iterdir()} == {
        "keys.html": "page ä",
        "keys.json": "data",
    }
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o604}


def test_link_is_replaced_and_not_followed(folder: Path) -> None:
    """A planted link cannot make the report overwrite another file."""
    (folder / "victim").write_text("untouched")
    (folder / "keys.html").symlink_to("victim")
    write_files(check_files("keys.html", None, "0640"), "page", "data")
    assert ((folder / "victim").read_text(), (folder / "keys.html").read_text()) == ("untouched", "page")


@pytest.mark.parametrize(
    ("page", "data"), [("audit.jsonl", None), ("x.html", "audit.jsonl"), ("link/audit.jsonl", None)]
)
def test_report_does_not_replace_its_audit_file(folder: Path, page: str, data: str | None) -> None:
    (folder / "link").symlink_to(".")
    (folder / "audit.jsonl").write_text("{}")
    with pytest.raises(UtrustError, match="would replace the audit file") as caught:
        check_files(page, data, "0640", "audit.jsonl")
    assert caught.value.code == "option_invalid"


@pytest.mark.parametrize(
    ("page", "data"),
    [("x.json", None), ("x.html", "x.html"), ("x.html", "./x.html"), ("x.html", "link/x.html")],
)
def test_page_and_data_must_be_different_files(folder: Path, page: str, data: str | None) -> None:
    (folder / "link").symlink_to(".")
    with pytest.raises(UtrustError, match="page, data: both are") as caught:
        check_files(page, data, "0640")
    assert caught.value.code == "option_invalid"


@pytest.mark.parametrize(
    "mode", ["420", "640", "0o640", "rw-r-----", "u=rw", "01777", "0688", "-640", " 0640", "0640\n"]
)
def test_mode_must_be_octal_digits(mode: str) -> None:
    """A number that YAML or JSON has converted is rejected, because its digits are no longer the mode."""
    with pytest.raises(UtrustError, match="mode: ") as caught:
        check_files("x.html", None, mode)
    assert caught.value.code == "option_invalid"


@pytest.mark.parametrize("option", ["page", "data"])
@pytest.mark.parametrize(
    "path",
    [
        "missing/x.html",
        "folder",
        "folder/",
        "new/",
        "/",
        ".",
        "..",
        "file/x.html",
        "pipe",
        "x" * 300,
        "nul\0",
        "loop/x",
        "/proc/x",
    ],
)
def test_path_that_cannot_be_written_is_rejected(folder: Path, option: str, path: str) -> None:
    (folder / "folder").mkdir()
    (folder / "file").touch()
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    before = sorted(folder.iterdir())
    given: dict[str, t.Any] = {"page": "good.html", "data": "good.json", option: path}
    with pytest.raises(UtrustError, match="writing the report") as caught:
        # Only the writing itself finds that a file system such as /proc has no room for a file.
        write_files(check_files(given["page"], given["data"], "0640"), "page", "data")
    assert caught.value.code == "report_not_written"
    assert "Choose a file" in str(caught.value)
    assert sorted(folder.iterdir()) == before


def test_working_directory_that_was_removed(folder: Path) -> None:
    gone = folder / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    with pytest.raises(UtrustError) as caught:
        check_files("keys.html", None, "0640")
    assert caught.value.code == "report_not_written"


def test_failed_writing_leaves_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both files are complete or neither is there."""
    files = check_files("keys.html", None, "0640")

    def full(dummy: int) -> t.NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UtrustError, match="No space left"):
        write_files(files, "page", "data")
    assert list(folder.iterdir()) == []
