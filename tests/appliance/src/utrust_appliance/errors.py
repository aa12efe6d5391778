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
    "cluster_claimed": (409, "The cluster is claimed by another client"),
    "claim_ended": (409, "The claim has ended"),
    "request_in_progress": (409, "The same request is still in progress"),
    "not_factory_reset": (409, "The HSM is not in Factory Reset Mode"),
    "hsm_not_operational": (409, "The HSM is not operational"),
    "restore_in_progress": (409, "A guided restore is running"),
    "import_in_progress": (409, "Another import is running"),
    "package_in_progress": (409, "A package is being prepared"),
    "pin_pad_unavailable": (409, "The PIN pad does not respond"),
    "mbk_missing": (409, "The HSM does not hold an MBK"),
    "package_not_ready": (409, "The package has no content"),
    "import_finished": (409, "The import has ended"),
    "import_expired": (409, "The import has expired"),
    "slot_full": (409, "The slot is full"),
    "keys_changed": (409, "The keys have changed"),
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
    "unknown_key_type": (422, "The HSM does not support a key type of the package"),
    "too_many_requests": (429, "Too many requests"),
    "internal_error": (500, "The node failed"),
    "not_supported": (501, "The node does not support this operation"),
    "unavailable": (503, "The node is busy"),
    "hsm_unavailable": (503, "The HSM is not available"),
}
# Reasons for the end of a job: the codes of JobProblem in the contract, with titles.
JOB_TITLES: dict[str, str] = {
    "card_timeout": "A card or PIN was not entered in time",
    "canceled_at_pin_pad": "Canceled at the PIN pad",
    "canceled_by_request": "Ended by a request",
    "claim_ended": "The claim has ended",
    "expired": "The object has expired",
    "interrupted": "The node was restarted",
    "source_unreachable": "The source does not respond",
    "source_changed": "The keys of the source have changed",
    "restore_failed": "The keys could not be restored",
    "import_failed": "The import failed",
    "export_failed": "The package could not be prepared",
    "unknown": "The reason is unknown",
    **{
        code: CODES[code][1]
        for code in (
            "keys_changed", "pin_pad_unavailable", "slot_full", "package_truncated", "package_corrupt", "mbk_mismatch",
            "cluster_mismatch", "unknown_key_type",
        )
    },
}  # fmt: skip
# Headers that the contract requires with a status.
HEADERS: dict[int, dict[str, str]] = {
    401: {"WWW-Authenticate": 'Bearer realm="appliance"'},
    429: {"Retry-After": "1"},
    503: {"Retry-After": "1"},
}


class ApiError(Exception):
    """A rejected request. The API returns a problem document. Extra keyword arguments are members of the document."""

    def __init__(self, code: str, detail: str, *, headers: t.Mapping[str, str] | None = None, **members: t.Any) -> None:
        super().__init__(f"{code}: {detail}")
        self.status, self.title = CODES[code]
        self.code = code
        self.detail = detail
        self.headers = {**HEADERS.get(self.status, {}), **(headers or {})}
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


class JobError(Exception):
    """Ends a job. `code` is a code of JobProblem in the contract."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = {"code": code, "title": JOB_TITLES[code], "detail": detail}

    @classmethod
    def of(cls, exc: Exception, other: str) -> JobError:
        """The reason of an error. `other` is the code if the contract has no code for the error."""
        if isinstance(exc, ApiError) and exc.code in JOB_TITLES:
            return cls(exc.code, exc.detail)
        return cls(other, exc.detail if isinstance(exc, ApiError) else str(exc))


class OperationError(Exception):
    """A rejected operation of the command line, a PIN pad or the control channel. The message says how to fix it."""
