# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The refusals of the ejbca."""

from __future__ import annotations


class EjbcaError(Exception):
    """A refusal, with the HTTP status that its REST interface answers it with.

    EJBCA's documentation names the shape of an error, but not which status goes with which: those are this stand-in's choice.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class TokenOfflineError(EjbcaError):
    """The crypto token, or a key in it, is not there for the application of this node."""

    def __init__(self, message: str) -> None:
        super().__init__(503, message)
