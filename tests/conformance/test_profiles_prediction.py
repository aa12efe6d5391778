# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Predictions are correct: for 100 random states of two nodes and random behaviors, a run matches check mode."""

from __future__ import annotations

import collections
import dataclasses as dc
import random
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import PreflightError, UtrustError
from utrust_appliance.behavior import ASPECTS, Behavior
from utrust_appliance.testing import cluster

from tests.support.playbook import card_holders
from tests.support.sync import Sync, fingerprints, posts

if t.TYPE_CHECKING:
    from pathlib import Path

    from utrust_appliance.control import Control

CASES = 100
LABELS = ("a", "b", "c")
SAME_ID = "0a"
#: Results about keys that must be equal in check mode.
OUTCOME = ("changed", "added", "replaced", "extra", "unchanged", "keys_digest_before", "keys_digest")


def random_behavior(dice: random.Random) -> list[str]:
    """Random values for every aspect. Slow values (restarts, cards) are rare."""
    seldom = {"restart": 0.15, "cards": 0.1}
    return [
        f"{aspect}={dice.choice(list(values))}"
        for aspect, values in ASPECTS.items()
        if dice.random() < seldom.get(aspect, 0.8)
    ]


def generate(control: Control, dice: random.Random, node: str, least: int, most: int) -> None:
    """Some keys, often with an existing label, sometimes with an existing id."""
    taken = {(key["slot"], key["label"], key["id"]) for key in control.keys(node)}
    for dummy in range(dice.randint(least, most)):
        slot, label, key_id = dice.randint(0, 1), dice.choice(LABELS), dice.choice([SAME_ID, None])
        if (slot, label, key_id) not in taken:
            control.generate_key(node, label, slot=slot, key_id=key_id)
            taken.add((slot, label, key_id or ""))


def random_state(control: Control, dice: random.Random) -> None:
    """node2 starts with the keys of node1, then both change."""
    control.set_profile()
    for node in ("node1", "node2"):
        control.factory_reset(node)
    control.load_mbk("node1", "KEYOPS")
    generate(control, dice, "node1", 0, 3)
    control.restore("node2")
    for key in control.keys("node1"):
        alone = sum((one["slot"], one["label"]) == (key["slot"], key["label"]) for one in control.keys("node1")) == 1
        if alone and dice.random() < 0.25:
            control.delete_key("node1", key["label"], key["slot"])
    generate(control, dice, "node1", int(dice.random() < 0.85), 3)
    generate(control, dice, "node2", 0, 2)


def random_policy(control: Control, dice: random.Random, behavior: Behavior) -> dict[str, t.Any]:
    source, target = fingerprints(control, "node1"), fingerprints(control, "node2")

    def some(of: set[str], chance: float) -> frozenset[str]:
        return frozenset(one for one in sorted(of) if dice.random() < chance)

    declared = None
    if behavior.announces == "no" and dice.random() < 0.8 and behavior.deletions != "replicated":
        declared = behavior.effect  # the correct effect only
    return {
        "keep_extra": dice.random() < 0.6,
        "allowed_extra_keys": some(target - source, 0.5),
        "allow_replace": some(source - target, 0.9),
        "destroyed_keys": some(source - target, 0.05),
        "expected_new_keys": frozenset(source - target) if dice.random() < 0.2 else None,
        "import_effect": declared,
    }


def attempt(sync: Sync, *, dry_run: bool, policy: dict[str, t.Any]) -> tuple[str, t.Any]:
    try:
        result = sync.run(dry_run=dry_run, **policy)
    except PreflightError as exc:
        return "refused", sorted((problem["code"], problem["text"]) for problem in exc.details["problems"])
    except UtrustError as exc:
        if exc.code != "capability_missing":
            raise
        return "without_list", exc.code
    return "done", {name: result[name] for name in OUTCOME}


def fingerprints_of(keys: t.Iterable[dict[str, t.Any]]) -> set[str]:
    return {key["fingerprint"] for key in keys}


def one_case(control: Control, sync: Sync, seed: int) -> str:
    dice = random.Random(seed)
    random_state(control, dice)
    names = random_behavior(dice)
    behavior = Behavior.of(names)
    control.set_profile(*names)
    policy = random_policy(control, dice, behavior)
    before = control.keys("node2")
    control.clear_log()

    predicted = attempt(sync, dry_run=True, policy=policy)
    assert posts(control, "node2") == []
    with card_holders(control, *(["node2"] if behavior.cards == "required" else []), cards=["KEYOPS-1", "KEYOPS-2"]):
        happened = attempt(sync, dry_run=False, policy=policy)
    assert happened == predicted
    assert (happened[0] == "without_list") == (behavior.key_list == "no")

    after = control.keys("node2")
    earlier, later = fingerprints_of(before), fingerprints_of(after)
    if happened[0] in ("refused", "without_list"):
        assert (after, posts(control, "node2")) == (before, [])
        return str(happened[0])
    facts = happened[1]
    assert facts["keys_digest"] == control.node("node2")["keys_digest"]
    named = {pair["target_key"]["fingerprint"] for pair in facts["replaced"]}
    assert later - earlier == fingerprints_of(facts["added"]) | {
        pair["source_key"]["fingerprint"] for pair in facts["replaced"]
    }
    assert earlier - later == named, "a key was lost that is not named"
    assert {pair["source_key"]["fingerprint"] for pair in facts["replaced"]} <= policy["allow_replace"]
    assert not (later - earlier) & policy["destroyed_keys"]
    assert fingerprints(control, "node1") <= later
    return "changed" if facts["changed"] else "unchanged"


def test_run_matches_check_mode_in_random_clusters(tmp_path: Path) -> None:
    """A run matches check mode in 200 random clusters. About half of them do not list their keys, and a run refuses these."""
    outcomes: collections.Counter[str] = collections.Counter()
    with cluster(nodes=2, restored=2, keys=0, restart_time=0.1) as control:
        tmp_path.chmod(0o700)
        for seed in range(2 * CASES):
            try:
                outcomes[one_case(control, Sync(control, tmp_path), seed)] += 1
            except BaseException as exc:
                exc.add_note(f"in random cluster {seed} with the profile {control.status()['profile']}")
                raise
    # The test needs both rejected and successful runs.
    assert outcomes["changed"] >= CASES // 10
    assert outcomes["refused"] >= CASES // 10
    assert outcomes["unchanged"]


def test_random_behaviors_cover_every_aspect() -> None:
    """The random behaviors cover every value of every aspect."""
    drawn = [dc.asdict(Behavior.of(random_behavior(random.Random(seed)))) for seed in range(CASES)]
    assert {(aspect, behavior[aspect]) for behavior in drawn for aspect in ASPECTS} == {
        (aspect, value) for aspect, values in ASPECTS.items() for value in values
    }
