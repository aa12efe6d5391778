# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The EJBCA of a node by its options, or why it is not contacted. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_read import AdminWebView, UnreadView
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.argspec import ejbca_endpoint
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.suboptions import FAILING, LEFT_OUT
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import ViewProblem

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Params
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_read import ViewReading, ViewSource
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.client import AdminWeb


def view_source(host: str, params: Params) -> ViewSource:
    """Return the EJBCA of a node. `params` are validated options with `ejbca` and `ejbca_unread`."""
    if params["ejbca_unread"] == LEFT_OUT:
        text = f"the variable utrust_ejbca_view of {host} is false, so its EJBCA was not contacted. Remove the variable to read the view again"
        return UnreadView(ViewProblem("ejbca_view_left_out", text), left_out=True)
    if params["ejbca_unread"] == FAILING:
        text = "an earlier task of this run found a crypto token of this node that cannot be activated, so EJBCA was not contacted again"
        return UnreadView(ViewProblem("token_activation_failing", text))
    if params["ejbca"] is None:
        text = f"the account that reads EJBCA of {host} is not set. Set the variable utrust_ejbca_reader_client_cert of this host"
        return UnreadView(ViewProblem("credentials_missing", text))
    return AdminWebView(lambda: _open_admin_web(params), params["ejbca"]["port"])


def _open_admin_web(params: Params) -> AdminWeb:
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.client import AdminWeb

    return AdminWeb(ejbca_endpoint(params), retries=params["retries"])


class SharedView:
    """A view that is read once, for a node whose keys are those of the view."""

    def __init__(self, view: ViewSource) -> None:
        self._view = view
        self._reading: ViewReading | None = None

    @property
    def listed(self) -> bool:
        return self._view.listed

    def read(self) -> ViewReading:
        if self._reading is None:
            self._reading = self._view.read()
        return self._reading

    def abort(self) -> None:
        self._view.abort()
