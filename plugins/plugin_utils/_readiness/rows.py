# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows of readiness: one for each node and step. Pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._report.columns import aligned

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem, UtrustError

State = t.Literal["observed", "declared", "not checked", "refused"]
OBSERVED: t.Final = "observed"
DECLARED: t.Final = "declared"
NOT_CHECKED: t.Final = "not checked"
REFUSED: t.Final = "refused"


class Row(t.NamedTuple):
    """What is known of one step of a node. `text` and `remedy` are for people, without a period at the end. `code` is set if the step is refused."""

    node: str
    step: str
    state: State
    text: str
    remedy: str = ""
    code: str = ""


def refused(node: str, step: str, problem: Problem) -> Row:
    return Row(node, step, REFUSED, problem.text, problem.remedy, problem.code)


def refused_by(node: str, step: str, error: UtrustError) -> Row:
    return Row(node, step, REFUSED, " ".join(str(error).split()), "", error.code)


def format_rows(rows: t.Sequence[Row]) -> list[str]:
    """Return one aligned line for each row, with the code at the end."""
    return aligned([("node", "step", "state", "result"), *((*_head(row), _result(row)) for row in rows)])


def _head(row: Row) -> tuple[str, str, str]:
    return row.node, row.step, row.state.upper() if row.state == REFUSED else row.state


def _result(row: Row) -> str:
    fix = f". Fix: {row.remedy}" if row.remedy else ""
    return f"{row.text}{fix}" + (f" [{row.code}]" if row.code else "")


def summary(rows: t.Sequence[Row]) -> str:
    """Return the line that counts the states."""
    counts = {state: sum(row.state == state for row in rows) for state in t.get_args(State)}
    return ", ".join(f"{count} {state}" for state, count in counts.items())
