# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reactivate a crypto token of one node, under conditions. Private to keyops.utrust.

A reactivation is an outage: the CAs of the token cannot sign for a moment. Each use of a token with a wrong stored PIN costs a PIN try of the HSM.
"""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.protocol import EjbcaNode
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import ViewProblem


class ReactivationError(UtrustError):
    """A condition is not met, or the token did not come back. Nothing more may be done on this node or on another node."""


class Reactivation:
    """The reactivation of a crypto token in one task. It is attempted at most once."""

    def __init__(
        self,
        ejbca: EjbcaNode | None,
        crypto_token: str | None,
        node: str | None,
        why_not: t.Callable[[], ViewProblem | None] = lambda: None,
    ) -> None:
        """`why_not` returns why the EJBCA view forbids the reactivation, or None."""
        self._ejbca, self._crypto_token, self._why_not = ejbca, crypto_token or "", why_not
        self._action = f"reactivating crypto token {self._crypto_token} of {node or 'the node'}"
        self.attempted = False

    def run(self) -> None:
        """Check the conditions, reactivate the token, and check the health of EJBCA once.

        Raises ReactivationError (`ejbca_not_healthy`, `crypto_token_offline`, or the code of the failed request).
        """
        ejbca = t.cast("EjbcaNode", self._ejbca)
        try:
            self._check_conditions(ejbca)
            self.attempted = True
            ejbca.reactivate(self._crypto_token)
            # EJBCA activates the token with this request. A second request would cost a second PIN try.
            health = ejbca.health()
        except ReactivationError:
            raise
        except UtrustError as exc:
            raise self._error(
                f"{exc}. Check the crypto token in EJBCA's Admin Web before you run again", code=exc.code
            ) from exc
        if health is not None:
            raise self._error(
                f"the health check failed afterwards ({health}). The token may have no auto-activation, and its CAs may be down on this node. "
                "Activate the crypto token in EJBCA's Admin Web now, and set reactivate: false",
                code="crypto_token_offline",
            )

    def _check_conditions(self, ejbca: EjbcaNode) -> None:
        """Check what must hold before the token is deactivated."""
        if (found := self._why_not()) is not None:
            code, reason = found
            raise self._error(f"{reason}. Nothing was changed", code=code)
        if (health := ejbca.health()) is not None:
            raise self._error(
                f"EJBCA is not healthy before the reactivation ({health}). Nothing was changed. "
                "Fix this first. A node in maintenance mode fails the health check, too, so remove its traffic at the load balancer",
                code="ejbca_not_healthy",
            )

    def _error(self, text: str, *, code: str) -> ReactivationError:
        facts = {"changed": True, "reactivated": True} if self.attempted else {}
        return ReactivationError(f"{self._action}: {text}", code=code, **facts)
