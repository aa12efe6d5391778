# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Verification of a whole audit file. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import chain, signed_head
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.errors import AuditError


def verify_file(
    path: str, *, public_key: str | None = None, count: int | None = None, head: str | None = None
) -> dict[str, t.Any]:
    """Read a whole audit file and return its state and its problems.

    `public_key` (PEM) belongs to the signed head. `count` and `head` are number and digest of a record that somebody saved.
    Raises AuditError if the file cannot be read.
    """
    try:
        signed = signed_head.read_signed_head(path) if public_key else None
        signature_problem = _signature_problem(path, signed, public_key) if public_key else ""
    except AuditError as exc:
        signed, signature_problem = None, str(exc)
    checkpoints = {number for number in (count, signed.head.sequence if signed else None) if number is not None}
    check_record = signed_head.record_check(public_key) if public_key and not signature_problem else None
    try:
        with open(path, "rb") as file:
            found = chain.verify(file, checkpoints=checkpoints, check_record=check_record)
    except OSError as exc:
        raise AuditError("audit_unreadable", f"reading {path} failed: {exc}") from exc
    if signature_problem:
        problems = [*_chain_problems(found), signature_problem]
    else:
        problems = [*_chain_problems(found), *(_end_problems(found, *signed.head, "signed") if signed else ())]
    if count is not None:
        problems += _end_problems(found, count, head, "expected")
    signed_records = signed.head.sequence if signed is not None and not signature_problem else None
    return {
        "file": path,
        "intact": not problems,
        "problems": problems,
        "summary": _summary(found, signed_records),
        "first_broken_line": found.first_broken[0] if found.first_broken else None,
        "records": found.head.sequence,
        "head": found.head.sha256,
        "fragments": [
            {"line": fragment.line, "size": fragment.size, "recorded": fragment.recorded}
            for fragment in found.fragments
        ],
        "open_jobs": [{"job": job, "line": line} for job, line in found.open_jobs.items()],
        "signed_records": signed_records,
    }


def _summary(found: chain.Chain, signed_records: int | None) -> list[str]:
    lines = [f"record {found.head.sequence} is the last intact record, digest {found.head.sha256}"]
    if signed_records is not None:
        lines.append(f"the head was signed at record {signed_records}")
    for fragment in found.fragments:
        recorded = "a later record names the fragment" if fragment.recorded else "no later record names the fragment"
        lines.append(f"line {fragment.line} is a fragment of a killed writer, {fragment.size} bytes: {recorded}")
    lines += [
        f"job {job}, started in line {line}, has not ended: it is running or was killed"
        for job, line in found.open_jobs.items()
    ]
    return lines


def _chain_problems(found: chain.Chain) -> list[str]:
    if found.first_broken is not None:
        line, code, text = found.first_broken
        return [f"line {line} is the first broken line: {text} [{code}]"]
    return ["the file contains no record [audit_empty]"] if found.head.sequence == 0 else []


def _signature_problem(path: str, signed: signed_head.SignedHead | None, public_key: str) -> str:
    if signed is None:
        return f"the signed head {signed_head.signature_path(path)} is missing [audit_signature_missing]"
    if not signed_head.is_signed(signed, public_key):
        return "the signature of the head does not fit the public key [audit_signature_invalid]"
    return ""


def _end_problems(found: chain.Chain, sequence: int, sha256: str | None, how: str) -> list[str]:
    """Why the file does not contain the record that was signed or expected."""
    if found.head.sequence < sequence:
        if found.first_broken is not None:
            return []  # The broken line is reported already, and the records after it are unknown.
        return [
            f"records are missing: the file ends with record {found.head.sequence}, but record {sequence} was {how} [audit_truncated]"
        ]
    if sha256 is not None and sequence and found.checkpoint_digests.get(sequence) != sha256:
        return [f"record {sequence} is not the record that was {how} [audit_replaced]"]
    return []
