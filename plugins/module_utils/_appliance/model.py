# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Data types of one appliance node. Private to keyops.utrust.

The terms follow the vendor's documentation. The structure follows this project's own appliance API v1 (docs/api/appliance-v1.yaml).
"""

from __future__ import annotations

import dataclasses as dc
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable, unescape_printable

#: Capabilities of a transport and of a node.
KEY_LIST = "key_list"
STAGED_IMPORT = "staged_import"
RESTORE_JOB = "restore_job"
CLUSTER_CLAIM = "cluster_claim"

#: What the keys of a node are: every key of its HSM, or the keys that its EJBCA shows.
SCOPE_HSM = "hsm"
SCOPE_EJBCA = "ejbca"

#: Value of an import behavior that the node does not report. The collection must not guess it.
UNKNOWN = "unknown"


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
    """A PKCS#11 slot. The node may not know whether it is activated, and how many keys it has."""

    slot: int
    label: str
    activation: str
    activated: bool | None
    key_count: int | None


@dc.dataclass(frozen=True)
class Member:
    """A node in the member list of another node.

    On a transport that cannot read the members, the operator declares them, and nobody knows their connection (`declared`).
    """

    node: str
    address: str
    port: int
    joined: bool
    connection: str

    @property
    def up(self) -> bool:
        return self.joined and self.connection in ("connected", "declared")


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
    """Identity and state of one node. None means that the node cannot determine the fact, which never counts as equal to another fact.

    `running` is (kind, id) of the job that uses its HSM. A job that was not started with the API has no id.
    `key_scope` says what the keys of the node are. With `SCOPE_EJBCA` they are those that its EJBCA shows, and each slot is a place of crypto tokens.
    """

    name: str
    product: str
    appliance_version: str | None
    hsm_family: str
    hsm_model: str
    hsm_serial: str
    hsm_firmware: str | None
    hsm_state: str
    alarm_code: str | None
    alarm: str | None
    fips: bool | None
    driver: str
    clock: str | None
    mbk: Mbk | None
    slots: tuple[Slot, ...]
    key_count: int | None
    unusable_key_count: int | None
    keys_digest: str | None
    cluster_id: str
    cluster_name: str
    members: tuple[Member, ...]
    running: tuple[str, str | None] | None
    capabilities: frozenset[str] = frozenset()
    import_behavior: ImportBehavior = ImportBehavior()
    last_backup_at: str | None = None
    tls_expires_at: str | None = None
    transport: str = "rest"
    key_scope: str = SCOPE_HSM

    @property
    def sees_only_ejbca(self) -> bool:
        """Whether the keys are not a complete list of the HSM."""
        return self.key_scope != SCOPE_HSM

    @property
    def running_job(self) -> str | None:
        """The job that uses the HSM as text for messages, or None."""
        if self.running is None:
            return None
        kind, job = self.running
        return f"{'a job of an unknown kind' if kind == UNKNOWN else kind} {job or '(not started with the API)'}"

    def has_keys(self, digest: str | None) -> bool | None:
        """Return whether the keys of the HSM have this digest, or None if one of both digests is unknown."""
        return None if None in (self.keys_digest, digest) else self.keys_digest == digest

    @property
    def usable_alike(self) -> bool:
        """Whether all keys are usable, or none. Then the keys digest also identifies which keys are usable."""
        return self.unusable_key_count is not None and self.unusable_key_count in (0, self.key_count)

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
    """One key in an HSM, of any type. `usable` is not part of its identity. Module `_keys` defines the order of keys and their digest.

    `label` is the printable line of the label, empty for a key without a label. A type without a size has `size` None.
    """

    slot: int
    label: str
    id: str
    type: str
    size: int | None
    curve: str | None
    fingerprint: str
    usable: bool = dc.field(default=True, compare=False)

    @property
    def stored_label(self) -> str:
        """The label as the HSM stores it."""
        return unescape_printable(self.label)

    @property
    def check_value_only(self) -> bool:
        """Whether the fingerprint is a key check value: its three bytes do not prove that two keys are equal."""
        return self.fingerprint.startswith("kcv:")

    def to_dict(self) -> dict[str, t.Any]:
        return {**dc.asdict(self), "check_value_only": self.check_value_only}

    @classmethod
    def from_dict(cls, facts: t.Mapping[str, t.Any]) -> HsmKey:
        """Return the key of a result, also if an operator wrote it. Raises KeyError for another document."""
        label = escape_unprintable(unescape_printable(facts["label"]))
        return cls(**{field.name: facts[field.name] for field in dc.fields(cls)} | {"label": label})

    @property
    def fingerprint_known(self) -> bool:
        """Whether the node could determine the fingerprint. Two keys without a known fingerprint are never known to be equal."""
        return self.fingerprint != UNKNOWN

    def __str__(self) -> str:
        return f"slot {self.slot} {self.label or '(no label)'} ({self.fingerprint})"


@dc.dataclass(frozen=True)
class PinPad:
    name: str
    kind: str
    address: str | None
    status: str


@dc.dataclass(frozen=True)
class RestorePreview:
    """The HSM Guided Restore Summary. None means that the node cannot determine the fact."""

    node: str
    hsm_serial: str
    tls_fingerprint: str | None
    pin_pad: PinPad
    source: str
    source_key_count: int | None
    source_keys_digest: str | None
    mbk: Mbk | None
    cards_required: int | None
    cards_total: int | None


@dc.dataclass(frozen=True)
class Restore:
    """A guided restore. `prompt` is the current text of the PIN pad, `prompt_card` the number of the card that it requests.

    `notice` (code, text) is the reason for a rejected step.
    """

    id: str
    state: str
    sequence: int
    pin_pad: str
    source: str
    prompt: str | None
    notice: tuple[str, str] | None
    cards_accepted: int
    cards_required: int | None
    seconds_left: float | None
    problem: tuple[str, str] | None
    prompt_card: int | None = None

    @property
    def finished(self) -> bool:
        return self.state in ("succeeded", "failed", "canceled")


@dc.dataclass(frozen=True)
class Package:
    """A Key Synchronization Package on a node, without its content.

    `sha256` and `size` are missing until the package is ready. The node does not know the other facts of an opaque package.
    With `single_download`, a download that brought a byte cannot be repeated.
    With `elsewhere`, people have downloaded the content, and it is not on this machine.
    """

    id: str
    state: str
    sha256: str | None
    size: int | None
    source: str | None
    source_serial: str | None
    cluster_id: str | None
    mbk: Mbk | None
    key_count: int | None
    keys_digest: str | None
    single_download: bool
    problem: tuple[str, str] | None = None
    elsewhere: bool = False

    @property
    def ended(self) -> bool:
        """Whether the package has no content any more. A state that the collection does not know has not ended."""
        return self.state in ("failed", "deleted", "expired")


@dc.dataclass(frozen=True)
class ImportRow:
    key: HsmKey
    action: str
    current_fingerprint: str | None


@dc.dataclass(frozen=True)
class Import:
    """A package that was uploaded to a node, with the preview of its effect. An import may wait for cards as a `Restore` does.

    `rows` has no value if the node shows no preview.
    """

    id: str
    state: str
    keys_digest: str | None
    rows: tuple[ImportRow, ...] | None
    pin_pad: str | None = None
    prompt: str | None = None
    notice: tuple[str, str] | None = None
    seconds_left: float | None = None
    problem: tuple[str, str] | None = None
    prompt_card: int | None = None
