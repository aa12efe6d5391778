# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove whether a node can use keys: in its HSM, in its crypto token, by a signature. Private to keyops.utrust.

The operator names a key by its label, and the keys of the source make it exact. From then on, a key is its key fingerprint.
"""

from __future__ import annotations

import contextlib
import dataclasses as dc
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._argspec import make_endpoint
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.key_view import NOTHING, Affected, SourceEjbca
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.protocol import Profiles
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.suboptions import ejbca_option
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._operations.key_proof_levels import KeyTester
from ansible_collections.keyops.utrust.plugins.module_utils._preflight.requested_keys import (
    KEY_SPEC,
    PROOF_SPEC,
    ManualConfirmation,
    RequestedKey,
    check_proof_options,
    parse_time,
    resolve_keys,
)
from ansible_collections.keyops.utrust.plugins.module_utils._runner import (
    Invocation,
    Operation,
    Result,
    open_appliance,
    open_ejbca,
)
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions

if t.TYPE_CHECKING:
    import datetime

    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance, ProgressCallback
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Params, Spec
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.protocol import EjbcaNode
    from ansible_collections.keyops.utrust.plugins.module_utils._operations.key_proof_view import ViewTester

LEVELS: t.Final = ("hsm", "token", "sign")


ARGUMENT_SPEC: t.Final[Spec] = {
    "ejbca": ejbca_option(required=False),
    "ejbca_reader": ejbca_option(required=False),
    "hsm_keys": {"type": "list", "elements": "dict", "required": True, "no_log": False, "options": KEY_SPEC},
    "source_ejbca": {"type": "dict"},
    "source_keys": {"type": "list", "elements": "dict", "no_log": False},
    "key_arrivals": {"type": "dict", "default": {}, "no_log": False},
    "level": {"type": "str", "choices": list(LEVELS), "default": "sign"},
    "out_of_traffic": {"type": "bool", "default": False},
    **PROOF_SPEC,
}
RULES: t.Final[Spec] = {"required_if": [("reactivate", True, ("crypto_token",))]}


@dc.dataclass(frozen=True)
class ProofOptions:
    """Options of the module.

    `reactivate` allows the operation to activate the crypto token again, on a node that people have taken out of traffic,
    if the EJBCA view does not show the key yet or a certificate is not issued.
    The source itself has no `source_ejbca`, and `view_timeout` is how many seconds a view may need to show a key.
    """

    expect_node: str | None
    level: str
    keys: tuple[RequestedKey, ...]
    crypto_token: str | None
    reactivate: bool
    profiles: Profiles
    manual_confirmations: tuple[ManualConfirmation, ...]
    patience: WaitOptions
    #: When each key arrived on this node, by key fingerprint, as far as that is known.
    arrivals: t.Mapping[str, datetime.datetime] = dc.field(default_factory=dict)
    view_timeout: float = 150.0
    out_of_traffic: bool = False
    source_ejbca: SourceEjbca | None = None
    affected: Affected = NOTHING

    @classmethod
    def from_params(cls, params: Params) -> ProofOptions:
        """Return the options from validated parameters.

        Raises UtrustError (`option_invalid`, `node_in_traffic`, `proof_not_allowed`, `key_not_on_source`).
        """
        if params["reactivate"] and params["level"] != "hsm" and not params["out_of_traffic"]:
            raise UtrustError(
                f"reactivate: {params['expect_node'] or 'the node'} may get traffic. Nothing was done. "
                "Remove its traffic, then set out_of_traffic: true. Or set reactivate: false",
                code="node_in_traffic",
            )
        if params["reactivate"] and params["level"] != "hsm" and not params["ejbca"]:
            raise UtrustError(
                "reactivate: option ejbca is missing. Set ejbca, or reactivate: false", code="option_invalid"
            )
        if params["ejbca_view"] and params["level"] != "hsm" and not params["ejbca_reader"]:
            raise UtrustError(
                "ejbca_view: option ejbca_reader is missing. Set ejbca_reader, or ejbca_view: false",
                code="option_invalid",
            )
        affects, source = params["reactivation_affects"], params["source_ejbca"]
        return cls(
            expect_node=params["expect_node"],
            level=params["level"],
            keys=resolve_keys(params["hsm_keys"], params["source_keys"]),
            crypto_token=params["crypto_token"],
            reactivate=params["reactivate"],
            profiles=Profiles(params["certificate_profile"], params["end_entity_profile"]),
            manual_confirmations=check_proof_options(params),
            patience=WaitOptions(params["wait_timeout"]),
            arrivals=_parse_arrivals(params["key_arrivals"]),
            view_timeout=params["ejbca_view_timeout"],
            out_of_traffic=params["out_of_traffic"],
            source_ejbca=SourceEjbca.from_result(source) if source is not None else None,
            affected=Affected(*(tuple(affects[name]) for name in Affected._fields)) if affects else NOTHING,
        )


def _parse_arrivals(given: t.Mapping[str, t.Any]) -> dict[str, datetime.datetime]:
    """Raises UtrustError (`option_invalid`)."""
    try:
        return {fingerprint: parse_time(str(time)) for fingerprint, time in given.items()}
    except (ValueError, OverflowError) as exc:
        raise UtrustError(
            f"key_arrivals: {given!r:.200} has a value that is not a time with a zone. Correct the times",
            code="option_invalid",
        ) from exc


def prove_keys(
    appliance: Appliance,
    ejbca: EjbcaNode | None,
    options: ProofOptions,
    *,
    dry_run: bool,
    progress: ProgressCallback,
    view: ViewTester | None = None,
) -> dict[str, t.Any]:
    """Return one result a key, as soon as all keys pass or the time is over.

    A key that does not pass is a result and not an error. The caller decides whether to fail.
    """
    tester = KeyTester(appliance, ejbca, options, dry_run, view)
    patience = options.patience
    started, last_line = patience.clock(), ""
    while True:
        waited = patience.clock() - started
        results = tester.test_keys(view_is_late=waited + patience.interval > options.view_timeout)
        failed = [result for result in results if result.passed is False]
        timeout = max(patience.timeout, options.view_timeout if tester.view_can_follow else 0.0)
        if not failed or dry_run or waited + patience.interval > timeout:
            break
        if (line := ", ".join(f"{result.label} ({result.detail})" for result in failed)) != last_line:
            last_line = line
            progress(f"{options.expect_node}: waiting for level {options.level} for up to {timeout:g} s: {line}")
        patience.sleep(patience.interval)
    unknown = any(result.passed is None for result in results)
    return {
        "changed": tester.reactivation.attempted
        or (dry_run and options.reactivate and options.level != "hsm" and unknown),
        "proof": [result._asdict() for result in results],
        "passed": None if unknown and not failed else not failed,
        "reactivated": tester.reactivation.attempted,
        "certificates": tester.certificates,
        "ejbca": view.to_dict() if view is not None else None,
        "signature_tests": view.tests_made if view is not None else [],
    }


def run(invocation: Invocation) -> Result:
    """Test the keys. Raises UtrustError."""
    params = invocation.params
    options = ProofOptions.from_params(params)
    with contextlib.ExitStack() as stack:
        appliance = stack.enter_context(open_appliance(params))
        ejbca = stack.enter_context(open_ejbca(params)) if params["ejbca"] else None
        view = stack.enter_context(_open_view(params, options)) if params["ejbca_view"] else None
        try:
            return prove_keys(
                appliance, ejbca, options, dry_run=invocation.check_mode, progress=invocation.progress, view=view
            )
        except UtrustError as exc:
            if view is not None:
                exc.details["ejbca"] = {"codes": view.codes, "problem": str(exc)}
            exc.details["signature_tests"] = view.tests_made if view is not None else []
            raise


@contextlib.contextmanager
def _open_view(params: Params, options: ProofOptions) -> t.Iterator[ViewTester | None]:
    """Open the Admin Web with the account of the reader. Nothing is sent yet."""
    if options.level == "hsm":
        yield None
        return
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.client import AdminWeb
    from ansible_collections.keyops.utrust.plugins.module_utils._operations.key_proof_view import ViewTester

    endpoint = make_endpoint(params, params["ejbca_reader"], "ejbca_reader.")
    with contextlib.closing(AdminWeb(endpoint, retries=params["retries"])) as admin_web:
        yield ViewTester(admin_web, endpoint.port, options)


# Above level hsm, the operation issues certificates, and can activate crypto tokens.
OPERATION: t.Final = Operation("utrust_key_proof", ARGUMENT_SPEC, RULES, run, changes=lambda o: o.get("level") != "hsm")
