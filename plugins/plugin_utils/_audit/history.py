# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Synchronizations and restores, from the audit file. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import chain

Facts = dict[str, t.Any]

#: Events that are shown; all others are not about keys that came to a node.
WHAT: t.Final = {"keys_imported": "synchronized", "hsm_restored": "guided restore"}
LENGTH: t.Final = 50


def history_of(path: str, *, length: int = LENGTH) -> Facts:
    """The last `length` events, latest first, and whether the file is whole. A file that cannot be read is a problem, not an error."""
    told: Facts = {"file": path, "problem": None, "events": [], "ignored_members": 0}
    try:
        with open(path, "rb") as file:
            lines = file.readlines()
    except OSError as exc:
        return {**told, "problem": f"the audit file cannot be read: {exc.strerror or exc}"}
    broken = chain.verify(lines).first_broken
    if broken is not None:
        told["problem"] = (
            f"line {broken[0]} of the audit file is not as it was written: {broken[2]}; what follows is not proven"
        )
    records = _records(lines)
    jobs = {record.get("job"): record for record in records if record.get("event") == chain.STARTED}
    events = [_event(record, jobs.get(record.get("job"), {})) for record in records if _is_shown(record)]
    events.reverse()
    return {**told, "events": events[:length], "ignored_members": max(len(events) - length, 0)}


def _records(lines: t.Sequence[bytes]) -> list[Facts]:
    """Those that can be read: what a killed writer left is none."""
    found = []
    for line in lines:
        try:
            found.append(chain.read_record(line.removesuffix(b"\n")))
        except chain.ChainError:
            continue
    return found


def _is_shown(record: Facts) -> bool:
    return record.get("event") in WHAT and record.get("outcome") in ("changed", "failed", "unreachable")


def _event(record: Facts, job: Facts) -> Facts:
    requester = job.get("requester")
    return {
        "time": str(record.get("time", "")),
        "node": str(record.get("host", "")),
        "what": WHAT[record["event"]],
        "outcome": "failed" if record["outcome"] != "changed" else "done",
        "detail": _detail(record),
        "requester": str(requester.get("name", "")) if isinstance(requester, dict) else "",
        "playbook": str(job.get("playbook", "")),
    }


def _detail(record: Facts) -> str:
    result = record.get("result")
    result = result if isinstance(result, dict) else {}
    parts = [f"{len(result[name])} {name}" for name in ("added", "replaced") if isinstance(result.get(name), list)]
    if (
        record["outcome"] == "changed"
        and record["event"] == "hsm_restored"
        and isinstance(result.get("key_count"), int)
    ):
        parts.append(f"{result['key_count']} keys")
    if result.get("verified") is True:
        parts.append("verified")
    codes = record.get("codes")
    parts += [str(code) for code in codes] if isinstance(codes, list) else []
    return ", ".join(parts)
