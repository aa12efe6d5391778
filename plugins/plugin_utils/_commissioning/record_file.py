# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A commissioning record as a file: one form, read once, so that people and program read the same bytes. Private to keyops.utrust."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _json
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_COMMISSIONING_BYTES, MAX_PEM_BYTES
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.data_file import read_file, write_file
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.accounts import ACCOUNTS
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.facts import EJBCA, PLAIN
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.record import FORMAT, Content

Document = dict[str, t.Any]

TEXTS: t.Final = ("made_by", "account", "made_at", "public_key_sha256", "digest", "signature")
MEMBERS: t.Final = frozenset({"format", *Content._fields, *TEXTS})
_NODE: t.Final = frozenset({*PLAIN, "tls_fingerprint", "accounts", "ejbca"})


def serialize(record: t.Mapping[str, t.Any]) -> bytes:
    """Return the only form of a record that is accepted: sorted members, indented, ASCII."""
    return json.dumps(record, indent=2, sort_keys=True, ensure_ascii=True).encode("ascii") + b"\n"


def parse(content: bytes, origin: str) -> Document:
    """Return the record of these bytes. Raises UtrustError (`commissioning_invalid`) for anything that `serialize` does not write."""
    if len(content) > MAX_COMMISSIONING_BYTES:
        raise _invalid(origin, f"it has more than {MAX_COMMISSIONING_BYTES} bytes")
    try:
        record = _json.decode(content)
    except ValueError as exc:
        raise _invalid(origin, f"it is not valid JSON: {exc}") from exc
    if not isinstance(record, dict) or set(record) != MEMBERS or serialize(record) != content:
        raise _invalid(origin, "it is not in the form in which records are written")
    if not _is_number(record["format"]) or record["format"] != FORMAT:
        raise _invalid(origin, f"its format is not {FORMAT}")
    if not _has_shape(record):
        raise _invalid(origin, "one of its members has another type or name")
    return record


def _has_shape(record: Document) -> bool:
    """Whether every member has its type, so that nothing that reads the record can fail."""
    canary, by = record["canary_key"], record["declared_by"]
    return (
        all(isinstance(record[name], str) for name in TEXTS)
        and (by is None or isinstance(by, str))
        and (canary is None or _is_object(canary, ("crypto_token", "alias"), str))
        and _is_object(record["cluster"], ("id", "name"), str)
        and all(isinstance(record[name], dict) for name in ("nodes", "steps"))
        and all(_is_node(node) for node in record["nodes"].values())
        and all(_is_object(states, None, str) for states in record["steps"].values())
    )


def _is_node(node: t.Any) -> bool:
    if not isinstance(node, dict) or set(node) != _NODE:
        return False
    ejbca = node["ejbca"]
    return (
        _has_facts(node, PLAIN)
        and _is_object(node["accounts"], tuple(ACCOUNTS), (str, type(None)))
        and (ejbca is None or (isinstance(ejbca, dict) and set(ejbca) == set(EJBCA) and _has_facts(ejbca, EJBCA)))
    )


def _is_number(value: t.Any) -> bool:
    """Whether the value is an integer. A boolean is an integer for Python."""
    return isinstance(value, int) and not isinstance(value, bool)


def _has_facts(facts: Document, names: t.Iterable[str]) -> bool:
    pins = facts["tls_fingerprint"]
    plain = [name for name in names if name not in ("port", "tls_fingerprint")]
    return (
        _is_number(facts["port"])
        and isinstance(pins, list)
        and all(isinstance(pin, str) for pin in pins)
        and all(facts[name] is None or isinstance(facts[name], str) for name in plain)
    )


def _is_object(value: t.Any, names: tuple[str, ...] | None, kind: t.Any) -> bool:
    """Whether the value is an object with these names, or any names, and values of this kind."""
    return (
        isinstance(value, dict)
        and (names is None or set(value) == set(names))
        and all(isinstance(part, kind) for part in value.values())
    )


def _invalid(origin: str, reason: str) -> UtrustError:
    remedy = "Run the playbook readiness to make a new record. Do not edit a record"
    return UtrustError(f"reading {origin}: {reason}. {remedy}", code="commissioning_invalid")


def read(path: str) -> Document:
    """Return the record of a file. Raises UtrustError (`commissioning_missing`, `commissioning_invalid`)."""
    content = read_file(path, "the commissioning record", limit=MAX_COMMISSIONING_BYTES, code="commissioning_missing")
    return parse(content, f"the commissioning record {path}")


def write(path: str, record: t.Mapping[str, t.Any]) -> None:
    """Raises UtrustError (`commissioning_not_written`)."""
    remedy = "Choose another record_dest"
    write_file(path, serialize(record), "the commissioning record", remedy=remedy, code="commissioning_not_written")


def read_public_key(text: str) -> str:
    """Return a public key in PEM from its text, or from the path of a file. Raises UtrustError (`commissioning_public_key_invalid`)."""
    if "-----BEGIN" in text:
        return text
    code = "commissioning_public_key_invalid"
    return read_file(text, "the public key", limit=MAX_PEM_BYTES, code=code)[:MAX_PEM_BYTES].decode("latin-1")
