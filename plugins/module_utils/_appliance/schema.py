# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parser for documents of appliance API v1. Private to keyops.utrust.

Unknown members are ignored. A member that is missing or does not follow the contract is an error that names the member.
A value of an enumeration that the collection does not know is kept: it equals no known value, so every check treats it as unknown.
"""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _json
from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits
from ansible_collections.keyops.utrust.plugins.module_utils._appliance import fields
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.claim import parse_claim
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.fields import (
    get_bool,
    get_int,
    get_list,
    get_match,
    get_object,
    get_optional_bool,
    get_optional_int,
    get_optional_match,
    get_optional_object,
    get_optional_str,
    get_str,
)
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import (
    UNKNOWN,
    HsmKey,
    ImportBehavior,
    Mbk,
    Member,
    Node,
    PinPad,
    RestorePreview,
    Slot,
)
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError
from ansible_collections.keyops.utrust.plugins.module_utils._json_client import ProblemDetails
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._http import HttpResponse

MAX_CARDS = 16
MAX_SLOT_NUMBER = 2**31 - 1
JOB_KINDS: t.Final = ("restore", "import", "package")
#: Known values of each import behavior. Every other value is `unknown`.
IMPORT_BEHAVIOR_VALUES: t.Final = {
    "effect": ("additive", "overwriting", "replacing"),
    "deletions": ("not_replicated", "replicated"),
    "atomic": ("all", "key_by_key"),
    "restart": ("nothing", "driver", "node"),
    "cards": ("not_required", "required"),
}


def parse_problem(response: HttpResponse) -> ProblemDetails:
    """Return the problem document of a rejected request. Never raises: an invalid body becomes `response_not_problem_json`."""
    document: t.Any = None
    with contextlib.suppress(ValueError):
        document = _json.decode(response.body)
    try:
        code = get_match(document, "code", fields.WORD)
    except ApiError:
        return ProblemDetails(
            "response_not_problem_json",
            "the response is not a problem document. Check that this address is the appliance API of a node",
            {},
        )
    texts = [str(document[name])[: limits.MAX_LONG_TEXT] for name in ("title", "detail") if document.get(name)]
    details = _problem_details(document)
    if code == "cluster_claimed" and "claim" in details:
        texts = [f"{details['claim']['holder']} has claimed the cluster until {details['claim']['expires_at']}"]
    return ProblemDetails(code, escape_unprintable(": ".join(texts)), details)


def _problem_details(document: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return the machine-readable members that follow the contract. The others are dropped: an error must not fail because of its details."""
    details: dict[str, t.Any] = {}
    with contextlib.suppress(ApiError):
        names = [{"name": name} for name in get_list(document, "configured", limits.MAX_PIN_PADS)]
        details["configured"] = [get_match(name, "name", fields.NAME) for name in names]
    for name, pattern in (("keys_digest", fields.DIGEST), ("running_id", fields.OBJECT_ID)):
        with contextlib.suppress(ApiError):
            details[name] = get_match(document, name, pattern)
    with contextlib.suppress(ApiError):
        details["claim"] = parse_claim(get_object(document, "claim")).to_dict()
    return details


def parse_mbk(document: t.Any, *, default: t.Any = fields.REQUIRED) -> Mbk:
    """Return the MBK. The MBK of a package has no m and n, so there both have a default."""
    return Mbk(
        get_str(document, "name", limits.MAX_MBK_NAME, least=1),
        get_match(document, "check_value", fields.CHECK_VALUE),
        get_optional_int(document, "m", MAX_CARDS, least=1, default=default),
        get_optional_int(document, "n", MAX_CARDS, least=1, default=default),
    )


def parse_optional_mbk(document: t.Any, *, default: t.Any = fields.REQUIRED) -> Mbk | None:
    mbk = get_optional_object(document, "mbk")
    return parse_mbk(mbk, default=default) if mbk is not None else None


def parse_keys_digest(document: t.Any) -> str | None:
    return get_optional_match(document, "keys_digest", fields.DIGEST)


def parse_key_count(document: t.Any, name: str = "key_count") -> int | None:
    return get_optional_int(document, name, limits.MAX_KEYS)


def parse_node(document: t.Any) -> Node:
    """Return the node. Raises ApiError (`api_version_unknown`) for another major version of the API."""
    version = get_match(document, "api_version", fields.API_VERSION)
    if version.split(".")[0] != "1":
        raise ApiError(
            f"reading the node: it uses appliance API {ascii(version)[1:-1]}, the collection supports 1.x. Update the collection",
            code="api_version_unknown",
            api_version=version,
        )
    appliance, hsm, cluster = (get_object(document, name) for name in ("appliance", "hsm", "cluster"))
    running = get_optional_object(document, "running")
    return Node(
        name=get_match(document, "name", fields.NAME),
        product=get_str(appliance, "product"),
        appliance_version=get_optional_str(appliance, "version"),
        hsm_family=get_match(hsm, "family", fields.WORD),
        hsm_model=get_str(hsm, "model"),
        hsm_serial=get_str(hsm, "serial", limits.MAX_NAME, least=1),
        hsm_firmware=get_optional_str(hsm, "firmware"),
        hsm_state=get_match(hsm, "state", fields.WORD),
        alarm_code=get_optional_match(hsm, "alarm_code", fields.WORD),
        alarm=get_optional_str(hsm, "alarm", limits.MAX_LONG_TEXT),
        fips=get_optional_bool(hsm, "fips"),
        driver=get_match(hsm, "driver", fields.WORD),
        clock=get_optional_match(document, "clock", fields.TIME),
        mbk=parse_optional_mbk(document),
        slots=tuple(_parse_slot(slot) for slot in get_list(document, "slots", limits.MAX_SLOTS)),
        key_count=parse_key_count(document),
        unusable_key_count=parse_key_count(document, "unusable_key_count"),
        keys_digest=parse_keys_digest(document),
        cluster_id=get_str(cluster, "id", limits.MAX_NAME, least=1),
        cluster_name=get_str(cluster, "name"),
        members=tuple(_parse_member(member) for member in get_list(cluster, "members", limits.MAX_MEMBERS)),
        running=_parse_running(running) if running is not None else None,
        capabilities=_parse_capabilities(document),
        import_behavior=_parse_import_behavior(get_object(document, "import_behavior")),
        last_backup_at=get_optional_match(document, "last_backup_at", fields.TIME),
        tls_expires_at=get_optional_match(document, "tls_expires_at", fields.TIME),
    )


def _parse_running(document: dict[str, t.Any]) -> tuple[str, str | None]:
    """Return kind and id. A job that was not started with the API has no id. A kind that the collection does not know counts as unknown."""
    kind = get_match(document, "kind", fields.WORD)
    return kind if kind in JOB_KINDS else UNKNOWN, get_optional_match(document, "id", fields.OBJECT_ID)


def _parse_capabilities(document: dict[str, t.Any]) -> frozenset[str]:
    """Return the capabilities, also those that the collection does not know."""
    names = [{"name": name} for name in get_list(document, "capabilities", limits.MAX_CAPABILITIES)]
    return frozenset(get_match(name, "name", fields.CAPABILITY) for name in names)


def _parse_slot(document: t.Any) -> Slot:
    return Slot(
        get_int(document, "slot", MAX_SLOT_NUMBER),
        get_str(document, "label", limits.MAX_LABEL),
        get_match(document, "activation", fields.WORD),
        get_optional_bool(document, "activated"),
        parse_key_count(document),
    )


def _parse_member(document: t.Any) -> Member:
    return Member(
        get_match(document, "node", fields.NAME),
        get_str(document, "address", limits.MAX_ADDRESS, least=1),
        get_int(document, "port", 65535, least=1),
        get_bool(document, "joined"),
        get_match(document, "connection", fields.WORD),
    )


def _parse_import_behavior(document: dict[str, t.Any]) -> ImportBehavior:
    """Return the behavior. A value that the collection does not know must not be guessed, so it becomes `unknown`."""
    reported = {name: get_match(document, name, fields.WORD) for name in IMPORT_BEHAVIOR_VALUES}
    return ImportBehavior(
        **{
            name: reported[name] if reported[name] in values else UNKNOWN
            for name, values in IMPORT_BEHAVIOR_VALUES.items()
        }
    )


def parse_key(document: t.Any, *, usable: bool | None = None) -> HsmKey:
    """Return one key of any type. A key without a label has the label "". `usable` replaces the member of the document."""
    return HsmKey(
        get_int(document, "slot", MAX_SLOT_NUMBER),
        get_str(document, "label", limits.MAX_LABEL),
        get_match(document, "id", fields.CKA_ID),
        get_match(document, "type", fields.KEY_TYPE),
        get_optional_int(document, "size", limits.MAX_KEY_SIZE, least=1),
        get_optional_match(document, "curve", fields.CURVE),
        get_match(document, "fingerprint", fields.FINGERPRINT),
        usable=get_bool(document, "usable") if usable is None else usable,
    )


def parse_key_page(document: t.Any) -> tuple[list[HsmKey], str | None, str]:
    hsm_keys = [parse_key(row) for row in get_list(document, "hsm_keys", limits.MAX_PAGE_KEYS)]
    return (
        hsm_keys,
        get_optional_match(document, "next_cursor", fields.CURSOR),
        get_match(document, "keys_digest", fields.DIGEST),
    )


def _parse_pin_pad(document: t.Any) -> PinPad:
    return PinPad(
        get_match(document, "name", fields.NAME),
        get_match(document, "kind", fields.WORD),
        get_optional_str(document, "address", limits.MAX_ADDRESS),
        get_match(document, "status", fields.WORD),
    )


def parse_pin_pads(document: t.Any) -> tuple[PinPad, ...]:
    return tuple(_parse_pin_pad(item) for item in get_list(document, "pin_pads", limits.MAX_PIN_PADS))


def parse_restore_preview(document: t.Any) -> RestorePreview:
    source = get_object(document, "source")
    return RestorePreview(
        node=get_match(document, "node", fields.NAME),
        hsm_serial=get_str(document, "hsm_serial", limits.MAX_NAME, least=1),
        tls_fingerprint=get_optional_match(document, "tls_fingerprint", fields.DIGEST),
        pin_pad=_parse_pin_pad(get_object(document, "pin_pad")),
        source=get_match(source, "node", fields.NAME),
        source_key_count=parse_key_count(source),
        source_keys_digest=parse_keys_digest(source),
        mbk=parse_optional_mbk(document),
        cards_required=get_optional_int(document, "cards_required", MAX_CARDS, least=1),
        cards_total=get_optional_int(document, "cards_total", MAX_CARDS, least=1),
    )
