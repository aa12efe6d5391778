# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The canonical form of a document. Private to keyops.utrust."""

from __future__ import annotations

import json
import typing as t


def canonical(document: t.Any) -> bytes:
    """The form of a document for digests and signatures: JSON with sorted keys, without white space, in ASCII."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def leaves(document: t.Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    """The leaves of a document by their paths. A path is not joined to a text, because a name with a dot would hide another leaf."""
    if isinstance(document, dict) and document:
        found: dict[tuple[str, ...], str] = {}
        for name, part in document.items():
            found |= leaves(part, (*path, str(name)))
        return found
    return {path: canonical(document).decode()}
