# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which node responded: a shared address, certificate or host name makes the identity unknown."""

from __future__ import annotations

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.identity import NodeIdentity, identity_problems
from hypothesis import given
from hypothesis import strategies as st

ONE = NodeIdentity("10.0.0.1", 443, "sha256:1", "node1")
TWO = NodeIdentity("10.0.0.2", 443, "sha256:2", "node2")


def test_different_nodes_have_no_problem() -> None:
    assert identity_problems({"a": ONE, "b": TWO}) == {}


@pytest.mark.parametrize(
    ("other", "fact"),
    [
        (TWO._replace(address="10.0.0.1"), "address"),
        (TWO._replace(certificate_fingerprint="sha256:1"), "TLS certificate"),
        (TWO._replace(host_name="NODE1."), "host name"),
    ],
)
def test_nodes_that_share_a_fact_are_unknown(other: NodeIdentity, fact: str) -> None:
    """Both are unknown, because nobody knows which of them responded. A third node stays known."""
    third = NodeIdentity("10.0.0.3", 443, "sha256:3", "node3")
    problems = identity_problems({"a": ONE, "b": other, "c": third})
    assert problems == dict.fromkeys("ab", f"EJBCA of a, b has the same {fact}")


def test_ports_of_one_address_are_different_nodes() -> None:
    assert identity_problems({"a": ONE, "b": TWO._replace(address="10.0.0.1", port=8443)}) == {}


@pytest.mark.parametrize("host_name", [None, "", "."])
def test_node_without_host_name_is_unknown(host_name: str | None) -> None:
    assert identity_problems({"a": ONE._replace(host_name=host_name)}) == {"a": "EJBCA of a shows no host name"}


identities = st.builds(
    NodeIdentity, st.sampled_from(["x", "y", "z"]), st.just(443), st.sampled_from("123"), st.sampled_from("pqr")
)


@given(st.dictionaries(st.sampled_from("abcd"), identities, max_size=4))
def test_known_nodes_share_nothing(nodes: dict[str, NodeIdentity]) -> None:
    known = [node for name, node in nodes.items() if name not in identity_problems(nodes)]
    for facts in zip(*known, strict=True):
        assert len(set(facts)) == len(known) or set(facts) == {443}
