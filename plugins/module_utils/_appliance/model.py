# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Data types of one appliance node. Private to keyops.utrust.

The terms follow the vendor's documentation. The structure follows this project's own appliance API v1 (docs/api/appliance-v1.yaml).
"""

from __future__ import annotations

import dataclasses as dc
import typing as t

#: Capabilities of a transport and of a node.
KEY_LIST = "key_list"
STAGED_IMPORT = "staged_import"
RESTORE_JOB = "restore_job"

#: Value of an import behavior that the node does not report. The collection must not guess it.
UNKNOWN = "unknown"

#: Key types of appliance API v1. A key of another type is an error. It must not be skipped.
KEY_TYPES = ("rsa", "ec", "aes", "generic")


@dc.dataclass(frozen=True)
class Mbk:
    """Public facts of a Master Backup Key. The node may omit m and n."""

    name: str
    check_value: str
    m: int | None = None
    n: int | None = None

    def same_as(self, other: Mbk) -> bool:
        """Return whether the check values agree. Two MBKs may have the same name."""
        return self.check_value == other.check_value

    def __str__(self) -> str:
        return f"{self.name} ({self.check_value})"


@dc.dataclass(frozen=True)
class Slot:
    slot: int
    label: str
    activation: str
    activated: bool
    key_count: int


@dc.dataclass(frozen=True)
class Member:
    """A node in the member list of another node."""

    node: str
    address: str
    port: int
    joined: bool
    connection: str

    @property
    def up(self) -> bool:
        return self.joined and self.connection == "connected"


@dc.dataclass(frozen=True)
class ImportBehavior:
    """How imports behave on a node. The values are those of *ImportBehavior* in appliance API v1."""

    effect: str = UNKNOWN
    deletions: str = UNKNOWN
    atomic: str = UNKNOWN
    restart: str = UNKNOWN
    cards: str = UNKNOWN


@dc.dataclass(frozen=True)
class Node:
    """Identity and state of one node. `running` is (kind, id) of the job that occupies its HSM."""

    name: str
    product: str
    appliance_version: str
    hsm_model: str
    hsm_serial: str
    hsm_firmware: str
    hsm_state: str
    alarm: str | None
    fips: bool
    driver: str
    clock: str
    mbk: Mbk | None
    slots: tuple[Slot, ...]
    key_count: int
    unusable_key_count: int
    keys_digest: str
    cluster_id: str
    cluster_name: str
    members: tuple[Member, ...]
    running: tuple[str, str] | None
    capabilities: frozenset[str] = frozenset()
    import_behavior: ImportBehavior = ImportBehavior()
    last_backup_at: str | None = None
    tls_expires_at: str | None = None

    def to_dict(self) -> dict[str, t.Any]:
        facts = dc.asdict(self)
        facts["slots"] = list(facts["slots"])
        facts["members"] = list(facts["members"])
        facts["capabilities"] = sorted(self.capabilities)
        facts["running"] = {"kind": self.running[0], "id": self.running[1]} if self.running else None
        return facts

    @classmethod
    def from_dict(cls, facts: t.Mapping[str, t.Any]) -> Node:
        """Return the node of a result. Raises KeyError or TypeError for another document."""
        fields = {field.name: facts[field.name] for field in dc.fields(cls)}
        mbk, running = fields["mbk"], fields["running"]
        return cls(
            **{
                **fields,
                "mbk": Mbk(**mbk) if mbk is not None else None,
                "slots": tuple(Slot(**slot) for slot in fields["slots"]),
                "members": tuple(Member(**member) for member in fields["members"]),
                "running": (running["kind"], running["id"]) if running is not None else None,
                "capabilities": frozenset(fields["capabilities"]),
                "import_behavior": ImportBehavior(**fields["import_behavior"]),
            }
        )


@dc.dataclass(frozen=True)
class HsmKey:
    """One key in an HSM. `usable` is not part of its identity. Module `_keys` defines the order of keys and their digest."""

    slot: int
    label: str
    id: str
    type: str
    size: int
    curve: str | None
    fingerprint: str
    usable: bool = dc.field(default=True, compare=False)

    @property
    def check_value_only(self) -> bool:
        """Whether the fingerprint is a key check value: its three bytes do not prove that two keys are equal."""
        return self.fingerprint.startswith("kcv:")

    def to_dict(self) -> dict[str, t.Any]:
        return {**dc.asdict(self), "check_value_only": self.check_value_only}

    @classmethod
    def from_dict(cls, facts: t.Mapping[str, t.Any]) -> HsmKey:
        """Return the key of a result. Raises KeyError for another document."""
        return cls(**{field.name: facts[field.name] for field in dc.fields(cls)})

    def __str__(self) -> str:
        return f"slot {self.slot} {self.label} ({self.fingerprint})"


@dc.dataclass(frozen=True)
class PinPad:
    name: str
    kind: str
    address: str | None
    status: str


@dc.dataclass(frozen=True)
class RestorePreview:
    """The HSM Guided Restore Summary."""

    node: str
    hsm_serial: str
    tls_fingerprint: str
    pin_pad: PinPad
    source: str
    source_key_count: int
    source_keys_digest: str
    mbk: Mbk
    cards_required: int
    cards_total: int


@dc.dataclass(frozen=True)
class Restore:
    """A guided restore. `prompt` is the current text of the PIN pad. `notice` (code, text) is the reason for a rejected step."""

    id: str
    state: str
    sequence: int
    pin_pad: str
    source: str
    prompt: str | None
    notice: tuple[str, str] | None
    cards_accepted: int
    cards_required: int
    seconds_left: float | None
    problem: tuple[str, str] | None

    @property
    def finished(self) -> bool:
        return self.state in ("succeeded", "failed", "canceled")


@dc.dataclass(frozen=True)
class Package:
    """A Key Synchronization Package on a node, without its content."""

    id: str
    sha256: str
    size: int
    source: str
    source_serial: str
    cluster_id: str
    mbk: Mbk
    key_count: int
    keys_digest: str


@dc.dataclass(frozen=True)
class ImportRow:
    key: HsmKey
    action: str
    current_fingerprint: str | None


@dc.dataclass(frozen=True)
class Import:
    """A package that was uploaded to a node, with the preview of its effect. An import may wait for cards as a `Restore` does."""

    id: str
    state: str
    keys_digest: str
    rows: tuple[ImportRow, ...]
    pin_pad: str | None = None
    prompt: str | None = None
    notice: tuple[str, str] | None = None
    seconds_left: float | None = None
    problem: tuple[str, str] | None = None
