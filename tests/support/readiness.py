# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs of the playbook readiness on a machine whose facts do not depend on the machine of the tests."""

from __future__ import annotations

import contextlib
import datetime
import json
import re
import resource
import typing as t

import yaml
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning import record_file
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.record import content_of, make_record
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.support.commissioning import CANARY, maker, write_keys
from tests.support.playbook import PACKAGES, play

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

    from tests.support.playbook import Run

READINESS: t.Final = "keyops.utrust.readiness"
SWAPS: t.Final = "Filename\tType\tSize\tUsed\tPriority\n"


@contextlib.contextmanager
def without_core_dumps() -> Iterator[None]:
    """Run programs without core dumps."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


class Site:
    """A folder with the files of an operator: facts of the kernel, signing key and commissioning record."""

    def __init__(self, control: Control, folder: Path) -> None:
        self.control = control
        self.folder = folder
        self.record = folder / "record.json"
        self.signing_key, self.public_key = write_keys(folder)
        self.proc = folder / "proc"
        (self.proc / "sys/kernel").mkdir(parents=True)
        (self.proc / "self").mkdir()
        self.kernel(core_pattern="core\n", swaps=SWAPS, mounts=f"tmpfs {PACKAGES.resolve()} tmpfs rw 0 0\n")

    def kernel(self, **facts: str) -> None:
        """Set facts of the kernel: core_pattern, swaps, mounts."""
        places = {"core_pattern": "sys/kernel/core_pattern", "swaps": "swaps", "mounts": "self/mounts"}
        for name, text in facts.items():
            (self.proc / places[name]).write_text(text, encoding="utf-8")

    def inventory(self, **changes: dict[str, t.Any]) -> Path:
        """Write the inventory with other variables of hosts. The variables under `utrust` are those of the group."""
        document = yaml.safe_load(self.control.inventory_file.read_text(encoding="utf-8"))
        group = document["utrust"]
        group.setdefault("vars", {}).update(changes.pop("utrust", {}))
        for host, variables in changes.items():
            group["hosts"][host].update(variables)
        path = self.folder / "inventory.yml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path

    def check(
        self,
        *arguments: str,
        record: bool = False,
        hosts: t.Mapping[str, dict[str, t.Any]] | None = None,
        inventory: Path | None = None,
        **options: t.Any,
    ) -> Run:
        """Run the playbook. `record` also writes the commissioning record, and `hosts` are changes of the inventory."""
        given = {"proc_path": str(self.proc), **options}
        if record:
            more = {"record_dest": str(self.record), "signing_key": self.signing_key, "made_by": "Ada"}
            given = {"canary_key": CANARY, **more, **given}
        extra = json.dumps({f"readiness_{name}": value for name, value in given.items()})
        path = inventory or self.inventory(**(hosts or {}))
        with without_core_dumps():
            return play(READINESS, self.control, "-e", extra, *arguments, inventory=path)

    def sign_again(self) -> None:
        """Sign the record as it is now."""
        content = content_of(record_file.read(str(self.record)))
        record_file.write(str(self.record), make_record(content, maker()))

    def variables(self, **changes: t.Any) -> tuple[str, str]:
        """Return arguments with the variables of the commissioning record."""
        usual = {
            "utrust_commissioning_record": str(self.record),
            "utrust_commissioning_public_key": self.public_key,
            **changes,
        }
        return "-e", json.dumps(usual)


def row(run: Run, node: str, step: str) -> str:
    """Return state and result of a row on one line."""
    rest = run.text.partition(f"{node} {step} ")[2]
    assert rest, run.output
    return re.split(r" - '?(?:node\d|this machine|readiness of) ", rest, maxsplit=1)[0].rstrip("'")


def expired_certificate(folder: Path) -> tuple[str, str]:
    """Write a client certificate that has ended, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "robot")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now - datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    paths = folder / "expired.pem", folder / "expired.key"
    paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(paths[0]), str(paths[1])
