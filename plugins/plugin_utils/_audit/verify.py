# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether an audit file is what it was, as far as that can be proven. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import chain
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import file as audit_file


def verify_file(
    path: str, *, public_key: str | None = None, count: int | None = None, head: str | None = None
) -> dict[str, t.Any]:
    """Read a whole audit file. `public_key` (PEM) is that of the signed head; `count` and `head` are what somebody remembers.

    Raises AuditError if the file cannot be read.
    """
    try:
        signed = audit_file.read_signed_head(path) if public_key else None
        signature_problem = _problem_of_signature(path, signed, public_key) if public_key else ""
    except audit_file.AuditError as exc:
        signed, signature_problem = None, str(exc)
    checkpoints = {one for one in (count, signed.head.sequence if signed else None) if one is not None}
    try:
        with open(path, "rb") as file:
            found = chain.verify(file, checkpoints=checkpoints)
    except OSError as exc:
        raise audit_file.AuditError("audit_unreadable", f"reading {path}: {exc}") from exc
    problems = []
    if found.first_broken is not None:
        line, code, text = found.first_broken
        problems.append(f"line {line} is the first that is broken: {text} [{code}]")
    elif found.head.sequence == 0:
        problems.append("there is no record in it [audit_empty]")
    if signature_problem:
        problems.append(signature_problem)
    elif signed is not None:
        problems += _problems_of_end(found, signed.head.sequence, signed.head.sha256, "signed")
    if count is not None:
        problems += _problems_of_end(found, count, head, "remembered")
    signed_records = signed.head.sequence if signed is not None and not signature_problem else None
    return {
        "file": path,
        "intact": not problems,
        "problems": problems,
        "summary": _summary(found, signed_records),
        "first_broken_line": found.first_broken[0] if found.first_broken else None,
        "records": found.head.sequence,
        "head": found.head.sha256,
        "fragments": [{"line": one.line, "size": one.size, "recorded": one.recorded} for one in found.fragments],
        "open_jobs": [{"job": job, "line": line} for job, line in found.open_jobs.items()],
        "signed_records": signed_records,
    }


def _summary(found: chain.Chain, signed_records: int | None) -> list[str]:
    lines = [f"record {found.head.sequence} is the last intact one, digest {found.head.sha256}"]
    if signed_records is not None:
        lines.append(f"the head was signed at record {signed_records}")
    for fragment in found.fragments:
        known = "later records say so" if fragment.recorded else "no later record says so yet"
        lines.append(f"line {fragment.line} is what a killed writer left of a record, {fragment.size} bytes; {known}")
    lines += [
        f"job {job}, started in line {line}, has not ended: it is running, or was killed"
        for job, line in found.open_jobs.items()
    ]
    return lines


def _problem_of_signature(path: str, signed: audit_file.SignedHead | None, public_key: str) -> str:
    if signed is None:
        return f"there is no signed head {audit_file.signature_path(path)} [audit_signature_missing]"
    if not audit_file.is_signed(signed, public_key):
        return "the signature of the head does not fit the public key [audit_signature_invalid]"
    return ""


def _problems_of_end(found: chain.Chain, sequence: int, sha256: str | None, how: str) -> list[str]:
    """Why the record that somebody has seen as the last one is not there as it was seen."""
    if found.head.sequence < sequence:
        if found.first_broken is not None:
            return []  # told already, and nothing is known of what comes behind
        return [f"it ends with record {found.head.sequence}, record {sequence} was {how} [audit_truncated]"]
    if sha256 is not None and sequence and found.seen.get(sequence) != sha256:
        return [f"record {sequence} is another one than was {how} [audit_replaced]"]
    return []
