# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans, approvals and commissioning records as bytes: files that are read or written once, or base64 text. Private to keyops.utrust.

Ansible never evaluates these bytes as a template, and YAML never converts a value of them.
"""

from __future__ import annotations

import base64
import os
import pathlib
import stat
import tempfile

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError


def read_file(path: str, what: str, *, limit: int, code: str) -> bytes:
    """Return the content of a regular file, at most one byte more than `limit`. Raises UtrustError (`code`)."""
    try:
        # Without O_NONBLOCK, a named pipe would block the run.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError("it is not a regular file")
            return file.read(limit + 1)
    except (OSError, ValueError) as exc:
        raise UtrustError(
            f"reading {what} {path!r:.200}: {getattr(exc, 'strerror', None) or exc}. Check the path", code=code
        ) from exc


def decode_base64(text: str, what: str, *, code: str) -> bytes:
    """Return the bytes of base64 text, which may have line breaks. Raises UtrustError (`code`)."""
    try:
        return base64.b64decode("".join(text.split()).encode("ascii"), validate=True)
    except ValueError as exc:
        raise UtrustError(f"reading {what}: the text is not base64. Encode the bytes of the file", code=code) from exc


def write_file(path: str, content: bytes, what: str, *, remedy: str, code: str) -> None:
    """Write under a temporary name, then rename, so that nobody reads a part of the file. Raises UtrustError (`code`)."""
    target = pathlib.Path(path)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        temporary = pathlib.Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, ValueError) as exc:
        raise UtrustError(
            f"writing {what} {path}: {getattr(exc, 'strerror', None) or exc}. {remedy}", code=code
        ) from exc
