# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Registry of transports: how an appliance is reached. Private to keyops.utrust.

A transport is loaded when it is used. The imports are static, because Ansible ships to a bastion only what is imported statically.
"""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.people import People
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_read import ViewSource
    from ansible_collections.keyops.utrust.plugins.module_utils._http import Endpoint


class _Opener(t.Protocol):
    def __call__(self, endpoint: Endpoint, params: t.Mapping[str, t.Any], people: People | None = None) -> Appliance:
        """Open the transport. Nothing is sent yet."""


def _open_rest(endpoint: Endpoint, params: t.Mapping[str, t.Any], people: People | None = None) -> Appliance:
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


def _open_assisted(endpoint: Endpoint, params: t.Mapping[str, t.Any], people: People | None = None) -> Appliance:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.assisted import AssistedAppliance, Place
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.people import people_timeout
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_source import view_source
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.suboptions import FAILING
    from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError

    node, options = params["expect_node"] or params["host"], params["assisted"] or {}
    if options.get("ejbca") is None and options.get("ejbca_unread") is None:
        raise UtrustError(
            f"opening {node}: transport assisted needs the account that reads EJBCA, because EJBCA shows the keys. Nothing was sent. "
            "Set the variable utrust_ejbca_reader_client_cert of this host",
            code="credentials_missing",
        )

    def open_view(again: bool) -> ViewSource:
        if (shared := params.get("shared_view")) is not None:
            return t.cast("ViewSource", shared)
        unread = options.get("ejbca_unread")
        unread = None if again and unread == FAILING else unread
        return view_source(node, {**params, "ejbca": options.get("ejbca"), "ejbca_unread": unread})

    place = Place(node, f"{endpoint.host}:{endpoint.port}", params["page_map"] or "")
    return AssistedAppliance(
        place, params["declared"], options.get("members") or (), open_view, people, people_timeout(params)
    )


#: Transports whose keys are not a complete list of the HSM.
INCOMPLETE_TRANSPORTS: t.Final = frozenset({"assisted", "webconf"})
#: Value of option `transport` -> function that opens the transport. Opening sends nothing.
TRANSPORTS: t.Final[dict[str, _Opener]] = {"rest": _open_rest, "assisted": _open_assisted}
