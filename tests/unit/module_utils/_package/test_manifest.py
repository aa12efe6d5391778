# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Manifest of a package."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._package.manifest import (
    Manifest,
    make_manifest,
    read_manifest,
)

from tests.support.factories import fingerprint, key, node

KEYS = (key("a"), key("b", slot=1, type="aes", curve=None, fingerprint="kcv:3fa2b1"))
MANIFEST = make_manifest(node(*KEYS), KEYS, sha256=fingerprint("package"), size=4096)
PLANNED = make_manifest(node(*KEYS), KEYS)


def reread(manifest: Manifest) -> Manifest:
    return read_manifest(json.loads(manifest.as_json()), "cluster.ksp.manifest.json")


@pytest.mark.parametrize("manifest", [MANIFEST, PLANNED], ids=["of a package", "planned"])
def test_manifest_written_is_read_again(manifest: Manifest) -> None:
    assert reread(manifest) == manifest


def test_manifest_without_digest_is_planned() -> None:
    assert PLANNED.planned
    assert not MANIFEST.planned


def test_unusable_key_of_source_is_in_manifest() -> None:
    unusable = (key("a", usable=False),)
    assert (
        make_manifest(node(*unusable), unusable).to_dict()["hsm_keys"]
        == make_manifest(node(key("a")), (key("a"),)).to_dict()["hsm_keys"]
    )


def test_manifest_contains_public_facts_only() -> None:
    assert sorted(json.loads(MANIFEST.as_json())) == sorted(
        ["format", "sha256", "size", "source", "source_serial", "cluster_id", "cluster_name", "appliance_version"]
        + ["hsm_firmware", "mbk", "hsm_keys", "keys_digest", "created_at", "key_scope", "elsewhere"]
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2}, "the format is not 1"),
        ({"format": ...}, "the format is not 1"),
        *(({name: ...}, f"'{name}' is missing") for name in MANIFEST.to_dict() if name != "format"),
        ({"size": None}, "only one of sha256 and size is set"),
        ({"sha256": None}, "only one of sha256 and size is set"),
        ({"sha256": 7}, "'sha256'"),
        ({"size": "4096"}, "'size'"),
        ({"size": True}, "'size'"),
        ({"source": None}, "'source'"),
        ({"key_scope": None}, "'key_scope'"),
        ({"elsewhere": "no"}, "'elsewhere'"),
        ({"cluster_id": 7}, "'cluster_id'"),
        ({"mbk": None}, "'mbk'"),
        ({"mbk": {"name": "KEYOPS"}}, "'check_value' is missing"),
        ({"hsm_keys": {}}, "'hsm_keys'"),
        ({"hsm_keys": []}, "hsm_keys and keys_digest do not match"),
        ({"hsm_keys": [{}]}, "'slot' is missing"),
        ({"keys_digest": fingerprint("other")}, "hsm_keys and keys_digest do not match"),
    ],
    ids=str,
)
def test_read_manifest_rejects_edited_document(changes: dict[str, t.Any], words: str) -> None:
    document = json.loads(MANIFEST.as_json())
    for name, value in changes.items():
        document[name] = value
        if value is ...:
            del document[name]
    with pytest.raises(UtrustError) as caught:
        read_manifest(document, "cluster.ksp.manifest.json")
    assert caught.value.code == "manifest_invalid"
    assert words in str(caught.value)
    assert "cluster.ksp.manifest.json" in str(caught.value)
    assert "Export the package again" in str(caught.value)


@pytest.mark.parametrize("document", [None, [], "text", 7])
def test_read_manifest_rejects_other_types(document: t.Any) -> None:
    with pytest.raises(UtrustError) as caught:
        read_manifest(document, "given as a value")
    assert caught.value.code == "manifest_invalid"


@pytest.mark.parametrize("key_type", ["eddsa", "ml-dsa", "frobnicate-9"])
def test_manifest_carries_keys_of_every_type(key_type: str) -> None:
    odd = key("", type=key_type, size=None, curve=None)
    manifest = make_manifest(node(odd), (odd,))
    assert read_manifest(json.loads(manifest.as_json()), "given as a value").hsm_keys == (odd,)


def test_read_manifest_rejects_invalid_key_type() -> None:
    document = json.loads(MANIFEST.as_json())
    document["hsm_keys"][0]["type"] = "ml dsa"
    with pytest.raises(UtrustError, match="ml dsa") as caught:
        read_manifest(document, "given as a value")
    assert caught.value.code == "manifest_invalid"
