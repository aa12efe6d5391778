# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Approvals of a plan: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t
import unicodedata

from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem


def approval_message(digest: str, name: str, time: str) -> bytes:
    """The text that an approver signs."""
    return f"keyops.utrust approval\n{digest}\n{name}\n{time}\n".encode()


def _normalize_name(name: t.Any) -> str:
    """The same text for each spelling of a name: with capitals, with other blanks, with another form of an accented letter."""
    return " ".join(unicodedata.normalize("NFKC", str(name)).casefold().split())


def check_approvals(
    plan: t.Mapping[str, t.Any],
    approvals: t.Sequence[t.Mapping[str, t.Any]],
    *,
    required: int,
    approvers: t.Mapping[str, str],
    verify: t.Callable[[str, str, bytes], bool],
) -> list[Problem]:
    """Return the reasons why `required` different people other than the requester have not approved this plan.

    `approvers` are public keys (PEM) by name. If they are given, only signed approvals of these people count. `verify` returns whether a signature
    (base64) fits a public key and a message. An invalid signature is a problem even if enough other approvals are valid.
    """
    invalid: list[Problem] = []
    not_counted: list[Problem] = []
    people: set[str] = set()
    requester = plan["requested_by"]
    for approval in approvals:
        name = str(approval.get("name", "")).strip()
        message = approval_message(plan["digest"], name, str(approval.get("time", "")))
        if not name or not approval.get("time"):
            not_counted.append(_problem("approval_incomplete", "the name or the time of an approval is missing"))
        elif approval.get("plan_digest") != plan["digest"]:
            text = f"{name} approved plan {approval.get('plan_digest')}, not this plan"
            not_counted.append(_problem("approval_plan_mismatch", text))
        elif _normalize_name(name) == _normalize_name(requester):
            not_counted.append(_problem("approval_by_requester", f"{name} requested the plan"))
        elif approvers and name not in approvers:
            text = f"{name} is not an approver. The approvers are {', '.join(sorted(approvers))}"
            not_counted.append(_problem("approver_unknown", text))
        elif problem := approvers and _signature_problem(name, approvers[name], approval, message, verify):
            invalid.append(problem)
        else:
            # Two names with the same key are one person.
            people.add(approvers[name].strip() if approvers else _normalize_name(name))
    if _normalize_name(requester) in ("", "unknown"):
        text = "the plan does not name its requester, so an approver may be the requester"
        remedy = "make the plan again with requested_by"
        invalid.append(Problem("requester_unknown", "plan", text, remedy))
    if len(people) >= required:
        return invalid
    text = f"the plan has {len(people)} of {required} required approvals by different people other than {requester}"
    return [_problem("approvals_missing", text), *not_counted, *invalid]


def _signature_problem(
    name: str,
    public_key: str,
    approval: t.Mapping[str, t.Any],
    message: bytes,
    verify: t.Callable[[str, str, bytes], bool],
) -> Problem | None:
    try:
        fits = verify(public_key, str(approval.get("signature", "")), message)
    except (TypeError, ValueError) as exc:
        text = f"the public key of {name} is invalid: {exc}"
        return Problem("approver_key_invalid", "plan", text, "correct the key in approvers")
    return None if fits else _problem("approval_signature_invalid", f"the signature of {name} is invalid")


def _problem(code: str, text: str) -> Problem:
    return Problem(code, "plan", text, "add approvals that name the digest of this plan")
