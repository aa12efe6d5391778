# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Summaries of a rollout and of guided restores, a line for each node: pure functions. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._keys import Difference, unexpected_keys
from ansible_collections.keyops.utrust.plugins.module_utils._package.manifest import read_manifest
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.node import describe_count, describe_state

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey, Node
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading, NodeReading

UP_TO_DATE = "up to date"
SYNCHRONIZED = "synchronized now"
WOULD_SYNCHRONIZE = "would be synchronized"
RESTORED = "restored now"
WOULD_RESTORE = "would be restored"
FAILED = "FAILED"
NOT_TOUCHED = "not touched"
NOT_RESTORED = "not restored"
UNKNOWN = "UNKNOWN"
KEYS_UNKNOWN = "the keys of the node or of the source are unknown. Compare the keys manually before you use the node"
KEYS_DIFFER = "the HSM is operational, but its keys differ from the source. Run key_sync"
LEFT_OUT = "a condition of the play, block, role or include around the role leaves this host out"
GATE_REQUIRED = "MUST BE GATED before use"


def summarize_restores(before: t.Mapping[str, t.Any], reading: ClusterReading | UtrustError | None) -> dict[str, t.Any]:
    """Return the result of utrust_cluster_summary after guided restores: a line for each node.

    `before` is the result of utrust_preflight before the restores. `reading` was read after them.
    `reading` is the error if the source could not be read, and None in check mode.
    """
    if isinstance(reading, UtrustError):
        rows = [
            {"node": host, "outcome": UNKNOWN, "detail": f"the source was not read: {reading}"}
            for host, state in before["nodes"].items()
            if state["name"] != before["source"]["name"]
        ]
    elif reading is None:
        rows = [
            {"node": host, **_restore_predicted(state, before["source"])}
            for host, state in before["nodes"].items()
            if state["name"] != before["source"]["name"]
        ]
    else:
        rows = [
            {"node": each.host, **_restore_outcome(before["nodes"].get(each.host), each, reading.source_node)}
            for each in reading.others
        ]
    return {"summary": format_rows(rows), "_ansible_verbose_always": True, "msg": "Summary of the nodes"}


def _restore_predicted(state: t.Mapping[str, t.Any], source: t.Mapping[str, t.Any]) -> dict[str, str]:
    if state["hsm_state"] is None:
        return {"outcome": UNKNOWN, "detail": "the node was not read"}
    if state["hsm_state"] != "operational":
        return {"outcome": WOULD_RESTORE, "detail": "MBK and keys pending"}
    if None in (state["keys_digest"], source["keys_digest"]):
        return {"outcome": UNKNOWN, "detail": KEYS_UNKNOWN}
    if state["keys_digest"] == source["keys_digest"]:
        return {"outcome": UP_TO_DATE, "detail": f"{describe_count(source['key_count'])}, same as the source"}
    return {"outcome": NOT_RESTORED, "detail": KEYS_DIFFER}


def _restore_outcome(before: t.Mapping[str, t.Any] | None, after: NodeReading, source: Node) -> dict[str, str]:
    node = after.node
    if node is None:
        text = after.problem.text if after.problem is not None else "the node was not read"
        return {"outcome": UNKNOWN, "detail": text}
    if node.hsm_state != "operational":
        running = ", and a guided restore is running" if node.running and node.running[0] == "restore" else ""
        return {"outcome": NOT_RESTORED, "detail": f"the HSM is {describe_state(node)}{running}"}
    if node.mbk is None or source.mbk is None:
        return {"outcome": UNKNOWN, "detail": f"the MBK of {node.name if node.mbk is None else source.name} is unknown"}
    if not node.mbk.same_as(source.mbk):
        return {"outcome": NOT_RESTORED, "detail": f"the HSM has MBK {node.mbk}, the source {source.mbk}"}
    same_keys = node.has_keys(source.keys_digest)
    if same_keys is None:
        return {"outcome": UNKNOWN, "detail": KEYS_UNKNOWN}
    if not same_keys:
        return {"outcome": NOT_RESTORED, "detail": KEYS_DIFFER}
    if before is not None and before["hsm_state"] not in (None, "operational"):
        detail = f"{describe_count(node.key_count)} under MBK {node.mbk.name}. Make a new backup"
        return {"outcome": RESTORED, "detail": detail}
    return {"outcome": UP_TO_DATE, "detail": f"{describe_count(node.key_count)}, same as the source"}


def format_rows(rows: t.Sequence[t.Mapping[str, str]]) -> list[str]:
    """The rows as lines of text."""
    width = max((len(row["node"]) for row in rows), default=0)
    return [f"{row['node'].ljust(width)}  {row['outcome']}: {row['detail']}" for row in rows]


def summarize_sync(
    planned: t.Mapping[str, t.Any], reading: ClusterReading | None, left_out: t.Collection[str] = ()
) -> dict[str, t.Any]:
    """Return the result of utrust_cluster_summary: a line for each node, and a failure if a target does not have the planned keys.

    `planned` is the result of utrust_sync_plan. `reading` was read after the imports, or is missing if nothing was imported, as in check mode.
    In check mode, `left_out` are targets whose import was not predicted.
    """
    changes = planned["plan"]["changes"]
    targets = {target["host"]: target for target in changes["targets"].values()}
    after = {each.host: each for each in reading.others} if reading is not None else {}
    found = {host: _compare_keys(planned, host, reading) for host in targets} if reading is not None else {}
    rows = [
        {"node": host, "outcome": NOT_TOUCHED, "detail": LEFT_OUT}
        if host in left_out
        else {
            "node": host,
            **_sync_outcome(target, after.get(host), host in planned["pending"], reading is not None, found.get(host)),
        }
        for host, target in targets.items()
    ]
    for row in rows:
        if row["outcome"] == UP_TO_DATE:
            row["detail"] += _what_stays(planned["targets"][row["node"]]["difference"])
    changed = any(row["outcome"] in (SYNCHRONIZED, FAILED) for row in rows)
    why = "keys changed without this node" if changed else "this node was not part of the run, so its keys are unknown"
    rows += [{"node": name, "outcome": GATE_REQUIRED, "detail": why} for name in planned["members_not_in_play"]]
    failed = [row["node"] for row in rows if row["outcome"] in (FAILED, NOT_TOUCHED)]
    result: dict[str, t.Any] = {
        "summary": format_rows(rows),
        "_ansible_verbose_always": True,
        "msg": "Summary of the nodes",
    }
    unexpected = {host: each for host, each in found.items() if each is not None and each.unexpected}
    if unexpected:
        return {**result, **_unexpected_failure(unexpected)}
    if reading is not None and not reading.source_node.has_keys(changes["source"]["keys_digest"]):
        return {**result, **_source_failure(reading)}
    if failed:
        text = f"{len(failed)} target(s) do not have all keys of the source: {', '.join(failed)}. Read the first error, fix the cause, then run again"
        return {**result, "failed": True, "code": "sync_incomplete", "msg": text}
    return result


def _source_failure(reading: ClusterReading) -> dict[str, t.Any]:
    source, known = reading.source.host, reading.source_node.keys_digest is not None
    if known:
        text = (
            f"the keys of the source {source} changed during the run, so the targets have its earlier keys. Run again"
        )
    else:
        text = f"the keys of the source {source} are unknown after the run, so they can have changed. Run again"
    return {"failed": True, "code": "source_changed" if known else "keys_unknown", "msg": text}


def keys_needed(planned: t.Mapping[str, t.Any], reading: ClusterReading) -> bool:
    """Return whether the keys must be read, too: the digest of a target shows that its keys are neither the earlier nor the planned keys."""
    digests = {
        target["host"]: (target["keys_digest"], target["keys_digest_after"])
        for target in planned["plan"]["changes"]["targets"].values()
    }
    return any(
        each.node is not None and each.node.keys_digest not in (None, *digests.get(each.host, (None,)))
        for each in reading.others
        if each.host in digests
    )


class _Found(t.NamedTuple):
    """The keys of a target after the run. `unexpected` were not there before and were not planned, `names` are their names."""

    unexpected: list[HsmKey]
    names: str
    as_planned: bool


def _compare_keys(planned: t.Mapping[str, t.Any], host: str, reading: ClusterReading) -> _Found | None:
    """Compare the keys of a target with those before the run, in both directions. None if the keys were not read."""
    later = next((each.difference for each in reading.others if each.host == host), None)
    if later is None or reading.hsm_keys is None:
        return None
    source = read_manifest(planned["manifest"], "of the plan").hsm_keys
    earlier = Difference.from_dict(planned["targets"][host]["difference"])
    before, after = earlier.target_of(source), later.target_of(reading.hsm_keys)
    pending = host in planned["pending"]
    new = [*earlier.missing, *(pair.source_key for pair in earlier.mismatched)] if pending else []
    replaced = [pair.target_key for pair in earlier.mismatched] if pending else []
    unexpected = unexpected_keys([*before, *new], after)
    gone = unexpected_keys([*after, *replaced, *(earlier.duplicate if pending else ())], before)
    complete = not gone and not unexpected_keys(after, new) and not set(replaced) & set(after)
    destroyed = planned["import_options"].get("destroyed_keys") or ()
    # A destroyed key that is back is the worst, so it comes first.
    unexpected.sort(key=lambda key: key.fingerprint not in destroyed)
    names = [f"{key}{', which is in destroyed_keys' if key.fingerprint in destroyed else ''}" for key in unexpected]
    return _Found(unexpected, " and ".join(names), complete and not unexpected)


def _unexpected_failure(unexpected: t.Mapping[str, _Found]) -> dict[str, t.Any]:
    lines = [f"{host}: {found.names}" for host, found in unexpected.items()]
    return {
        "failed": True,
        "code": "unexpected_keys",
        "msg": f"{len(unexpected)} target(s) have keys that they did not have before and that nobody predicted. {'. '.join(lines)}. "
        "Do not use these keys. Find out who generated or imported them",
        "unexpected": [
            {"node": host, **key.to_dict()} for host, found in unexpected.items() for key in found.unexpected
        ],
    }


def _what_stays(difference: t.Mapping[str, t.Any]) -> str:
    """Return the differences that an import does not change, because playbook status reports them as drift."""
    found = [f"{len(difference[name])} {name}" for name in ("extra", "duplicate", "unusable") if difference[name]]
    return f". The node also has keys that differ: {', '.join(found)}" if found else ""


def _sync_outcome(
    target: t.Mapping[str, t.Any], after: NodeReading | None, pending: bool, was_read: bool, found: _Found | None
) -> dict[str, str]:
    """`was_read` is false in check mode and if no target lacked keys: nothing was imported."""
    added, replaced = len(target["add"]), len(target["replace"])
    if not was_read and pending:
        return {"outcome": WOULD_SYNCHRONIZE, "detail": f"{added} key(s) to add, {replaced} to replace"}
    if not was_read:
        return {"outcome": UP_TO_DATE, "detail": f"{target['unchanged']} key(s) as on the source"}
    if after is None or after.node is None:
        text = after.problem.text if after is not None and after.problem is not None else "the node was not read"
        return {"outcome": FAILED, "detail": f"its keys are unknown: {text}"}
    if after.node.keys_digest is None:
        return {"outcome": FAILED, "detail": "its keys are unknown: the node does not report its keys digest"}
    if found is not None and found.unexpected:
        return {"outcome": FAILED, "detail": f"unexpected keys: {found.names}"}
    if after.node.keys_digest == target["keys_digest_after"] or (pending and found is not None and found.as_planned):
        if pending:
            return {"outcome": SYNCHRONIZED, "detail": f"{added} key(s) added, {replaced} replaced. Make a new backup"}
        return {"outcome": UP_TO_DATE, "detail": f"{target['unchanged']} key(s) as on the source"}
    if after.node.keys_digest == target["keys_digest"]:
        return {"outcome": NOT_TOUCHED, "detail": f"{added + replaced} key(s) are still missing"}
    return {"outcome": FAILED, "detail": "the node has neither its earlier keys nor the planned keys"}
