# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The database that all nodes' applications share: SQLite in the folder, or a PostgreSQL server."""

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


def test_postgresql_serves_all_nodes_survives_a_restart_and_is_missed_by_the_health_check(tmp_path: Path) -> None:
    with postgresql.server() as shared, cluster(nodes=2, restored=2, keys=1, database=shared.url) as control:
        new = control.ejbca("node1", "renew")["alias"]
        made = control.ejbca("node1", "issue")
        assert openssl_verifies(made["certificate"], made["ca_certificate"], tmp_path)
        assert EjbcaClient(control, "node2").health()[0] == 500  # what node1 wrote, node2 uses at once

        control.down()
        control = Control.up(control.folder)  # the URL need not be given again
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


def test_sqlite_keeps_the_cas_over_a_restart() -> None:
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
        ("nonsense", "takes a URL"),
        ("postgresql://nobody@/x?host=/nowhere", "cannot be used"),
    ],
)
def test_database_that_cannot_be_used_is_refused_in_one_sentence_without_its_password(
    tmp_path: Path, url: str, word: str
) -> None:
    with pytest.raises(OperationError, match=word) as refused:
        Control.up(tmp_path / "cluster", nodes=1, keys=1, database=url)
    assert "secret" not in str(refused.value)
    assert "Traceback" not in str(refused.value)


def test_cluster_without_an_application_says_so() -> None:
    with cluster(nodes=1, keys=0) as control, pytest.raises(OperationError, match="without --ejbca"):
        control.ejbca("node1", "status")
