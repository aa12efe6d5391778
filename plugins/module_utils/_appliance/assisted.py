# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Transport `assisted`: people click at Webconf, and EJBCA of the node shows the result. Private to keyops.utrust.

Nothing is sent to Webconf. The operator declares what EJBCA does not show. A confirmation of people is never taken for a result: the view is read.
"""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits
from ansible_collections.keyops.utrust.plugins.module_utils._appliance import page_map as maps
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.declared import parse_declared, parse_members
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import (
    KEY_LIST,
    SCOPE_EJBCA,
    UNKNOWN,
    Import,
    Node,
    Package,
    PinPad,
    Restore,
    RestorePreview,
)
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.people import (
    HSM_RESTORED,
    PACKAGE_DOWNLOADED,
    PACKAGE_UPLOADED,
)
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.view_keys import keys_of, slots_of, unreadable
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError, ResponseLostError, UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._interruption import InterruptedTaskError
from ansible_collections.keyops.utrust.plugins.module_utils._keys import keys_digest
from ansible_collections.keyops.utrust.plugins.module_utils._run.life import RunEndedError, require_run

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.claim import ClaimStatus
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.people import Confirmation, People, Step
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view_read import ViewReading, ViewSource

#: Id of a job of people. Webconf shows none.
JOB: t.Final = "assisted"
#: Codes of a step that nobody saw. After any other error, people may have done a part of the step.
NOT_BEGUN: t.Final = frozenset({"confirmation_missing", "transport_needs_controller"})


class Place(t.NamedTuple):
    """The node for people: its name, the address of its Webconf, and the words of its pages."""

    node: str
    address: str
    page_map: str


class AssistedAppliance:
    """One node. `open_view` returns the EJBCA of the node. With `again`, the view is read although an earlier task found a token that fails.

    `facts` are the declared facts, and `members` the declared members. Without `people`, nobody can do a step.
    """

    def __init__(
        self,
        place: Place,
        facts: t.Any,
        members: t.Iterable[t.Mapping[str, t.Any]],
        open_view: t.Callable[[bool], ViewSource],
        people: People | None,
        timeout: float,
    ) -> None:
        self.capabilities = frozenset({KEY_LIST})
        self._place = place
        self._declared = parse_declared(place.node, facts)
        self._members = parse_members(members)
        self._open_view = open_view
        self._people = people
        self._timeout = timeout
        self._view: ViewSource | None = None
        self._reading: ViewReading | None = None
        self._again = False

    def close(self) -> None:
        """Nothing is open between two readings."""

    def abort(self) -> None:
        if self._view is not None:
            self._view.abort()

    # Reading

    def node(self) -> Node:
        self._view = self._open_view(self._again)
        self._reading = self._view.read()
        view = self._reading.view
        complete = view is not None and unreadable(view) is None
        hsm_keys = keys_of(view) if view is not None and complete else None
        slots = slots_of(view) if view is not None else ()
        declared = self._declared
        return Node(
            name=self._place.node,
            product=UNKNOWN,
            appliance_version=declared.appliance_version,
            hsm_family="u_trust_anchor",
            hsm_model=declared.hsm_model,
            hsm_serial=declared.hsm_serial,
            hsm_firmware=declared.hsm_firmware,
            hsm_state="operational" if any(slot.activated for slot in slots) else UNKNOWN,
            alarm_code=None,
            alarm=None,
            fips=declared.fips,
            driver=UNKNOWN,
            clock=_time(view.server_time) if view is not None else None,
            mbk=declared.mbk,
            slots=slots,
            key_count=len(hsm_keys) if hsm_keys is not None else None,
            unusable_key_count=None,
            keys_digest=keys_digest(hsm_keys) if hsm_keys is not None else None,
            cluster_id=declared.cluster_id,
            cluster_name=declared.cluster_name,
            members=self._members,
            running=None,
            capabilities=self.capabilities,
            import_behavior=declared.import_behavior,
            transport="assisted",
            key_scope=SCOPE_EJBCA,
        )

    def list_keys(self) -> tuple[HsmKey, ...]:
        """Return the keys of the last reading of `node`, so that they always match its keys digest."""
        if self._reading is None:
            self.node()
        reading = t.cast("ViewReading", self._reading)
        problem = reading.problem if reading.view is None else unreadable(reading.view)
        if problem is not None or reading.view is None:
            code, text = problem or ("ejbca_view_unknown", "the view was not read")
            raise UtrustError(
                f"reading the keys of {self._place.node} in its EJBCA view: {text.rstrip('.')}. The keys are unknown",
                code=code,
            )
        return keys_of(reading.view)

    # Packages

    def create_package(self, expect_keys_digest: str | None) -> Package:
        confirmed = self._confirm(self._step(PACKAGE_DOWNLOADED))
        self._require_keys(
            expect_keys_digest,
            "source_changed",
            "while people downloaded the package. Destroy that package, and run again",
        )
        declared = self._declared
        return Package(
            id=JOB,
            state="ready",
            sha256=confirmed.values["sha256"],
            size=int(confirmed.values["size"]),
            source=self._place.node,
            source_serial=declared.hsm_serial,
            cluster_id=declared.cluster_id,
            mbk=declared.mbk,
            key_count=None,
            keys_digest=None,
            single_download=False,
            elsewhere=True,
        )

    def read_package(self, package: Package) -> Package:
        return package

    def download_package(self, package: Package, output: t.BinaryIO) -> None:
        raise self._not_supported("downloading a package")

    def delete_package(self, package: Package) -> None:
        """Nobody knows whether the node keeps a copy. People destroy their copy at the end of the run."""

    # Imports

    def stage_import(self, content: t.BinaryIO, size: int, sha256: str, expect_keys_digest: str | None) -> Import:
        """Let people upload the package. Their upload is the commit, so after the first click the result is read from the view."""
        self._require_keys(expect_keys_digest, "keys_changed", "since they were read. Nothing was changed. Run again")
        require_run()
        self._confirm_change(self._step(PACKAGE_UPLOADED, sha256=sha256))
        return Import(JOB, "applied", None, None)

    def read_import(self, started: Import) -> Import:
        return started

    def apply_import(self, staged: Import, expect_keys_digest: str | None) -> Import:
        raise self._not_supported("applying an import")

    def discard_import(self, staged: Import) -> bool:
        return False

    # Restores

    def pin_pads(self) -> tuple[PinPad, ...]:
        raise self._not_supported("listing the PIN pads")

    def preview_restore(self, pin_pad: str, source: str) -> RestorePreview:
        declared, mbk = self._declared, self._declared.mbk
        return RestorePreview(
            node=self._place.node,
            hsm_serial=declared.hsm_serial,
            tls_fingerprint=None,
            pin_pad=PinPad(pin_pad, UNKNOWN, None, UNKNOWN),
            source=source,
            source_key_count=None,
            source_keys_digest=None,
            mbk=mbk,
            cards_required=mbk.m if mbk is not None else None,
            cards_total=mbk.n if mbk is not None else None,
        )

    def running_restore(self) -> Restore | None:
        return None

    def start_restore(self, pin_pad: str, source: str) -> Restore:
        """Let people restore the HSM. The view is read again afterwards, also if a crypto token failed before."""
        require_run()
        mbk = self._declared.mbk
        cards = {"cards": f"{mbk.m} of {mbk.n}"} if mbk is not None and mbk.m and mbk.n else {}
        step = self._step(HSM_RESTORED, pin_pad=pin_pad, source=source, hsm_serial=self._declared.hsm_serial, **cards)
        self._again = True
        self._confirm_change(step)
        return Restore(JOB, "succeeded", 1, pin_pad, source, None, None, 0, None, None, None)

    def watch_restore(self, restore: Restore, wait: float) -> Restore:
        return restore

    def cancel_restore(self, restore_id: str) -> Restore:
        raise self._not_supported("canceling a restore")

    # The claim: a lock on the controller serves.

    def read_claim(self) -> ClaimStatus:
        raise self._not_supported("reading the claim")

    def take_claim(self, token: str, holder: str, ttl: int) -> ClaimStatus:
        raise self._not_supported("claiming the cluster")

    def release_claim(self) -> None:
        raise self._not_supported("releasing the claim")

    # People

    def _step(self, step_id: str, **facts: str) -> Step:
        place = self._place
        return maps.steps(place.page_map, step_id, place.node, address=place.address, **facts)

    def _confirm(self, step: Step) -> Confirmation:
        if self._people is None:
            raise UtrustError(
                f"step {step.id} on {step.node}: a module on another machine cannot reach people. Nothing was done. "
                "Remove delegate_to or utrust_bastion, so that the controller runs this task",
                code="transport_needs_controller",
            )
        return self._people.confirm(step, self._timeout)

    def _confirm_change(self, step: Step) -> Confirmation:
        """Return the confirmation of a step that changes the node. Raises ResponseLostError if people may have begun the step."""
        try:
            return self._confirm(step)
        except (InterruptedTaskError, RunEndedError):
            raise
        except UtrustError as exc:
            if exc.code in NOT_BEGUN:
                raise
            raise ResponseLostError(str(exc).rstrip("."), code=exc.code) from exc

    def _require_keys(self, expected: str | None, code: str, when: str) -> None:
        found = self.node().keys_digest
        if expected is not None and found != expected:
            self.list_keys()  # names the reason of unknown keys
            raise UtrustError(
                f"the keys in the EJBCA view of {self._place.node} have keys digest {found}, but {expected} was expected: they changed {when}",
                code=code,
            )

    def _not_supported(self, action: str) -> ApiError:
        return ApiError(
            f"{action}: transport assisted of {self._place.node} does not support this request", code="not_supported"
        )


def _time(text: str | None) -> str | None:
    """Return the time of page 0 if it is a time with a time zone, because only such a time can be compared."""
    try:
        found = datetime.datetime.fromisoformat((text or "")[: limits.MAX_TEXT])
    except ValueError:
        return None
    return found.isoformat() if found.tzinfo is not None else None
