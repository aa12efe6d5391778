# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The key that signs a commissioning record. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.errors import AuditError
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.signed_head import load_signer
from ansible_collections.keyops.utrust.plugins.plugin_utils._signature import public_key_sha256

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.signed_head import Signer


def load_signing_key(path: str) -> tuple[Signer, str]:
    """Return an Ed25519 key of a file that only its owner can read, and its key fingerprint. Raises UtrustError (`commissioning_signing_key_invalid`)."""
    try:
        signer = load_signer(path)
    except AuditError as exc:
        reason = str(exc).removesuffix(f" [{exc.code}]")
        raise UtrustError(
            f"signing the commissioning record: {reason}. Nothing was done", code="commissioning_signing_key_invalid"
        ) from exc
    return signer, public_key_sha256(signer.public_key)
