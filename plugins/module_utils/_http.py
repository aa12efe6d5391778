# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One HTTPS exchange with one node. Private to keyops.utrust.

Here and nowhere else is a connection opened. `http.client` and `ssl` are used because `module_utils.urls` cannot pin a
certificate, and a pin checked on another connection than the one that carries the request is no pin: the certificate of
this very connection is compared before the first byte of a request is written.
"""

from __future__ import annotations

import contextlib
import dataclasses as dc
import hashlib
import http.client
import re
import ssl
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError

CHUNK = 64 * 1024
_ALERTS_ABOUT_CLIENT = (
    "CERTIFICATE_REQUIRED",
    "UNKNOWN_CA",
    "BAD_CERTIFICATE",
    "CERTIFICATE_UNKNOWN",
    "HANDSHAKE_FAILURE",
    "ACCESS_DENIED",
)


@dc.dataclass(frozen=True)
class Endpoint:
    """Where a node is and how the two prove who they are. Times are seconds; paths belong to the executing machine."""

    host: str
    port: int
    client_cert: str | None
    client_key: str | None
    ca_file: str | None
    tls_fingerprint: tuple[str, ...]
    connect_timeout: float
    timeout: float


class NoResponseError(Exception):
    """The exchange broke; `sent` tells whether the node may have seen the request."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


class ResponseTooLargeError(Exception):
    """The answer is larger than the caller takes."""


class HttpResponse(t.NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def normalize_fingerprint(text: str) -> str:
    """`sha256:` and 64 lower case digits, from any usual way to write a SHA-256 fingerprint.

    Raises UtrustError (`tls_fingerprint_invalid`) for anything else.
    """
    digits = re.sub(
        r"[:\s]", "", re.sub(r"^sha-?256( fingerprint)?[:=]", "", text.strip(), flags=re.IGNORECASE)
    ).lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise UtrustError(
            f"tls_fingerprint: {text!r} is no SHA-256 fingerprint; copy the 64 hexadecimal digits from the node's front display",
            code="tls_fingerprint_invalid",
        )
    return "sha256:" + digits


def tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    """A context that verifies the node by CA file, by pinned fingerprint (in `HttpsConnection`), or by both.

    Raises UtrustError: `tls_identity_missing`, `ca_file_unreadable`, `client_cert_unreadable`.
    """
    if not endpoint.ca_file and not endpoint.tls_fingerprint:
        raise UtrustError(
            f"connection to {endpoint.host}: neither ca_file nor tls_fingerprint is given, so the node could not be told from an impostor; "
            "set tls_fingerprint to what the node's front display shows",
            code="tls_identity_missing",
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if endpoint.tls_fingerprint:
        # The pin names the very certificate, which is more than a host name does.
        context.check_hostname = False
    if endpoint.ca_file:
        try:
            context.load_verify_locations(cafile=endpoint.ca_file)
        except (OSError, ssl.SSLError) as exc:
            raise UtrustError(
                f"ca_file: cannot read CA certificates from {endpoint.ca_file}: {exc}", code="ca_file_unreadable"
            ) from exc
    else:
        # Appliances come with certificates of their own making: there is no chain, the pin alone decides.
        context.verify_mode = ssl.CERT_NONE
    if endpoint.client_cert:
        try:
            # A password prompt would hang a job without a terminal: an encrypted key is refused instead.
            context.load_cert_chain(endpoint.client_cert, endpoint.client_key, password=lambda: b"")
        except (OSError, ssl.SSLError) as exc:
            raise UtrustError(
                f"client_cert: cannot load {endpoint.client_cert} with key {endpoint.client_key or 'in the same file'}: {exc}; "
                "both must be readable PEM files that belong together, the key without a passphrase",
                code="client_cert_unreadable",
            ) from exc
    return context


class HttpsConnection:
    """Connections to one node. Knows bytes and TLS; nothing of JSON or of when to try again."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._pins = frozenset(normalize_fingerprint(pin) for pin in endpoint.tls_fingerprint)
        self._context = tls_context(endpoint)
        self._connection: http.client.HTTPSConnection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: t.Mapping[str, str],
        body: bytes | t.BinaryIO | None = None,
        output: t.Callable[[bytes], object] | None = None,
        limit: int = 64 * 1024 * 1024,
    ) -> HttpResponse:
        """Send one request and read the whole answer. No redirect is followed.

        A 200 answer goes to `output` in chunks if there is one; otherwise at most `limit` bytes are kept. Raises NoResponseError
        when the exchange broke, ResponseTooLargeError, and UtrustError where the identity of either side is not accepted.
        """
        # A kept connection may have been closed by the node meanwhile, and a request that is lost with it looks like a
        # lost answer. For requests that change something this must not happen: they begin on a connection of their own.
        if method != "GET":
            self.close()
        fresh = self._connection is None
        connection = self._connection or self._connect()
        try:
            connection.request(method, path, body=body, headers=dict(headers))
            response = connection.getresponse()
            return self._read(response, output, limit)
        except ssl.SSLError as exc:
            self.close()
            self._raise_if_client_refused(exc)
            raise NoResponseError(f"TLS failed: {exc}", sent=True) from exc
        except (OSError, http.client.HTTPException) as exc:
            self.close()
            reason = _describe(exc)
            if fresh and isinstance(exc, ConnectionError) and self._endpoint.client_cert:
                reason += f" (a node that refuses the client certificate {self._endpoint.client_cert} can look like this, too)"
            raise NoResponseError(reason, sent=True) from exc
        except BaseException:
            self.close()
            raise

    def _read(
        self, response: http.client.HTTPResponse, output: t.Callable[[bytes], object] | None, limit: int
    ) -> HttpResponse:
        if output is not None and response.status == 200:
            while chunk := response.read(CHUNK):
                output(chunk)
            kept = b""
        else:
            kept = response.read(limit + 1)
            if len(kept) > limit:
                raise ResponseTooLargeError(f"the answer is larger than {limit} bytes")
        # Reading a part does not raise IncompleteRead; the length that is still due tells that the answer broke off.
        if response.length:
            raise NoResponseError(f"the answer broke off {response.length} bytes before its end", sent=True)
        if response.will_close:
            self.close()
        return HttpResponse(response.status, response.headers, kept)

    def _connect(self) -> http.client.HTTPSConnection:
        endpoint = self._endpoint
        connection = http.client.HTTPSConnection(
            endpoint.host, endpoint.port, timeout=endpoint.connect_timeout, context=self._context
        )
        with contextlib.ExitStack() as undo:
            undo.callback(connection.close)
            try:
                connection.connect()
            except ssl.SSLCertVerificationError as exc:
                raise UtrustError(
                    f"connecting to {endpoint.host}:{endpoint.port}: its certificate is not signed by a CA in {endpoint.ca_file}: {exc.verify_message}; "
                    "nothing was sent. Compare the fingerprint on the node's front display before you trust another CA",
                    code="certificate_not_trusted",
                ) from exc
            except ssl.SSLError as exc:
                self._raise_if_client_refused(exc)
                raise NoResponseError(f"TLS handshake failed: {exc}", sent=False) from exc
            except OSError as exc:
                raise NoResponseError(_describe(exc), sent=False) from exc
            self._check_pin(connection)
            undo.pop_all()
        connection.sock.settimeout(endpoint.timeout)
        self._connection = connection
        return connection

    def _check_pin(self, connection: http.client.HTTPSConnection) -> None:
        if not self._pins:
            return
        certificate = t.cast(ssl.SSLSocket, connection.sock).getpeercert(binary_form=True) or b""
        seen = "sha256:" + hashlib.sha256(certificate).hexdigest()
        if seen not in self._pins:
            raise UtrustError(
                f"connecting to {self._endpoint.host}:{self._endpoint.port}: its certificate has the fingerprint {seen}, pinned is "
                f"{' or '.join(sorted(self._pins))}; nothing was sent. If the certificate was renewed, compare with the node's front display "
                "and add the new fingerprint to tls_fingerprint; otherwise somebody else answers at this address",
                code="tls_fingerprint_mismatch",
                seen=seen,
                pinned=sorted(self._pins),
            )

    def _raise_if_client_refused(self, exc: ssl.SSLError) -> None:
        reason = (exc.reason or "").upper()
        if "ALERT" in reason and any(word in reason for word in _ALERTS_ABOUT_CLIENT):
            endpoint = self._endpoint
            raise UtrustError(
                f"connecting to {endpoint.host}:{endpoint.port}: the node refused the client certificate {endpoint.client_cert or '(none given)'} "
                f"in the TLS handshake ({exc.reason}); register a certificate for automation in Webconf, page Access, and set client_cert and client_key",
                code="client_certificate_rejected",
            ) from exc


def _describe(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
