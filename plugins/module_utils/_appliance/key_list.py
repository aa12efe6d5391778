# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read all pages of the keys of an HSM, and check them against their keys digest. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits
from ansible_collections.keyops.utrust.plugins.module_utils._appliance import schema
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError
from ansible_collections.keyops.utrust.plugins.module_utils._keys import keys_digest

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import HsmKey

ReadPage = t.Callable[[t.Mapping[str, str]], t.Any]


def list_keys(read_page: ReadPage, clock: t.Callable[[], float]) -> tuple[HsmKey, ...]:
    """Return the keys of all pages. `read_page` returns the document of a page, given its query.

    Reads at most `MAX_LIST_READS` times, because keys may change between two pages.
    Raises ApiError (`keys_unstable`, `keys_digest_mismatch`, `response_too_large`, `response_invalid`).
    """
    end = clock() + limits.MAX_LIST_TIME
    for dummy in range(limits.MAX_LIST_READS):
        hsm_keys = _read_all_pages(read_page, clock, end)
        if hsm_keys is not None:
            return hsm_keys
    raise ApiError(
        f"reading the keys: they changed during each of {limits.MAX_LIST_READS} attempts. Wait until the node generates no more keys, then run again",
        code="keys_unstable",
    )


def _read_all_pages(read_page: ReadPage, clock: t.Callable[[], float], end: float) -> tuple[HsmKey, ...] | None:
    """Return all keys, or None if the keys changed between two pages."""
    hsm_keys: list[HsmKey] = []
    cursor: str | None = None
    digest: str | None = None
    for dummy in range(limits.MAX_PAGES):
        query = {"limit": str(limits.MAX_PAGE_KEYS)} | ({"cursor": cursor} if cursor else {})
        page, next_cursor, page_digest = schema.parse_key_page(read_page(query))
        if digest not in (None, page_digest):
            return None
        digest = page_digest
        hsm_keys += page
        if next_cursor is None:
            return _verified(hsm_keys, digest)
        if not page or next_cursor == cursor:
            raise ApiError(
                "reading the keys: a page has no keys, or the same cursor as the page before. Check the appliance API of the node",
                code="response_invalid",
            )
        if len(hsm_keys) > limits.MAX_KEYS or clock() > end:
            break
        cursor = next_cursor
    raise ApiError(
        f"reading the keys: the node sent {len(hsm_keys)} keys and more pages. The collection accepts {limits.MAX_KEYS} keys, {limits.MAX_PAGES} pages, "
        f"and {limits.MAX_LIST_TIME:g} s. Check the appliance API of the node",
        code="response_too_large",
    )


def _verified(hsm_keys: list[HsmKey], digest: str | None) -> tuple[HsmKey, ...]:
    """Return the keys if they have the keys digest of the node. Raises ApiError (`keys_digest_mismatch`)."""
    computed = keys_digest(hsm_keys)
    if computed != digest:
        raise ApiError(
            f"reading the keys: the node reports the keys digest {digest}, but its list of {len(hsm_keys)} keys has {computed}. "
            "Do not trust this list. Run again, then check the appliance API of the node",
            code="keys_digest_mismatch",
        )
    return tuple(hsm_keys)
