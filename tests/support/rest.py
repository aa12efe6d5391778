# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections of transport `rest` to the appliance simulator."""

from __future__ import annotations

import contextlib
import io
import time
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.rest import APPLIANCE_API, RestAppliance
from ansible_collections.keyops.utrust.plugins.module_utils._http import Endpoint
from ansible_collections.keyops.utrust.plugins.module_utils._json_client import JsonClient
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MIN_LOOKUP_TIME
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Import, Package
    from utrust_appliance.control import Control


def endpoint(control: Control, node: str = "node1", **changes: t.Any) -> Endpoint:
    """Return an endpoint with client certificate, CA and pin. `changes` replaces its fields."""
    facts = control.node(node)
    certificate, key = control.client("operator")
    defaults: dict[str, t.Any] = {
        "host": facts["address"],
        "port": facts["port"],
        "client_cert": str(certificate),
        "client_key": str(key),
        "ca_file": str(control.ca_file),
        "tls_fingerprint": (facts["tls_fingerprint"],),
        "connect_timeout": 10.0,
        "timeout": 30.0,
    }
    return Endpoint(**{**defaults, **changes})


def fast_patience() -> WaitOptions:
    """Return the time of the contract to list an object, on a clock that runs so fast that it takes one second."""
    speed = MIN_LOOKUP_TIME
    return WaitOptions(
        MIN_LOOKUP_TIME, clock=lambda: speed * time.monotonic(), sleep=lambda seconds: time.sleep(seconds / speed)
    )


@contextlib.contextmanager
def connected(
    control: Control, node: str = "node1", *, retries: int = 0, bearer_token: str | None = None, **changes: t.Any
) -> Iterator[RestAppliance]:
    """Open one node. Retries do not sleep. A lost response is looked up for the time of the contract, which passes in one second."""
    client = JsonClient(
        endpoint(control, node, **changes),
        APPLIANCE_API,
        bearer_token=bearer_token,
        retries=retries,
        sleep=lambda dummy: None,
    )
    try:
        yield RestAppliance(client, fast_patience())
    finally:
        client.close()


def downloaded(appliance: RestAppliance) -> tuple[Package, io.BytesIO]:
    """Return a package of the current keys, and its content."""
    package = appliance.create_package(appliance.node().keys_digest)
    content = io.BytesIO()
    appliance.download_package(package, content)
    content.seek(0)
    return package, content


def staged(appliance: RestAppliance, package: Package, content: io.BytesIO) -> Import:
    content.seek(0)
    assert package.size is not None
    assert package.sha256 is not None
    return appliance.stage_import(content, package.size, package.sha256, appliance.node().keys_digest)
