# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documents of appliance API v1 to data types. Private to keyops.utrust.

Unknown members are ignored; what is needed and missing, or of another type, is an error that names it. Nothing is guessed.
"""

from __future__ import annotations

import contextlib
import json
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance import (
    KEY_TYPES,
    HsmKey,
    Import,
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

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._http import Exchange

T = t.TypeVar("T")
_REQUIRED: t.Any = object()


class Problem(t.NamedTuple):
    code: str
    text: str
    facts: dict[str, t.Any]


def _take(document: t.Any, name: str, kind: type[T] | tuple[type, ...], default: t.Any = _REQUIRED) -> T:
    if not isinstance(document, dict):
        raise ApiError(
            f"reading an answer: expected an object with {name!r}, got {type(document).__name__}", code="answer_invalid"
        )
    value = document.get(name, default)
    if value is _REQUIRED:
        raise ApiError(f"reading an answer: {name!r} is missing", code="answer_invalid")
    if value is not default and (not isinstance(value, kind) or (isinstance(value, bool) and kind is int)):
        raise ApiError(
            f"reading an answer: {name!r} is {value!r:.80}, which is of another type than the contract says",
            code="answer_invalid",
        )
    return t.cast(T, value)


def _text(document: t.Any, name: str) -> str:
    return _take(document, name, str)


def _maybe_object(document: t.Any, name: str) -> dict[str, t.Any] | None:
    return _take(document, name, (dict, type(None)))


def _maybe_text(document: t.Any, name: str) -> str | None:
    return _take(document, name, (str, type(None)))


def _number(document: t.Any, name: str) -> int:
    return _take(document, name, int)


def _flag(document: t.Any, name: str) -> bool:
    return _take(document, name, bool)


def listed(document: t.Any, name: str) -> list[t.Any]:
    return _take(document, name, list)


def retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header; a date or nonsense counts as no header."""
    return float(value) if value is not None and value.isascii() and value.isdigit() else None


def problem(exchange: Exchange) -> Problem:
    """The node's own words about a refusal; any body is survived, none is trusted."""
    document: t.Any = None
    with contextlib.suppress(ValueError):
        document = json.loads(exchange.body)
    if not isinstance(document, dict) or not isinstance(document.get("code"), str):
        return Problem(
            "http_error", "the answer is no problem document; is this address the appliance API of a node?", {}
        )
    words = [str(document[name]) for name in ("title", "detail") if document.get(name)]
    facts = {name: document[name] for name in ("configured", "inventory_digest", "running_id") if name in document}
    return Problem(document["code"], ": ".join(words), facts)


def mbk(document: t.Any) -> Mbk:
    whole = (int, type(None))
    return Mbk(
        _text(document, "name"),
        _text(document, "check_value"),
        t.cast("int | None", _take(document, "m", whole, None)),
        t.cast("int | None", _take(document, "n", whole, None)),
    )


def node(document: t.Any) -> Node:
    version = _text(document, "api_version")
    if version.split(".")[0] != "1":
        raise ApiError(
            f"reading the node: it speaks appliance API {version}, this collection speaks 1.x; update the collection",
            code="api_version_unknown",
            api_version=version,
        )
    appliance, hsm, cluster = (_take(document, name, dict) for name in ("appliance", "hsm", "cluster"))
    held = _maybe_object(document, "mbk")
    running = _maybe_object(document, "running")
    return Node(
        name=_text(document, "name"),
        product=_text(appliance, "product"),
        appliance_version=_text(appliance, "version"),
        hsm_model=_text(hsm, "model"),
        hsm_serial=_text(hsm, "serial"),
        hsm_firmware=_text(hsm, "firmware"),
        hsm_state=_text(hsm, "state"),
        alarm=_maybe_text(hsm, "alarm"),
        fips=_flag(hsm, "fips"),
        driver=_text(hsm, "driver"),
        clock=_text(document, "clock"),
        mbk=mbk(held) if held is not None else None,
        slots=tuple(
            Slot(
                _number(slot, "slot"),
                _text(slot, "label"),
                _text(slot, "activation"),
                _flag(slot, "activated"),
                _number(slot, "key_count"),
            )
            for slot in listed(document, "slots")
        ),
        key_count=_number(document, "key_count"),
        unusable_key_count=_number(document, "unusable_key_count"),
        inventory_digest=_text(document, "inventory_digest"),
        cluster_id=_text(cluster, "id"),
        cluster_name=_text(cluster, "name"),
        members=tuple(
            Member(
                _text(one, "node"),
                _text(one, "address"),
                _number(one, "port"),
                _flag(one, "joined"),
                _text(one, "connection"),
            )
            for one in listed(cluster, "members")
        ),
        running=(_text(running, "kind"), _text(running, "id")) if running is not None else None,
    )


def hsm_key(document: t.Any, *, usable: bool | None = None) -> HsmKey:
    """One key; raises ApiError (`unknown_key_type`) for a type that this collection does not know."""
    key = HsmKey(
        _number(document, "slot"),
        _text(document, "label"),
        _text(document, "id"),
        _text(document, "type"),
        _number(document, "size"),
        _maybe_text(document, "curve"),
        _text(document, "fingerprint"),
        usable=_flag(document, "usable") if usable is None else usable,
    )
    if key.type not in KEY_TYPES:
        raise ApiError(
            f"reading the inventory: {key} is of the type {key.type!r}, which this collection does not know ({', '.join(KEY_TYPES)}); "
            "it cannot tell whether such a key is synchronised, so it stops. Update the collection",
            code="unknown_key_type",
            key_type=key.type,
        )
    return key


def key_page(document: t.Any) -> tuple[list[HsmKey], str | None, str]:
    hsm_keys = [hsm_key(row) for row in listed(document, "hsm_keys")]
    return hsm_keys, _maybe_text(document, "next_cursor"), _text(document, "inventory_digest")


def _pin_pad(document: t.Any) -> PinPad:
    return PinPad(
        _text(document, "name"), _text(document, "kind"), _maybe_text(document, "address"), _text(document, "status")
    )


def pin_pads(document: t.Any) -> tuple[PinPad, ...]:
    return tuple(_pin_pad(one) for one in listed(document, "pin_pads"))


def restore_preview(document: t.Any) -> RestorePreview:
    source = _take(document, "source", dict)
    return RestorePreview(
        node=_text(document, "node"),
        hsm_serial=_text(document, "hsm_serial"),
        tls_fingerprint=_text(document, "tls_fingerprint"),
        pin_pad=_pin_pad(_take(document, "pin_pad", dict)),
        source=_text(source, "node"),
        source_key_count=_number(source, "key_count"),
        source_inventory_digest=_text(source, "inventory_digest"),
        mbk=mbk(_take(document, "mbk", dict)),
        cards_required=_number(document, "cards_required"),
        cards_total=_number(document, "cards_total"),
    )


def restore(document: t.Any) -> Restore:
    prompt, notice, failure = (_maybe_object(document, name) for name in ("prompt", "notice", "problem"))
    seconds_left: int | float | None = _take(document, "seconds_left", (int, float, type(None)))
    return Restore(
        id=_text(document, "id"),
        state=_text(document, "state"),
        sequence=_number(document, "sequence"),
        pin_pad=_text(document, "pin_pad"),
        source=_text(document, "source"),
        prompt=_text(prompt, "text") if prompt is not None else None,
        notice=(_text(notice, "code"), _text(notice, "text")) if notice is not None else None,
        cards_accepted=_number(document, "cards_accepted"),
        cards_required=_number(document, "cards_required"),
        seconds_left=float(seconds_left) if seconds_left is not None else None,
        problem=(_text(failure, "code"), f"{_text(failure, 'title')}: {_text(failure, 'detail')}")
        if failure is not None
        else None,
    )


def restores(document: t.Any) -> list[Restore]:
    return [restore(one) for one in listed(document, "restores")]


def package(document: t.Any) -> Package:
    source = _take(document, "source", dict)
    return Package(
        id=_text(document, "id"),
        sha256=_text(document, "sha256"),
        size=_number(document, "size"),
        source=_text(source, "node"),
        source_serial=_text(source, "hsm_serial"),
        cluster_id=_text(document, "cluster_id"),
        mbk=mbk(_take(document, "mbk", dict)),
        key_count=_number(document, "key_count"),
        inventory_digest=_text(document, "inventory_digest"),
    )


def import_(document: t.Any) -> Import:
    return Import(
        id=_text(document, "id"),
        state=_text(document, "state"),
        inventory_digest=_text(document, "inventory_digest"),
        rows=tuple(
            ImportRow(hsm_key(row, usable=True), _text(row, "action"), _maybe_text(row, "current_fingerprint"))
            for row in listed(document, "rows")
        ),
    )
