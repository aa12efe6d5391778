# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HSM backend pkcs11 without a node: kills of the token process, and wrong keys."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import typing as t
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from utrust_appliance import key_material
from utrust_appliance.cli import main
from utrust_appliance.control import Control
from utrust_appliance.errors import ApiError, OperationError
from utrust_appliance.hsm import backends, pkcs11
from utrust_appliance.hsm.backends import HsmBackend
from utrust_appliance.hsm.base import KeySetChange, UnwrapError, WrappedKey
from utrust_appliance.hsm.pkcs11 import Pkcs11Hsm
from utrust_appliance.hsm.pkcs11_process import TokenProcess
from utrust_appliance.keys import KeyIdentity, KeyRef, SlotSettings
from utrust_appliance.mbk import Mbk

from tests.support.opensc import softhsm, token_objects
from tests.support.wait import wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator

MBK = Mbk.generate("TEST", 2, 3)
SLOTS = [SlotSettings(0, "signing"), SlotSettings(1, "encryption")]
KINDS = ["rsa-2048", "ec-p256", "aes-256", "des3-168", "generic"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory if available, because SoftHSM2 syncs to disk often."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="utrust-test-", dir=memory if os.access(memory, os.W_OK) else None
    ) as place:
        yield Path(place) / "hsm"


def opened(folder: Path) -> Pkcs11Hsm:
    return Pkcs11Hsm(folder, lambda dummy: None, softhsm(), "test")


def wrapped(label: str, kind: str, *, slot: int = 0, key_id: str = "01") -> WrappedKey:
    """A new key, wrapped under the MBK outside of the HSM."""
    facts, material = key_material.generate(kind)
    return WrappedKey(facts.identity(KeyRef(slot, label, key_id)), facts.public, MBK.wrap(material))


def identities(hsm: Pkcs11Hsm) -> set[KeyIdentity]:
    return {key.identity for key in hsm.list_keys()}


def require_nothing_else(hsm: Pkcs11Hsm, folder: Path) -> None:
    """Check that the token holds exactly the objects of these keys, and that every key is usable.

    Unfinished objects of SoftHSM do not have a class and do not count, because clients cannot use them.
    """
    keys = identities(hsm)
    pairs = [key for key in keys if key.type in ("rsa", "ec")]
    assert len(token_objects(folder)) == len(keys) + len(pairs) + (0 if hsm.mbk() is None else 2)
    for key in pairs:
        assert hsm.sign(key.ref, b"message")
    if hsm.mbk():
        assert len(hsm.export().keys) == len(keys)


# Killed token process


class Killer:
    """Kill the token process with the response to a call, or during the call after some new files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.at = 0
        self._new_files: int | None = None
        self._calls = 0
        self._folder = folder
        self._call = TokenProcess.call
        killer = self

        def call(process: TokenProcess, method: str, **details: t.Any) -> t.Any:
            killer._calls += 1
            if killer._calls != killer.at:
                return killer._call(process, method, **details)
            responded = threading.Event()
            thread = threading.Thread(target=killer._kill, args=(process, responded, killer._files()))
            thread.start()
            try:
                return killer._call(process, method, **details)
            finally:
                responded.set()
                thread.join()
                wait_for(lambda: not process.alive, 20)

        monkeypatch.setattr(TokenProcess, "call", call)

    def kills(self, number: int, new_files: int | None = None) -> None:
        self.at, self._new_files, self._calls = number, new_files, 0

    def _files(self) -> int:
        return len(list(self._folder.glob("tokens/*/*.object")))

    def _kill(self, process: TokenProcess, responded: threading.Event, before: int) -> None:
        if self._new_files is None:
            responded.wait()
        while not responded.is_set() and self._files() < before + (self._new_files or 0):
            pass
        os.kill(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("what", ["import", "restore", "generate", "factory reset"])
def test_token_process_killed_after_response_is_atomic(
    folder: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A kill of the token process after any response leaves all or nothing."""
    old = [wrapped("stays", "ec-p256"), wrapped("replaced", "ec-p256"), wrapped("removed", "aes-256")]
    new = [wrapped("replaced", "ec-p256"), *(wrapped(f"new-{kind}", kind) for kind in KINDS)]
    monkeypatch.setattr(pkcs11, "BATCH", 1)
    killer = Killer(monkeypatch, folder)

    def change(hsm: Pkcs11Hsm) -> None:
        if what == "generate":
            hsm.generate(0, "made", [("made-1", "ec-p256"), ("made-2", "aes-128")])
        elif what == "factory reset":
            hsm.factory_reset()
        elif what == "restore":
            hsm.apply(KeySetChange("job", new, [], SLOTS, mbk=MBK))
        else:
            hsm.apply(KeySetChange("job", new, [old[1].identity.ref, old[2].identity.ref], SLOTS))

    with contextlib.closing(opened(folder)) as hsm:
        if what != "restore":
            hsm.apply(KeySetChange("first", old, [], SLOTS, mbk=MBK))
        before, mbk = identities(hsm), hsm.mbk()
        for number in range(1, 20):
            killer.kills(number)
            with contextlib.suppress(ApiError):
                change(hsm)
            killer.kills(0)
            hsm.set_slot(SLOTS[0])  # starts the process again
            require_nothing_else(hsm, folder)
            if (identities(hsm), hsm.mbk()) != (before, mbk):
                break
        after = identities(hsm)
        if what == "factory reset":
            assert (after, hsm.mbk()) == (set(), None)
        elif what == "generate":
            assert {key.label for key in after - before} == {"made-1", "made-2"}
        else:
            kept = {old[0].identity} if what == "import" else set()
            assert after == {key.identity for key in new} | kept
        assert number >= {"factory reset": 1, "generate": 2}.get(what, len(new))


def test_token_process_killed_during_call_keeps_old_keys(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill of the token process during a call keeps the old keys."""
    killer = Killer(monkeypatch, folder)
    many = [wrapped(f"many-{kind}-{number}", kind) for number in range(12) for kind in ("ec-p256", "generic")]
    with contextlib.closing(opened(folder)) as hsm:
        hsm.apply(KeySetChange("first", many[:2], [], SLOTS, mbk=MBK))
        before = identities(hsm)
        for new_files in range(1, 7):
            killer.kills(1, new_files)
            with pytest.raises(ApiError):
                hsm.apply(KeySetChange("job", many[2:], [], SLOTS))
            killer.kills(0)
            assert identities(hsm) == before
            assert not hsm.committed("job")
            # An earlier kill of SoftHSM leaves an object with its number only.
            some = next(folder.glob("tokens/*/*.object"))
            begun = some.with_name(f"{uuid.uuid4()}.object")
            begun.write_bytes(some.read_bytes()[:8])
            begun.with_suffix(".lock").touch()
            hsm.set_slot(SLOTS[0])  # starts the process again
            require_nothing_else(hsm, folder)
        hsm.apply(KeySetChange("job", many[2:], [], SLOTS))
        require_nothing_else(hsm, folder)


def test_reopened_token_assigns_objects_to_keys(folder: Path) -> None:
    """A reopened token assigns its objects to keys, also with the same label and id."""
    twins = [wrapped("twin", kind, slot=slot) for kind in ("ec-p384", "rsa-2048", "generic") for slot in (0, 1)]
    other = [replace(key, identity=replace(key.identity, id=f"0{n}")) for n, key in enumerate(twins[2:], start=2)]
    keys = [*twins[:2], *other]
    with contextlib.closing(opened(folder)) as hsm:
        hsm.apply(KeySetChange("first", keys, [], SLOTS, mbk=MBK))
        before = identities(hsm)
        public = {key.identity: hsm.public_key(key.identity.ref) for key in twins[:2]}
    with contextlib.closing(opened(folder)) as hsm:
        assert identities(hsm) == before
        for key in twins[:2]:
            verify(public[key.identity], hsm.sign(key.identity.ref, b"message"))
        hsm.delete(twins[0].identity.ref)
    with contextlib.closing(opened(folder)) as hsm:
        verify(public[twins[1].identity], hsm.sign(twins[1].identity.ref, b"message"))
        require_nothing_else(hsm, folder)


def verify(public: bytes, signature: bytes) -> None:
    key = t.cast("ec.EllipticCurvePublicKey", serialization.load_der_public_key(public))
    key.verify(signature, b"message", ec.ECDSA(hashes.SHA384()))


def test_list_keys_does_not_call_token(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing keys does not call the token."""
    with contextlib.closing(opened(folder)) as hsm:
        hsm.apply(KeySetChange("first", [wrapped("one", "ec-p256")], [], SLOTS, mbk=MBK))
        monkeypatch.setattr(TokenProcess, "call", None)
        assert [key.identity.label for key in hsm.list_keys()] == ["one"]
        assert hsm.digest().startswith("sha256:")


# Wrong keys


@pytest.mark.parametrize("kind", KINDS)
def test_wrapped_key_identity_mismatch_rejected(folder: Path, kind: str) -> None:
    """A wrapped key that does not match its identity is rejected."""
    right, other = wrapped("right", kind), wrapped("other", kind)
    broken = right.blob[:-1] + bytes([right.blob[-1] ^ 1])
    wrong = [
        replace(right, blob=other.blob),
        replace(right, blob=broken),
        replace(right, blob=right.blob[:8]),
        replace(right, identity=replace(right.identity, size=(right.identity.size or 0) * 2)),
        replace(right, identity=replace(right.identity, fingerprint=other.identity.fingerprint)),
        replace(right, identity=replace(right.identity, id="not hexadecimal")),
    ]
    if right.public:
        wrong += [replace(right, public=None), replace(right, public=other.public), replace(right, public=b"no key")]
    with contextlib.closing(opened(folder)) as hsm:
        hsm.initialize(MBK, SLOTS)
        for key in wrong:
            with pytest.raises(UnwrapError):
                hsm.check(key)
            with pytest.raises(UnwrapError):
                hsm.apply(KeySetChange("job", [wrapped("first", "aes-128"), key], [], SLOTS))
        unknown = replace(right, identity=replace(right.identity, type="exotic"))
        for attempt in (
            lambda: hsm.check(unknown),
            lambda: hsm.apply(KeySetChange("job", [wrapped("first", "aes-128"), unknown], [], SLOTS)),
        ):
            with pytest.raises(ApiError, match="unknown_key_type"):
                attempt()
        require_nothing_else(hsm, folder)
        hsm.check(right)
        hsm.apply(KeySetChange("job", [right], [], SLOTS))
        assert identities(hsm) == {right.identity}


def test_token_of_other_hsm_rejected(folder: Path) -> None:
    """The token of another HSM is rejected."""
    with contextlib.closing(opened(folder)) as hsm:
        hsm.initialize(MBK, SLOTS)
    shutil.rmtree(folder / "tokens")
    with pytest.raises(OperationError, match="does not hold the MBK"):
        opened(folder)


# Missing requirements


def test_pkcs11_missing_requirement_has_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message for a missing requirement has a remedy."""
    with pytest.raises(OperationError, match="The PKCS #11 module /nowhere does not exist"):
        HsmBackend.of("pkcs11", "/nowhere")
    with pytest.raises(OperationError, match="--module requires --hsm pkcs11"):
        HsmBackend.of("software", softhsm())
    monkeypatch.setattr(backends, "SOFTHSM_MODULES", ())
    with pytest.raises(OperationError, match=r"apt-get install softhsm2.*--module PATH"):
        HsmBackend.of("pkcs11", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda dummy: None)
    with pytest.raises(OperationError, match=r"pip install '\./tests/appliance\[pkcs11\]'"):
        HsmBackend.of("pkcs11", None)


def test_up_unusable_module_fails_with_reason(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A start with an unusable module fails with the reason."""
    no_module = tmp_path / "module.so"
    no_module.write_bytes(b"no module")
    for module, words in (
        ("/nowhere", "The PKCS #11 module /nowhere does not exist"),
        (str(no_module), str(no_module)),
    ):
        status = main(["up", "--nodes", "1", "--hsm", "pkcs11", "--module", module, "--dir", str(tmp_path / "d")])
        assert status == 1
        assert words in capfd.readouterr().err
    assert main(["status", "--dir", str(tmp_path / "d")]) == 3


def test_cluster_keeps_backend(tmp_path: Path) -> None:
    """A cluster keeps its HSM backend."""
    control = Control.up(tmp_path / "d", nodes=1, keys=1)
    control.down()
    with pytest.raises(OperationError, match="backend software"):
        Control.up(tmp_path / "d", hsm="pkcs11")
