# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action plugin utrust_view_verdict. It runs on the controller only."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._operations.cluster_info import READ_SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._run.life import require_run
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.preflight import problems_result
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.view_verdict import (
    HostView,
    refusals,
    verdict,
    views_of,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._judging_action import JudgingActionBase

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Spec
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view import ClusterView

Arguments = dict[str, t.Any]
BEFORE, AFTER, IN_SYNC = "before_imports", "after_imports", "in_sync"
#: Seconds between two readings. Each page is a record in the audit log of EJBCA.
INTERVAL: t.Final = 10.0

SPEC: t.Final[Spec] = {
    **READ_SPEC,
    "phase": {"type": "str", "choices": [BEFORE, AFTER, IN_SYNC], "required": True},
    "planned": {"type": "dict", "required": True},
    "active_tokens": {"type": "dict", "default": {}, "no_log": False},
    "operator_present": {"type": "bool", "default": False},
    "ejbca_view_timeout": {"type": "float", "default": 150.0},
}


class ActionModule(JudgingActionBase):
    name = "utrust_view_verdict"
    spec = SPEC

    def reading_needed(self, params: Arguments) -> bool:
        return params["phase"] == BEFORE or not self._task.check_mode

    def _read(self, arguments: Arguments, variables: Arguments, keys: bool) -> ClusterReading:
        self._again = lambda: super(ActionModule, self)._read({**arguments, "ejbca_view": True}, variables, keys)
        return self._again()

    def judge(self, reading: ClusterReading | None, params: Arguments, variables: Arguments) -> Arguments:
        hosts = params["hosts"]
        if reading is None:
            lines = [f"{host}: EJBCA view: unknown in check mode" for host in hosts]
            return {"verified": None, "views": lines, "msg": "EJBCA views of the targets"}
        views = _views(reading, params)
        if params["phase"] != BEFORE:
            return verdict(self._wait(views, params))
        if problems := refusals(views):
            return problems_result(f"synchronizing from {params['source']}", problems)
        active = {view.host: [list(token) for token in view.active] for view in views}
        return {"verified": None, "views": [], "active_tokens": active, "msg": "EJBCA views of the targets"}

    def _wait(self, views: list[HostView], params: Arguments) -> list[HostView]:
        """Return the views as soon as they show the added keys, or when the time is over."""
        timeout, started, last = params["ejbca_view_timeout"], time.monotonic(), ""
        while failed := [view for view in views if view.verified is False]:
            if not all(view.can_follow for view in failed):
                break
            if time.monotonic() - started + INTERVAL > timeout:
                break
            line = ". ".join(view.line() for view in failed)
            if line != last:
                self._show_progress(f"waiting for EJBCA for up to {timeout:g} s: {line}")
            last = line
            time.sleep(INTERVAL)
            require_run()
            views = _views(self._again(), params)
        return views


def _views(reading: ClusterReading, params: Arguments) -> list[HostView]:
    return views_of(
        t.cast("ClusterView", reading.view),
        params["planned"],
        params["hosts"],
        every_key=params["phase"] == IN_SYNC,
        active_tokens=params["active_tokens"],
        operator_present=params["operator_present"],
    )
