# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Proves the warning of the vendor: "other cluster nodes will try to use the new key shortly after the renewal. This will fail"."""

from __future__ import annotations

import typing as t

import pytest
from utrust_appliance.errors import OperationError
from utrust_appliance.testing import cluster

from tests.support.ejbca_client import DISCONNECTED, TOKEN, EjbcaClient, openssl_verifies
from tests.support.playbook import play

if t.TYPE_CHECKING:
    from pathlib import Path


def test_renewed_ca_fails_until_synchronized_and_reactivated(tmp_path: Path) -> None:
    """Other nodes cannot issue with the renewed CA until they have the key and reactivate the crypto token."""
    with cluster(nodes=3, restored=3, keys=1, ejbca=True) as control:
        assert control.ejbca("node2", "issue")
        new = control.ejbca("node1", "renew")["alias"]

        with pytest.raises(OperationError, match=f"not contain a key with alias {new}"):
            control.ejbca("node2", "issue")
        assert EjbcaClient(control, "node2").health() == (500, DISCONNECTED)

        run = play("keyops.utrust.key_sync", control)
        assert run.status == 0, run.output
        assert new in [key["label"] for key in control.keys("node2")]

        with pytest.raises(OperationError, match=f"not contain a key with alias {new}"):
            control.ejbca("node2", "issue")
        assert EjbcaClient(control, "node2").health() == (500, DISCONNECTED)

        assert EjbcaClient(control, "node2")("PUT", f"/cryptotoken/{TOKEN}/deactivate").status == 200
        made = control.ejbca("node2", "issue")
        assert openssl_verifies(made["certificate"], made["ca_certificate"], tmp_path)
        assert made["ca_certificate"] == control.ejbca("node1", "issue")["ca_certificate"]
        assert EjbcaClient(control, "node2").health() == (200, "ALLOK")
        assert EjbcaClient(control, "node3").health() == (500, DISCONNECTED)  # its crypto token was not reactivated
