# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read one node in one thread: the appliance, then the EJBCA view. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_read import ViewReading
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import ViewProblem
from ansible_collections.keyops.utrust.plugins.module_utils._errors import PreflightError, UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._runner import coded_errors

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_read import ViewSource

T = t.TypeVar("T")


class Found(t.NamedTuple, t.Generic[T]):
    """What `read` returned or raised, and the EJBCA view, or None if nobody asked for the view."""

    result: T | UtrustError
    view: ViewReading | None


class NodeJob(t.Generic[T]):
    """`open_appliance` sends nothing yet, and `read` reads the appliance. `view` is the EJBCA of the same node.

    `is_source` is whether the reading of the cluster ends if the appliance cannot be read. Its EJBCA is not contacted then.
    """

    def __init__(
        self,
        open_appliance: t.Callable[[], Appliance],
        read: t.Callable[[Appliance], T],
        view: ViewSource | None,
        *,
        is_source: bool = False,
    ) -> None:
        self._is_source = is_source
        self._open, self._read, self._view = open_appliance, read, view
        self._appliance: Appliance | None = None
        self._result: T | UtrustError | None = None
        self._aborted = False

    def run(self) -> Found[T]:
        self._result = self._read_appliance()
        return Found(self._result, self._read_view(self._result))

    def abort(self) -> None:
        self._aborted = True
        if self._appliance is not None:
            self._appliance.abort()
        if self._view is not None:
            self._view.abort()

    def partial(self) -> Found[T] | None:
        """Return what was read of the appliance when the view exceeds the time of the node."""
        if self._result is None:
            return None
        text = "the EJBCA of this node did not send its view within the time for the node. Check EJBCA, or set a longer node_timeout"
        listed = self._view is not None and self._view.listed
        return Found(self._result, ViewReading(problem=ViewProblem("node_read_timeout", text), listed=listed))

    def _read_appliance(self) -> T | UtrustError:
        try:
            with coded_errors():  # an unexpected error of one node must not end the reading of the others
                self._appliance = self._open()
                try:
                    return self._read(self._appliance)
                finally:
                    self._appliance.close()
        except UtrustError as exc:
            return exc

    def _read_view(self, result: T | UtrustError) -> ViewReading | None:
        if self._view is None or (self._is_source and isinstance(result, UtrustError)):
            return None
        if self._aborted:
            return ViewReading(problem=ViewProblem("node_read_timeout", "the time for the node was over"))
        if isinstance(result, PreflightError):  # another node responded, and nobody knows whether that node has joined
            return ViewReading(
                problem=ViewProblem(result.code, "the node was not identified, so its EJBCA was not contacted")
            )
        return self._view.read()
