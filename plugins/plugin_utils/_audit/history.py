# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Key synchronizations and restores in the audit file. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.people import HSM_RESTORED, PACKAGE_UPLOADED
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import chain

#: Events that change the keys of a node, with the operation that the report shows.
OPERATIONS: t.Final = {"keys_imported": "key synchronization", "hsm_restored": "guided restore"}
#: Steps of people that change the keys of a node.
CHANGING_STEPS: t.Final = (PACKAGE_UPLOADED, HSM_RESTORED)
LENGTH: t.Final = 50


def read_history(path: str, *, length: int = LENGTH) -> chain.Record:
    """The last `length` events, latest first, and whether the file is intact. An unreadable file is a problem, not an error."""
    history: chain.Record = {"file": path, "problem": None, "events": [], "omitted": 0}
    try:
        with open(path, "rb") as file:
            lines = file.readlines()
    except OSError as exc:
        return {**history, "problem": f"the audit file cannot be read: {exc.strerror or exc}"}
    broken = chain.verify(lines).first_broken
    if broken is not None:
        history["problem"] = (
            f"line {broken[0]} of the audit file is broken: {broken[2]}. The records after this line are not verified"
        )
    records = _records(lines)
    jobs = {record.get("job"): record for record in records if record.get("event") == chain.STARTED}
    events = [_event(record, jobs.get(record.get("job"), {})) for record in records if _is_shown(record)]
    events.reverse()
    return {**history, "events": events[:length], "omitted": max(len(events) - length, 0)}


def _records(lines: t.Sequence[bytes]) -> list[chain.Record]:
    """The records of all intact lines."""
    found = []
    for line in lines:
        try:
            found.append(chain.read_record(line.removesuffix(b"\n")))
        except chain.ChainError:
            continue
    return found


def _is_shown(record: chain.Record) -> bool:
    return record.get("event") in OPERATIONS and record.get("outcome") in ("changed", "failed", "unreachable")


def _event(record: chain.Record, job: chain.Record) -> chain.Record:
    requester = job.get("requester")
    return {
        "time": str(record.get("time", "")),
        "node": str(record.get("host", "")),
        "operation": OPERATIONS[record["event"]],
        "outcome": "failed" if record["outcome"] != "changed" else "done",
        "detail": _detail(record),
        "requester": str(requester.get("name", "")) if isinstance(requester, dict) else "",
        "playbook": str(job.get("playbook", "")),
    }


def _detail(record: chain.Record) -> str:
    result = record.get("result")
    result = result if isinstance(result, dict) else {}
    parts = [f"{len(result[name])} {name}" for name in ("added", "replaced") if isinstance(result.get(name), list)]
    is_restored = record["outcome"] == "changed" and record["event"] == "hsm_restored"
    if is_restored and isinstance(result.get("key_count"), int):
        parts.append(f"{result['key_count']} keys")
    if result.get("verified") is True:
        parts.append("verified")
    codes = record.get("codes")
    parts += [str(code) for code in codes] if isinstance(codes, list) else []
    return ", ".join(parts)


def read_arrivals(path: str) -> dict[str, dict[str, str]]:
    """Return when keys arrived, by host and key fingerprint. The name `*` stands for every host, or for every key of the host."""
    try:
        with open(path, "rb") as file:
            records = _records(file.readlines())
    except OSError:
        return {}
    found: dict[str, dict[str, str]] = {}
    for record in records:
        event, result = record.get("event"), record.get("result")
        if event == "step_confirmed" and isinstance(result, dict) and result.get("step") in CHANGING_STEPS:
            # A person changed the keys of this node, maybe between two runs. Nobody recorded which keys.
            found.setdefault(str(result.get("node")), {})["*"] = str(record.get("time"))
            continue
        # A failed import can have changed keys, too.
        if record.get("outcome") not in ("changed", "failed") or not isinstance(result, dict):
            continue
        host, keys = str(record.get("host")), []
        if event == "keys_imported":
            keys = [*_rows(result, "added"), *(pair.get("source_key") for pair in _rows(result, "replaced"))]
        elif event == "key_generated" and record["outcome"] == "changed":
            host, keys = "*", [result.get("hsm_key")]  # The key is on no node before.
        elif event == "hsm_restored":
            keys = [{"fingerprint": "*"}]
        for key in keys:
            if isinstance(key, dict):
                found.setdefault(host, {})[str(key.get("fingerprint"))] = str(record.get("time"))
    return found


def _rows(result: chain.Record, name: str) -> list[chain.Record]:
    rows = result.get(name)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
