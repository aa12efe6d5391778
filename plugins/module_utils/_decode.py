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

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._http import Exchange

T = t.TypeVar("T")
_REQUIRED: t.Any = object()
#: What a node may say of its imports; any other word is unknown, too.
IMPORT_WORDS: t.Final = {
    "effect": ("additive", "overwriting", "replacing"),
    "deletions": ("stay", "travel"),
    "atomic": ("all", "key_by_key"),
    "restart": ("nothing", "driver", "node"),
    "cards": ("never", "asked"),
}


class Problem(t.NamedTuple):
    code: str
    text: str
    facts: dict[str, t.Any]


def take(document: t.Any, name: str, kind: type[T] | tuple[type, ...], default: t.Any = _REQUIRED) -> T:
    if not isinstance(document, dict):
        raise ApiError(
            f"reading an answer: expected an object with {name!r}, got {type(document).__name__}",
            code="response_invalid",
        )
    value = document.get(name, default)
    if value is _REQUIRED:
        raise ApiError(f"reading an answer: {name!r} is missing", code="response_invalid")
    if value is not default and (not isinstance(value, kind) or (isinstance(value, bool) and kind is int)):
        raise ApiError(
            f"reading an answer: {name!r} is {value!r:.80}, which is of another type than the contract says",
            code="response_invalid",
        )
    return t.cast(T, value)


def text(document: t.Any, name: str) -> str:
    return take(document, name, str)


def _maybe_object(document: t.Any, name: str) -> dict[str, t.Any] | None:
    return take(document, name, (dict, type(None)))


def _maybe_text(document: t.Any, name: str) -> str | None:
    return take(document, name, (str, type(None)))


def number(document: t.Any, name: str) -> int:
    return take(document, name, int)


def _flag(document: t.Any, name: str) -> bool:
    return take(document, name, bool)


def listed(document: t.Any, name: str) -> list[t.Any]:
    return take(document, name, list)


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
            "response_not_problem_json",
            "the answer is no problem document; is this address the appliance API of a node?",
            {},
        )
    words = [str(document[name]) for name in ("title", "detail") if document.get(name)]
    facts = {name: document[name] for name in ("configured", "keys_digest", "running_id") if name in document}
    return Problem(document["code"], ": ".join(words), facts)


def mbk(document: t.Any) -> Mbk:
    whole = (int, type(None))
    return Mbk(
        text(document, "name"),
        text(document, "check_value"),
        t.cast("int | None", take(document, "m", whole, None)),
        t.cast("int | None", take(document, "n", whole, None)),
    )


def node(document: t.Any) -> Node:
    version = text(document, "api_version")
    if version.split(".")[0] != "1":
        raise ApiError(
            f"reading the node: it speaks appliance API {version}, this collection speaks 1.x; update the collection",
            code="api_version_unknown",
            api_version=version,
        )
    appliance, hsm, cluster = (take(document, name, dict) for name in ("appliance", "hsm", "cluster"))
    held = _maybe_object(document, "mbk")
    running = _maybe_object(document, "running")
    return Node(
        name=text(document, "name"),
        product=text(appliance, "product"),
        appliance_version=text(appliance, "version"),
        hsm_model=text(hsm, "model"),
        hsm_serial=text(hsm, "serial"),
        hsm_firmware=text(hsm, "firmware"),
        hsm_state=text(hsm, "state"),
        alarm=_maybe_text(hsm, "alarm"),
        fips=_flag(hsm, "fips"),
        driver=text(hsm, "driver"),
        clock=text(document, "clock"),
        mbk=mbk(held) if held is not None else None,
        slots=tuple(
            Slot(
                number(slot, "slot"),
                text(slot, "label"),
                text(slot, "activation"),
                _flag(slot, "activated"),
                number(slot, "key_count"),
            )
            for slot in listed(document, "slots")
        ),
        key_count=number(document, "key_count"),
        unusable_key_count=number(document, "unusable_key_count"),
        keys_digest=text(document, "keys_digest"),
        cluster_id=text(cluster, "id"),
        cluster_name=text(cluster, "name"),
        members=tuple(
            Member(
                text(one, "node"),
                text(one, "address"),
                number(one, "port"),
                _flag(one, "joined"),
                text(one, "connection"),
            )
            for one in listed(cluster, "members")
        ),
        running=(text(running, "kind"), text(running, "id")) if running is not None else None,
        **_since_1_1(document),
    )


def _since_1_1(document: t.Any) -> dict[str, t.Any]:
    """What a node of contract version 1.0 does not say; the defaults of `Node` are that version's."""
    since: dict[str, t.Any] = {}
    if "capabilities" in document:
        since["capabilities"] = frozenset(str(name) for name in listed(document, "capabilities"))
    if "import_behavior" in document:
        said = take(document, "import_behavior", dict)
        words = {name: str(said.get(name)) for name in IMPORT_WORDS}
        known = {name: word if word in IMPORT_WORDS[name] else UNKNOWN for name, word in words.items()}
        since["import_behavior"] = ImportBehavior(**known)
    for name in ("last_backup_at", "tls_expires_at"):
        since[name] = take(document, name, (str, type(None)), None)
    return since


def hsm_key(document: t.Any, *, usable: bool | None = None) -> HsmKey:
    """One key; raises ApiError (`unknown_key_type`) for a type that this collection does not know."""
    key = HsmKey(
        number(document, "slot"),
        text(document, "label"),
        text(document, "id"),
        text(document, "type"),
        number(document, "size"),
        _maybe_text(document, "curve"),
        text(document, "fingerprint"),
        usable=_flag(document, "usable") if usable is None else usable,
    )
    if key.type not in KEY_TYPES:
        raise ApiError(
            f"reading the inventory: {key} is of the type {key.type!r}, which this collection does not know ({', '.join(KEY_TYPES)}); "
            "it cannot tell whether such a key is synchronized, so it stops. Update the collection",
            code="unknown_key_type",
            key_type=key.type,
        )
    return key


def key_page(document: t.Any) -> tuple[list[HsmKey], str | None, str]:
    hsm_keys = [hsm_key(row) for row in listed(document, "hsm_keys")]
    return hsm_keys, _maybe_text(document, "next_cursor"), text(document, "keys_digest")


def _pin_pad(document: t.Any) -> PinPad:
    return PinPad(
        text(document, "name"), text(document, "kind"), _maybe_text(document, "address"), text(document, "status")
    )


def pin_pads(document: t.Any) -> tuple[PinPad, ...]:
    return tuple(_pin_pad(one) for one in listed(document, "pin_pads"))


def restore_preview(document: t.Any) -> RestorePreview:
    source = take(document, "source", dict)
    return RestorePreview(
        node=text(document, "node"),
        hsm_serial=text(document, "hsm_serial"),
        tls_fingerprint=text(document, "tls_fingerprint"),
        pin_pad=_pin_pad(take(document, "pin_pad", dict)),
        source=text(source, "node"),
        source_key_count=number(source, "key_count"),
        source_keys_digest=text(source, "keys_digest"),
        mbk=mbk(take(document, "mbk", dict)),
        cards_required=number(document, "cards_required"),
        cards_total=number(document, "cards_total"),
    )


def restore(document: t.Any) -> Restore:
    return Restore(
        id=text(document, "id"),
        state=text(document, "state"),
        sequence=number(document, "sequence"),
        pin_pad=text(document, "pin_pad"),
        source=text(document, "source"),
        cards_accepted=number(document, "cards_accepted"),
        cards_required=number(document, "cards_required"),
        **_at_pin_pad(document, _REQUIRED),
    )


def _at_pin_pad(document: t.Any, default: t.Any) -> dict[str, t.Any]:
    """What a PIN pad asks of people, and why a job has ended."""
    objects = ("prompt", "notice", "problem")
    prompt, notice, failure = (t.cast(t.Any, take(document, name, (dict, type(None)), default)) for name in objects)
    seconds_left: int | float | None = take(document, "seconds_left", (int, float, type(None)), default)
    return {
        "prompt": text(prompt, "text") if prompt is not None else None,
        "notice": (text(notice, "code"), text(notice, "text")) if notice is not None else None,
        "seconds_left": float(seconds_left) if seconds_left is not None else None,
        "problem": (text(failure, "code"), f"{text(failure, 'title')}: {text(failure, 'detail')}")
        if failure is not None
        else None,
    }


def restores(document: t.Any) -> list[Restore]:
    return [restore(one) for one in listed(document, "restores")]


def package(document: t.Any) -> Package:
    source = take(document, "source", dict)
    return Package(
        id=text(document, "id"),
        sha256=text(document, "sha256"),
        size=number(document, "size"),
        source=text(source, "node"),
        source_serial=text(source, "hsm_serial"),
        cluster_id=text(document, "cluster_id"),
        mbk=mbk(take(document, "mbk", dict)),
        key_count=number(document, "key_count"),
        keys_digest=text(document, "keys_digest"),
    )


def import_(document: t.Any) -> Import:
    return Import(
        id=text(document, "id"),
        state=text(document, "state"),
        keys_digest=text(document, "keys_digest"),
        rows=tuple(
            ImportRow(hsm_key(row, usable=True), text(row, "action"), _maybe_text(row, "current_fingerprint"))
            for row in listed(document, "rows")
        ),
        pin_pad=take(document, "pin_pad", (str, type(None)), None),
        **_at_pin_pad(document, None),
    )
