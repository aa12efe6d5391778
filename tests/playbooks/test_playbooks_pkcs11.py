# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restore and synchronization with PKCS #11 tokens as HSMs."""

from __future__ import annotations

from utrust_appliance.testing import cluster

from tests.support.opensc import token_objects
from tests.support.playbook import card_holders, changing_methods, inventories, play

SYNC = "keyops.utrust.key_sync"


def test_restore_and_sync_work_on_pkcs11_tokens() -> None:
    """A restored node and a synchronized node hold the new keys in their tokens, and a second run only reads."""
    with cluster(nodes=3, restored=2, keys=3, hsm="pkcs11") as control:
        with card_holders(control, "node3"):
            joined = play("keyops.utrust.initial_sync", control)
        assert joined.status == 0, joined.output
        control.generate_key("node1", "newCaKey", "rsa-3072")
        control.generate_key("node1", "newBackupKey", "aes-256", slot=1)

        first = play(SYNC, control)

        assert first.status == 0, first.output
        assert {host: numbers["changed"] for host, numbers in first.recap.items()} == {
            "node1": 0,
            "node2": 1,
            "node3": 1,
        }
        assert len(set(inventories(control).values())) == 1
        signatures = {control.sign(node, "newCaKey", b"message") for node in ("node1", "node2", "node3")}
        assert len(signatures) == 1
        tokens = {
            str(token_objects(control.folder / "nodes" / node / "hsm")).count("new") for node in ("node2", "node3")
        }
        assert tokens == {3}  # private, public and secret key

        control.clear_log()
        second = play(SYNC, control)

        assert second.status == 0, second.output
        assert second.changed == 0
        assert changing_methods(control) == set()
