# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of the simulator: problem documents (RFC 9457) of the API, and plain messages for people."""

from __future__ import annotations

import typing as t

# code -> (HTTP status, title). A test compares codes and titles with docs/api/appliance-v1.yaml.
CODES: dict[str, tuple[int, str]] = {
    "invalid_request": (400, "The request is invalid"),
    "idempotency_key_required": (400, "Idempotency-Key is missing"),
    "content_digest_mismatch": (400, "The content does not match its digest"),
    "unauthenticated": (401, "The login is missing or invalid"),
    "forbidden": (403, "The client is not allowed"),
    "not_found": (404, "The object does not exist"),
    "method_not_allowed": (405, "The method is not supported"),
    "not_factory_reset": (409, "The HSM is not in Factory Reset Mode"),
    "hsm_not_operational": (409, "The HSM is not operational"),
    "restore_in_progress": (409, "A guided restore is running"),
    "restore_finished": (409, "The guided restore has ended"),
    "pin_pad_unavailable": (409, "The PIN pad does not respond"),
    "mbk_missing": (409, "The HSM does not hold an MBK"),
    "import_in_progress": (409, "Another import is running"),
    "import_finished": (409, "The import has ended"),
    "import_expired": (409, "The import has expired"),
    "slot_full": (409, "The slot is full"),
    "keys_changed": (412, "The keys have changed"),
    "payload_too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "The media type is not supported"),
    "pin_pad_not_configured": (422, "The PIN pad is not configured"),
    "source_not_a_member": (422, "The source is not a cluster member"),
    "source_not_ready": (422, "The source cannot provide its keys"),
    "package_required": (422, "A guided restore requires a package"),
    "idempotency_key_reused": (422, "The Idempotency-Key was used for another request"),
    "package_truncated": (422, "The package is truncated"),
    "package_corrupt": (422, "The package is corrupt"),
    "mbk_mismatch": (422, "The package uses another MBK"),
    "cluster_mismatch": (422, "The package belongs to another cluster"),
    "unknown_key_type": (422, "The package contains an unknown key type"),
    "precondition_required": (428, "If-Match is missing"),
    "too_many_requests": (429, "Too many requests"),
    "unavailable": (503, "The node is busy"),
    "hsm_unavailable": (503, "The HSM is not available"),
    "import_failed": (500, "The import failed"),
    "internal_error": (500, "The node failed"),
}


class ApiError(Exception):
    """A rejected request. The API returns a problem document. Extra keyword arguments are members of the document."""

    def __init__(self, code: str, detail: str, *, headers: t.Mapping[str, str] | None = None, **members: t.Any) -> None:
        super().__init__(f"{code}: {detail}")
        self.status, self.title = CODES[code]
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    def document(self) -> dict[str, t.Any]:
        return {
            "type": f"urn:keyops:utrust:{self.code}",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            **self.members,
        }


class OperationError(Exception):
    """A rejected operation of the command line, a PIN pad or the control channel. The message says how to fix it."""
