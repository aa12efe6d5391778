# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The audit file: what is noticed when it is altered, what survives a kill, and what gets in."""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import allow_list as fields
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import chain, persistence
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import run_state as run
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.file import (
    AuditError,
    AuditFile,
    load_signer,
    signature_path,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.verify import verify_file
from ansible_collections.keyops.utrust.plugins.plugin_utils._collection import collection_digest, collection_version
from hypothesis import given
from hypothesis import strategies as st

if t.TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[4]
SECRET = "canary-4711"


def records(count: int) -> list[bytes]:
    """Lines of an intact file."""
    lines, head = [], chain.Head()
    for number in range(count):
        line, head = chain.append_record(
            {"event": "node_read", "host": f"node{number}", "label": "schlüssel \u2028"}, head
        )
        lines.append(line + b"\n")
    return lines


def with_fragment() -> list[bytes]:
    """Lines of a file in which a killed writer left half a record, which the next one found."""
    lines = records(3)
    head = chain.verify(lines).head
    half = b'{"event":"node_read","ho'
    found = [chain.Fragment.of(4, half, recorded=True).to_dict()]
    line, head = chain.append_record({"event": chain.FRAGMENTS_FOUND, "fragments": found}, head)
    last, dummy_head = chain.append_record({"event": "node_read"}, head)
    return [*lines, half + chain.FRAGMENT_MARK + b"\n", line + b"\n", last + b"\n"]


FILES = {"whole": records(6), "with a fragment": with_fragment()}


def broken_line(content: bytes | list[bytes]) -> int | None:
    lines = io.BytesIO(content if isinstance(content, bytes) else b"".join(content))
    found = chain.verify(lines).first_broken
    return None if found is None else found[0]


def is_canceled(line: bytes) -> bool:
    return line.endswith(chain.FRAGMENT_MARK + b"\n")


# What an intact file looks like


@pytest.mark.parametrize("name", FILES)
def test_an_intact_file_is_found_intact(name: str) -> None:
    found = chain.verify(FILES[name])
    assert found.first_broken is None
    assert found.head.sequence == len(FILES[name]) - len(found.fragments)
    assert [fragment.recorded for fragment in found.fragments] == [True] * (name != "whole")


def test_every_line_is_json_that_other_programs_can_check() -> None:
    previous = "0" * 64
    for number, line in enumerate(FILES["whole"], start=1):
        record = json.loads(line)
        named = record.pop("sha256")
        again = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
        assert (record["sequence"], record["previous"]) == (number, previous)
        assert hashlib.sha256(again).hexdigest() == named
        previous = named


# Alterations


@given(name=st.sampled_from(sorted(FILES)), where=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_any_other_byte_anywhere_is_noticed_and_its_line_named(name: str, where: int, byte: int) -> None:
    content = b"".join(FILES[name])
    where %= len(content)
    if content[where] == byte:
        byte ^= 0x20
    altered = content[:where] + bytes([byte]) + content[where + 1 :]
    assert broken_line(altered) == content.count(b"\n", 0, where) + 1


def test_the_case_of_no_letter_can_change() -> None:
    """As in the escape \\u00fc, which as JSON means the same as \\u00FC."""
    content = b"".join(records(2))
    for where in range(len(content)):
        altered = content[:where] + bytes([content[where] ^ 0x20]) + content[where + 1 :]
        assert broken_line(altered) == content.count(b"\n", 0, where) + 1


@given(name=st.sampled_from(sorted(FILES)), number=st.integers(0, 10**6))
def test_a_removed_line_is_noticed_where_it_was(name: str, number: int) -> None:
    lines = FILES[name]
    number %= len(lines) - 1  # that the last one is gone shows only in what somebody remembers
    found = broken_line(lines[:number] + lines[number + 1 :])
    # Without the record that names it, the fragment before is the first line that nothing vouches for.
    vouched = not (number and is_canceled(lines[number - 1]))
    assert found == (number + 1 if vouched else number)


@given(
    name=st.sampled_from(sorted(FILES)),
    number=st.integers(0, 10**6),
    line=st.one_of(st.binary(max_size=40), st.integers(0, 5)),
    canceled=st.booleans(),
)
def test_an_inserted_line_is_noticed(name: str, number: int, line: bytes | int, canceled: bool) -> None:
    lines = FILES[name]
    number %= len(lines)
    if isinstance(line, int):
        line = lines[line]  # a copy
    else:
        line = line.replace(b"\n", b"") + (chain.FRAGMENT_MARK if canceled else b"") + b"\n"
    found = broken_line([*lines[:number], line, *lines[number:]])
    if line == lines[number] and not is_canceled(line):
        assert found == number + 2  # in the place of its original, which is now one too many
    elif number and is_canceled(lines[number - 1]):
        assert found in (number, number + 1)  # it parts a fragment from the record that vouches for it
    else:
        assert found == number + 1


@given(name=st.sampled_from(sorted(FILES)), swap=st.tuples(st.integers(0, 10**6), st.integers(1, 10**6)))
def test_two_swapped_lines_are_noticed_at_the_first(name: str, swap: tuple[int, int]) -> None:
    lines = list(FILES[name])
    first = swap[0] % (len(lines) - 1)
    second = first + 1 + swap[1] % (len(lines) - 1 - first)
    lines[first], lines[second] = lines[second], lines[first]
    vouched = not (first and is_canceled(lines[first - 1]))
    assert broken_line(lines) == (first + 1 if vouched else first)


def test_lines_of_another_file_are_noticed() -> None:
    other, head = [], chain.Head()
    for dummy in range(6):
        line, head = chain.append_record({"event": "other"}, head)
        other.append(line + b"\n")
    assert broken_line(FILES["whole"][:3] + other[3:]) == 4


# Appending


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Private key file, and public key as text; made with openssl, as the documentation says."""
    private = tmp_path_factory.mktemp("keys") / "audit.key"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ED25519", "-out", str(private)], check=True)
    private.chmod(0o600)
    shown = subprocess.run(["openssl", "pkey", "-in", str(private), "-pubout"], check=True, capture_output=True)
    return str(private), shown.stdout.decode()


def fill(file: AuditFile, count: int, *, job: str = "a") -> None:
    for number in range(count):
        file.append({"job": job, "event": "node_read", "number": number})


def test_a_new_file_is_private_and_a_second_writer_goes_on_with_its_chain(path: Path) -> None:
    fill(AuditFile(str(path)), 2)
    fill(AuditFile(str(path)), 2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = verify_file(str(path))
    assert found["intact"], found
    assert found["records"] == 4


APPENDER = """
import sys
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.file import AuditFile
file = AuditFile(sys.argv[1])
for number in range(int(sys.argv[2])):
    file.append({"event": "node_read", "job": sys.argv[3], "filling": "x" * 20000})
    print(number, flush=True)
    sys.stdin.readline()  # waits where somebody holds the other end
"""


def appender(path: Path, *, count: int = 10**6, job: str = "a", **options: t.Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".ansible/collections")}
    command = [sys.executable, "-c", APPENDER, str(path), str(count), job]
    given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen(command, env=environment, **given)


def test_four_processes_that_append_at_once_make_one_chain(path: Path) -> None:
    writers = [appender(path, count=20, job=job, stdin=subprocess.PIPE) for job in "abcd"]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "0\n"  # all four are there before any of them goes on
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.close()
        writer.stdin = None
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0] * 4
    found = verify_file(str(path))
    assert found["intact"], found
    assert found["records"] == 80
    jobs = [json.loads(line)["job"] for line in path.read_bytes().splitlines()]
    assert set(jobs[:4]) == set("abcd")


def test_what_was_appended_before_a_kill_is_there_and_the_chain_goes_on(path: Path) -> None:
    told = 0
    for kill_after in (1, 3, 7):
        with appender(path) as writer:
            assert writer.stdout is not None
            seen = [next(writer.stdout) for dummy in range(kill_after)]
            writer.send_signal(signal.SIGKILL)
            seen += list(writer.stdout)
        told += len(seen)
        found = verify_file(str(path))
        assert found["intact"], found
        assert found["records"] >= told
    fill(AuditFile(str(path)), 1)
    found = verify_file(str(path))
    assert found["intact"], found
    assert all(fragment["recorded"] for fragment in found["fragments"])


def only_room_for(size: int) -> Callable[[], None]:
    """No file may grow beyond that, so that a write ends in the middle, as on a full disk."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize("tears", [1, 2])
def test_half_a_record_is_kept_reported_and_named_by_the_next_one(path: Path, tears: int) -> None:
    fill(AuditFile(str(path)), 2)
    whole = path.stat().st_size
    for tear in range(tears):
        room = path.stat().st_size + 100 + tear
        with appender(path, stderr=subprocess.PIPE, preexec_fn=only_room_for(room)) as writer:
            dummy, errors = writer.communicate(timeout=60)
        assert "audit_not_written" in errors
        assert path.stat().st_size == room
    torn = path.read_bytes()

    found = verify_file(str(path))
    assert found["intact"], found
    assert found["records"] == 2
    assert [fragment["recorded"] for fragment in found["fragments"]] == [False] * tears
    assert f"line {2 + tears} is what a killed writer left" in found["summary"][-1]

    fill(AuditFile(str(path)), 1)
    assert path.read_bytes().startswith(torn)
    assert len(torn) > whole
    found = verify_file(str(path))
    assert found["intact"], found
    assert found["records"] == 4
    assert [fragment["recorded"] for fragment in found["fragments"]] == [True] * tears


@pytest.mark.parametrize("missing", range(1, 60))
def test_a_record_cut_anywhere_costs_that_record_at_most(path: Path, missing: int) -> None:
    fill(AuditFile(str(path)), 3)
    path.write_bytes(path.read_bytes()[:-missing])
    assert verify_file(str(path))["intact"]
    fill(AuditFile(str(path)), 1)
    found = verify_file(str(path))
    assert found["intact"], found
    # Only the line feed missing: nothing is lost. And there is one record more, about what was found.
    assert found["records"] == (5 if missing == 1 else 4)


def test_a_writer_does_not_go_on_behind_an_altered_line(path: Path) -> None:
    fill(AuditFile(str(path)), 3)
    altered = path.read_bytes().replace(b'"number":2', b'"number":7')
    path.write_bytes(altered)
    with pytest.raises(AuditError, match="audit_broken"):
        fill(AuditFile(str(path)), 1)
    assert path.read_bytes() == altered


def test_a_file_that_others_can_write_is_not_used(path: Path) -> None:
    fill(AuditFile(str(path)), 1)
    path.chmod(0o620)
    with pytest.raises(AuditError, match="audit_not_private"):
        fill(AuditFile(str(path)), 1)


def test_a_file_that_was_moved_away_is_begun_anew(path: Path) -> None:
    file = AuditFile(str(path))
    fill(file, 2)
    path.rename(path.with_suffix(".old"))
    fill(file, 1)
    assert verify_file(str(path))["records"] == 1
    assert verify_file(str(path.with_suffix(".old")))["records"] == 2


def test_a_lock_that_nobody_gives_back_is_told(path: Path) -> None:
    import fcntl

    fill(AuditFile(str(path)), 1)
    with open(path, "rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(AuditError, match="audit_locked"):
            AuditFile(str(path), lock_timeout=0.05).append({"event": "x"})


# What somebody remembers, and signatures


def test_lines_that_are_gone_at_the_end_show_only_in_what_somebody_remembers(path: Path) -> None:
    fill(AuditFile(str(path)), 5)
    lines = path.read_bytes().splitlines(keepends=True)
    head = verify_file(str(path))["head"]
    path.write_bytes(b"".join(lines[:3]))
    assert verify_file(str(path))["intact"]
    assert "audit_truncated" in verify_file(str(path), count=5, head=head)["problems"][0]
    path.write_bytes(b"".join(lines))
    assert verify_file(str(path), count=5, head=head)["intact"]
    assert "audit_replaced" in verify_file(str(path), count=4, head=head)["problems"][0]


def test_an_empty_file_proves_nothing(path: Path) -> None:
    path.touch()
    assert "audit_empty" in verify_file(str(path))["problems"][0]


def test_the_signed_head_tells_that_lines_are_gone_or_rewritten(path: Path, keys: tuple[str, str]) -> None:
    private, public = keys
    fill(AuditFile(str(path), load_signer(private)), 4)
    found = verify_file(str(path), public_key=public)
    assert found["intact"], found
    assert found["signed_records"] == 4

    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))
    assert "audit_truncated" in verify_file(str(path), public_key=public)["problems"][0]
    with pytest.raises(AuditError, match="audit_truncated"):  # a new signature would hide it
        fill(AuditFile(str(path), load_signer(private)), 1)

    path.write_bytes(b"")
    fill(AuditFile(str(path)), 4)  # a forger without the key
    assert "audit_replaced" in verify_file(str(path), public_key=public)["problems"][0]


def test_a_signature_of_another_key_or_none_is_told(path: Path, keys: tuple[str, str], tmp_path: Path) -> None:
    private, public = keys
    fill(AuditFile(str(path), load_signer(private)), 2)
    signed = signature_path(str(path))
    content = json.loads(signed.read_bytes())
    signed.write_text(json.dumps({**content, "time": "2020-01-01T00:00:00+00:00"}))
    assert "audit_signature_invalid" in verify_file(str(path), public_key=public)["problems"][0]
    signed.unlink()
    assert "audit_signature_missing" in verify_file(str(path), public_key=public)["problems"][0]
    with pytest.raises(AuditError, match="audit_signature_missing"):
        fill(AuditFile(str(path), load_signer(private)), 1)


def test_a_writer_killed_before_it_signed_goes_on(path: Path, keys: tuple[str, str]) -> None:
    private, public = keys
    fill(AuditFile(str(path), load_signer(private)), 2)
    older = signature_path(str(path)).read_bytes()
    fill(AuditFile(str(path), load_signer(private)), 1)
    signature_path(str(path)).write_bytes(older)
    assert verify_file(str(path), public_key=public)["signed_records"] == 2
    fill(AuditFile(str(path), load_signer(private)), 1)
    assert verify_file(str(path), public_key=public)["signed_records"] == 4


def test_a_signing_key_that_others_can_read_is_refused(tmp_path: Path, keys: tuple[str, str]) -> None:
    copy = tmp_path / "audit.key"
    copy.write_bytes(Path(keys[0]).read_bytes())
    copy.chmod(0o640)
    with pytest.raises(AuditError, match="audit_signing_key_invalid"):
        load_signer(str(copy))


# What gets in


def poisoned(shape: fields.AllowList, secret: str) -> dict[str, t.Any]:
    """Everything that the shape allows, and beside it on each level what it does not."""
    below = {name: poisoned(one, secret) if one else {"nested": secret} for name, one in shape.items()}
    lists = {name: [poisoned(one, secret)] if one else [{"nested": secret}] for name, one in shape.items()}
    return {"msg": secret, "invocation": {"module_args": {"bearer_token": secret}}, **(below | lists), secret: secret}


@pytest.mark.parametrize("shape", [fields.RESULT, fields.DECLARED], ids=["results", "declarations"])
def test_nothing_gets_in_that_is_not_on_the_list(shape: fields.AllowList) -> None:
    assert SECRET not in json.dumps(fields.public(poisoned(shape, SECRET), shape))


def test_what_is_on_the_list_gets_in() -> None:
    result = {
        "node": {"name": "node1", "hsm_serial": "UT1", "fips": True, "mbk": {"check_value": "ab", "share": SECRET}},
        "added": [{"fingerprint": "sha256:1", "value": SECRET}],
        "events": ["PIN pad front-usb: Insert MBK card 1 of 2", {"pin": SECRET}],
    }
    assert fields.public(result, fields.RESULT) == {
        "node": {"name": "node1", "hsm_serial": "UT1", "fips": True, "mbk": {"check_value": "ab"}},
        "added": [{"fingerprint": "sha256:1"}],
        "events": ["PIN pad front-usb: Insert MBK card 1 of 2"],
    }


def test_every_module_has_the_name_of_an_event() -> None:
    modules = {path.stem for path in (ROOT / "plugins/modules").glob("*.py")}
    assert modules
    assert modules <= set(fields.EVENTS)


def test_every_event_and_every_recorded_name_is_documented() -> None:
    text = (ROOT / "docs/audit.md").read_text(encoding="utf-8")
    events = {*fields.EVENTS.values(), "package_removed", "check_mode_result", "task_failed", "declaration"}
    assert {
        event for event in events | {chain.STARTED, chain.ENDED, chain.FRAGMENTS_FOUND} if f"`{event}`" not in text
    } == set()
    assert {name for name in [*fields.RESULT, *fields.DECLARED] if f"`{name}`" not in text} == set()


# Where it persists


@pytest.mark.parametrize(
    ("path", "mounts", "word"),
    [
        ("/var/lib/audit.jsonl", "/dev/vda / ext4 rw 0 0", ""),
        ("/var/lib/audit.jsonl", "overlay / overlay rw 0 0", "container"),
        ("/var/lib/audit.jsonl", "overlay / overlay rw 0 0\n/dev/sdb /var/lib xfs rw 0 0", ""),
        ("/mnt/a b/audit.jsonl", "/dev/vda / ext4 rw 0 0\ntmpfs /mnt/a\\040b tmpfs rw 0 0", "in memory"),
        ("/mnt/audit.jsonl", "tmpfs /mnt tmpfs rw 0 0\n/dev/sdb /mnt ext4 rw 0 0", ""),
        ("/mnt2/audit.jsonl", "/dev/vda / ext4 rw 0 0\ntmpfs /mnt tmpfs rw 0 0", ""),
        ("/tmp/audit.jsonl", "/dev/vda / ext4 rw 0 0", "emptied"),
        ("/runner/artifacts/audit.jsonl", "/dev/vda /runner ext4 rw 0 0", "emptied"),
        ("/srv/job/audit.jsonl", "/dev/vda / ext4 rw 0 0", "with the job"),
        ("/var/lib/audit.jsonl", None, "nobody can tell"),
    ],
)
def test_a_path_that_does_not_persist_is_told(path: str, mounts: str | None, word: str) -> None:
    told = persistence.why_not_persistent(path, mounts, {"AWX_PRIVATE_DATA_DIR": "/srv/job"})
    assert (word in told) if word else not told


def test_what_another_run_announced_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(run.VARIABLE, "")
    run.publish_state(run.RunState(os.getpid(), "job", "/f", "", ""))
    assert run.current_run() is not None
    run.publish_state(run.RunState(1 if os.getppid() != 1 else 2, "job", "/f", "", ""))
    assert run.current_run() is None


# Which collection it was


def test_the_digest_of_the_collection_is_that_of_its_files_wherever_it_lies(tmp_path: Path) -> None:
    for name, text in {"plugins/modules/a.py": "1", "roles/r/tasks/main.yml": "2", "meta/runtime.yml": "3"}.items():
        for copy in ("one", "two"):
            file = tmp_path / copy / name
            file.parent.mkdir(parents=True)
            file.write_text(text)
    (tmp_path / "two/plugins/__pycache__").mkdir()
    (tmp_path / "two/plugins/__pycache__/a.pyc").write_text("compiled")
    assert collection_digest(tmp_path / "one") == collection_digest(tmp_path / "two")
    (tmp_path / "two/plugins/modules/a.py").write_text("other")
    assert collection_digest(tmp_path / "one") != collection_digest(tmp_path / "two")
    command = (
        "find meta plugins roles playbooks extensions -type f 2>/dev/null | LC_ALL=C sort | xargs sha256sum | sha256sum"
    )
    shell = subprocess.run(["sh", "-c", command], cwd=tmp_path / "one", check=True, capture_output=True, text=True)
    assert collection_digest(tmp_path / "one") == f"sha256:{shell.stdout.split()[0]}"


def test_the_version_is_that_of_the_installed_collection_or_of_the_checkout(tmp_path: Path) -> None:
    assert collection_version() == collection_version(ROOT)
    (tmp_path / "MANIFEST.json").write_text('{"collection_info": {"version": "3.2.1"}}')
    assert collection_version(tmp_path) == "3.2.1"
