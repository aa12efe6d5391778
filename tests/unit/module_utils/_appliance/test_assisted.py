# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Transport assisted: what it returns and raises, with people and views of the test."""

from __future__ import annotations

import io
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.assisted import AssistedAppliance, Place
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.people import (
    Confirmation,
    Step,
    make_confirmation,
)
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_read import ViewReading
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_wait import wait_for_view
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import ViewProblem
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError, ResponseLostError, UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._operations.ksp_export import ExportOptions, export_package
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions

from tests.support.views import reading, view_key, view_token

if t.TYPE_CHECKING:
    import pathlib

DECLARED: t.Final = {
    "cluster_id": "rack",
    "hsm_serial": "UT000002",
    "mbk_name": "KEYOPS",
    "mbk_check_value": "5c1de3b2a4f60718",
}
DIGEST = "sha256:" + "a" * 64
OLD, NEW = reading("node2", view_token(view_key("old"))), reading("node2", view_token(view_key("old"), view_key("new")))
FAILING = ViewReading(problem=ViewProblem("token_activation_failing", "the PIN is wrong."))


class Views:
    """Returns these readings, and the last of them again and again."""

    def __init__(self, *readings: ViewReading) -> None:
        self.left = list(readings)
        self.again: list[bool] = []
        self.listed = False

    def open(self, again: bool) -> Views:
        self.again.append(again)
        return self

    def read(self) -> ViewReading:
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]

    def abort(self) -> None:
        pass


class FakePeople:
    """Confirms each step with these values, or raises an error."""

    def __init__(self, error: UtrustError | None = None, **values: str) -> None:
        self.error, self.values = error, values
        self.steps: list[Step] = []

    def confirm(self, step: Step, timeout: float) -> Confirmation:
        self.steps.append(step)
        if self.error is not None:
            raise self.error
        return make_confirmation(
            step, {"confirmed_by": "Ada", "sha256": DIGEST, "size": "7", "hsm_serial": "UT000002", **self.values}
        )


def assisted(*readings: ViewReading, people: FakePeople | None = None, page_map: str = "b") -> AssistedAppliance:
    place = Place("node2", "192.0.2.2:443", page_map)
    views = Views(*readings)
    found = AssistedAppliance(place, DECLARED, [], views.open, people, 60.0)
    found.views = views  # type: ignore[attr-defined]
    return found


def refusal(code: str) -> FakePeople:
    return FakePeople(UtrustError("a person said no.", code=code))


def upload(appliance: AssistedAppliance, expected: str | None = None) -> t.Any:
    return appliance.stage_import(io.BytesIO(), 7, DIGEST, expected or appliance.node().keys_digest)


def test_node_says_what_its_keys_are() -> None:
    node = assisted(OLD).node()
    assert (node.transport, node.key_scope, node.key_count) == ("assisted", "ejbca", 1)
    assert node.hsm_state == "operational"
    assert node.clock is not None
    assert (node.last_backup_at, node.tls_expires_at, node.unusable_key_count) == (None, None, None)


def test_keys_match_the_digest_of_the_last_reading() -> None:
    """A view that changes between two requests must not mix the keys of two moments."""
    appliance = assisted(OLD, NEW)
    appliance.node()
    assert [key.label for key in appliance.list_keys()] == ["old"]
    assert appliance.node().key_count == 2
    assert len(appliance.list_keys()) == 2


@pytest.mark.parametrize(
    "unread",
    [
        FAILING,
        reading("node2", view_token(keys=None, active=True)),
        reading("node2", view_token(view_key("a")), view_token(number=-8, reference="1", keys=None, active=None)),
    ],
)
def test_unreadable_view_is_never_a_node_without_keys(unread: ViewReading) -> None:
    appliance = assisted(unread)
    node = appliance.node()
    assert (node.keys_digest, node.key_count) == (None, None)
    with pytest.raises(UtrustError) as caught:
        appliance.list_keys()
    assert caught.value.code in ("token_activation_failing", "ejbca_view_unknown")


def test_package_has_the_facts_that_people_give() -> None:
    people = FakePeople()
    appliance = assisted(OLD, people=people)
    package = appliance.create_package(appliance.node().keys_digest)
    assert (package.sha256, package.size, package.elsewhere) == (DIGEST, 7, True)
    assert [step.id for step in people.steps] == ["package_downloaded"]


def test_keys_that_change_during_the_download_are_refused() -> None:
    appliance = assisted(OLD, NEW, people=FakePeople())
    with pytest.raises(UtrustError) as caught:
        appliance.create_package(appliance.node().keys_digest)
    assert caught.value.code == "source_changed"


def test_upload_is_confirmed_with_its_digest() -> None:
    people = FakePeople()
    assert upload(assisted(OLD, people=people)).state == "applied"
    (step,) = people.steps
    assert step.expected == {"sha256": DIGEST}
    assert any("192.0.2.2:443" in line for line in step.lines)


@pytest.mark.parametrize(
    "code", ["confirmation_refused", "confirmation_timeout", "confirmation_mismatch", "confirmation_invalid"]
)
def test_doubt_after_the_first_click_is_a_lost_response(code: str) -> None:
    """The caller reads the view then, because people can have uploaded the package."""
    with pytest.raises(ResponseLostError) as caught:
        upload(assisted(OLD, people=refusal(code)))
    assert caught.value.code == code


def test_step_that_nobody_saw_changes_nothing() -> None:
    with pytest.raises(UtrustError) as caught:
        upload(assisted(OLD, people=refusal("confirmation_missing")))
    assert not isinstance(caught.value, ResponseLostError)


def test_changed_keys_of_a_target_are_refused_before_the_step() -> None:
    people = FakePeople()
    with pytest.raises(UtrustError) as caught:
        upload(assisted(NEW, people=people), DIGEST)
    assert (caught.value.code, people.steps) == ("keys_changed", [])


@pytest.mark.parametrize("page_map", ["", "latest"])
def test_unknown_page_map_shows_no_step(page_map: str) -> None:
    people = FakePeople()
    with pytest.raises(UtrustError) as caught:
        upload(assisted(OLD, people=people, page_map=page_map))
    assert (caught.value.code, people.steps) == ("page_map_unknown", [])


def test_restore_reads_a_failing_view_again() -> None:
    """The restore can repair what an earlier task found. Without a restore, no further PIN is tried."""
    appliance = assisted(FAILING, people=FakePeople())
    assert appliance.start_restore("front-usb", "node1").state == "succeeded"
    appliance.node()
    assert appliance.views.again == [True]  # type: ignore[attr-defined]


def test_module_on_another_machine_reaches_no_people() -> None:
    with pytest.raises(UtrustError) as caught:
        upload(assisted(OLD))
    assert caught.value.code == "transport_needs_controller"


@pytest.mark.parametrize(
    "request_of",
    [
        lambda node: node.pin_pads(),
        lambda node: node.read_claim(),
        lambda node: node.take_claim("x", "y", 60),
        lambda node: node.release_claim(),
        lambda node: node.cancel_restore("assisted"),
        lambda node: node.apply_import(None, None),
        lambda node: node.download_package(None, io.BytesIO()),
    ],
)
def test_request_without_people_is_not_supported(request_of: t.Callable[[t.Any], t.Any]) -> None:
    with pytest.raises(ApiError) as caught:
        request_of(assisted(OLD))
    assert caught.value.code == "not_supported"


class Clock:
    """A clock that only `sleep` moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_wait_ends_when_the_view_has_the_keys() -> None:
    clock = Clock()
    expected = assisted(NEW).node().keys_digest
    node = wait_for_view(assisted(OLD, OLD, NEW), expected, 150, WaitOptions(150, 2.0, clock, clock.sleep))
    assert (node.keys_digest, clock.now) == (expected, 20.0)


def test_wait_returns_the_last_reading_in_the_end() -> None:
    clock = Clock()
    node = wait_for_view(assisted(OLD), DIGEST, 150, WaitOptions(150, 2.0, clock, clock.sleep))
    assert node.key_count == 1
    assert 140 <= clock.now <= 150


def test_wait_never_tries_a_pin_again() -> None:
    clock = Clock()
    wait_for_view(assisted(FAILING), DIGEST, 150, WaitOptions(150, 2.0, clock, clock.sleep))
    assert clock.now == 0


def test_manifest_of_an_earlier_package_is_not_reused(tmp_path: pathlib.Path) -> None:
    """The package of the manifest can be destroyed already, so people download or confirm a package again."""
    people = FakePeople()
    options = ExportOptions("node2", str(tmp_path / "cluster.ksp"), False, None, 60, max_clock_skew=1e9)
    digests = []
    for digit in "ab":
        people.values = {"sha256": digit * 64}
        found = export_package(assisted(OLD, people=people), options, dry_run=False, progress=lambda line: None)
        digests.append(found["package"]["sha256"])
    assert digests == [f"sha256:{digit * 64}" for digit in "ab"]
    assert [step.id for step in people.steps] == ["package_downloaded"] * 2
