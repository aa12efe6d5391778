# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The shared EJBCA database: SQLite in the folder, or a PostgreSQL server."""

from __future__ import annotations

import typing as t

import pytest
from utrust_appliance.control import Control
from utrust_appliance.errors import OperationError
from utrust_appliance.testing import cluster

from tests.support import postgresql
from tests.support.ejbca_client import FIRST, EjbcaClient, openssl_verifies

if t.TYPE_CHECKING:
    from pathlib import Path


def test_postgresql_shared_by_all_nodes(tmp_path: Path) -> None:
    """PostgreSQL serves all nodes, also after a restart, and the health check reports its failure."""
    with postgresql.server() as shared, cluster(nodes=2, restored=2, keys=1, database=shared.url) as control:
        new = control.ejbca("node1", "renew")["alias"]
        made = control.ejbca("node1", "issue")
        assert openssl_verifies(made["certificate"], made["ca_certificate"], tmp_path)
        assert EjbcaClient(control, "node2").health()[0] == 500  # node2 uses the data of node1 immediately

        control.down()
        control = Control.up(control.folder)  # the URL is stored
        (ca,) = control.ejbca("node1", "status")["certificate_authorities"]
        assert (ca["current"]["alias"], ca["previous"]["alias"]) == (new, FIRST)
        assert not list(control.folder.glob("application/*.sqlite3"))
        web = EjbcaClient(control, "node1")
        assert web.health() == (200, "ALLOK")
        shared.stop()
        status, text = web.health()
        assert (status, text.startswith("DB: Error creating connection to database: ")) == (500, True)
        assert web.enroll().status == 500
        control.down()


def test_sqlite_keeps_cas_after_restart() -> None:
    """SQLite keeps the CAs after a restart."""
    with cluster(nodes=1, keys=1, ejbca=True) as control:
        first = control.ejbca("node1", "issue")["ca_certificate"]
        control.down()
        again = Control.up(control.folder)
        assert again.ejbca("node1", "issue")["ca_certificate"] == first
        assert EjbcaClient(again, "node1").health() == (200, "ALLOK")


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("postgresql://user:secret@127.0.0.1/x", "PGPASSFILE"),
        ("mysql://127.0.0.1/x", "sqlite or postgresql"),
        ("nonsense", "must be a URL"),
        ("postgresql://nobody@/x?host=/nowhere", "is not available"),
    ],
)
def test_database_unusable_rejected_without_password(tmp_path: Path, url: str, word: str) -> None:
    """An unusable database is rejected with one sentence that does not contain the password."""
    with pytest.raises(OperationError, match=word) as rejected:
        Control.up(tmp_path / "cluster", nodes=1, keys=1, database=url)
    assert "secret" not in str(rejected.value)
    assert "Traceback" not in str(rejected.value)


def test_cluster_without_ejbca_reports_it() -> None:
    """EJBCA operations on a cluster without EJBCA fail with an explanation."""
    with cluster(nodes=1, keys=0) as control, pytest.raises(OperationError, match="without --ejbca"):
        control.ejbca("node1", "status")
