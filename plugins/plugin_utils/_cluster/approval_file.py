# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file of approvals: JSON data that is read once and never evaluated. Private to keyops.utrust."""

from __future__ import annotations

import datetime
import re
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _json
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.approvals import Approval
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.data_file import decode_base64, read_file

MAX_BYTES: t.Final = 1024 * 1024
MAX_APPROVALS: t.Final = 100
#: Longer than a name or a signature.
MAX_LENGTH: t.Final = 200
_TIME: t.Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def read(path: str) -> tuple[Approval, ...]:
    """Return the approvals of a file. Raises UtrustError (`approvals_unreadable`, `approvals_invalid`)."""
    return parse(read_file(path, "the approvals", limit=MAX_BYTES, code="approvals_unreadable"))


def read_base64(text: str) -> tuple[Approval, ...]:
    """Return the approvals of base64 text. Raises UtrustError (`approvals_invalid`)."""
    return parse(decode_base64(text, "the approvals", code="approvals_invalid"))


def parse(content: bytes) -> tuple[Approval, ...]:
    """Return the approvals of these bytes. Raises UtrustError (`approvals_invalid`)."""
    if len(content) > MAX_BYTES:
        raise _invalid(f"they have more than {MAX_BYTES} bytes")
    try:
        entries = _json.decode(content)
    except ValueError as exc:
        raise _invalid(f"they are not valid JSON: {exc}") from exc
    if not isinstance(entries, list) or len(entries) > MAX_APPROVALS:
        raise _invalid(f"they are not a list of at most {MAX_APPROVALS} entries")
    return tuple(_approval(entry, number) for number, entry in enumerate(entries, start=1))


def _approval(entry: t.Any, number: int) -> Approval:
    members = ", ".join(Approval._fields)
    if not isinstance(entry, dict) or set(entry) != set(Approval._fields):
        raise _invalid(f"entry {number} does not have exactly the members {members}")
    # A line break in a name would move the other parts of the signed text.
    if not all(
        isinstance(value, str) and value.isprintable() and 0 < len(value) <= MAX_LENGTH for value in entry.values()
    ):
        raise _invalid(f"a member of entry {number} is not a printable text of 1 to {MAX_LENGTH} characters")
    approval = Approval(**entry)
    if approval.name != approval.name.strip():
        raise _invalid(f"the name of entry {number} begins or ends with a blank")
    for text in (approval.time, approval.expires):
        if not _is_time(text):
            raise _invalid(f"{text!a} of entry {number} is not a time such as 2026-11-23T13:00:00Z")
    return approval


def _is_time(text: str) -> bool:
    try:
        return bool(_TIME.fullmatch(text)) and datetime.datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _invalid(reason: str) -> UtrustError:
    return UtrustError(
        f"reading the approvals: {reason}. Nothing was done. Write a JSON list as docs/operations.md describes",
        code="approvals_invalid",
    )
