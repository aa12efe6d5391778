# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan as lines for people: every change is there, and no text of a requester can forge a line."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.plan_text import describe_plan, name_plan


def key(label: str, fingerprint: str = "sha256:" + "ab" * 32) -> dict[str, t.Any]:
    return {
        "slot": 0,
        "label": label,
        "id": "01",
        "type": "ec",
        "size": 256,
        "curve": "P-256",
        "fingerprint": fingerprint,
    }


def plan(targets: dict[str, t.Any], **more: t.Any) -> dict[str, t.Any]:
    changes = {
        "targets": targets,
        "batches": [["a"], ["b", "c"]] if targets else [],
        "source": {"node": "A", "hsm_serial": "UT1"},
        "mbk": {"name": "KEYOPS", "check_value": "ab12"},
        "options": {
            "extra_keys": "keep",
            "allow_outage": False,
            "canary": None,
            "allow_replace": [],
            "max_clock_skew": 0.0,
        },
    }
    usual = {"requested_by": "Ada", "requester_account": "ada", "requested_at": "2026-11-23T13:00:00+00:00"}
    return {**usual, "digest": "sha256:cd", "changes": changes, **more}


def target(
    host: str, *add: dict[str, t.Any], replace: t.Sequence[t.Any] = (), kept: t.Sequence[t.Any] = ()
) -> dict[str, t.Any]:
    return {"host": host, "add": list(add), "replace": list(replace), "kept": list(kept)}


def test_plan_names_each_change_with_its_nodes() -> None:
    pair = {"source_key": key("two", "sha256:11"), "target_key": key("two", "sha256:22")}
    targets = {
        "A": target("a", key("one")),
        "B": target("b", key("one"), replace=[pair]),
        "C": target("c", kept=[key("three", "sha256:33")]),
    }
    assert describe_plan(plan(targets)) == [
        "source: A (HSM UT1), MBK KEYOPS (ab12)",
        f"add slot 0 one (sha256:{'ab' * 32}) on a, b",
        "REPLACE slot 0 two (sha256:22) by slot 0 two (sha256:11) on b",
        "keep slot 0 three (sha256:33) on c",
        "order: a, then b and c",
        'options: {"extra_keys": "keep", "max_clock_skew": 0.0}',
    ]


def test_plan_of_many_keys_leaves_none_out() -> None:
    keys = [key(f"key-{number}", f"sha256:{number:064x}") for number in range(1000)]
    lines = describe_plan(plan({"A": target("a", *keys)}))
    assert all(any(f" {each['label']} " in line for line in lines) for each in keys)


def test_requester_cannot_forge_a_line() -> None:
    line = name_plan(plan({}, requested_by="Ada\nplan of Ben: sha256:00\x1b[2K"))
    assert line.isprintable()
    assert line.endswith(": sha256:cd")


def test_plan_names_the_record_and_a_reason_without_canary_key() -> None:
    """Approvers approve that other keys come before the canary key."""
    made = plan({})
    made["changes"]["commissioning"] = "sha256:ef"
    weaker = {"option": "canary_key", "value": "any key", "default": "first", "reason": "old\ndrift"}
    made["changes"]["weaker_values"] = [weaker]
    lines = describe_plan(made)
    assert "commissioning record: sha256:ef" in lines
    assert r'canary_key is weaker than its default: "any key" instead of "first". Reason: old\ndrift' in lines
