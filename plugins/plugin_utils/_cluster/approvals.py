# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Approvals of a plan: who may approve, and whether enough people did. Pure functions. Private to keyops.utrust.

A person is a key and accounts. A name only finds the entry of the person.
"""

from __future__ import annotations

import datetime
import typing as t

import yaml
from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem, UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.people import normalize_name
from ansible_collections.keyops.utrust.plugins.plugin_utils._signature import public_key_sha256, verify_ed25519

#: An approval that never ends could be used for a later run.
MAX_VALIDITY: t.Final = datetime.timedelta(days=30)
#: The clocks of an approver and of the controller can differ.
MAX_CLOCK_DIFFERENCE: t.Final = datetime.timedelta(minutes=5)
#: Account of a job that no person started.
NOBODY: t.Final = "unknown"
_UNKNOWN: t.Final = frozenset({"", NOBODY})


class Approval(t.NamedTuple):
    """One entry of a file of approvals. Times are UTC in the form 2026-11-23T13:00:00Z, and `signature` is base64."""

    name: str
    time: str
    expires: str
    plan_digest: str
    signature: str

    def message(self) -> bytes:
        """The text that an approver signs."""
        return f"keyops.utrust approval\n{self.plan_digest}\n{self.name}\n{self.time}\n{self.expires}\n".encode()


class Approver(t.NamedTuple):
    """A person who may approve. `names` are the normalized name and accounts, and `key` is the key fingerprint.

    `readings` are the names and what Ansible makes of each name in a job of AWX.
    """

    name: str
    names: frozenset[str]
    readings: frozenset[str]
    public_key: str
    key: str


def load_approvers(given: t.Sequence[t.Mapping[str, t.Any]]) -> tuple[Approver, ...]:
    """Return the approvers. Raises UtrustError (`approver_invalid`, `approver_key_invalid`, `approver_duplicate`)."""
    approvers: list[Approver] = []
    for entry in given:
        spellings = [entry["name"], *entry["accounts"]]
        if not entry["accounts"] or not all(normalize_name(each) for each in spellings):
            raise UtrustError(
                f"approvers: the name or the accounts of {entry['name']!a:.80} are blank. Nothing was done. Set name and accounts of each approver",
                code="approver_invalid",
            )
        try:
            key = public_key_sha256(entry["public_key"])
        except (TypeError, ValueError) as exc:
            raise UtrustError(
                f"approvers: the public key of {entry['name']!a:.80} is invalid: {exc!s:.200}. Nothing was done. Correct the key",
                code="approver_key_invalid",
            ) from exc
        names, readings = (frozenset(map(normalize_name, each)) for each in (spellings, map(_as_read, spellings)))
        approver = Approver(entry["name"], names, names | readings, entry["public_key"], key)
        for other in approvers:
            if other.key == approver.key or other.names & approver.names:
                raise UtrustError(
                    f"approvers: {other.name!a:.80} and {approver.name!a:.80} have the same name, account or key. Nothing was done. "
                    "List each person once",
                    code="approver_duplicate",
                )
        approvers.append(approver)
    return tuple(approvers)


def _as_read(name: str) -> str:
    """Return the text of an account as Ansible reads awx_user_name: from ansible-core 2.19 on, 004711 becomes the number 2505."""
    try:
        return str(yaml.safe_load(name.strip()))
    except (yaml.YAMLError, ValueError):  # not a value of YAML, or a date that does not exist
        return name


def check_approvals(
    plan: t.Mapping[str, t.Any],
    approvals: t.Sequence[Approval],
    *,
    required: int,
    approvers: t.Sequence[Approver],
    launchers: t.Collection[str],
    now: datetime.datetime,
) -> list[Problem]:
    """Return the reasons why `required` different approvers other than the requester have not approved this plan.

    `launchers` are the accounts that started this run. The person who applies a plan must not approve the plan, too.

    An invalid signature is a problem even if enough other approvals are valid.
    """
    requester = frozenset(normalize_name(plan[name]) for name in ("requested_by", "requester_account"))
    launcher = frozenset(map(normalize_name, launchers))
    invalid: list[Problem] = []
    not_counted: list[Problem] = []
    people: set[str] = set()
    for approval in approvals:
        approver = _find(approval.name, approvers)
        if approver is None:
            text = f"{approval.name} is not an approver. The approvers are {', '.join(sorted(each.name for each in approvers))}"
            not_counted.append(_problem("approver_unknown", text))
        elif approval.plan_digest != plan["digest"]:
            text = f"{approval.name} approved plan {approval.plan_digest}, not this plan"
            not_counted.append(_problem("approval_plan_mismatch", text))
        elif not verify_ed25519(approver.public_key, approval.signature, approval.message()):
            invalid.append(_problem("approval_signature_invalid", f"the signature of {approval.name} is invalid"))
        elif approver.readings & requester:
            not_counted.append(_problem("approval_by_requester", f"{approval.name} requested the plan"))
        elif approver.readings & launcher:
            not_counted.append(_problem("approval_by_launcher", f"{approval.name} started this run"))
        elif problem := _time_problem(approval, now):
            not_counted.append(problem)
        else:
            people.add(approver.key)
    invalid += _unknown_people(requester, launcher)
    if len(people) >= required:
        return invalid
    text = f"the plan has {len(people)} of {required} required approvals by different people other than {escape_unprintable(plan['requested_by'])}"
    return [_problem("approvals_missing", text), *not_counted, *invalid]


def _unknown_people(requester: t.AbstractSet[str], launcher: t.AbstractSet[str]) -> t.Iterator[Problem]:
    if requester & _UNKNOWN:
        text = "the plan does not name its requester, so an approver may be the requester"
        remedy = "let a person make the plan again, not a schedule"
        yield Problem("requester_unknown", "plan", text, remedy)
    if launcher & _UNKNOWN:
        text = "the job does not name the person who started it, so an approver may be this person"
        yield Problem("launcher_unknown", "plan", text, "let a person start the job, not a schedule")


def _find(name: str, approvers: t.Sequence[Approver]) -> Approver | None:
    return next((each for each in approvers if normalize_name(name) == normalize_name(each.name)), None)


def _time_problem(approval: Approval, now: datetime.datetime) -> Problem | None:
    given, end = (datetime.datetime.fromisoformat(text) for text in (approval.time, approval.expires))
    if given > now + MAX_CLOCK_DIFFERENCE or not given < end <= given + MAX_VALIDITY:
        text = (
            f"the approval of {approval.name} from {approval.time} to {approval.expires} begins in the future, or does not end within "
            f"{MAX_VALIDITY.days} days"
        )
        return _problem("approval_time_invalid", text)
    if now >= end:
        return _problem("approval_expired", f"the approval of {approval.name} ended at {approval.expires}")
    return None


def _problem(code: str, text: str) -> Problem:
    return Problem(code, "plan", text, "add approvals that name the digest of this plan")
