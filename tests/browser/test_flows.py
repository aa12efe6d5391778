# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Both flows of the vendor's page on three nodes, with its steps and strings, including PIN pads."""

from __future__ import annotations

import typing as t

import pytest
from playwright.sync_api import expect
from utrust_appliance.testing import Api, cluster

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from utrust_appliance.control import Control

    from tests.support.browser_user import BrowserUser


@pytest.fixture
def control() -> Iterator[Control]:
    """node1 has the keys, and node2 and node3 are joined and in Factory Reset Mode."""
    with cluster(nodes=3, keys=6) as running:
        yield running


def initial_synchronization(operator: BrowserUser, holder: BrowserUser, node: str, pictures: bool) -> None:
    def picture(browser_user: BrowserUser, name: str) -> None:
        browser_user.check()
        if pictures:
            browser_user.picture(name)

    page = operator.page
    page.get_by_role("link", name="Security").click()
    field = page.get_by_role("region", name="HSM Configuration")
    expect(field.get_by_text("Factory Reset Mode")).to_be_visible()
    red = "getComputedStyle(document.querySelector('.state-field')).backgroundColor"
    assert page.evaluate(red) == "rgb(166, 27, 27)"
    picture(operator, "1-factory-reset-mode")
    field.get_by_role("button", name="Synchronize HSM").click()

    setup = page.get_by_role("dialog", name="HSM Guide Setup")
    pads = setup.get_by_label("Choose PIN pad")
    assert [text.split()[0] for text in pads.locator("option").all_text_contents()] == ["front-usb", "rack-2"]
    picture(operator, "2-guide-setup")
    pads.select_option("front-usb")
    setup.get_by_role("button", name="Preview Restore").click()

    summary = page.get_by_role("dialog", name="HSM Guided Restore Summary")
    expect(summary).to_contain_text("Be aware that PIN Pad interactions are required!")
    expect(summary).to_contain_text("Make sure to have the MBK Cards in reach")
    expect(summary).to_contain_text("Required cards: 2 of 3")
    expect(summary).to_contain_text(operator.control.node(node)["serial"])
    picture(operator, "3-summary")
    summary.get_by_role("button", name="Start Restore").click()

    guide = page.get_by_role("dialog")
    expect(guide).to_contain_text("Insert MBK card 1 of 2")
    pad = holder.go_to_pin_pad(node)
    expect(pad.get_by_role("status")).to_contain_text("Insert MBK card 1 of 2")
    picture(holder, "4-pin-pad-asks-for-a-card")
    pad.get_by_role("button", name="KEYOPS-2 Insert").click()
    expect(pad.get_by_role("status")).to_contain_text("Enter the PIN of MBK card 1 of 2")
    expect(guide).to_contain_text("Enter the PIN of MBK card 1 of 2")
    for digit in operator.control.pin_of("KEYOPS-2"):
        pad.get_by_role("button", name=digit, exact=True).click()
    assert pad.get_by_label("PIN", exact=True).get_attribute("type") == "password"
    picture(holder, "5-pin-pad-asks-for-a-pin")
    pad.get_by_role("button", name="OK").click()
    expect(guide).to_contain_text("MBK card 1 of 2: accepted")
    picture(operator, "6-guide")
    holder.present_card("KEYOPS-3")
    expect(guide).to_contain_text(f"{node} holds the MBK and 6 keys")
    expect(pad.get_by_role("status")).to_contain_text("Done")
    picture(operator, "7-restored")
    guide.get_by_role("button", name="Finish").click()
    expect(page.get_by_role("region", name="HSM Configuration").get_by_text("Operational")).to_be_visible()
    picture(operator, "8-operational")


def synchronize_key_material(operator: BrowserUser, node: str, package: Path, new_key: str, *, drop: bool) -> None:
    page = operator.page
    page.get_by_role("navigation", name="Cluster menu bar").get_by_role("link", name=node).click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    page.get_by_role("link", name="Security").click()
    section = page.get_by_role("region", name="Key Synchronization")
    expect(section).to_contain_text("Select a File or Drag and Drop")
    expect(section.locator("button")).to_have_text(["Download Cluster Key Synchronization Package", "Upload"])
    if drop:
        dropped = page.evaluate_handle(
            """async (bytes) => {
                const transfer = new DataTransfer();
                transfer.items.add(new File([new Uint8Array(bytes)], "dropped.ksp"));
                return transfer;
            }""",
            list(package.read_bytes()),
        )
        section.locator("#drop").dispatch_event("drop", {"dataTransfer": dropped})
        expect(section.get_by_role("status")).to_contain_text("dropped.ksp")
    else:
        with page.expect_file_chooser() as chooser:
            section.get_by_text("Select a File").click()
        chooser.value.set_files(package)
        expect(section.get_by_role("status")).to_contain_text(package.name)
        operator.check()
        operator.picture("9-upload")
    section.get_by_role("button", name="Upload").click()
    result = page.get_by_role("dialog", name="Restore Keys from Key Synchronization Package")
    expect(result.get_by_role("row", name=new_key)).to_contain_text("restored")
    expect(result.get_by_role("row", name="signKey-2025")).to_contain_text("unchanged")
    assert result.get_by_role("row").count() == 8  # the header and seven keys
    operator.check()
    operator.picture("10-restored-keys")
    result.get_by_role("button", name="Finish").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("link", name="Overview").click()
    expect(page.get_by_role("row", name=new_key)).to_be_visible()


def test_restore_from_package_requires_file(browser_user: Callable[..., BrowserUser]) -> None:
    """If the profile requires a package, HSM Guide Setup has a file field that is not on the vendor's page."""
    with cluster(nodes=2, keys=6, profile=["restore_from=package"]) as control:
        package = Api(control, "node1").package()
        operator, holder = browser_user(control, certificate="operator"), browser_user(control)
        page = operator.visit("node2", "/security")
        page.get_by_role("button", name="Synchronize HSM").click()
        setup = page.get_by_role("dialog", name="HSM Guide Setup")
        setup.get_by_label("Choose PIN pad").select_option("front-usb")
        file = setup.get_by_label("Cluster Key Synchronization Package of the restore")
        file.set_input_files({"name": "a.ksp", "mimeType": "", "buffer": package})
        operator.check()
        setup.get_by_role("button", name="Preview Restore").click()
        summary = page.get_by_role("dialog", name="HSM Guided Restore Summary")
        expect(summary).to_contain_text("6, from a package of node1")
        operator.check()
        summary.get_by_role("button", name="Start Restore").click()
        expect(page.get_by_role("dialog")).to_contain_text("Insert MBK card 1 of 2")
        holder.go_to_pin_pad("node2")
        for card in ("KEYOPS-1", "KEYOPS-2"):
            holder.present_card(card)
        expect(page.get_by_role("dialog")).to_contain_text("node2 holds the MBK and 6 keys")
        page.get_by_role("button", name="Finish").click()
        expect(page.get_by_role("region", name="HSM Configuration").get_by_text("Operational")).to_be_visible()


def test_vendor_flows_give_same_keys(
    control: Control, browser_user: Callable[..., BrowserUser], tmp_path: Path
) -> None:
    """Both flows of the vendor's page give all nodes the same keys."""
    operator, holder = browser_user(control), browser_user(control)
    for node in ("node2", "node3"):
        operator.log_in(node)
        initial_synchronization(operator, holder, node, pictures=node == "node2")
    digests = {node["keys_digest"] for node in control.status()["nodes"]}
    assert len(digests) == 1

    control.generate_key("node1", "signKey-2026", "rsa-3072")
    page = operator.log_in("node1")
    page.get_by_role("link", name="Security").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download Cluster Key Synchronization Package").click()
    package = tmp_path / download.value.suggested_filename
    assert package.suffix == ".ksp"
    download.value.save_as(package)
    for node in ("node2", "node3"):
        synchronize_key_material(operator, node, package, "signKey-2026", drop=node == "node3")
    nodes = control.status()["nodes"]
    assert {node["keys_digest"] for node in nodes} == {nodes[0]["keys_digest"]}
    assert {node["key_count"] for node in nodes} == {7}
