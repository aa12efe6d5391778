# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The errors of the appliance: problem documents (RFC 9457) for the API, plain refusals for people at the cards and the console."""

from __future__ import annotations

import typing as t

# code -> (HTTP status, title); the codes and titles are those of docs/api/appliance-v1.yaml, a test compares them.
CODES: dict[str, tuple[int, str]] = {
    "invalid_request": (400, "The request does not fit the contract"),
    "idempotency_key_required": (400, "Idempotency-Key is missing"),
    "content_digest_mismatch": (400, "The content is not what its digest says"),
    "unauthenticated": (401, "No valid login"),
    "forbidden": (403, "This client is not allowed"),
    "not_found": (404, "No such object"),
    "method_not_allowed": (405, "The resource has no such method"),
    "not_factory_reset": (409, "The HSM is not in Factory Reset Mode"),
    "hsm_not_operational": (409, "The HSM is not operational"),
    "restore_in_progress": (409, "A guided restore is running"),
    "restore_finished": (409, "The guided restore has ended"),
    "pin_pad_unavailable": (409, "The PIN pad does not answer"),
    "mbk_missing": (409, "The HSM holds no MBK"),
    "import_in_progress": (409, "Another import is being applied"),
    "import_finished": (409, "The import has ended"),
    "import_expired": (409, "The import has expired"),
    "slot_full": (409, "The slot has no room"),
    "keys_changed": (412, "The inventory has changed"),
    "payload_too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "The body has another media type"),
    "pin_pad_not_configured": (422, "No such PIN pad"),
    "source_not_a_member": (422, "The source is no member of the cluster"),
    "source_not_ready": (422, "The source cannot give its keys"),
    "package_required": (422, "A guided restore needs a package"),
    "idempotency_key_reused": (422, "The Idempotency-Key belongs to another request"),
    "package_truncated": (422, "The package is truncated"),
    "package_corrupt": (422, "The package is altered"),
    "mbk_mismatch": (422, "The package is under another MBK"),
    "cluster_mismatch": (422, "The package is of another cluster"),
    "unknown_key_type": (422, "The package has a key of an unknown type"),
    "precondition_required": (428, "If-Match is missing"),
    "too_many_requests": (429, "Too many requests"),
    "unavailable": (503, "The node is busy"),
    "hsm_unavailable": (503, "The HSM does not answer"),
    "import_failed": (500, "The import failed"),
    "internal_error": (500, "The node failed"),
}


class ApiError(Exception):
    """A refusal that the API answers with a problem document."""

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
    """A refusal at the console, the PIN pad or the control channel: something that the person who asked can mend."""
