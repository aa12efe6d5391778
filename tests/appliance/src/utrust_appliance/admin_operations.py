# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Operations that the API does not offer: cards, PIN pads, keys, signatures, faults and logs.

Each `do_*` method is one operation of the control channel. Its keyword arguments are the arguments of the operation.
"""

from __future__ import annotations

import asyncio
import base64
import re
import typing as t
from dataclasses import asdict, replace

from cryptography.hazmat.primitives import serialization

from utrust_appliance.errors import OperationError
from utrust_appliance.faults import CRASH_POINTS, describe_kinds
from utrust_appliance.keys import is_unicode
from utrust_appliance.mbk import Mbk
from utrust_appliance.node import PIN_PADS
from utrust_appliance.provision import SLOTS, mbk_of_cards, restore_now, write_inventory

if t.TYPE_CHECKING:
    from utrust_appliance.cluster import Cluster
    from utrust_appliance.keys import KeyRef
    from utrust_appliance.node import Node

Operation = t.Callable[..., t.Any]


class AdminOperations:
    """The operations of one running cluster."""

    def __init__(self, cluster: Cluster, stop: asyncio.Event) -> None:
        self._cluster = cluster
        self._stop = stop
        self.pin_pads_url: str | None = None
        self.operations: dict[str, Operation] = {
            name.removeprefix("do_"): getattr(self, name) for name in dir(self) if name.startswith("do_")
        }

    # The cluster

    def do_status(self) -> dict[str, t.Any]:
        nodes = []
        for node in self._cluster.nodes.values():
            facts = node.describe()
            nodes.append(
                {
                    "node": node.name,
                    "url": f"https://{node.config.address}:{node.config.port}",
                    "address": node.config.address,
                    "port": node.config.port,
                    "joined": node.config.joined,
                    "api": node.has_api,
                    "state": facts["hsm"]["state"],
                    "serial": node.serial,
                    "key_count": facts["key_count"],
                    "unusable_key_count": facts["unusable_key_count"],
                    "keys_digest": facts["keys_digest"],
                    "mbk": facts["mbk"],
                    "running": facts["running"],
                    "import_state": node.imports.working_state(),
                    "tls_fingerprint": node.tls_fingerprint,
                }
            )
        return {
            "cluster": self._cluster.name,
            "id": self._cluster.id,
            "faults": self._cluster.faults.enabled,
            "pin_pads_url": self.pin_pads_url,
            "profile": self._cluster.config.profile,
            "nodes": nodes,
        }

    def do_profile_set(self, *, names: list[str]) -> dict[str, t.Any]:
        self._cluster.set_profile(names)
        write_inventory(self._cluster)
        return asdict(self._cluster.behavior)

    def do_api_set(self, *, enabled: bool, node: str | None = None) -> list[str]:
        names = [self._cluster.node(node).name] if node else list(self._cluster.nodes)
        self._cluster.set_api(names, enabled=enabled)
        write_inventory(self._cluster)
        return self._cluster.config.without_api

    def do_shutdown(self) -> None:
        self._stop.set()

    # Cards and PIN pads

    def do_card_list(self) -> list[dict[str, t.Any]]:
        where = {node.restores.card_in_reader(): node.name for node in self._cluster.nodes.values()}
        return [{**card.as_dict(), "in_reader_of": where.get(card.card)} for card in self._cluster.cards.cards()]

    def do_card_insert(self, *, node: str, card: str, pin_pad: str | None = None) -> dict[str, t.Any]:
        holder = next(
            (other.name for other in self._cluster.nodes.values() if other.restores.card_in_reader() == card), None
        )
        if holder:
            raise OperationError(f"The card {card} is in the reader of {holder}.")
        return self._at_pin_pad(node, pin_pad).restores.insert_card(card)

    def do_card_remove(self, *, node: str, pin_pad: str | None = None) -> dict[str, t.Any]:
        return self._at_pin_pad(node, pin_pad).restores.remove_card()

    def do_pin(self, *, node: str, pin: str, pin_pad: str | None = None) -> dict[str, t.Any]:
        return self._at_pin_pad(node, pin_pad).restores.enter_pin(pin)

    def do_pinpad_cancel(self, *, node: str, pin_pad: str | None = None) -> dict[str, t.Any]:
        return self._at_pin_pad(node, pin_pad).restores.cancel_at_pin_pad()

    def do_pinpad_status(self, *, node: str) -> dict[str, t.Any]:
        target = self._cluster.node(node)
        running = target.restores.running
        return {
            "pin_pads": target.pin_pads(),
            "restore": target.restores.view(running) if running else None,
            "last": next(iter(target.restores.list()), None),
            "card": target.restores.card_in_reader(),
        }

    def _at_pin_pad(self, node: str, pin_pad: str | None) -> Node:
        target = self._cluster.node(node)
        if pin_pad is not None and pin_pad not in {pad.name for pad in PIN_PADS}:
            raise OperationError(f"{node} does not have the PIN pad {pin_pad}.")
        running = target.restores.running
        if running and pin_pad not in (None, running["pin_pad"]):
            raise OperationError(f"The guided restore of {node} uses {running['pin_pad']}, not {pin_pad}.")
        return target

    # MBKs

    def do_mbk_list(self) -> list[dict[str, t.Any]]:
        nodes_of: dict[str, list[str]] = {}
        for node in self._cluster.nodes.values():
            if mbk := node.hsm.mbk():
                nodes_of.setdefault(mbk.check_value, []).append(node.name)
        sets = {card.mbk.check_value: card.mbk for card in self._cluster.cards.cards()}
        return [{**mbk.as_dict(), "nodes": nodes_of.get(check, [])} for check, mbk in sets.items()]

    def do_mbk_create(self, *, name: str, m: int = 2, n: int = 3) -> list[dict[str, t.Any]]:
        return [card.as_dict() for card in self._cluster.cards.create_set(Mbk.generate(name, m, n))]

    def do_mbk_load(self, *, node: str, name: str) -> dict[str, t.Any]:
        target = self._cluster.node(node)
        if target.hsm.mbk() is not None or target.restores.running:
            raise OperationError(f"{node} must be in Factory Reset Mode, and no guided restore may run.")
        target.hsm.initialize(mbk_of_cards(self._cluster.cards, self._cluster.folder / "cards", name), SLOTS)
        return target.describe()["mbk"]

    async def do_restore(self, *, node: str, source: str = "node1") -> dict[str, t.Any]:
        target = self._cluster.node(node)
        if target.restores.running:
            raise OperationError(f"A guided restore is running on {node}.")
        await asyncio.to_thread(restore_now, target, self._cluster.node(source))
        return {"key_count": len(target.hsm.list_keys()), "keys_digest": target.hsm.digest()}

    def do_factory_reset(self, *, node: str) -> None:
        target = self._cluster.node(node)
        if target.running():
            raise OperationError(f"{node} is busy: {target.running()}.")
        target.hsm.factory_reset()

    def do_certificate_renew(self, *, node: str) -> str:
        """Renew the TLS certificate of a node, and return its fingerprint. The inventory file still has the old fingerprint."""
        self._cluster.node(node).renew_certificate()
        return self._cluster.node(node).tls_fingerprint

    # Keys

    def do_key_list(self, *, node: str) -> list[dict[str, t.Any]]:
        return [key.as_dict() for key in self._cluster.node(node).hsm.list_keys()]

    async def do_key_generate(
        self,
        *,
        node: str,
        label: str,
        kind: str = "ec-p256",
        slot: int = 0,
        count: int = 1,
        key_id: str | None = None,
    ) -> list[dict[str, t.Any]]:
        if key_id is not None and (count != 1 or not re.fullmatch(r"([0-9a-f]{2}){1,64}", key_id)):
            raise OperationError("An id must be 1 to 64 bytes in lowercase hexadecimal, and count must be 1.")
        if not len(label) <= 128 or not is_unicode(label) or not 1 <= count <= 100_000:
            raise OperationError("A label must have at most 128 Unicode characters, and count must be at least 1.")
        labels = [label] if count == 1 else [f"{label}-{number:04d}" for number in range(1, count + 1)]
        hsm = self._cluster.node(node).hsm
        made = await asyncio.to_thread(hsm.generate, slot, label, [(name, kind) for name in labels], key_id)
        return [key.as_dict() for key in made]

    def do_key_delete(self, *, node: str, label: str, slot: int | None = None, fingerprint: str | None = None) -> None:
        target, ref = self._cluster.node(node), self._find(node, label, slot, fingerprint)
        identity = next(key.identity for key in target.hsm.list_keys() if key.identity.ref == ref)
        target.hsm.delete(ref)
        target.note_destroyed([identity])

    def do_key_damage(self, *, node: str, label: str, slot: int | None = None, fingerprint: str | None = None) -> None:
        self._cluster.node(node).hsm.damage(self._find(node, label, slot, fingerprint))

    def do_key_public(self, *, node: str, label: str, slot: int | None = None, fingerprint: str | None = None) -> str:
        der = self._cluster.node(node).hsm.public_key(self._find(node, label, slot, fingerprint))
        public = serialization.load_der_public_key(der)
        return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()

    def do_sign(
        self, *, node: str, label: str, message: str, slot: int | None = None, fingerprint: str | None = None
    ) -> str:
        """Sign a message. `message` and the signature are Base64."""
        ref = self._find(node, label, slot, fingerprint)
        signature = self._cluster.node(node).hsm.sign(ref, base64.b64decode(message))
        return base64.b64encode(signature).decode()

    def _find(self, node: str, label: str, slot: int | None, fingerprint: str | None) -> KeyRef:
        refs = [
            key.identity.ref
            for key in self._cluster.node(node).hsm.list_keys()
            if key.identity.label == label
            and slot in (None, key.identity.slot)
            and fingerprint in (None, key.identity.fingerprint)
        ]
        where = node if slot is None else f"{node}, slot {slot},"
        if not refs:
            raise OperationError(f"The HSM of {where} does not have a key {label}.")
        if len(refs) > 1:
            raise OperationError(
                f"The HSM of {where} has {len(refs)} keys {label}. Specify the slot or the key fingerprint."
            )
        return refs[0]

    def do_slot_list(self, *, node: str) -> list[dict[str, t.Any]]:
        return [slot.as_dict() for slot in self._cluster.node(node).hsm.slots()]

    def do_backup(self, *, node: str) -> dict[str, t.Any]:
        return {"node": node, "last_backup_at": self._cluster.node(node).note_backup()}

    def do_slot_set(self, *, node: str, slot: int, **settings: t.Any) -> dict[str, t.Any]:
        hsm = self._cluster.node(node).hsm
        known = next((settings for settings in hsm.slots() if settings.slot == slot), None)
        if known is None:
            raise OperationError(f"{node} does not have the slot {slot}.")
        changed = replace(known, **{name: value for name, value in settings.items() if value is not None})
        if (
            changed.activation not in ("auto", "manual", "smart_card")
            or changed.capacity < 0
            or len(changed.label) > 32
        ):
            raise OperationError(
                "Activation must be auto, manual or smart_card, capacity at least 0, and a label has at most 32 characters."
            )
        hsm.set_slot(changed)
        return changed.as_dict()

    # EJBCA of a node

    async def do_ejbca(self, *, node: str, operation: str, args: dict[str, t.Any]) -> t.Any:
        from utrust_appliance.ejbca.service import operate  # its database layer is slow to import

        return await asyncio.to_thread(operate, self._cluster, node, operation, args)

    # Faults and logs

    def do_fault_set(self, *, name: str, **filters: t.Any) -> dict[str, t.Any]:
        if filters.get("node") is not None:
            self._cluster.node(filters["node"])
        return asdict(self._cluster.faults.set(name, **filters))

    def do_fault_list(self) -> list[dict[str, t.Any]]:
        return self._cluster.faults.list()

    def do_fault_clear(self, *, which: int | str | None = None) -> int:
        return self._cluster.faults.clear(which)

    def do_fault_kinds(self) -> dict[str, t.Any]:
        return {**describe_kinds(), "crash_at": {**describe_kinds()["crash_at"], "points": CRASH_POINTS}}

    def do_log(self, *, node: str) -> list[dict[str, t.Any]]:
        return self._cluster.node(node).log.entries()

    def do_log_clear(self, *, node: str | None = None) -> None:
        for target in [self._cluster.node(node)] if node else self._cluster.nodes.values():
            target.log.clear()
