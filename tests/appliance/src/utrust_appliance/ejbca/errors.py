# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of the simulated EJBCA."""

from __future__ import annotations


class EjbcaError(Exception):
    """A rejected request with its HTTP status.

    EJBCA documents the format of errors, but not the HTTP status of each error. The simulator defines these statuses.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class TokenOfflineError(EjbcaError):
    """The crypto token or a key is not available to the EJBCA of this node."""

    def __init__(self, message: str) -> None:
        super().__init__(503, message)


class PinError(EjbcaError):
    """The HSM rejected the PIN of a slot."""

    def __init__(self, message: str) -> None:
        super().__init__(403, message)
