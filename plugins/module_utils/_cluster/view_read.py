# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the EJBCA view of one node of a cluster. Private to keyops.utrust.

Each failure is a result of this view, so that it hides neither the keys of the HSM nor another node.
"""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import ViewProblem
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._runner import coded_errors

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.client import AdminWeb
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.identity import NodeIdentity
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import EjbcaView


class ViewReading(t.NamedTuple):
    """What was read from EJBCA of one node. `problem` is why `view` is missing.

    `identity` is what the server showed of itself, or None without a connection. `left_out` is whether a person excluded the view of this node.
    `listed` is whether the list of crypto tokens was requested, which can try the PIN of a crypto token.
    """

    view: EjbcaView | None = None
    identity: NodeIdentity | None = None
    problem: ViewProblem | None = None
    left_out: bool = False
    listed: bool = False


class ViewSource(t.Protocol):
    """The EJBCA of one node."""

    @property
    def listed(self) -> bool:
        """Whether the list of crypto tokens was requested."""

    def read(self) -> ViewReading:
        """Read the view. A failure is a part of the reading."""

    def abort(self) -> None:
        """Make `read` return soon. Another thread calls it."""


class UnreadView:
    """An EJBCA that is never contacted, with the reason as its reading."""

    listed = False

    def __init__(self, problem: ViewProblem, *, left_out: bool = False) -> None:
        self._reading = ViewReading(problem=problem, left_out=left_out)

    def read(self) -> ViewReading:
        return self._reading

    def abort(self) -> None:
        pass


class AdminWebView:
    """The Admin Web of a node. `open_admin_web` sends nothing yet, and `port` is the port of EJBCA."""

    def __init__(self, open_admin_web: t.Callable[[], AdminWeb], port: int) -> None:
        self._open = open_admin_web
        self._port = port
        self._admin_web: AdminWeb | None = None

    @property
    def listed(self) -> bool:
        return self._admin_web is not None and self._admin_web.listed

    def read(self) -> ViewReading:
        # Most readings of a cluster have no view, and do not load this code.
        from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.read import Selection, read_view

        try:
            with coded_errors(), contextlib.ExitStack() as undo:
                self._admin_web = self._open()
                undo.callback(self._admin_web.close)
                view = read_view(self._admin_web, Selection())
        except UtrustError as exc:
            return ViewReading(identity=self._identity(None), problem=problem_of(exc), listed=self.listed)
        return ViewReading(view, self._identity(view.host_name), listed=self.listed)

    def abort(self) -> None:
        if self._admin_web is not None:
            self._admin_web.client.abort()

    def _identity(self, host_name: str | None) -> NodeIdentity | None:
        from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.identity import NodeIdentity

        peer = self._admin_web.peer if self._admin_web is not None else None
        if peer is None:
            return None
        return NodeIdentity(peer.address, self._port, peer.certificate_fingerprint, host_name)


def problem_of(error: UtrustError) -> ViewProblem:
    """Return an error as the reason why a view is unknown."""
    return ViewProblem(error.code, " ".join(str(error).split()))
