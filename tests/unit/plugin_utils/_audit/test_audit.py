# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The audit file: detection of changes, recovery after a kill, and the allow-list."""

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
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import chain, events, persistence, run_state
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.allow_list import (
    DECLARED,
    RESULT,
    AllowList,
    allowed,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.errors import AuditError
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.file import AuditFile
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.signed_head import load_signer, signature_path
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
    """Lines of a file with the fragment of a killed writer, and with the record of the next writer about it."""
    lines = records(3)
    head = chain.verify(lines).head
    half = b'{"event":"node_read","ho'
    found = [chain.Fragment.from_content(4, half, recorded=True).to_dict()]
    line, head = chain.append_record({"event": chain.FRAGMENTS_FOUND, "fragments": found}, head)
    last, dummy_head = chain.append_record({"event": "node_read"}, head)
    return [*lines, half + chain.FRAGMENT_MARK + b"\n", line + b"\n", last + b"\n"]


FILES = {"whole": records(6), "with a fragment": with_fragment()}


def broken_line(content: bytes | list[bytes]) -> int | None:
    lines = io.BytesIO(content if isinstance(content, bytes) else b"".join(content))
    found = chain.verify(lines).first_broken
    return None if found is None else found[0]


def is_marked(line: bytes) -> bool:
    return line.endswith(chain.FRAGMENT_MARK + b"\n")


# Intact files


@pytest.mark.parametrize("name", FILES)
def test_verify_intact_file(name: str) -> None:
    """A file that nobody changed is intact, also with a recorded fragment."""
    found = chain.verify(FILES[name])
    assert found.first_broken is None
    assert found.head.sequence == len(FILES[name]) - len(found.fragments)
    assert [fragment.recorded for fragment in found.fragments] == [True] * (name != "whole")


def test_record_is_json_with_a_reproducible_digest() -> None:
    """Other programs can check each line with a JSON parser and SHA-256."""
    previous = "0" * 64
    for number, line in enumerate(FILES["whole"], start=1):
        record = json.loads(line)
        named = record.pop("sha256")
        again = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
        assert (record["sequence"], record["previous"]) == (number, previous)
        assert hashlib.sha256(again).hexdigest() == named
        previous = named


# Changed files


@given(name=st.sampled_from(sorted(FILES)), where=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_verify_changed_byte_names_the_line(name: str, where: int, byte: int) -> None:
    """The verification detects any changed byte and names its line."""
    content = b"".join(FILES[name])
    where %= len(content)
    if content[where] == byte:
        byte ^= 0x20
    altered = content[:where] + bytes([byte]) + content[where + 1 :]
    assert broken_line(altered) == content.count(b"\n", 0, where) + 1


def test_verify_changed_letter_case() -> None:
    """The escapes \\u00fc and \\u00FC mean the same in JSON, but not in the chain."""
    content = b"".join(records(2))
    for where in range(len(content)):
        altered = content[:where] + bytes([content[where] ^ 0x20]) + content[where + 1 :]
        assert broken_line(altered) == content.count(b"\n", 0, where) + 1


@given(name=st.sampled_from(sorted(FILES)), number=st.integers(0, 10**6))
def test_verify_removed_line_names_its_place(name: str, number: int) -> None:
    """The verification detects a removed line at its place."""
    lines = FILES[name]
    number %= len(lines) - 1  # A missing last line is detected only with a saved record number.
    found = broken_line(lines[:number] + lines[number + 1 :])
    # Without the record that names the fragment before it, the fragment is the first broken line.
    is_named = not (number and is_marked(lines[number - 1]))
    assert found == (number + 1 if is_named else number)


@given(
    name=st.sampled_from(sorted(FILES)),
    number=st.integers(0, 10**6),
    line=st.one_of(st.binary(max_size=40), st.integers(0, 5)),
    marked=st.booleans(),
)
def test_verify_inserted_line(name: str, number: int, line: bytes | int, marked: bool) -> None:
    """The verification detects an inserted line."""
    lines = FILES[name]
    number %= len(lines)
    if isinstance(line, int):
        line = lines[line]  # A copy.
    else:
        line = line.replace(b"\n", b"") + (chain.FRAGMENT_MARK if marked else b"") + b"\n"
    found = broken_line([*lines[:number], line, *lines[number:]])
    if line == lines[number] and not is_marked(line):
        assert (
            found == number + 2
        )  # The copy stands in the place of its original, and the original is one line too many.
    elif number and is_marked(lines[number - 1]):
        assert found in (number, number + 1)  # The line separates a fragment from the record that names it.
    else:
        assert found == number + 1


@given(name=st.sampled_from(sorted(FILES)), swap=st.tuples(st.integers(0, 10**6), st.integers(1, 10**6)))
def test_verify_swapped_lines_names_the_first(name: str, swap: tuple[int, int]) -> None:
    """The verification detects two swapped lines at the first line."""
    lines = list(FILES[name])
    first = swap[0] % (len(lines) - 1)
    second = first + 1 + swap[1] % (len(lines) - 1 - first)
    lines[first], lines[second] = lines[second], lines[first]
    is_named = not (first and is_marked(lines[first - 1]))
    assert broken_line(lines) == (first + 1 if is_named else first)


def test_verify_lines_of_another_file() -> None:
    """The verification detects lines that belong to another chain."""
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
    """Private key file, and public key as text, made with openssl as in the documentation."""
    private = tmp_path_factory.mktemp("keys") / "audit.key"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ED25519", "-out", str(private)], check=True)
    private.chmod(0o600)
    shown = subprocess.run(["openssl", "pkey", "-in", str(private), "-pubout"], check=True, capture_output=True)
    return str(private), shown.stdout.decode()


def fill(file: AuditFile, count: int, *, job: str = "a") -> None:
    for number in range(count):
        file.append({"job": job, "event": "node_read", "number": number})


def test_append_second_writer_continues_the_chain(path: Path) -> None:
    """A new file has mode 0600, and a second writer continues its chain."""
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
    sys.stdin.readline()  # Waits if the parent holds the other end.
"""


def appender(path: Path, *, count: int = 10**6, job: str = "a", **options: t.Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".ansible/collections")}
    command = [sys.executable, "-c", APPENDER, str(path), str(count), job]
    given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen(command, env=environment, **given)


def test_append_four_processes_make_one_chain(path: Path) -> None:
    """Four processes that append at the same time write one intact chain."""
    writers = [appender(path, count=20, job=job, stdin=subprocess.PIPE) for job in "abcd"]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "0\n"  # All four have started before any of them continues.
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


def test_append_after_kill_keeps_all_records(path: Path) -> None:
    """All records from before a kill are in the file, and the chain continues."""
    printed = 0
    for kill_after in (1, 3, 7):
        with appender(path) as writer:
            assert writer.stdout is not None
            seen = [next(writer.stdout) for dummy in range(kill_after)]
            writer.send_signal(signal.SIGKILL)
            seen += list(writer.stdout)
        printed += len(seen)
        found = verify_file(str(path))
        assert found["intact"], found
        assert found["records"] >= printed
    fill(AuditFile(str(path)), 1)
    found = verify_file(str(path))
    assert found["intact"], found
    assert all(fragment["recorded"] for fragment in found["fragments"])


def limit_file_size(size: int) -> Callable[[], None]:
    """Limit the file size, so that a write ends in the middle as on a full disk."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize("tears", [1, 2])
def test_append_after_fragment_records_the_fragment(path: Path, tears: int) -> None:
    """A fragment stays in the file, is reported, and is named by the next record."""
    fill(AuditFile(str(path)), 2)
    whole = path.stat().st_size
    for tear in range(tears):
        room = path.stat().st_size + 100 + tear
        with appender(path, stderr=subprocess.PIPE, preexec_fn=limit_file_size(room)) as writer:
            dummy, errors = writer.communicate(timeout=60)
        assert "audit_not_written" in errors
        assert path.stat().st_size == room
    torn = path.read_bytes()

    found = verify_file(str(path))
    assert found["intact"], found
    assert found["records"] == 2
    assert [fragment["recorded"] for fragment in found["fragments"]] == [False] * tears
    assert f"line {2 + tears} is a fragment of a killed writer" in found["summary"][-1]

    fill(AuditFile(str(path)), 1)
    assert path.read_bytes().startswith(torn)
    assert len(torn) > whole
    found = verify_file(str(path))
    assert found["intact"], found
    assert found["records"] == 4
    assert [fragment["recorded"] for fragment in found["fragments"]] == [True] * tears


@pytest.mark.parametrize("missing", range(1, 60))
def test_append_after_cut_loses_one_record_at_most(path: Path, missing: int) -> None:
    """A record that is cut at any byte does not damage other records."""
    fill(AuditFile(str(path)), 3)
    path.write_bytes(path.read_bytes()[:-missing])
    assert verify_file(str(path))["intact"]
    fill(AuditFile(str(path)), 1)
    found = verify_file(str(path))
    assert found["intact"], found
    # If only the line feed is missing, no record is lost. One more record is about the fragment.
    assert found["records"] == (5 if missing == 1 else 4)


def test_append_after_changed_line_is_refused(path: Path) -> None:
    """A writer does not append after a changed line."""
    fill(AuditFile(str(path)), 3)
    altered = path.read_bytes().replace(b'"number":2', b'"number":7')
    path.write_bytes(altered)
    with pytest.raises(AuditError, match="audit_broken"):
        fill(AuditFile(str(path)), 1)
    assert path.read_bytes() == altered


def test_append_to_writable_file_is_refused(path: Path) -> None:
    """A writer does not append to a file that other users can write."""
    fill(AuditFile(str(path)), 1)
    path.chmod(0o620)
    with pytest.raises(AuditError, match="audit_not_private"):
        fill(AuditFile(str(path)), 1)


def test_append_after_move_starts_a_new_file(path: Path) -> None:
    """A writer starts a new file if the old file was moved."""
    file = AuditFile(str(path))
    fill(file, 2)
    path.rename(path.with_suffix(".old"))
    fill(file, 1)
    assert verify_file(str(path))["records"] == 1
    assert verify_file(str(path.with_suffix(".old")))["records"] == 2


def test_append_to_locked_file_times_out(path: Path) -> None:
    """A writer reports a lock that another process does not release."""
    import fcntl

    fill(AuditFile(str(path)), 1)
    with open(path, "rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(AuditError, match="audit_locked"):
            AuditFile(str(path), lock_timeout=0.05).append({"event": "x"})


# Saved record numbers and signatures


def test_verify_truncated_file_needs_a_saved_count(path: Path) -> None:
    """Missing lines at the end are detected only with a saved record number and digest."""
    fill(AuditFile(str(path)), 5)
    lines = path.read_bytes().splitlines(keepends=True)
    head = verify_file(str(path))["head"]
    path.write_bytes(b"".join(lines[:3]))
    assert verify_file(str(path))["intact"]
    assert "audit_truncated" in verify_file(str(path), count=5, head=head)["problems"][0]
    path.write_bytes(b"".join(lines))
    assert verify_file(str(path), count=5, head=head)["intact"]
    assert "audit_replaced" in verify_file(str(path), count=4, head=head)["problems"][0]


def test_verify_empty_file(path: Path) -> None:
    """An empty file is not intact."""
    path.touch()
    assert "audit_empty" in verify_file(str(path))["problems"][0]


def test_verify_signed_head_detects_missing_lines(path: Path, keys: tuple[str, str]) -> None:
    """The signed head detects missing and rewritten lines."""
    private, public = keys
    fill(AuditFile(str(path), load_signer(private)), 4)
    found = verify_file(str(path), public_key=public)
    assert found["intact"], found
    assert found["signed_records"] == 4

    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))
    assert "audit_truncated" in verify_file(str(path), public_key=public)["problems"][0]
    with pytest.raises(AuditError, match="audit_truncated"):  # A new signature would hide the gap.
        fill(AuditFile(str(path), load_signer(private)), 1)

    path.write_bytes(b"")
    fill(AuditFile(str(path)), 4)  # A forger without the key.
    assert "audit_replaced" in verify_file(str(path), public_key=public)["problems"][0]


def test_verify_invalid_or_missing_signature(path: Path, keys: tuple[str, str], tmp_path: Path) -> None:
    """The verification detects a changed and a missing signature."""
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


def test_append_after_kill_before_signing(path: Path, keys: tuple[str, str]) -> None:
    """A run continues after a writer that was killed before it signed the head."""
    private, public = keys
    fill(AuditFile(str(path), load_signer(private)), 2)
    older = signature_path(str(path)).read_bytes()
    fill(AuditFile(str(path), load_signer(private)), 1)
    signature_path(str(path)).write_bytes(older)
    assert verify_file(str(path), public_key=public)["signed_records"] == 2
    fill(AuditFile(str(path), load_signer(private)), 1)
    assert verify_file(str(path), public_key=public)["signed_records"] == 4


def test_load_signer_readable_key_is_refused(tmp_path: Path, keys: tuple[str, str]) -> None:
    """A signing key that other users can read is rejected."""
    copy = tmp_path / "audit.key"
    copy.write_bytes(Path(keys[0]).read_bytes())
    copy.chmod(0o640)
    with pytest.raises(AuditError, match="audit_signing_key_invalid"):
        load_signer(str(copy))


# Allow-list


def poisoned(allow_list: AllowList, secret: str) -> dict[str, t.Any]:
    """All allowed names, and on each level also names that are not allowed."""
    below = {name: poisoned(one, secret) if one else {"nested": secret} for name, one in allow_list.items()}
    lists = {name: [poisoned(one, secret)] if one else [{"nested": secret}] for name, one in allow_list.items()}
    return {"msg": secret, "invocation": {"module_args": {"bearer_token": secret}}, **(below | lists), secret: secret}


@pytest.mark.parametrize("allow_list", [RESULT, DECLARED], ids=["results", "declarations"])
def test_allowed_drops_unlisted_names(allow_list: AllowList) -> None:
    """Names that are not on the allow-list are dropped on each level."""
    assert SECRET not in json.dumps(allowed(poisoned(allow_list, SECRET), allow_list))


def test_allowed_keeps_listed_names() -> None:
    """Names on the allow-list are recorded."""
    result = {
        "node": {"name": "node1", "hsm_serial": "UT1", "fips": True, "mbk": {"check_value": "ab", "share": SECRET}},
        "added": [{"fingerprint": "sha256:1", "value": SECRET}],
        "events": ["PIN pad front-usb: Insert MBK card 1 of 2", {"pin": SECRET}],
    }
    assert allowed(result, RESULT) == {
        "node": {"name": "node1", "hsm_serial": "UT1", "fips": True, "mbk": {"check_value": "ab"}},
        "added": [{"fingerprint": "sha256:1"}],
        "events": ["PIN pad front-usb: Insert MBK card 1 of 2"],
    }


def test_every_module_has_an_event_name() -> None:
    """Each module of the collection has an event name."""
    modules = {path.stem for path in (ROOT / "plugins/modules").glob("*.py")}
    assert modules
    assert modules <= set(events.EVENTS)


def test_every_event_and_name_is_documented() -> None:
    """docs/audit.md lists each event and each recorded name."""
    text = (ROOT / "docs/audit.md").read_text(encoding="utf-8")
    names = {*events.EVENTS.values(), "package_removed", "check_mode_result", "task_failed", "declaration"}
    assert {
        event for event in names | {chain.STARTED, chain.ENDED, chain.FRAGMENTS_FOUND} if f"`{event}`" not in text
    } == set()
    assert {name for name in [*RESULT, *DECLARED] if f"`{name}`" not in text} == set()


@pytest.mark.parametrize("fact", ["_key_sync__audit", "key_sync__audit"])
def test_task_events_declaration_names_the_role(fact: str) -> None:
    """A declaration names the role that set the fact, with or without the underscore of a private variable."""
    task = {"host": "node1", "action": "ansible.builtin.set_fact", "outcome": "ok", "check_mode": False}
    facts = {"ansible_facts": {fact: {"source": "node1", "pin": SECRET}, "other": SECRET}}
    ((event, record),) = events.task_events(task, facts)
    assert (event, record["by"], record["result"]) == ("declaration", "key_sync", {"source": "node1"})


# Persistent storage


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
        ("/srv/job/audit.jsonl", "/dev/vda / ext4 rw 0 0", "after the job"),
        ("/var/lib/audit.jsonl", None, "cannot detect"),
    ],
)
def test_why_not_persistent(path: str, mounts: str | None, word: str) -> None:
    """The reason names what deletes the file, and is empty for persistent storage."""
    reason = persistence.why_not_persistent(path, mounts, {"AWX_PRIVATE_DATA_DIR": "/srv/job"})
    assert (word in reason) if word else not reason


def test_current_run_ignores_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of another process is ignored."""
    monkeypatch.setenv(run_state.VARIABLE, "")
    run_state.publish_state(run_state.RunState(os.getpid(), "job", "/f", "", ""))
    assert run_state.current_run() is not None
    run_state.publish_state(run_state.RunState(1 if os.getppid() != 1 else 2, "job", "/f", "", ""))
    assert run_state.current_run() is None


# Version and digest of the collection


def test_collection_digest_depends_on_files_only(tmp_path: Path) -> None:
    """The digest covers the files that can run, wherever the collection is installed."""
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


def test_collection_version_installed_or_checkout(tmp_path: Path) -> None:
    """The version comes from MANIFEST.json if the file exists, otherwise from galaxy.yml."""
    assert collection_version() == collection_version(ROOT)
    (tmp_path / "MANIFEST.json").write_text('{"collection_info": {"version": "3.2.1"}}')
    assert collection_version(tmp_path) == "3.2.1"
