# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a synchronization changes on each target, and what forbids it."""

from __future__ import annotations

import typing as t

import pytest
import yaml
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading, NodeReading
from ansible_collections.keyops.utrust.plugins.module_utils._keys import compare, keys_digest
from ansible_collections.keyops.utrust.plugins.module_utils._operations import ksp_export, ksp_import
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.options import NOT_IN_A_PLAN, SYNC_SPEC
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.sync import (
    check_targets,
    describe_changes,
    targets_of,
)

from tests.support.factories import ROOT, key, node
from tests.support.sync import STRICT

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey

OLD, NEW = key("old"), key("new")


def reading(*node_keys: HsmKey, source: t.Sequence[HsmKey] = (OLD, NEW)) -> ClusterReading:
    """A source and node2, which holds these keys."""
    target = NodeReading("node2", "node2", node(*node_keys, name="node2"), compare(source, node_keys), clock_skew=0.0)
    return ClusterReading(
        NodeReading("node1", "node1", node(*source), compare(source, source)), (target,), tuple(source)
    )


def codes(found: ClusterReading, **policy: t.Any) -> list[str]:
    return [problem.code for problem in check_targets(found, STRICT._replace(**policy))]


@pytest.mark.parametrize("change", [{"slot": 1}, {"label": "renamed"}, {"id": "02"}])
def test_moved_key_is_a_problem_and_not_pending(change: dict[str, t.Any]) -> None:
    """An import does not move a key, so a run would never end with equal keys."""
    found = reading(OLD, key(**{"label": "new", "fingerprint": NEW.fingerprint, **change}))
    assert codes(found) == ["key_moved"]
    [target] = targets_of(found)
    assert not target.pending
    [problem] = check_targets(found, STRICT)
    assert problem.node == "node2"
    for place in ("'new' in slot 0 with id 01 on node1", "on node2", NEW.fingerprint):
        assert place in problem.text
    assert "set slot, label and id" in problem.remedy


def test_duplicate_key_is_drift_and_no_problem() -> None:
    again = key("copy", fingerprint=NEW.fingerprint)
    found = reading(OLD, NEW, again)
    [target] = targets_of(found)
    assert (codes(found), target.pending, target.difference.in_sync) == ([], False, False)


def test_planned_digest_counts_every_key_that_stays() -> None:
    """The keys after an import are those of the source, extra keys and duplicates."""
    extra, again = key("extra"), key("copy", fingerprint=OLD.fingerprint)
    changes = describe_changes(reading(OLD, extra, again), [["node2"]], {})
    target = changes["targets"]["node2"]
    assert target["keys_digest_after"] == keys_digest([OLD, NEW, extra, again])
    assert [each["label"] for each in target["add"]] == ["new"]
    assert {each["label"] for each in target["kept"]} == {"extra", "copy"}


def test_plan_covers_every_option_that_is_not_excluded() -> None:
    """An option that is added later is in the plan, unless it is excluded by name."""
    assert set(SYNC_SPEC) >= NOT_IN_A_PLAN
    covered = set(SYNC_SPEC) - NOT_IN_A_PLAN
    assert covered >= {
        "allow_outage",
        "allow_replace",
        "allowed_extra_keys",
        "batch_size",
        "canary",
        "dest",
        "destroyed_keys",
        "expected_new_keys",
        "extra_keys",
        "ignore_members",
        "import_effect",
        "manual_confirmations",
        "max_backup_hours",
        "max_clock_skew",
        "min_certificate_days",
    }


def test_plan_checks_every_option_of_the_import() -> None:
    """Options that only the last step looks at are options of the plan, too."""
    given_by_the_role = {
        "src",
        "manifest",
        "manifest_sha256",
        "known_difference",
        "expect_keys_digest",
        "confirmations",
        "people_timeout",
    }
    assert set(ksp_import.ARGUMENT_SPEC) - given_by_the_role <= set(SYNC_SPEC)
    assert "dest" in ksp_export.ARGUMENT_SPEC


def test_role_has_the_options_of_its_actions() -> None:
    """An option key_sync_X is option X of an action. The action validates it, so a survey can leave it blank."""
    specs = yaml.safe_load((ROOT / "roles/key_sync/meta/argument_specs.yml").read_text(encoding="utf-8"))
    options = specs["argument_specs"]["main"]["options"]
    actions = {**SYNC_SPEC, **ksp_export.ARGUMENT_SPEC, **ksp_import.ARGUMENT_SPEC}
    names = {name.removeprefix("key_sync_") for name in options}
    assert names - set(actions) == set()
    assert set(SYNC_SPEC) - names == {"hosts", "claim"}
    assert {name for name, spec in options.items() if spec["type"] != "raw"} == {"key_sync_source"}
    assert [name for name, spec in options.items() if spec.keys() & {"default", "choices", "required"}] == []
    tasks = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "roles/key_sync/tasks").glob("*.yml")))
    assert {name for name in names if f'{name}: "{{{{ key_sync_{name}' not in tasks} == set()
