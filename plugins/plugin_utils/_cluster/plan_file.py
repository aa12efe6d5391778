# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plan as a file: one form, read once, so that people and program approve the same bytes. Private to keyops.utrust."""

from __future__ import annotations

import json
import os
import pathlib
import stat
import tempfile
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError

#: More than a plan of 100 targets with 1,000 new keys each takes.
MAX_BYTES = 64 * 1024 * 1024

#: Members of every plan. `plan.make_plan` writes them.
MEMBERS: t.Final = frozenset({"format", "requested_by", "requested_at", "changes", "digest"})


def serialize(plan: t.Mapping[str, t.Any]) -> bytes:
    """Return the only form of a plan that is accepted: sorted members, indented, ASCII."""
    return json.dumps(plan, indent=2, sort_keys=True, ensure_ascii=True).encode("ascii") + b"\n"


def parse(content: bytes, origin: str) -> dict[str, t.Any]:
    """Return the plan of these bytes. Raises UtrustError (`plan_invalid`) for anything that `serialize` does not write."""
    remedy = "Make a new plan with --check and key_sync_plan_dest. Do not edit a plan"
    if len(content) > MAX_BYTES:
        raise UtrustError(
            f"reading the plan {origin}: it has more than {MAX_BYTES} bytes. {remedy}", code="plan_invalid"
        )
    try:
        plan = json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise UtrustError(
            f"reading the plan {origin}: it is not JSON ({type(exc).__name__}). {remedy}", code="plan_invalid"
        ) from exc
    if not isinstance(plan, dict) or set(plan) != MEMBERS or serialize(plan) != content:
        raise UtrustError(
            f"reading the plan {origin}: it is not in the form in which plans are written. {remedy}",
            code="plan_invalid",
        )
    return plan


def read(path: str) -> dict[str, t.Any]:
    """Raises UtrustError (`plan_unreadable`, `plan_invalid`)."""
    try:
        # Without O_NONBLOCK, a named pipe would block the run.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError("it is not a regular file")
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as exc:
        raise UtrustError(
            f"reading the plan {path}: {getattr(exc, 'strerror', None) or exc}. Check the path", code="plan_unreadable"
        ) from exc
    return parse(content, path)


def write(path: str, plan: t.Mapping[str, t.Any]) -> None:
    """Write the plan under a temporary name, then rename it. Raises UtrustError (`plan_not_written`)."""
    target = pathlib.Path(path)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        temporary = pathlib.Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(serialize(plan))
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, ValueError) as exc:
        raise UtrustError(
            f"writing the plan {path}: {getattr(exc, 'strerror', None) or exc}. Choose another plan_dest",
            code="plan_not_written",
        ) from exc
