# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make a new commissioning record if the cluster is not as the present record says. Private to keyops.utrust."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._canonical import canonical
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning import record_file
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.check import check_commissioning
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.record import (
    Content,
    Document,
    Maker,
    content_of,
    make_record,
)


class Renewal(t.NamedTuple):
    """The record that is valid now, and the present file as text, which is empty if it is missing or has another form."""

    record: Document
    changed: bool
    before: str

    def result(self, path: str) -> dict[str, t.Any]:
        after = record_file.serialize(self.record).decode()
        header = f"commissioning record {path}"
        return {
            "changed": self.changed,
            "record_digest": self.record["digest"],
            "made_at": self.record["made_at"],
            "diff": {"before": self.before, "after": after, "before_header": header, "after_header": header},
        }


def renew_record(path: str, content: Content, maker: Maker, public_key: str) -> Renewal:
    """Return the present record if it is valid and has the same content, or else a new record. Nothing is written."""
    present: Document | None = None
    before = ""
    try:
        present = record_file.read(path)
        before = record_file.serialize(present).decode()
    except UtrustError as exc:
        if exc.code == "commissioning_missing" and not isinstance(exc.__cause__, FileNotFoundError):
            raise
    now = datetime.datetime.now(datetime.UTC)
    if (
        present is not None
        and not check_commissioning(present, public_key, {}, now)
        and canonical(content_of(present)._asdict()) == canonical(content._asdict())
    ):
        return Renewal(present, changed=False, before=before)
    return Renewal(make_record(content, maker), changed=True, before=before)
