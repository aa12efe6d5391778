# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keys of several nodes side by side: pure functions. Private to keyops.utrust.

Works from digests: a node that names the source's inventory digest holds the source's keys, and only a node that names another one has to be compared
key by key. What cannot be known from what was given is `unknown`, and unknown is never in sync.
"""

from __future__ import annotations

import dataclasses as dc
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _decode as decode
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._inventory import Difference, compare, keys_digest

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance import HsmKey

Identity = tuple[int, str, str, str, str, int, str]

NOT_READ = "the node was not read"
CHANGED = "its keys changed while they were read; read it again"
NO_INVENTORY = "its keys differ from the source's, and its inventory was not read"
SOME_UNUSABLE = "it says that it cannot use some of its keys, and its inventory was not read"


@dc.dataclass(frozen=True)
class Held:
    """What is known of the keys in one node's HSM: the digest that it named, its inventory, or both. With neither, nothing is known."""

    digest: str | None = None
    key_count: int = 0
    unusable_count: int = 0
    hsm_keys: tuple[HsmKey, ...] | None = None

    @property
    def consistent(self) -> bool:
        return self.hsm_keys is None or self.digest in (None, keys_digest(self.hsm_keys))


def _identity(key: HsmKey) -> Identity:
    return key.slot, key.label, key.id, key.fingerprint, key.type, key.size, key.curve or ""


def held_of(given: t.Any) -> Held:
    """From what utrust_hsm_info returned, from a list of keys, or from nothing. Raises ApiError for anything else."""
    if not isinstance(given, t.Mapping):
        return Held(hsm_keys=_decoded(given)) if given is not None else Held()
    node, listed = given.get("node"), given.get("hsm_keys")
    if node is None:
        return Held()
    return Held(
        decode.text(node, "keys_digest"),
        decode.number(node, "key_count"),
        decode.number(node, "unusable_key_count"),
        _decoded(listed) if listed is not None else None,
    )


def _decoded(listed: t.Iterable[t.Mapping[str, t.Any]]) -> tuple[HsmKey, ...]:
    return tuple(decode.hsm_key(dict(key)) for key in listed)


def known_keys(held: Held, wanted: t.Sequence[HsmKey], wanted_digest: str) -> t.Sequence[HsmKey] | str:
    """The keys of a node, where its digest tells that they are those of the source too; or why they are not known."""
    if held.digest is None and held.hsm_keys is None:
        return NOT_READ
    if not held.consistent:
        return CHANGED
    if held.hsm_keys is not None:
        return held.hsm_keys
    if held.digest != wanted_digest:
        return NO_INVENTORY
    if held.unusable_count not in (0, held.key_count):
        return SOME_UNUSABLE
    return [dc.replace(key, usable=held.unusable_count == 0) for key in wanted]


def keys_of_source(nodes: t.Mapping[str, Held], source: str) -> tuple[HsmKey, ...]:
    """Raises UtrustError (`source_unknown`): without the source's inventory there is nothing to compare with."""
    held = nodes.get(source, Held())
    if held.hsm_keys is None or not held.consistent:
        reason = "its inventory was not read" if held.hsm_keys is None else CHANGED
        raise UtrustError(f"comparing nodes with the source {source}: {reason}", code="source_unknown")
    return held.hsm_keys


def _narrowed(difference: Difference, chosen: t.Callable[[HsmKey], bool]) -> Difference:
    return dc.replace(
        difference,
        missing=tuple(key for key in difference.missing if chosen(key)),
        extra=tuple(key for key in difference.extra if chosen(key)),
        mismatched=tuple(pair for pair in difference.mismatched if chosen(pair.source_key) or chosen(pair.target_key)),
        unusable=tuple(key for key in difference.unusable if chosen(key)),
    )


def key_matrix(
    nodes: t.Mapping[str, Held], source: str, *, chosen: t.Callable[[HsmKey], bool] | None = None
) -> dict[str, t.Any]:
    """Every key of any node against every node, seen from the source; only those that are `chosen`, if that is given.

    A cell is `present`, `missing`, `extra` (this node has it, the source does not), `mismatched` (this node has another key under the same
    slot and label), `unusable` (there, but its slot is not activated or its objects are incomplete), `absent` (neither there nor at the source) or
    `unknown`. `in_sync` says that every node holds the keys of the source and can use them. Raises UtrustError if the source's inventory is not known.
    """
    wanted = keys_of_source(nodes, source)
    wanted_digest = keys_digest(wanted)
    known = {node: known_keys(held, wanted, wanted_digest) for node, held in nodes.items() if node != source}
    differences = {node: keys if isinstance(keys, str) else compare(wanted, keys) for node, keys in known.items()}
    # The source differs from itself in the keys that it cannot use.
    differences[source] = compare(wanted, wanted)
    if chosen is not None:
        differences = {
            node: found if isinstance(found, str) else _narrowed(found, chosen) for node, found in differences.items()
        }
    rows = _rows(wanted, differences, chosen)
    unknown = [{"node": node, "reason": found} for node in nodes if isinstance(found := differences[node], str)]
    drift = [
        {"node": node, **found.public()}
        for node in nodes
        if isinstance(found := differences[node], Difference) and not found.in_sync
    ]
    out_of_sync = {one["node"] for one in (*unknown, *drift)}
    return {
        "source": source,
        "nodes": list(nodes),
        "in_sync": not out_of_sync,
        "in_sync_nodes": [node for node in nodes if node not in out_of_sync],
        "unknown": unknown,
        "drift": drift,
        "check_value_only": sum(key.check_value_only for key, dummy in rows),
        "rows": [
            # Whether a key is usable is said for each node, not for the key.
            {name: value for name, value in key.public().items() if name != "usable"}
            | {"nodes": {node: cells.get(node, cells[""]) for node in nodes}}
            for key, cells in rows
        ],
    }


def _rows(
    wanted: t.Sequence[HsmKey],
    differences: t.Mapping[str, Difference | str],
    chosen: t.Callable[[HsmKey], bool] | None,
) -> list[tuple[HsmKey, dict[str, str]]]:
    """A key each with the cells that are not as in most nodes; the cell of all others stands under an empty name."""
    keys = {_identity(key): key for key in wanted}
    cells: dict[Identity, dict[str, str]] = {identity: {"": "present"} for identity in keys}

    def mark(key: HsmKey, node: str, cell: str) -> None:
        keys.setdefault(_identity(key), key)
        cells.setdefault(_identity(key), {"": "absent"})[node] = cell

    for node, found in differences.items():
        if isinstance(found, str):
            continue
        for key in found.unusable:
            mark(key, node, "unusable")
        for key in found.missing:
            mark(key, node, "missing")
        for key in found.extra:
            mark(key, node, "extra")
        for pair in found.mismatched:
            mark(pair.source_key, node, "mismatched")
            mark(pair.target_key, node, "mismatched")
    for node in (node for node, found in differences.items() if isinstance(found, str)):
        for key in keys.values():
            mark(key, node, "unknown")
    return [(keys[identity], cells[identity]) for identity in sorted(keys) if chosen is None or chosen(keys[identity])]


CELLS: t.Final = {
    "present": "yes",
    "missing": "MISSING",
    "extra": "EXTRA",
    "mismatched": "OTHER KEY",
    "unusable": "UNUSABLE",
    "absent": "-",
    "unknown": "?",
}
#: With more nodes, those that hold the same as the source share its column.
MANY_NODES: t.Final = 12


def columns(matrix: t.Mapping[str, t.Any]) -> list[tuple[str, list[str]]]:
    """A column each: the node whose cells it shows, and the nodes that it stands for."""
    nodes, same, source = matrix["nodes"], matrix["in_sync_nodes"], matrix["source"]
    if len(nodes) <= MANY_NODES or source not in same:
        return [(node, [node]) for node in nodes]
    return [(source, list(same)), *((node, [node]) for node in nodes if node not in same)]


def key_type(key: t.Mapping[str, t.Any]) -> str:
    return str(key["curve"] or f"{key['type'].upper()}-{key['size']}")


def as_table(matrix: t.Mapping[str, t.Any], *, only_drift: bool = False) -> list[str]:
    """The matrix as lines of text for a terminal: a row a key, a column a node, and last lines that say whether they agree."""
    shown = columns(matrix)
    heads = [node if len(stands_for) == 1 else f"{node} and {len(stands_for) - 1} more" for node, stands_for in shown]
    lines = [["slot", "label", "type", "fingerprint", *heads]]
    for row in matrix["rows"]:
        if only_drift and set(row["nodes"].values()) == {"present"}:
            continue
        prefix, dummy, digits = row["fingerprint"].partition(":")
        fingerprint = f"{prefix}:{digits[:12]}" + (" (check value only)" if row["check_value_only"] else "")
        cells = [in_a_word(row, node, matrix["source"]) for node, dummy in shown]
        lines.append([str(row["slot"]), printable(row["label"]), key_type(row), fingerprint, *cells])
    if len(lines) == 1:
        return _in_words(matrix)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return [*table, *_in_words(matrix)]


def in_a_word(row: t.Mapping[str, t.Any], node: str, source: str) -> str:
    """A cell; of two keys under one label, the one that the source does not have is there instead."""
    cell = row["nodes"][node]
    return "INSTEAD" if cell == "mismatched" and row["nodes"][source] == "absent" else CELLS[cell]


def printable(text: str) -> str:
    """A label is chosen by people, or by an attacker: what could move the cursor or turn the text around is shown as its code."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text)


def _in_words(matrix: t.Mapping[str, t.Any]) -> list[str]:
    source = matrix["source"]
    lines = [f"UNKNOWN: {one['node']}: {one['reason']}" for one in matrix["unknown"]]
    for one in matrix["drift"]:
        if one["node"] == source:
            lines.append(f"DRIFT: {source} itself: {len(one['unusable'])} unusable")
            continue
        lines.append(
            f"DRIFT: {one['node']} against {source}: {len(one['missing'])} missing, {len(one['extra'])} extra, "
            f"{len(one['mismatched'])} mismatched, {len(one['unusable'])} unusable"
        )
    if lines:
        return lines
    nodes = matrix["nodes"]
    names = ", ".join(nodes) if len(nodes) <= MANY_NODES else f"{len(nodes)} nodes"
    check_value_only = (
        f", {matrix['check_value_only']} of them compared by a check value of three bytes only"
        if matrix["check_value_only"]
        else ""
    )
    return [f"in sync: {names} hold the same {len(matrix['rows'])} key(s){check_value_only}"]
