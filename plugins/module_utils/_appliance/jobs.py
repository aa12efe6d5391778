# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parse restores, packages and imports of appliance API v1. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits
from ansible_collections.keyops.utrust.plugins.module_utils._appliance import fields, schema
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.fields import (
    get_bool,
    get_field,
    get_int,
    get_list,
    get_match,
    get_optional_int,
    get_optional_match,
    get_optional_object,
    get_optional_str,
    get_str,
)
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import (
    Import,
    ImportRow,
    Package,
    Restore,
)


def parse_restore(document: t.Any) -> Restore:
    return Restore(
        id=get_match(document, "id", fields.OBJECT_ID),
        state=get_match(document, "state", fields.WORD),
        sequence=get_int(document, "sequence", limits.MAX_CHANGES, least=1),
        pin_pad=get_match(document, "pin_pad", fields.NAME),
        source=get_match(document, "source", fields.NAME),
        cards_accepted=get_int(document, "cards_accepted", schema.MAX_CARDS),
        cards_required=get_optional_int(document, "cards_required", schema.MAX_CARDS, least=1),
        **_prompt_fields(document),
    )


def _prompt_fields(document: t.Any) -> dict[str, t.Any]:
    """Return the fields that a restore and an import share: the text of the PIN pad, and the reason for the end of the job."""
    prompt, notice, failure = (get_optional_object(document, name) for name in ("prompt", "notice", "problem"))
    seconds_left: int | float | None = get_field(document, "seconds_left", (int, float, type(None)))
    if seconds_left is not None and not 0 <= seconds_left <= limits.MAX_SECONDS_LEFT:
        raise fields.invalid("seconds_left", f"is not a number from 0 to {limits.MAX_SECONDS_LEFT}")
    return {
        "prompt": get_str(prompt, "text") if prompt is not None else None,
        "prompt_card": get_optional_int(prompt, "card", schema.MAX_CARDS, least=1) if prompt is not None else None,
        "notice": (get_match(notice, "code", fields.WORD), get_str(notice, "text")) if notice is not None else None,
        "seconds_left": float(seconds_left) if seconds_left is not None else None,
        "problem": parse_job_problem(failure) if failure is not None else None,
    }


def parse_job_problem(document: dict[str, t.Any]) -> tuple[str, str]:
    """Return code and text of the reason why a job has ended."""
    text = f"{get_str(document, 'title')}: {get_str(document, 'detail', limits.MAX_LONG_TEXT)}"
    return get_match(document, "code", fields.WORD), text


def parse_restores(document: t.Any) -> list[Restore]:
    return [parse_restore(item) for item in get_list(document, "restores", limits.MAX_OBJECTS)]


def parse_package(document: t.Any) -> Package:
    source, failure = get_optional_object(document, "source"), get_optional_object(document, "problem")
    package = Package(
        id=get_match(document, "id", fields.OBJECT_ID),
        state=get_match(document, "state", fields.WORD),
        sha256=get_optional_match(document, "sha256", fields.DIGEST),
        size=get_optional_int(document, "size", limits.MAX_PACKAGE_BYTES, least=1),
        source=get_match(source, "node", fields.NAME) if source is not None else None,
        source_serial=get_str(source, "hsm_serial", limits.MAX_NAME, least=1) if source is not None else None,
        cluster_id=get_optional_str(document, "cluster_id", limits.MAX_NAME, least=1),
        mbk=schema.parse_optional_mbk(document, default=None),
        key_count=schema.parse_key_count(document),
        keys_digest=schema.parse_keys_digest(document),
        single_download=get_bool(document, "single_download"),
        problem=parse_job_problem(failure) if failure is not None else None,
    )
    if package.state == "ready" and None in (package.sha256, package.size):
        raise fields.invalid("sha256", "or 'size' is null, although the package is ready")
    return package


def parse_import(document: t.Any) -> Import:
    rows: list[t.Any] | None = get_field(document, "rows", (list, type(None)))
    return Import(
        id=get_match(document, "id", fields.OBJECT_ID),
        state=get_match(document, "state", fields.WORD),
        keys_digest=schema.parse_keys_digest(document),
        rows=tuple(_parse_row(row) for row in get_list(document, "rows", limits.MAX_ROWS))
        if rows is not None
        else None,
        pin_pad=get_optional_match(document, "pin_pad", fields.NAME),
        **_prompt_fields(document),
    )


def _parse_row(document: t.Any) -> ImportRow:
    return ImportRow(
        schema.parse_key(document, usable=True),
        get_match(document, "action", fields.WORD),
        get_optional_match(document, "current_fingerprint", fields.FINGERPRINT),
    )
