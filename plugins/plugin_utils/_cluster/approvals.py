# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Approvals of a plan: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t
import unicodedata


def approval_message(digest: str, name: str, time: str) -> bytes:
    """What an approver signs."""
    return f"keyops.utrust approval\n{digest}\n{name}\n{time}\n".encode()


def _normalize_name(name: t.Any) -> str:
    """What is the same for one person, however the name is typed: in capitals, with other blanks, with another form of an accented letter."""
    return " ".join(unicodedata.normalize("NFKC", str(name)).casefold().split())


def check_approvals(
    plan: t.Mapping[str, t.Any],
    approvals: t.Sequence[t.Mapping[str, t.Any]],
    *,
    required: int,
    approvers: t.Mapping[str, str],
    verify: t.Callable[[str, str, bytes], bool],
) -> list[str]:
    """Why the approvals do not suffice: `required` different people, the requester not among them, each for this very plan.

    `approvers` are public keys (PEM) by name: who is in it must have signed; if it is not empty, nobody else counts. `verify` tells whether a
    signature (base64) fits a public key and a message. A signature that does not fit is a problem even where enough others do.
    """
    wrong: list[str] = []
    uncounted: list[str] = []
    people: set[str] = set()
    for approval in approvals:
        name = str(approval.get("name", "")).strip()
        message = approval_message(plan["digest"], name, str(approval.get("time", "")))
        if not name or not approval.get("time"):
            uncounted.append("an approval has no name or no time [approval_incomplete]")
        elif approval.get("plan_digest") != plan["digest"]:
            uncounted.append(
                f"{name} approved the plan {approval.get('plan_digest')}, not this one [approval_plan_mismatch]"
            )
        elif _normalize_name(name) == _normalize_name(plan["requested_by"]):
            uncounted.append(f"{name} requested the plan [approval_by_requester]")
        elif approvers and name not in approvers:
            uncounted.append(f"{name} is not among the approvers {', '.join(sorted(approvers))} [approver_unknown]")
        elif problem := approvers and _signature_problem(name, approvers[name], approval, message, verify):
            wrong.append(problem)
        else:
            # Two names with one key are one person.
            people.add(approvers[name].strip() if approvers else _normalize_name(name))
    if _normalize_name(plan["requested_by"]) in ("", "unknown"):
        wrong.append(
            "the plan does not say who requested it, so that person cannot be told from the approvers [requester_unknown]"
        )
    if len(people) >= required:
        return wrong
    missing = f"{len(people)} of {required} approvals by different people other than {plan['requested_by']} [approvals_missing]"
    return [missing, *uncounted, *wrong]


def _signature_problem(
    name: str,
    public_key: str,
    approval: t.Mapping[str, t.Any],
    message: bytes,
    verify: t.Callable[[str, str, bytes], bool],
) -> str | None:
    try:
        fits = verify(public_key, str(approval.get("signature", "")), message)
    except (TypeError, ValueError) as exc:
        return f"the public key of {name} cannot be used: {exc} [approver_key_invalid]"
    return None if fits else f"the signature of {name} does not fit [approval_signature_invalid]"
