# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connection options from host variables, and options that count as not set."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.keyops.utrust.plugins.filter.ejbca_options import ejbca_options
from ansible_collections.keyops.utrust.plugins.module_utils._argspec import CONNECTION_SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._operations.cluster_info import ARGUMENT_SPEC
from ansible_collections.keyops.utrust.plugins.plugin_utils._connection import (
    connection_options,
    is_blank,
    without_blanks,
)

HOST = {"inventory_hostname": "node2"}
READER = {"utrust_ejbca_reader_client_cert": "reader.pem"}
BLANKS = (None, "", "  ", "\n", "\t ")


@pytest.mark.parametrize("value", BLANKS)
def test_blank_is_not_set(value: t.Any) -> None:
    assert is_blank(value)


@pytest.mark.parametrize("value", [0, False, 0.0, [], {}, "0", "no"], ids=repr)
def test_false_and_empty_list_are_set(value: t.Any) -> None:
    """An empty list is an answer: an empty list of expected keys allows no key."""
    assert not is_blank(value)
    assert without_blanks({"option": value}, {}) == {"option": value}


@pytest.mark.parametrize("value", BLANKS)
@pytest.mark.parametrize("option", sorted(CONNECTION_SPEC))
def test_blank_is_dropped_for_every_option(option: str, value: t.Any) -> None:
    assert without_blanks({option: value}, CONNECTION_SPEC) == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", ["a"]),
        (" a , b ", ["a", "b"]),
        ("a\r\nb\n", ["a", "b"]),
        (",,a, ,", ["a"]),
        (["a ", " b"], ["a", "b"]),
        (("a", None), ["a"]),
        ([None, "", " ", "a"], ["a"]),
        ([""], []),
        ([1, 2], [1, 2]),
        (7, 7),
    ],
    ids=repr,
)
def test_list_items_are_split_and_stripped(value: t.Any, expected: t.Any) -> None:
    """A value that is not a list stays as it is, so that the validator rejects it."""
    assert without_blanks({"members": value}, CONNECTION_SPEC) == {"members": expected}


def test_text_of_another_type_stays_as_it_is() -> None:
    """Only lists are split. A path can contain a comma."""
    given = {"client_cert": " /pki/a,b.pem", "unknown": "a,b"}
    assert without_blanks(given, CONNECTION_SPEC) == given


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["a, b", "c"]', ["a, b", "c"]),
        (' \n[{"node": "node2", "reason": " seen,\\u00fc "}, {}]\n', [{"node": "node2", "reason": " seen,ü "}, {}]),
        ("[]", []),
        ("node2, [node3]", ["node2", "[node3]"]),
    ],
)
def test_text_for_a_list_can_be_json(text: str, expected: list[object]) -> None:
    """A text field of a survey is the only way to give a job confirmations."""
    assert without_blanks({"nodes": text}, {"nodes": {"type": "list"}}) == {"nodes": expected}


@pytest.mark.parametrize(
    "text", ["[a, b]", '["a", "b"', " \n['a']", '["a",]', "[", '["a"] x', "[NaN]", '["\ud800"]'], ids=ascii
)
@pytest.mark.parametrize("spec", [{"type": "list"}, {"type": "list", "elements": "str"}], ids=["list", "texts"])
def test_text_for_a_list_that_is_broken_json_is_rejected(text: str, spec: dict[str, str]) -> None:
    """The parts of broken JSON would be other items than the person meant."""
    with pytest.raises(UtrustError, match=r"^nodes: .* invalid JSON") as refused:
        without_blanks({"nodes": text}, {"nodes": spec})
    assert refused.value.code == "option_invalid"
    with pytest.raises(UtrustError, match=r"^inner: .* invalid JSON"):
        without_blanks({"outer": {"inner": text}}, {"outer": {"type": "dict", "options": {"inner": spec}}})
    with pytest.raises(AnsibleFilterError, match=r"tls_fingerprint: .* invalid JSON"):
        ejbca_options({**HOST, **READER, "utrust_ejbca_tls_fingerprint": text}, "reader")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("node2=UT2\nnode3=UT3", "node2=UT2, node3=UT3"),
        (" node2 = UT2 \r\n\r\n node3=UT3,\r\n", "node2=UT2, node3=UT3"),
        ("node2=UT2, node3=UT3", "node2=UT2, node3=UT3"),
        ("node2=UT2 node3=UT3", "node2=UT2 node3=UT3"),
        ('{"node2":\n "UT2"}', '{"node2":\n "UT2"}'),
        ("no pairs", "no pairs"),
    ],
)
def test_lines_for_a_dictionary_become_one_line(text: str, expected: str) -> None:
    """Ansible takes a line end as a part of the value before it."""
    assert without_blanks({"hsm_serials": text}, {"hsm_serials": {"type": "dict"}}) == {"hsm_serials": expected}


def test_blanks_of_suboptions_are_dropped() -> None:
    nodes = [{"inventory_host": "node1", "port": "", "tls_fingerprint": "aa, bb"}, None]
    assert without_blanks({"nodes": nodes}, ARGUMENT_SPEC) == {
        "nodes": [{"inventory_host": "node1", "tls_fingerprint": ["aa", "bb"]}]
    }


def test_data_without_specification_keeps_its_blanks() -> None:
    """A fact of a node can be null."""
    spec = {"source": {"type": "dict"}}
    assert without_blanks({"source": {"mbk": None}}, spec) == {"source": {"mbk": None}}


@pytest.mark.parametrize(
    ("variables", "host"),
    [
        ({}, "node2"),
        ({"ansible_host": "10.0.0.2"}, "10.0.0.2"),
        ({"ansible_host": "10.0.0.2", "utrust_host": "10.0.1.2"}, "10.0.1.2"),
        ({"ansible_host": "10.0.0.2", "utrust_host": " "}, "10.0.0.2"),
        ({"ansible_host": "", "utrust_host": None}, "node2"),
    ],
    ids=str,
)
def test_host_comes_from_the_first_variable_that_is_set(variables: dict[str, t.Any], host: str) -> None:
    assert connection_options({**HOST, **variables})["host"] == host
    assert ejbca_options({**HOST, **READER, **variables}, "reader")["host"] == host


@pytest.mark.parametrize(("name", "expected"), [("second", "second"), (" ", "node2"), (None, "node2")])
def test_expected_node_is_utrust_node_or_the_host(name: str | None, expected: str) -> None:
    assert connection_options({**HOST, "utrust_node": name})["expect_node"] == expected


def test_every_connection_option_has_a_variable() -> None:
    """The members come from the source, the node name from utrust_node, and the claim from the run, not from variables of the same name."""
    variables = {f"utrust_{option}": f"value of {option}" for option in CONNECTION_SPEC}
    options = connection_options({**HOST, **variables})
    assert set(options) == set(CONNECTION_SPEC) - {"members", "cluster_claim", "assisted"}
    assert options["expect_node"] == "node2"
    assert options["timeout"] == "value of timeout"


def test_ejbca_options_have_their_own_variables() -> None:
    variables = {
        "utrust_port": 1,
        "utrust_ejbca_port": "8443",
        "utrust_ejbca_reader_client_cert": "reader.pem",
        "utrust_ejbca_reader_client_key": "",
        "utrust_ejbca_operator_client_cert": "operator.pem",
        "utrust_ejbca_operator_client_key": "operator.key",
        "utrust_ejbca_host": "ca",
    }
    shared = {"host": "ca", "port": "8443"}
    assert ejbca_options({**HOST, **variables}, "reader") == {**shared, "client_cert": "reader.pem"}
    operator = {"client_cert": "operator.pem", "client_key": "operator.key"}
    assert ejbca_options({**HOST, **variables}, "operator") == {**shared, **operator}


@pytest.mark.parametrize("missing", [{}, {"client_cert": ""}, {"client_cert": None}, {"client_cert": " "}], ids=str)
@pytest.mark.parametrize(("account", "other"), [("reader", "operator"), ("operator", "reader")])
def test_ejbca_account_without_a_certificate_is_refused(account: str, other: str, missing: dict[str, t.Any]) -> None:
    """The other account, the account of the appliance and a key without a certificate are no replacement."""
    variables = {
        **{f"utrust_ejbca_{account}_{name}": value for name, value in missing.items()},
        f"utrust_ejbca_{account}_client_key": "x.key",
        f"utrust_ejbca_{other}_client_cert": "y.pem",
        "utrust_client_cert": "z.pem",
        "utrust_ejbca_client_cert": "old.pem",
    }
    with pytest.raises(AnsibleFilterError, match=rf"utrust_ejbca_{account}_client_cert \[credentials_missing\]"):
        ejbca_options({**HOST, **variables}, account)


@pytest.mark.parametrize("account", ["", "admin", "Reader"])
def test_ejbca_account_with_another_name_is_refused(account: str) -> None:
    with pytest.raises(AnsibleFilterError, match="option_invalid"):
        ejbca_options({**HOST, "utrust_ejbca_client_cert": "x"}, account)
