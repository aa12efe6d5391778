# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of the collection. Private to keyops.utrust.

The message of an error states what failed, why, and what to do. `code` is stable.
"""

from __future__ import annotations

import typing as t


class Problem(t.NamedTuple):
    """One reason to stop. `code` is stable, `text` is the reason, and `remedy` is an instruction. Neither ends with a period.

    `remedy` is empty if the text already says what to do.
    """

    code: str
    node: str
    text: str
    remedy: str

    @property
    def line(self) -> str:
        """The problem for people, without a period at the end."""
        return f"{self.node}: {self.code}: {self.text}" + (f". Fix: {self.remedy}" if self.remedy else "")

    def to_dict(self) -> dict[str, str]:
        return self._asdict()


class UtrustError(Exception):
    """An operation failed. `details` holds the machine-readable part of the failure."""

    def __init__(self, message: str, *, code: str, **details: t.Any) -> None:
        super().__init__(message)
        self.code = code
        self.details: dict[str, t.Any] = {"code": code, **details}

    def with_context(self, action: str, remedy: str) -> t.Self:
        """Return the same error with the failed action before its message and a remedy after its message."""
        details = {name: value for name, value in self.details.items() if name != "code"}
        return type(self)(f"{action}: {self}. {remedy}", code=self.code, **details)


class PreflightError(UtrustError):
    """Preflight checks found problems. Nothing was changed."""


class ApiError(UtrustError):
    """The server rejected a request, or its response violates the contract."""


class UnreachableError(UtrustError):
    """No response arrived, and nothing can have changed."""


class ResponseLostError(UtrustError):
    """The response to a request was lost, and something may have changed."""


class RequestLostError(ResponseLostError):
    """The response was lost, and the node shows that it did not act on the request."""


def raise_for_problems(action: str, problems: t.Sequence[Problem]) -> None:
    """Raise `PreflightError` if the list is not empty. The message has one line for each problem."""
    if problems:
        lines = "".join(f"\n{problem.line}." for problem in problems)
        raise PreflightError(
            f"{action}: {len(problems)} problem(s) found, nothing was changed:{lines}",
            code=problems[0].code,
            problems=[problem.to_dict() for problem in problems],
        )
