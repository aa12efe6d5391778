# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Guided restore from a package file: rejected by the API, done in Webconf, verified afterwards."""

from __future__ import annotations

import secrets
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._operations.hsm_restore import (
    RestoreOptions,
    Source,
    restore_hsm,
)
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions
from utrust_appliance.testing import Api, cluster

from tests.support.rest import connected
from tests.support.sync import Sync, fingerprints, posts
from tests.support.wait import wait_for
from tests.support.webconf_client import Response, WebconfClient

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

CARDS = ("KEYOPS-1", "KEYOPS-2")


@pytest.fixture(scope="module")
def running(hsm: str) -> Iterator[Control]:
    mix = {"ec-p256": 1}
    with cluster(nodes=2, keys=2, key_mix=mix, faults=True, restart_time=0.2, hsm=hsm) as control:
        control.create_mbk("OTHER", 2, 2)
        yield control


@pytest.fixture
def control(running: Control) -> Iterator[Control]:
    """node1 has two keys, node2 is in Factory Reset Mode, and guided restores require a package."""
    running.set_profile("restore_from=package")
    running.clear_log()
    yield running
    running.clear_faults()
    for key in running.keys("node1"):
        if not key["label"].startswith("key-"):
            running.delete_key("node1", key["label"], key["slot"])
    if running.node("node2")["mbk"]:
        running.factory_reset("node2")


@pytest.fixture
def pages(control: Control) -> WebconfClient:
    return WebconfClient(control, "node2", client="operator")


def left(control: Control) -> list[Path]:
    return list((control.folder / "nodes" / "node2" / "restore").iterdir())


def choose(pages: WebconfClient, package: bytes, **fields: str) -> Response:
    """Submit *HSM Guide Setup* with this file."""
    sent = {"csrf": pages.csrf(), "pin_pad": "front-usb", **fields}
    return pages.send("/security/restore-package", sent, package)


def started(pages: WebconfClient, package: bytes) -> str:
    """Submit *Preview Restore* and *Start Restore*. Returns the URL of the guide."""
    place = choose(pages, package).headers["Location"]
    summary = pages.get(place)
    assert "from a package of node1" in summary.text
    names = ("csrf", "pin_pad", "source", "package")
    fields = {name: summary.field(name) for name in names} | {"once": secrets.token_hex(16)}
    first, again = (pages.post("/security/restore", fields) for dummy in range(2))
    assert first.headers["Location"] == again.headers["Location"]
    return first.headers["Location"]


def restored(control: Control, pages: WebconfClient, package: bytes) -> Response:
    place = started(pages, package)
    for card in CARDS:
        control.present_card("node2", card)
    wait_for(lambda: control.node("node2")["running"] is None)
    return pages.get(place)


def run(control: Control) -> dict[str, t.Any]:
    """Run the operation of initial_sync for node2."""
    with connected(control, "node1") as first:
        source = Source.from_dict(first.node().to_dict())
    options = RestoreOptions("node2", source, "front-usb", None, 1.0, WaitOptions(5.0))
    with connected(control, "node2") as joining:
        return restore_hsm(joining, options, dry_run=False, progress=lambda dummy: None)


def test_restore_from_member_rejected_with_remedy(control: Control) -> None:
    """If the node restores from a package only, the error explains the alternative."""
    with pytest.raises(UtrustError, match=r"Nothing was changed\. Restore the HSM in Webconf from a package") as caught:
        run(control)
    assert caught.value.code == "capability_missing"
    assert posts(control, "node2") == []
    response = Api(control, "node2")("GET", "/hsm/restore-preview?pin_pad=front-usb&source=node1")
    assert response.code == "package_required"


@pytest.mark.parametrize("profile", ["restore_from=package", "backup"])
def test_webconf_restore_from_package_verified_by_run(control: Control, pages: WebconfClient, profile: str) -> None:
    """Webconf restores from a package, and the next run verifies the keys."""
    control.set_profile(profile)
    page = restored(control, pages, Api(control, "node1").package())
    assert "node2 holds the MBK and 2 keys" in page.text
    assert control.sign("node2", "key-0001", b"message")
    result = run(control)
    assert (result["changed"], result["in_sync"]) == (False, True)
    assert left(control) == []


def test_restore_old_package_missing_keys_reported(control: Control, pages: WebconfClient, tmp_path: Path) -> None:
    """After a restore from an old package, a run reports the missing keys until they are synchronized."""
    package, before = Api(control, "node1").package(), fingerprints(control, "node1")
    control.generate_key("node1", "laterKey")
    restored(control, pages, package)
    assert fingerprints(control, "node2") == before
    result = run(control)
    assert result["in_sync"] is False
    assert "Run key_sync" in result["warnings"][0]
    tmp_path.chmod(0o700)
    assert Sync(control, tmp_path).run()["in_sync"] is True


def test_restore_invalid_package_rejected_and_deleted(control: Control, pages: WebconfClient) -> None:
    """Invalid packages are rejected and deleted."""
    package = Api(control, "node1").package()
    control.fault("package_cluster")
    foreign = Api(control, "node1").package()
    control.clear_faults()
    for content, fields, code in (
        (b"", {}, "invalid_request"),
        (b"no package", {}, "package_corrupt"),
        (package[:-1], {}, "package_truncated"),
        (foreign, {}, "cluster_mismatch"),
        (package, {"csrf": "x"}, "forbidden"),
        (package, {"pin_pad": "nowhere"}, "pin_pad_not_configured"),
        (package, {"pin_pad": "rack-2"}, "pin_pad_unavailable"),
    ):
        assert choose(pages, content, **fields).code == code
        assert left(control) == []
    assert pages.get(f"/security/restore?pin_pad=front-usb&package={'0' * 32}").code == "not_found"
    assert pages.get("/security/restore?pin_pad=front-usb").code == "package_required"
    control.set_profile("restore_from=member")
    assert choose(pages, package).code == "invalid_request"
    assert (control.node("node2")["mbk"], left(control)) == (None, [])


def test_restore_corrupt_package_fails_after_cards(control: Control, pages: WebconfClient) -> None:
    """A corrupt package fails after the cards were accepted, without changes."""
    package = bytearray(Api(control, "node1").package())
    package[-100] ^= 1  # in the last wrapped key, so the header is valid
    page = restored(control, pages, bytes(package))
    assert (page.code, "The HSM was not changed" in page.text) == ("restore_failed", True)
    assert (control.node("node2")["mbk"], control.keys("node2"), left(control)) == (None, [], [])


def test_restore_keeps_one_package_until_end(control: Control, pages: WebconfClient) -> None:
    """The node keeps one package until its restore ends."""
    package = Api(control, "node1").package()
    for dummy in range(2):
        choose(pages, package)
    assert len(left(control)) == 1
    place = started(pages, package)
    pages.post(f"{place}/cancel", {"csrf": pages.csrf()})
    assert (left(control), control.node("node2")["mbk"]) == ([], None)
