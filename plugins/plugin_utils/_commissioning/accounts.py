# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Client certificates of the accounts of a node. Private to keyops.utrust."""

from __future__ import annotations

import hashlib
import re
import ssl
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_PEM_BYTES
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.data_file import read_file

if t.TYPE_CHECKING:
    import datetime

#: Account -> variable with its client certificate. A record names the certificate by its fingerprint, never a file or a key.
ACCOUNTS: t.Final = {
    "webconf": "utrust_client_cert",
    "ejbca_reader": "utrust_ejbca_reader_client_cert",
    "ejbca_operator": "utrust_ejbca_operator_client_cert",
}
_CERTIFICATE: t.Final = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


class ClientCertificate(t.NamedTuple):
    """A client certificate: fingerprint and validity. Without the package `cryptography`, the validity is unknown."""

    fingerprint: str
    begins: datetime.datetime | None
    ends: datetime.datetime | None


def read_certificate(path: str) -> ClientCertificate:
    """Return the first certificate of a PEM file, which is that of the client. Raises UtrustError (`client_cert_unreadable`)."""
    content = read_file(path, "the client certificate", limit=MAX_PEM_BYTES, code="client_cert_unreadable")
    found = _CERTIFICATE.search(content[:MAX_PEM_BYTES].decode("latin-1"))
    try:
        if found is None:
            raise ValueError("the file has no certificate in PEM")
        certificate = ssl.PEM_cert_to_DER_cert(found[0])
        return ClientCertificate(fingerprint_of(certificate), *validity(certificate))
    except ValueError as exc:
        raise UtrustError(
            f"reading the client certificate {path!r:.200}: {exc!s:.200}. Set a PEM file with the certificate of the client",
            code="client_cert_unreadable",
        ) from exc


def fingerprint_of(certificate: bytes) -> str:
    """Return the certificate fingerprint of a certificate in DER."""
    return "sha256:" + hashlib.sha256(certificate).hexdigest()


def validity(certificate: bytes) -> tuple[datetime.datetime | None, datetime.datetime | None]:
    """Return begin and end of a certificate in DER, or None without the package `cryptography`. Raises ValueError."""
    try:
        from cryptography.x509 import load_der_x509_certificate
    except ImportError:
        return None, None
    read = load_der_x509_certificate(certificate)
    return read.not_valid_before_utc, read.not_valid_after_utc
