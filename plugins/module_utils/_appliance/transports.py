# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Registry of transports: how an appliance is reached. Private to keyops.utrust.

A transport is loaded when it is used. The imports are static, because Ansible ships to a bastion only what is imported statically.
"""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance
    from ansible_collections.keyops.utrust.plugins.module_utils._http import Endpoint


def _open_rest(endpoint: Endpoint, params: t.Mapping[str, t.Any]) -> Appliance:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.claim import HEADER
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.rest import APPLIANCE_API, RestAppliance
    from ansible_collections.keyops.utrust.plugins.module_utils._json_client import JsonClient
    from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_LOOKUP_TIME
    from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions

    token = params.get("cluster_claim")
    client = JsonClient(
        endpoint,
        APPLIANCE_API,
        bearer_token=params["bearer_token"],
        headers={HEADER: token} if token is not None else {},
        retries=params["retries"],
    )
    # The time of the operation, if the operation has one.
    timeout = params.get("wait_timeout") or params.get("restore_timeout") or 2 * endpoint.timeout
    return RestAppliance(client, WaitOptions(min(timeout, MAX_LOOKUP_TIME)))


#: Value of option `transport` -> function that opens the transport. Opening sends nothing.
TRANSPORTS: t.Final[dict[str, t.Callable[[Endpoint, t.Mapping[str, t.Any]], Appliance]]] = {"rest": _open_rest}
