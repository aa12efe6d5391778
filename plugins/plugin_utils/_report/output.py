# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two files of a key report on the controller. Private to keyops.utrust."""

from __future__ import annotations

import os
import pathlib
import re
import stat
import tempfile
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError

REMEDY = "Choose a file in a directory that exists and that this user may write"


class ReportFiles(t.NamedTuple):
    """Absolute paths of page and data, and the mode of both."""

    page: pathlib.Path
    data: pathlib.Path
    mode: int


def check_files(page: str, data: str | None, mode: str, audit_file: str | None = None) -> ReportFiles:
    """Check where the report goes, and write nothing.

    Relative paths are relative to the working directory of this process. The report must not replace the audit file that it reads.
    Raises UtrustError (`option_invalid`, `report_not_written`).
    """
    if not re.fullmatch(r"0[0-7]{3}", mode):
        raise UtrustError(
            f'mode: {mode!r} is not the mode of a file. Set a text of four octal digits in quotes, such as "0640"',
            code="option_invalid",
        )
    page_path = _absolute(page)
    data_path = _absolute(data if data is not None else str(page_path.with_suffix(".json")))
    if page_path == data_path:
        raise UtrustError(
            f"page, data: both are {page_path}. Set another path for data, or a page that does not end with .json",
            code="option_invalid",
        )
    if audit_file is not None and os.path.realpath(audit_file) in map(os.path.realpath, (page_path, data_path)):
        raise UtrustError(
            f"page, data: the report would replace the audit file {audit_file}. Set another path", code="option_invalid"
        )
    return ReportFiles(page_path, data_path, int(mode, 8))


def _absolute(path: str) -> pathlib.Path:
    """Return the path with its directory resolved. A link in place of the file is replaced, so it is not followed."""
    given = pathlib.Path(path)
    try:
        # Path.resolve raises RuntimeError for a loop of links before Python 3.13.
        resolved = pathlib.Path(os.path.realpath(given.parent, strict=True)) / given.name
        if path.endswith(os.sep) or not given.name or resolved.is_dir():
            raise IsADirectoryError(None, "the path is a directory")
        if not _is_replaceable(resolved):
            raise OSError(None, "the path is not a file")
        if not os.access(resolved.parent, os.W_OK | os.X_OK):
            raise PermissionError(None, "this user may not write into the directory")
    except (OSError, ValueError) as exc:
        raise _not_written(path, exc) from exc
    return resolved


def _is_replaceable(path: pathlib.Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return True
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _not_written(path: object, exc: OSError | ValueError) -> UtrustError:
    reason = getattr(exc, "strerror", None) or exc
    return UtrustError(f"writing the report {str(path)!r}: {reason}. {REMEDY}", code="report_not_written")


def write_files(files: ReportFiles, page: str, data: str) -> None:
    """Write both files under temporary names, then rename them. Raises UtrustError (`report_not_written`)."""
    temporary: dict[pathlib.Path, pathlib.Path] = {}
    path = files.page
    try:
        for path, content in ((files.page, page), (files.data, data)):
            descriptor, name = tempfile.mkstemp(prefix=".key_report-", dir=path.parent)
            temporary[path] = pathlib.Path(name)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content.encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
            temporary[path].chmod(files.mode)
        for path, written in temporary.items():
            written.replace(path)
    except OSError as exc:
        raise _not_written(path, exc) from exc
    finally:
        for written in temporary.values():
            written.unlink(missing_ok=True)
