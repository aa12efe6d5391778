# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows of one node from what was read of it. Pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import UNKNOWN
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.page_map import PAGE_MAPS
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.transports import INCOMPLETE_TRANSPORTS
from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem, UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.cluster import check_backup, parse_time
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import (
    check_clock_skew,
    check_compatibility,
    check_driver_and_jobs,
    check_mbk,
    describe_state,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.preflight import source_facts
from ansible_collections.keyops.utrust.plugins.plugin_utils._connection import is_blank
from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness.rows import (
    DECLARED,
    NOT_CHECKED,
    OBSERVED,
    Row,
    refused,
)

if t.TYPE_CHECKING:
    import datetime

    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Node
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import NodeReading

NOT_READ: t.Final = "the node was not read"


class Rules(t.NamedTuple):
    """What the operator requires. Times have their unit in the name. `confirmed_backups` has the text of the confirmation of each node."""

    max_clock_skew: float
    min_certificate_days: float
    max_backup_hours: float | None
    confirmed_backups: t.Mapping[str, str]
    now: datetime.datetime


class NodeContext(t.NamedTuple):
    """A node that has joined. `source` is the source node, or None if it was not read. `server_time` is the time that its EJBCA shows."""

    host: str
    transport: str
    page_map: t.Any
    reading: NodeReading | None
    source: Node | None
    server_time: str | None
    #: Seconds since the reading of the cluster began.
    elapsed: float

    @property
    def incomplete(self) -> bool:
        return self.transport in INCOMPLETE_TRANSPORTS

    @property
    def read(self) -> t.Literal["observed", "declared"]:
        """The state of a fact that the transport returned."""
        return DECLARED if self.incomplete else OBSERVED


def fact_rows(context: NodeContext, rules: Rules) -> list[Row]:
    """Return the rows about the facts of the node."""
    host, node = context.host, context.reading.node if context.reading is not None else None
    if node is None:
        steps = ("versions", "mbk", "import_behavior", "backup", "clock")
        return [_page_map(context), *(Row(host, step, NOT_CHECKED, NOT_READ) for step in steps)]
    return [
        _page_map(context),
        _versions(context, node),
        _mbk(context, node),
        _import_behavior(context, node),
        *_backup(context, node, rules),
        _clock(context, node, rules),
    ]


def _page_map(context: NodeContext) -> Row:
    host, step, given = context.host, "page_map", context.page_map
    remedy = "set utrust_page_map to a or b, after you compared the words of Webconf with docs/real-appliance.md"
    if not is_blank(given) and str(given).strip() in PAGE_MAPS:
        return Row(host, step, DECLARED, f"Webconf has the words of page map {str(given).strip()}")
    if not is_blank(given):
        text = f"the page map {given!r:.40} is unknown"
        return refused(host, step, Problem("page_map_unknown", host, text, remedy))
    if context.incomplete:
        return refused(host, step, Problem("page_map_unknown", host, "the page map is not set", remedy))
    return Row(host, step, NOT_CHECKED, f"transport {context.transport} does not use the pages of Webconf")


def _versions(context: NodeContext, node: Node) -> Row:
    problems = check_compatibility(node, source_facts(context.source)) if context.source is not None else []
    if problems:
        return _refused(context.host, "versions", problems)
    text = (
        f"appliance {node.appliance_version or UNKNOWN}, HSM {node.hsm_model}, firmware {node.hsm_firmware or UNKNOWN}"
    )
    return Row(context.host, "versions", context.read, text)


def _mbk(context: NodeContext, node: Node) -> Row:
    host, source = context.host, context.source
    if node.mbk is None:
        text = f"the HSM is {describe_state(node)}, and shows no MBK"
        return Row(
            host, "mbk", NOT_CHECKED, text, "restore the HSM with the MBK cards (initial_sync), then check again"
        )
    problems = check_mbk(node, source_facts(source)) if source is not None and source.mbk is not None else []
    return _refused(host, "mbk", problems) if problems else Row(host, "mbk", context.read, f"MBK {node.mbk}")


def _import_behavior(context: NodeContext, node: Node) -> Row:
    """The effect of an import and a restart after it can only be known after somebody has tried."""
    effect, restart = node.import_behavior.effect, node.import_behavior.restart
    text = f"effect of an import: {effect}, restart after an import: {restart}"
    if UNKNOWN in (effect, restart):
        remedy = "try an import on a test cluster, and declare the result. Until then the worst case counts"
        return Row(context.host, "import_behavior", NOT_CHECKED, text, remedy)
    return Row(context.host, "import_behavior", context.read, text)


def _backup(context: NodeContext, node: Node, rules: Rules) -> t.Iterator[Row]:
    """Yield the row of the last backup, and a row of a job that uses the HSM, such as a backup in progress."""
    host, made = context.host, node.last_backup_at
    busy = [problem for problem in check_driver_and_jobs(node) if problem.code != "driver_stopped"]
    if busy:
        yield _refused(host, "jobs", busy)
    elif context.incomplete:
        text = "whether a backup runs is unknown"
        yield Row(
            host, "jobs", NOT_CHECKED, text, "look for BACKUP IN PROGRESS in Webconf, page Backup, before a change"
        )
    else:
        yield Row(host, "jobs", OBSERVED, "no job uses the HSM")
    problems = check_backup(node, rules.max_backup_hours, rules.now)
    if problems and node.name in rules.confirmed_backups:
        yield Row(host, "backup", DECLARED, rules.confirmed_backups[node.name])
    elif problems:
        yield _refused(host, "backup", problems)
    elif made is None:
        yield Row(host, "backup", NOT_CHECKED, "the time of the last backup is unknown", "look in Webconf, page Backup")
    else:
        yield Row(host, "backup", context.read, f"the last backup is from {made}")


def _clock(context: NodeContext, node: Node, rules: Rules) -> Row:
    """A node that shows no clock is checked by the time of its EJBCA, which was shown after the reading of the cluster began."""
    host, skew, clock = context.host, None, node.clock
    if clock is not None and context.reading is not None:
        skew = context.reading.clock_skew
    elif (shown := parse_time(context.server_time)) is not None:
        clock = context.server_time
        late = (rules.now - shown).total_seconds()
        skew = max(-late, late - context.elapsed, 0.0)
    else:
        return Row(
            host, "clock", NOT_CHECKED, "neither the node nor its EJBCA shows a clock", "compare the clocks in Webconf"
        )
    problems = check_clock_skew(node.name, clock, skew, rules.max_clock_skew)
    if problems:
        return _refused(host, "clock", problems)
    return Row(host, "clock", OBSERVED, f"the clock differs by {skew:.0f} s from this machine")


def _refused(host: str, step: str, problems: t.Sequence[Problem]) -> Row:
    """Return one row for all problems of a step, with the code of the first."""
    first, text = problems[0], ". ".join(problem.text for problem in problems)
    return refused(host, step, first._replace(text=text))


def not_contacted(host: str, error: UtrustError | Problem, *, known: bool) -> Row:
    """Return the only row of a node that was not contacted. `known` is whether the source was read, so that the node surely has not joined."""
    if isinstance(error, Problem) and known:
        return refused(host, "joined", error)
    text = "the source was not read, so nobody knows whether this node has joined. It was not contacted"
    return Row(host, "joined", NOT_CHECKED, text, "make the source readable first")
