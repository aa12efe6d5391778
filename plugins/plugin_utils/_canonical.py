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
