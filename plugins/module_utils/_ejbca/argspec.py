# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Option `ejbca` of the modules that use EJBCA. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Params, make_endpoint

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._http import Endpoint


def ejbca_endpoint(params: Params) -> Endpoint:
    """Return where EJBCA is and how both sides authenticate. Raises UtrustError (`host_invalid`, `option_invalid`)."""
    return make_endpoint(params, params["ejbca"], "ejbca.")
