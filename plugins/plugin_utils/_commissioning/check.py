# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a cluster is still as its commissioning record says. Pure functions. Private to keyops.utrust."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.cluster import parse_time
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable
from ansible_collections.keyops.utrust.plugins.plugin_utils._canonical import leaves
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.record import record_digest, signed_message
from ansible_collections.keyops.utrust.plugins.plugin_utils._signature import verify_ed25519

Document = t.Mapping[str, t.Any]

#: A record from the future has a wrong time. The clocks of two controllers may differ by this time.
MAX_FUTURE: t.Final = datetime.timedelta(minutes=5)
RENEW: t.Final = "find out who made this change and why, then run the playbook readiness and sign a new record"


def check_commissioning(
    record: Document, public_key: str, nodes: t.Mapping[str, Document], now: datetime.datetime
) -> list[Problem]:
    """Return why the record does not allow a run. `nodes` has the facts of each node of the run, by its inventory host.

    A fact that `nodes` omits is not compared. A fact that is unknown now but was known, or the reverse, is a change.
    """
    if record["digest"] != record_digest(record):
        text = f"the record was edited: its digest is {record_digest(record)}, but the record names {record['digest']!r:.80}"
        return [_problem("commissioning_invalid", text, RENEW)]
    if (reason := _why_not_signed(record, public_key)) is not None:
        remedy = "check utrust_commissioning_public_key, and who wrote the record. Then run the playbook readiness and sign a new record"
        return [_problem("commissioning_signature_invalid", reason, remedy)]
    made_at = parse_time(record["made_at"])
    if made_at is None or made_at - now > MAX_FUTURE:
        text = f"its time {record['made_at']!r:.80} is in the future or is not a time"
        return [_problem("commissioning_invalid", text, "check the clock of this machine, then make a new record")]
    return [problem for host in sorted(nodes) for problem in _changes(record, host, nodes[host])]


def _why_not_signed(record: Document, public_key: str) -> str | None:
    try:
        signed = verify_ed25519(public_key, record["signature"], signed_message(record["digest"]))
    except (ImportError, TypeError, ValueError) as exc:
        return f"the signature cannot be verified: {exc!s:.200}"
    if signed:
        return None
    return f"the signature does not fit the public key. The record names a key with the key fingerprint {record['public_key_sha256']!r:.80}"


def _changes(record: Document, host: str, facts: Document) -> list[Problem]:
    """Return one problem for each fact of a node that changed."""
    if host not in record["nodes"]:
        text = f"{host} is not in the record of {record['made_at']}"
        return [Problem("commissioning_stale", host, text, RENEW)]
    then = leaves({name: fact for name, fact in record["nodes"][host].items() if name in facts})
    now = leaves(dict(facts))
    return [
        Problem(
            "commissioning_stale",
            host,
            f"{'.'.join(path)} was {_shown(then, path)} in the record of {record['made_at']}, and is {_shown(now, path)} now",
            RENEW,
        )
        for path in sorted(then.keys() | now.keys())
        if then.get(path) != now.get(path)
    ]


def _shown(found: t.Mapping[tuple[str, ...], str], path: tuple[str, ...]) -> str:
    return "unknown" if found.get(path, "null") == "null" else escape_unprintable(found[path])[:160]


def _problem(code: str, text: str, remedy: str) -> Problem:
    return Problem(code, "commissioning record", text, remedy)
