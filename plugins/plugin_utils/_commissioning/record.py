# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The commissioning record of a cluster: what was found ready, by whom and when. Pure functions. Private to keyops.utrust.

A record has no secret and no path: accounts are the fingerprints of their client certificates.
"""

from __future__ import annotations

import base64
import hashlib
import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._canonical import canonical

Document = dict[str, t.Any]

FORMAT: t.Final = 1
#: Members that the signature does not cover.
NOT_SIGNED: t.Final = ("digest", "signature")


class Maker(t.NamedTuple):
    """Who signs a record: the name of a person, the account of AWX or of the system, and a function that signs."""

    name: str
    account: str
    made_at: str
    public_key_sha256: str
    sign: t.Callable[[bytes], bytes]


class Content(t.NamedTuple):
    """What a record is about. `nodes` has the facts and `steps` the states of each node by its inventory host.

    `declared_by` is the person who tried or looked up the facts that no transport reads. `canary_key` has `crypto_token` and `alias`.
    """

    cluster: Document
    nodes: Document
    steps: Document
    declared_by: str | None
    canary_key: Document | None


def record_digest(record: t.Mapping[str, t.Any]) -> str:
    """The digest of a record covers everything except for the digest itself and the signature."""
    signed = {name: part for name, part in record.items() if name not in NOT_SIGNED}
    return f"sha256:{hashlib.sha256(canonical(signed)).hexdigest()}"


def signed_message(digest: str) -> bytes:
    return f"keyops.utrust commissioning record\n{digest}\n".encode()


def make_record(content: Content, maker: Maker) -> Document:
    """Return the signed record."""
    record: Document = {
        "format": FORMAT,
        **content._asdict(),
        "made_by": maker.name,
        "account": maker.account,
        "made_at": maker.made_at,
        "public_key_sha256": maker.public_key_sha256,
    }
    digest = record_digest(record)
    return {**record, "digest": digest, "signature": base64.b64encode(maker.sign(signed_message(digest))).decode()}


def content_of(record: t.Mapping[str, t.Any]) -> Content:
    return Content(**{name: record[name] for name in Content._fields})
