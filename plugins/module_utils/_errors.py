# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of the collection. Private to keyops.utrust.

An error says what was action, what came back and what to do, and carries a stable code in its facts.
"""

from __future__ import annotations

import typing as t


class Problem(t.NamedTuple):
    """One reason not to go on: `code` is stable, `text` says what is wrong, `remedy` what to do."""

    code: str
    node: str
    text: str
    remedy: str

    def to_dict(self) -> dict[str, str]:
        return self._asdict()


class UtrustError(Exception):
    """An operation could not be done; `details` are the machine-readable parts of the failure."""

    def __init__(self, message: str, *, code: str, **details: t.Any) -> None:
        super().__init__(message)
        self.code = code
        self.details: dict[str, t.Any] = {"code": code, **details}

    def with_context(self, action: str, remedy: str) -> t.Self:
        """The same error, told as part of what was action, with what to do."""
        details = {name: value for name, value in self.details.items() if name != "code"}
        return type(self)(f"{action}: {self}; {remedy}", code=self.code, **details)


class PreflightError(UtrustError):
    """A preflight found problems; nothing has been changed."""


class ApiError(UtrustError):
    """The node answered, and the answer is a refusal or not what the contract allows."""


class UnreachableError(UtrustError):
    """No connection, or no answer to a request that changes nothing."""


class ResponseLostError(UtrustError):
    """The answer to a request that may have changed something was lost, and reading the node did not settle it."""


def raise_for_problems(action: str, problems: t.Sequence[Problem]) -> None:
    """Raise `PreflightError` with every problem at once, if there is one."""
    if problems:
        lines = "; ".join(f"{problem.text} [{problem.code}] - {problem.remedy}" for problem in problems)
        raise PreflightError(
            f"{action}: {len(problems)} problem(s) found, nothing was changed: {lines}",
            code=problems[0].code,
            problems=[problem.to_dict() for problem in problems],
        )
