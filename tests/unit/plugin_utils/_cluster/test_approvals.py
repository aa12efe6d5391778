# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Approvals of a plan: the file, the people, the times."""

from __future__ import annotations

import base64
import datetime
import json
import typing as t

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster import approval_file
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.approvals import check_approvals, load_approvers
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.people import normalize_name
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.approvals import Person, at

DIGEST = "sha256:" + "ab" * 32
ANNA, BEN, CLEO = Person("Anna Admin", "anna", "a.admin"), Person("Ben"), Person("Cleo")
PEOPLE = (ANNA, BEN, CLEO)


def plan(requested_by: str = "Zed", account: str = "zed") -> dict[str, str]:
    return {"requested_by": requested_by, "requester_account": account, "digest": DIGEST}


def judge(
    *entries: dict[str, str],
    required: int = 2,
    of: dict[str, str] | None = None,
    people: t.Sequence[Person] = PEOPLE,
    launchers: t.Sequence[str] = ("dora",),
) -> set[str]:
    """Return the codes of the problems of these approvals, as a file gives them."""
    given = approval_file.parse(json.dumps(entries).encode())
    approvers = load_approvers([person.approver() for person in people])
    now = datetime.datetime.now(datetime.UTC)
    found = check_approvals(of or plan(), given, required=required, approvers=approvers, launchers=launchers, now=now)
    return {each.code for each in found}


def refused_code(*people: dict[str, t.Any]) -> str | None:
    with pytest.raises(UtrustError) as refused:
        load_approvers(people)
    return refused.value.code


# People


def test_approvals_of_two_people_suffice() -> None:
    assert judge(BEN.approve(DIGEST), CLEO.approve(DIGEST)) == set()
    assert judge(BEN.approve(DIGEST)) == {"approvals_missing"}
    assert judge() == {"approvals_missing"}


@pytest.mark.parametrize(
    "spelling",
    [
        "ben",
        " BEN".strip(),
        "Be\u200bn",
        "\uff22en",
        "B\u00aden",
        "Ben\u2060",
        "\ufeffBen",
        "Be\ufe0fn",
        "Be\u034fn",
        "B\U000e0061en",
    ],
)
def test_approvals_of_one_person_count_once(spelling: str) -> None:
    """A person with another spelling, or with an invisible character, is the same person."""
    assert normalize_name(spelling) == "ben"
    if spelling.isprintable():
        assert judge(BEN.approve(DIGEST), BEN.approve(DIGEST, name=spelling)) == {"approvals_missing"}
    else:
        with pytest.raises(UtrustError):
            judge(BEN.approve(DIGEST), BEN.approve(DIGEST, name=spelling))


@pytest.mark.parametrize(
    ("requested_by", "account"),
    [
        ("anna", "anna"),
        ("Anna Admin", "somebody"),
        ("ANNA\u00a0admin", "somebody"),
        ("\uff41nna", "somebody"),
        ("Zed", "A.Admin"),
        ("Zed", "ann\u200ba"),
        ("Zed", "anna"),
    ],
)
def test_approval_of_the_requester_never_counts(requested_by: str, account: str) -> None:
    """The requester is found by name and by account, in every spelling."""
    of = plan(requested_by, account)
    assert judge(ANNA.approve(DIGEST), BEN.approve(DIGEST), of=of) == {"approvals_missing", "approval_by_requester"}
    assert judge(CLEO.approve(DIGEST), BEN.approve(DIGEST), of=of) == set()


@pytest.mark.parametrize(
    ("requested_by", "account"), [("unknown", "ada"), ("Ada", ""), (" \u200b", "ada"), ("UNKNOWN", "x")]
)
def test_requester_without_a_name_cannot_be_approved(requested_by: str, account: str) -> None:
    assert judge(BEN.approve(DIGEST), CLEO.approve(DIGEST), of=plan(requested_by, account)) == {"requester_unknown"}


@pytest.mark.parametrize("launcher", ["anna", "A.Admin", " ANNA  admin", "a\u200bnna", "ａｎｎａ"])
def test_approval_of_the_launcher_never_counts(launcher: str) -> None:
    """The person who starts the run is found by every account and spelling, and not only as the first account."""
    given = (ANNA.approve(DIGEST), BEN.approve(DIGEST))
    assert judge(*given, launchers=(launcher,)) == {"approvals_missing", "approval_by_launcher"}
    assert judge(*given, launchers=("dora", launcher)) == {"approvals_missing", "approval_by_launcher"}
    assert judge(*given, CLEO.approve(DIGEST), launchers=(launcher,)) == set()


@pytest.mark.parametrize(
    "account", ["004711", "12345", "1_0", "0x1F", "1:2:3", "yes", "2026-11-26", "1.50", "2026-13-45", "=", "[a"]
)
def test_account_that_ansible_reads_as_a_number_never_counts(account: str) -> None:
    """AWX marks the name of the user as unsafe text, and ansible-core 2.19 and newer read this text as YAML."""
    try:
        read = str(DataLoader().load(f"a: !unsafe '{account}'")["a"])
    except (AnsibleError, ValueError):  # the job itself cannot start
        read = account
    eve = Person("Eve", account)
    given, people = (eve.approve(DIGEST), BEN.approve(DIGEST)), (eve, BEN)
    assert judge(*given, people=people, launchers=(read,)) == {"approvals_missing", "approval_by_launcher"}
    assert judge(*given, people=people, of=plan("Zed", read)) == {"approvals_missing", "approval_by_requester"}
    assert judge(*given, people=people) == set()


def test_accounts_with_one_reading_belong_to_two_people() -> None:
    """Outside of AWX, both accounts stay as they are."""
    assert len(load_approvers([Person("Eve", "07").approver(), Person("Kim", "7").approver()])) == 2


@pytest.mark.parametrize("launcher", ["", "unknown", " Unknown", "\u200b"])
def test_launcher_without_a_name_cannot_be_excluded(launcher: str) -> None:
    assert judge(BEN.approve(DIGEST), CLEO.approve(DIGEST), launchers=(launcher,)) == {"launcher_unknown"}


def pem_spellings() -> list[str]:
    pem = BEN.public_key
    body = "".join(pem.splitlines()[1:-1])
    wrapped = "\n".join(body[at : at + 20] for at in range(0, len(body), 20))
    head, foot = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"
    return [
        f"{pem}\n\n",
        pem.replace("\n", "\r\n"),
        f"{head}\n{wrapped}\n{foot}\n",
        f"a comment\n{pem}",
        pem.strip(),
    ]


@pytest.mark.parametrize("pem", pem_spellings(), ids=["blank lines", "CRLF", "wrapped", "comment", "stripped"])
def test_approvers_with_one_key_are_refused(pem: str) -> None:
    """The same public key in another PEM spelling is the same key."""
    other = {"name": "Bea", "accounts": ["bea"], "public_key": pem}
    assert refused_code(BEN.approver(), other) == "approver_duplicate"


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "BEN "},
        {"name": "Be\u200dn"},
        {"accounts": ["x", "Ben"]},
        {"accounts": ["x", "ben\u2063"]},
        {"name": "\uff22\uff25\uff2e"},
    ],
)
def test_approvers_with_one_name_or_account_are_refused(changed: dict[str, t.Any]) -> None:
    other = {**CLEO.approver(), "name": "Cleo", "accounts": ["cleo"], **changed}
    assert refused_code(BEN.approver(), other) == "approver_duplicate"


def test_invalid_approvers_are_refused() -> None:
    """Invalid keys and people without an account are found before a node is read."""
    curve = generate_private_key(SECP256R1()).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert refused_code({**BEN.approver(), "accounts": []}) == "approver_invalid"
    assert refused_code({**BEN.approver(), "name": "\u200b"}) == "approver_invalid"
    assert refused_code({**BEN.approver(), "accounts": ["ben", " "]}) == "approver_invalid"
    for key in ("not a key", curve.decode(), ""):
        assert refused_code({**BEN.approver(), "public_key": key}) == "approver_key_invalid"


# Plan, signature, time


def test_approval_belongs_to_one_plan() -> None:
    other = "sha256:" + "cd" * 32
    assert judge(BEN.approve(DIGEST), CLEO.approve(other)) == {"approvals_missing", "approval_plan_mismatch"}
    moved = {**CLEO.approve(other), "plan_digest": DIGEST}
    assert "approval_signature_invalid" in judge(BEN.approve(DIGEST), moved)


@pytest.mark.parametrize("member", ["name", "time", "expires"])
def test_signature_covers_every_member(member: str) -> None:
    """A member that was changed after the signature makes the approval invalid."""
    replaced = {"name": "cleo", "time": at(-2), "expires": at(48)}[member]
    entry = {**CLEO.approve(DIGEST), member: replaced}
    assert "approval_signature_invalid" in judge(BEN.approve(DIGEST), entry)


@pytest.mark.parametrize("signature", ["x", "\u00fc%", "AAAA", base64.b64encode(bytes(64)).decode()])
def test_invalid_signature_is_a_problem_in_any_case(signature: str) -> None:
    """An invalid signature is a problem also if enough other approvals are valid."""
    wrong = {**CLEO.approve(DIGEST), "signature": signature}
    assert judge(BEN.approve(DIGEST), ANNA.approve(DIGEST), wrong) == {"approval_signature_invalid"}


def test_key_of_another_approver_does_not_sign() -> None:
    stolen = Person("Cleo", key=BEN.private_key).approve(DIGEST)
    assert "approval_signature_invalid" in judge(BEN.approve(DIGEST), stolen)
    assert judge(BEN.approve(DIGEST), Person("Dan").approve(DIGEST)) == {"approvals_missing", "approver_unknown"}


@pytest.mark.parametrize(
    ("time", "expires", "code"),
    [
        (at(-30), at(-1), "approval_expired"),
        (at(-1), at(-0.001), "approval_expired"),
        (at(1), at(2), "approval_time_invalid"),
        (at(-1), at(24 * 31), "approval_time_invalid"),
        (at(-1), at(-2), "approval_time_invalid"),
    ],
    ids=["over", "just over", "future", "too long", "backwards"],
)
def test_approval_outside_of_its_time_does_not_count(time: str, expires: str, code: str) -> None:
    late = CLEO.approve(DIGEST, time=time, expires=expires)
    assert judge(BEN.approve(DIGEST), late) == {"approvals_missing", code}


# The file


@pytest.mark.parametrize(
    "changed",
    [
        {"time": "2026-11-23 13:00:00"},
        {"time": "2026-11-23T13:00:00+00:00"},
        {"time": "2026-13-23T13:00:00Z"},
        {"time": "now"},
        {"expires": "2026-11-23T13:00:00.5Z"},
        {"expires": None},
        {"name": 7},
        {"name": "Ben\n"},
        {"name": "\u202eneB"},
        {"name": " Ben"},
        {"name": ""},
        {"name": "B" * 201},
        {"signature": ["x"]},
        {"more": "x"},
    ],
)
def test_approval_file_with_other_values_is_refused(changed: dict[str, t.Any]) -> None:
    """Each member is one line of text, and no value is converted."""
    with pytest.raises(UtrustError) as refused:
        approval_file.parse(json.dumps([{**BEN.approve(DIGEST), **changed}]).encode())
    assert refused.value.code == "approvals_invalid"


def test_approval_file_of_another_form_is_refused() -> None:
    """YAML, duplicate members, byte order marks, deep nesting and long lists are refused."""
    entry = json.dumps(BEN.approve(DIGEST))
    twice = entry.replace('{"name": "Ben"', '{"name": "Cleo", "name": "Ben"')
    assert twice != entry
    for content in (
        b"",
        b"- {name: Ben}",
        entry.encode(),
        b"\xef\xbb\xbf[" + entry.encode() + b"]",
        f"[{twice}]".encode(),
        f"[{entry}, {{}}]".encode(),
        b"[" * 100_000,
        b"&a [*a]",
        ("[" + ",".join([entry] * 101) + "]").encode(),
        f"[{entry}]".encode("utf-16"),
        b" " * (approval_file.MAX_BYTES + 1),
    ):
        with pytest.raises(UtrustError) as refused:
            approval_file.parse(content)
        assert refused.value.code == "approvals_invalid"


def test_approval_file_keeps_templates_as_text() -> None:
    """Template syntax is text of a person, and nothing evaluates it."""
    template = "{{ lookup('pipe', 'id') }}"
    [given] = approval_file.parse(json.dumps([BEN.approve(DIGEST, name=template)]).encode())
    assert given.name == template


def test_approvals_as_base64_are_those_of_the_file() -> None:
    content = json.dumps([BEN.approve(DIGEST)]).encode()
    assert approval_file.read_base64(base64.encodebytes(content).decode()) == approval_file.parse(content)
    for text in ("%", "YQ", "\u00fc"):
        with pytest.raises(UtrustError) as refused:
            approval_file.read_base64(text)
        assert refused.value.code == "approvals_invalid"
