# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lists of objects, the time and the changes that a node keeps, and required headers."""

from __future__ import annotations

import asyncio
import contextlib
import typing as t
from pathlib import Path
from types import SimpleNamespace

import jsonschema  # type: ignore[import-untyped, unused-ignore]
import pytest
import yaml
from utrust_appliance.clock import utc_in
from utrust_appliance.jobs.card_session import CardCallbacks
from utrust_appliance.jobs.restores import Restores
from utrust_appliance.mbk import MbkFacts
from utrust_appliance.store import JOB_CHANGES, RETENTION_SECONDS, Request, Store
from utrust_appliance.testing import Api, cluster

from tests.support.wait import wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from utrust_appliance.control import Control

CONTRACT = yaml.safe_load(
    (Path(__file__).resolve().parents[3] / "docs/api/appliance-v1.yaml").read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def running() -> Iterator[Control]:
    with cluster(nodes=2, restored=2, keys=2, key_mix={"ec-p256": 1}, faults=True) as control:
        yield control
        assert "Traceback" not in (control.folder / "log").read_text(encoding="utf-8")


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    yield running
    running.clear_faults()
    running.set_profile()
    for node in ("node1", "node2"):
        wait_for(lambda name=node: running.node(name)["running"] is None)  # type: ignore[misc]


@pytest.fixture
def source(control: Control) -> Api:
    return Api(control, "node1")


def fits(schema: str, document: t.Any) -> None:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    whole = {"$ref": f"#/components/schemas/{schema}", "components": CONTRACT["components"]}
    jsonschema.Draft202012Validator(whole, format_checker=checker).validate(document)


# Headers


def test_required_headers_of_rejections(control: Control, source: Api) -> None:
    """A rejected login names the scheme, and a busy node names the time of a retry."""
    assert Api(control, "node1", client=None)("GET", "/node").headers["WWW-Authenticate"].startswith("Bearer ")
    wrong = source("GET", "/node", authorization="Bearer wrong")
    assert (wrong.status, bool(wrong.headers["WWW-Authenticate"])) == (401, True)
    control.fault("driver_stopped", node="node1")
    stopped = source("GET", "/hsm/keys")
    assert (stopped.code, 0 <= int(stopped.headers["Retry-After"]) <= 60) == ("hsm_unavailable", True)
    other = source("PUT", "/node")
    assert (other.status, "GET" in other.headers["Allow"]) == (405, True)


# Lists and retention


def test_list_shows_newest_objects(control: Control, source: Api) -> None:
    """A list shows the newest 100 objects, and an older object is found by its key and its id."""
    first = source("POST", "/hsm/packages", {}, idempotency_key="oldest-of-all-packages").data
    for dummy in range(100):
        newest = source("POST", "/hsm/packages", {}).data
    listed = source("GET", "/hsm/packages").data
    fits("PackageList", listed)
    ids = [data["id"] for data in listed["packages"]]
    assert (len(ids), ids[0], first["id"] in ids) == (100, newest["id"], False)
    assert source("GET", "/hsm/packages?idempotency_key=oldest-of-all-packages").data == {"packages": [first]}
    assert source("GET", f"/hsm/packages/{first['id']}").data == first


def stored(store: Store, number: int, finished_at: str | None) -> str:
    data = {"id": f"{number:032x}", "finished_at": finished_at, "state": "any", "rows": [1]}
    store.add("import", data, Request(f"key-of-object-{number:04d}", "digest"))
    return str(data["id"])


def test_store_keeps_ended_objects_for_retention_time(tmp_path: Path) -> None:
    """An ended object and its key are kept for the retention time, and an object without end is kept."""
    with contextlib.closing(Store(tmp_path / "node.sqlite3")) as store:
        stored(store, 1, utc_in(-RETENTION_SECONDS - 60))
        stored(store, 2, utc_in(-RETENTION_SECONDS + 60))
        stored(store, 3, None)
        stored(store, 4, None)
        assert [data["id"][-1] for data in store.list("import")] == ["4", "3", "2"]
        assert not store.knows("key-of-object-0001")
        assert store.knows("key-of-object-0002")
        assert [data["id"][-1] for data in store.list("import", running=False)] == ["2"]
        assert [data["id"][-1] for data in store.list("import", running=True)] == ["4", "3"]
        assert all("rows" not in data for data in store.list("import"))


@pytest.mark.parametrize("kind", ["restore", "import"])
def test_job_with_too_many_changes_fails(tmp_path: Path, kind: str) -> None:
    """A job ends as failed before it makes more changes than the contract allows."""
    facts, over = MbkFacts("KEYOPS", "00" * 8, 2, 3), list[str]()

    async def run() -> dict[str, t.Any]:
        with contextlib.closing(Store(tmp_path / "node.sqlite3")) as store:
            wrong = SimpleNamespace(mbk=SimpleNamespace(check_value="other", name="OTHER"), locked=False)
            node = SimpleNamespace(
                name="node1",
                store=store,
                checkpoint=lambda dummy: None,
                cluster=SimpleNamespace(cards=SimpleNamespace(card=lambda dummy: wrong)),
            )
            restores = Restores(t.cast("t.Any", node), 60)
            data: dict[str, t.Any] = {
                "id": "0" * 32,
                "sequence": JOB_CHANGES - 10,
                "state": "staged",
                "cards_accepted": 0,
            }
            data |= {"finished_at": None, "prompt": None, "notice": None, "problem": None}
            store.add(kind, data, Request("key-of-the-object", "digest"))
            work = CardCallbacks(t.cast("t.Any", None), lambda: over.append("ended"))
            restores.ask_for_cards(data, "front-usb", facts, work)
            if kind == "restore":
                t.cast("t.Any", restores)._session.work = None
            while restores.running:
                restores.insert_card("OTHER-1")
            return store.get(kind, data["id"])

    ended_job = asyncio.run(run())
    assert (ended_job["state"], ended_job["problem"]["code"]) == ("failed", f"{kind}_failed")
    assert JOB_CHANGES - 5 < ended_job["sequence"] <= JOB_CHANGES
    assert over == (["ended"] if kind == "import" else [])
