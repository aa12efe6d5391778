# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A person at Webconf, who does the steps of the transport `assisted` in the simulator."""

from __future__ import annotations

import hashlib
import re
import time
import typing as t

from tests.support.playbook import card_holders
from tests.support.webconf_client import Response, WebconfClient

if t.TYPE_CHECKING:
    from utrust_appliance.control import Control

PIN_PAD = "front-usb"


class DownloadedPackage(t.NamedTuple):
    """A package on the computer of the person. `sha256` has its prefix, and `size` is the decimal number of bytes, as a person gives them."""

    content: bytes
    sha256: str
    size: str


class WebconfPerson:
    """A person with the password of Webconf, who is at one node at a time."""

    def __init__(self, control: Control, name: str = "Alice") -> None:
        self.control, self.name = control, name
        #: The package of the last download.
        self.package: DownloadedPackage | None = None

    def download(self, node: str) -> DownloadedPackage:
        """Download the package of a node, and compute its SHA-256 and size."""
        client = self._at_security(node, "Download Cluster Key Synchronization Package")
        response = client.post("/security/package", {"csrf": client.csrf()})
        assert response.status == 200, response.code
        content = response.content
        self.package = DownloadedPackage(content, f"sha256:{hashlib.sha256(content).hexdigest()}", str(len(content)))
        return self.package

    def upload(self, node: str, content: bytes | None = None) -> str:
        """Upload the package of the last download, or other content, and press Finish. Returns the text of the dialog."""
        if content is None:
            assert self.package is not None
            content = self.package.content
        client = self._at_security(node, "Upload")
        response = client.upload(content)
        assert response.status == 303, response.code
        dialog = client.get(response.headers["Location"]).text
        assert "Restore Keys from Key Synchronization Package" in dialog
        assert '<button class="main" autofocus>Finish</button>' in dialog
        assert client.get("/security").status == 200
        return dialog

    def restore(self, node: str, cards: t.Sequence[str] | None = None, *, timeout: float = 60) -> None:
        """Do the guided restore with card holders at the PIN pad, up to Finish. Raises AssertionError after `timeout` seconds."""
        client = self._at_security(node, "Synchronize HSM")
        assert "Choose PIN pad" in client.get("/security/synchronize").text
        summary = client.get(f"/security/restore?pin_pad={PIN_PAD}")
        assert "HSM Guided Restore Summary" in summary.text, summary.code
        fields = {name: self._dialog_field(summary, name) for name in ("csrf", "once", "pin_pad", "source")}
        with card_holders(self.control, node, cards=cards):
            response = client.post("/security/restore", fields)
            assert response.status == 303, response.code
            guide = response.headers["Location"]
            deadline = time.monotonic() + timeout
            while "data-done" not in (page := client.get(guide).text):
                assert time.monotonic() < deadline, page
                time.sleep(0.1)
        assert '<p class="notice good">' in page, page

    def confirmation(self, node: str, step: str, **values: str) -> dict[str, str]:
        """Return the confirmation of a step. Steps of a package get the digest of the last download, and its size at the source."""
        if self.package is not None and step != "hsm_restored":
            values = {"sha256": self.package.sha256, **values}
            if step == "package_downloaded":
                values = {"size": self.package.size, **values}
        if step == "hsm_restored":
            values = {"hsm_serial": self.control.node(node)["serial"], **values}
        return {"node": node, "step": step, "confirmed_by": self.name, **values}

    def act(self, node: str, step: str) -> dict[str, str]:
        """Do a step at Webconf, and return its confirmation."""
        if step == "package_downloaded":
            self.download(node)
        elif step == "package_uploaded":
            self.upload(node)
        elif step == "hsm_restored":
            self.restore(node)
        else:
            assert step == "package_destroyed"
        return self.confirmation(node, step)

    def _at_security(self, node: str, button: str) -> WebconfClient:
        """Log in, open the page Security and look for a button. *Initialize HSM* on the page is a stop."""
        client = WebconfClient(self.control, node)
        assert client.log_in().status == 303
        page = client.get("/security").text
        assert "Initialize HSM" not in page
        assert re.search(rf"<button[^>]*>{button}</button>", page), page
        return client

    @staticmethod
    def _dialog_field(page: Response, name: str) -> str:
        """The field of the dialog, which follows the forms of the page with the same names."""
        found: list[str] = re.findall(rf'name="{name}" value="([^"]*)"', page.text)
        assert found, name
        return found[-1]
