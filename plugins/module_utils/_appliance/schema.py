# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parser for documents of appliance API v1. Private to keyops.utrust.

Unknown members are ignored. A required member that is missing or has another type is an error that names the member.
"""

from __future__ import annotations

import contextlib
import json
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import (
    KEY_TYPES,
    UNKNOWN,
    HsmKey,
    Import,
    ImportBehavior,
    ImportRow,
    Mbk,
    Member,
    Node,
    Package,
    PinPad,
    Restore,
    RestorePreview,
    Slot,
)
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError
from ansible_collections.keyops.utrust.plugins.module_utils._json_client import ProblemDetails

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._http import HttpResponse

T = t.TypeVar("T")
_REQUIRED: t.Any = object()
#: Known values of each import behavior. Every other value is `unknown`.
IMPORT_BEHAVIOR_VALUES: t.Final = {
    "effect": ("additive", "overwriting", "replacing"),
    "deletions": ("stay", "travel"),
    "atomic": ("all", "key_by_key"),
    "restart": ("nothing", "driver", "node"),
    "cards": ("never", "asked"),
}


def get_field(document: t.Any, name: str, kind: type[T] | tuple[type, ...], default: t.Any = _REQUIRED) -> T:
    if not isinstance(document, dict):
        raise ApiError(
            f"reading a response: expected an object with {name!r}, got {type(document).__name__}",
            code="response_invalid",
        )
    value = document.get(name, default)
    if value is _REQUIRED:
        raise ApiError(f"reading a response: {name!r} is missing", code="response_invalid")
    if value is not default and (not isinstance(value, kind) or (isinstance(value, bool) and kind is int)):
        raise ApiError(
            f"reading a response: {name!r} is {value!r:.80}, which has the wrong type",
            code="response_invalid",
        )
    return t.cast(T, value)


def get_str(document: t.Any, name: str) -> str:
    return get_field(document, name, str)


def get_optional_object(document: t.Any, name: str) -> dict[str, t.Any] | None:
    return get_field(document, name, (dict, type(None)))


def get_optional_str(document: t.Any, name: str) -> str | None:
    return get_field(document, name, (str, type(None)))


def get_int(document: t.Any, name: str) -> int:
    return get_field(document, name, int)


def get_bool(document: t.Any, name: str) -> bool:
    return get_field(document, name, bool)


def get_list(document: t.Any, name: str) -> list[t.Any]:
    return get_field(document, name, list)


def parse_problem(response: HttpResponse) -> ProblemDetails:
    """Return the problem document of a rejected request. Never raises: an invalid body becomes `response_not_problem_json`."""
    document: t.Any = None
    with contextlib.suppress(ValueError):
        document = json.loads(response.body)
    if not isinstance(document, dict) or not isinstance(document.get("code"), str):
        return ProblemDetails(
            "response_not_problem_json",
            "the response is not a problem document. Check that this address is the appliance API of a node",
            {},
        )
    texts = [str(document[name]) for name in ("title", "detail") if document.get(name)]
    details = {name: document[name] for name in ("configured", "keys_digest", "running_id") if name in document}
    return ProblemDetails(document["code"], ": ".join(texts), details)


def parse_mbk(document: t.Any) -> Mbk:
    whole = (int, type(None))
    return Mbk(
        get_str(document, "name"),
        get_str(document, "check_value"),
        t.cast("int | None", get_field(document, "m", whole, None)),
        t.cast("int | None", get_field(document, "n", whole, None)),
    )


def parse_node(document: t.Any) -> Node:
    """Return the node. Raises ApiError (`api_version_unknown`) for another major version of the API."""
    version = get_str(document, "api_version")
    if version.split(".")[0] != "1":
        raise ApiError(
            f"reading the node: it uses appliance API {version}, the collection supports 1.x. Update the collection",
            code="api_version_unknown",
            api_version=version,
        )
    appliance, hsm, cluster = (get_field(document, name, dict) for name in ("appliance", "hsm", "cluster"))
    mbk = get_optional_object(document, "mbk")
    running = get_optional_object(document, "running")
    return Node(
        name=get_str(document, "name"),
        product=get_str(appliance, "product"),
        appliance_version=get_str(appliance, "version"),
        hsm_model=get_str(hsm, "model"),
        hsm_serial=get_str(hsm, "serial"),
        hsm_firmware=get_str(hsm, "firmware"),
        hsm_state=get_str(hsm, "state"),
        alarm=get_optional_str(hsm, "alarm"),
        fips=get_bool(hsm, "fips"),
        driver=get_str(hsm, "driver"),
        clock=get_str(document, "clock"),
        mbk=parse_mbk(mbk) if mbk is not None else None,
        slots=tuple(_parse_slot(slot) for slot in get_list(document, "slots")),
        key_count=get_int(document, "key_count"),
        unusable_key_count=get_int(document, "unusable_key_count"),
        keys_digest=get_str(document, "keys_digest"),
        cluster_id=get_str(cluster, "id"),
        cluster_name=get_str(cluster, "name"),
        members=tuple(_parse_member(member) for member in get_list(cluster, "members")),
        running=(get_str(running, "kind"), get_str(running, "id")) if running is not None else None,
        capabilities=frozenset(map(str, get_field(document, "capabilities", list, ()))),
        import_behavior=_parse_import_behavior(get_field(document, "import_behavior", dict, {})),
        last_backup_at=get_field(document, "last_backup_at", (str, type(None)), None),
        tls_expires_at=get_field(document, "tls_expires_at", (str, type(None)), None),
    )


def _parse_slot(document: t.Any) -> Slot:
    return Slot(
        get_int(document, "slot"),
        get_str(document, "label"),
        get_str(document, "activation"),
        get_bool(document, "activated"),
        get_int(document, "key_count"),
    )


def _parse_member(document: t.Any) -> Member:
    return Member(
        get_str(document, "node"),
        get_str(document, "address"),
        get_int(document, "port"),
        get_bool(document, "joined"),
        get_str(document, "connection"),
    )


def _parse_import_behavior(document: dict[str, t.Any]) -> ImportBehavior:
    """Return the behavior. A missing or unknown value must not be guessed, so it becomes `unknown`."""
    return ImportBehavior(
        **{
            name: document[name] if document.get(name) in values else UNKNOWN
            for name, values in IMPORT_BEHAVIOR_VALUES.items()
        }
    )


def parse_key(document: t.Any, *, usable: bool | None = None) -> HsmKey:
    """Return one key. `usable` replaces the member of the document. Raises ApiError (`unknown_key_type`) for an unknown type."""
    key = HsmKey(
        get_int(document, "slot"),
        get_str(document, "label"),
        get_str(document, "id"),
        get_str(document, "type"),
        get_int(document, "size"),
        get_optional_str(document, "curve"),
        get_str(document, "fingerprint"),
        usable=get_bool(document, "usable") if usable is None else usable,
    )
    if key.type not in KEY_TYPES:
        raise ApiError(
            f"reading the keys: {key} has the unknown type {key.type!r}. The collection supports {', '.join(KEY_TYPES)}. "
            "It cannot check that a key of another type is synchronized. Update the collection",
            code="unknown_key_type",
            key_type=key.type,
        )
    return key


def parse_key_page(document: t.Any) -> tuple[list[HsmKey], str | None, str]:
    hsm_keys = [parse_key(row) for row in get_list(document, "hsm_keys")]
    return hsm_keys, get_optional_str(document, "next_cursor"), get_str(document, "keys_digest")


def _parse_pin_pad(document: t.Any) -> PinPad:
    return PinPad(
        get_str(document, "name"),
        get_str(document, "kind"),
        get_optional_str(document, "address"),
        get_str(document, "status"),
    )


def parse_pin_pads(document: t.Any) -> tuple[PinPad, ...]:
    return tuple(_parse_pin_pad(item) for item in get_list(document, "pin_pads"))


def parse_restore_preview(document: t.Any) -> RestorePreview:
    source = get_field(document, "source", dict)
    return RestorePreview(
        node=get_str(document, "node"),
        hsm_serial=get_str(document, "hsm_serial"),
        tls_fingerprint=get_str(document, "tls_fingerprint"),
        pin_pad=_parse_pin_pad(get_field(document, "pin_pad", dict)),
        source=get_str(source, "node"),
        source_key_count=get_int(source, "key_count"),
        source_keys_digest=get_str(source, "keys_digest"),
        mbk=parse_mbk(get_field(document, "mbk", dict)),
        cards_required=get_int(document, "cards_required"),
        cards_total=get_int(document, "cards_total"),
    )


def parse_restore(document: t.Any) -> Restore:
    return Restore(
        id=get_str(document, "id"),
        state=get_str(document, "state"),
        sequence=get_int(document, "sequence"),
        pin_pad=get_str(document, "pin_pad"),
        source=get_str(document, "source"),
        cards_accepted=get_int(document, "cards_accepted"),
        cards_required=get_int(document, "cards_required"),
        **_prompt_fields(document, _REQUIRED),
    )


def _prompt_fields(document: t.Any, default: t.Any) -> dict[str, t.Any]:
    """Return the fields that a restore and an import share: the text of the PIN pad, and the reason for the end of the job."""
    objects = ("prompt", "notice", "problem")
    prompt, notice, failure = (
        t.cast(t.Any, get_field(document, name, (dict, type(None)), default)) for name in objects
    )
    seconds_left: int | float | None = get_field(document, "seconds_left", (int, float, type(None)), default)
    return {
        "prompt": get_str(prompt, "text") if prompt is not None else None,
        "notice": (get_str(notice, "code"), get_str(notice, "text")) if notice is not None else None,
        "seconds_left": float(seconds_left) if seconds_left is not None else None,
        "problem": (get_str(failure, "code"), f"{get_str(failure, 'title')}: {get_str(failure, 'detail')}")
        if failure is not None
        else None,
    }


def parse_restores(document: t.Any) -> list[Restore]:
    return [parse_restore(item) for item in get_list(document, "restores")]


def parse_package(document: t.Any) -> Package:
    source = get_field(document, "source", dict)
    return Package(
        id=get_str(document, "id"),
        sha256=get_str(document, "sha256"),
        size=get_int(document, "size"),
        source=get_str(source, "node"),
        source_serial=get_str(source, "hsm_serial"),
        cluster_id=get_str(document, "cluster_id"),
        mbk=parse_mbk(get_field(document, "mbk", dict)),
        key_count=get_int(document, "key_count"),
        keys_digest=get_str(document, "keys_digest"),
    )


def parse_import(document: t.Any) -> Import:
    return Import(
        id=get_str(document, "id"),
        state=get_str(document, "state"),
        keys_digest=get_str(document, "keys_digest"),
        rows=tuple(
            ImportRow(parse_key(row, usable=True), get_str(row, "action"), get_optional_str(row, "current_fingerprint"))
            for row in get_list(document, "rows")
        ),
        pin_pad=get_field(document, "pin_pad", (str, type(None)), None),
        **_prompt_fields(document, None),
    )
