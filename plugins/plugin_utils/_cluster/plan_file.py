# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plan as a file: one form, read once, so that people and program approve the same bytes. Private to keyops.utrust."""

from __future__ import annotations

import base64
import json
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _json
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.data_file import (
    decode_base64,
    read_file,
    write_file,
)

#: More than a plan of 100 targets with 1,000 new keys each takes.
MAX_BYTES = 64 * 1024 * 1024

#: Members of every plan. `plan.make_plan` writes them.
TEXTS: t.Final = ("requested_by", "requester_account", "requested_at", "digest")
MEMBERS: t.Final = frozenset({"format", "changes", *TEXTS})


def serialize(plan: t.Mapping[str, t.Any]) -> bytes:
    """Return the only form of a plan that is accepted: sorted members, indented, ASCII."""
    return json.dumps(plan, indent=2, sort_keys=True, ensure_ascii=True).encode("ascii") + b"\n"


def parse(content: bytes, origin: str) -> dict[str, t.Any]:
    """Return the plan of these bytes. Raises UtrustError (`plan_invalid`) for anything that `serialize` does not write."""
    if len(content) > MAX_BYTES:
        raise _invalid(origin, f"it has more than {MAX_BYTES} bytes")
    try:
        plan = _json.decode(content)
    except ValueError as exc:
        raise _invalid(origin, f"it is not valid JSON: {exc}") from exc
    if not isinstance(plan, dict) or set(plan) != MEMBERS or serialize(plan) != content:
        raise _invalid(origin, "it is not in the form in which plans are written")
    if isinstance(plan["format"], bool) or not isinstance(plan["format"], int):
        raise _invalid(origin, "its format is not a whole number")
    if not all(isinstance(plan[name], str) for name in TEXTS):
        raise _invalid(origin, f"one of the members {', '.join(TEXTS)} is not a text")
    return plan


def _invalid(origin: str, reason: str) -> UtrustError:
    remedy = "Make a new plan in check mode (in AWX: launch key_sync with the job type Check). Do not edit a plan"
    return UtrustError(f"reading {origin}: {reason}. {remedy}", code="plan_invalid")


def read(path: str) -> dict[str, t.Any]:
    """Return the plan of a file. Raises UtrustError (`plan_unreadable`, `plan_invalid`)."""
    return parse(read_file(path, "the plan", limit=MAX_BYTES, code="plan_unreadable"), f"the plan {path}")


def read_base64(text: str) -> dict[str, t.Any]:
    """Return the plan of base64 text. Raises UtrustError (`plan_invalid`)."""
    return parse(decode_base64(text, "the plan", code="plan_invalid"), "the plan")


def to_base64(plan: t.Mapping[str, t.Any]) -> str:
    return base64.b64encode(serialize(plan)).decode("ascii")


def write(path: str, plan: t.Mapping[str, t.Any]) -> None:
    """Write the plan under a temporary name, then rename it. Raises UtrustError (`plan_not_written`)."""
    write_file(path, serialize(plan), "the plan", remedy="Choose another plan_dest", code="plan_not_written")
