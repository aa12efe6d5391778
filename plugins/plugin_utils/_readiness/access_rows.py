# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows of one node about the way to it: route, TLS, accounts, identity, EJBCA. Pure functions. Private to keyops.utrust."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem, UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.accounts import validity
from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness.contact import Contact, Health
from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness.rows import (
    NOT_CHECKED,
    OBSERVED,
    Row,
    refused,
    refused_by,
)

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view import NodeView
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import ViewProblem
    from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.accounts import ClientCertificate
    from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness.node_rows import NodeContext, Rules

Certificates = t.Mapping[str, "ClientCertificate | UtrustError | None"]
#: Account -> step of its client certificate.
STEPS: t.Final = {
    "webconf": "client_certificate",
    "ejbca_reader": "reader_certificate",
    "ejbca_operator": "operator_certificate",
}
_OTHER_NODE: t.Final = ("node_name_mismatch", "hsm_not_supported", "node_duplicate")
_EXCESSIVE: t.Final = "ejbca_rights_excessive"
_FAILING: t.Final = "token_activation_failing"


def route_rows(host: str, found: Contact | UtrustError, pins: t.Sequence[str], rules: Rules) -> list[Row]:
    """Return the rows of the route and of the certificate of the server."""
    contact = Contact(error=found, route=True) if isinstance(found, UtrustError) else found
    if contact.error is not None and contact.route:
        return [refused_by(host, "route", contact.error), Row(host, "tls", NOT_CHECKED, "no connection was made")]
    if contact.peer is None:
        error = contact.error or UtrustError("no connection was made", code="node_unreachable")
        return [Row(host, "route", OBSERVED, "the port accepts connections"), refused_by(host, "tls", error)]
    peer = contact.peer
    route = Row(host, "route", OBSERVED, f"{peer.address} accepts connections from this machine")
    fits = f"{len(pins)} pin(s), {short(peer.certificate_fingerprint)} fits"
    identity = fits if pins else f"{short(peer.certificate_fingerprint)} is signed by the CA file, without a pin"
    return [route, _ending(host, "tls", f"{peer.tls_version}, {identity}", _end(peer.certificate), rules)]


def short(fingerprint: str) -> str:
    """Return the begin of a certificate fingerprint. The record has the whole fingerprint."""
    return f"certificate {fingerprint[:19]}"


def _end(certificate: bytes) -> datetime.datetime | None:
    try:
        return validity(certificate)[1]
    except ValueError:
        return None


def _ending(host: str, step: str, text: str, ends: datetime.datetime | None, rules: Rules, *, client: str = "") -> Row:
    """Return the row of a certificate that ends at this time. `client` is the name of the account, or empty for the server."""
    if ends is None:
        return Row(
            host, step, OBSERVED, f"{text}. Its end is unknown, because the Python package cryptography is missing"
        )
    shown = f"{text}. It ends at {ends:%Y-%m-%d %H:%M} UTC"
    if ends - rules.now >= datetime.timedelta(days=rules.min_certificate_days):
        return Row(host, step, OBSERVED, shown)
    if not client:
        remedy = "renew the certificate of the node, and add its fingerprint to tls_fingerprint before the node uses it"
        return refused(host, step, Problem("certificate_expiring", host, shown, remedy))
    code = "client_certificate_expired" if ends <= rules.now else "client_certificate_expiring"
    remedy = f"issue a new certificate for the account {client}, register it, then sign a new commissioning record"
    return refused(host, step, Problem(code, host, shown, remedy))


def certificate_rows(host: str, certificates: Certificates, rules: Rules, *, token: bool) -> list[Row]:
    """Return the row of the client certificate of each account. `token` is whether a bearer token replaces that of Webconf."""
    rows = []
    for account, found in certificates.items():
        step = STEPS[account]
        if isinstance(found, UtrustError):
            rows.append(refused_by(host, step, found))
        elif found is not None:
            text = f"account {account}, {short(found.fingerprint)}"
            rows.append(_ending(host, step, text, found.ends, rules, client=account))
        elif account != "ejbca_operator":
            text = (
                "a bearer token is used, and its end is unknown"
                if token and account == "webconf"
                else "no certificate is set"
            )
            rows.append(Row(host, step, NOT_CHECKED, text))
    return rows


def login_row(context: NodeContext) -> Row:
    """Return the row of the login to the appliance. Another node that responded is a matter of the identity."""
    host, reading = context.host, context.reading
    if context.incomplete:
        text = f"with transport {context.transport}, people log in to Webconf with their own accounts"
        return Row(host, "login", NOT_CHECKED, text)
    problem = reading.problem if reading is not None else None
    if problem is not None and problem.code not in _OTHER_NODE:
        return refused(host, "login", problem)
    return Row(host, "login", OBSERVED, "the appliance accepts this account")


def identity_row(context: NodeContext, view: NodeView | None, duplicates: t.Mapping[str, str]) -> Row:
    """Return the row of which node responded. `duplicates` has the reason for each host that shares a server with another host."""
    host, reading = context.host, context.reading
    if host in duplicates:
        remedy = (
            "set the address of the node itself, not that of a load balancer, and keep one inventory host for each node"
        )
        return refused(host, "identity", Problem("node_duplicate", host, duplicates[host], remedy))
    if reading is not None and reading.problem is not None and reading.problem.code in _OTHER_NODE:
        return refused(host, "identity", reading.problem)
    if view is not None and view.read and view.identity_unknown:
        text = "nobody knows which node the EJBCA at this address is: two nodes share address, certificate or host name"
        remedy = "set utrust_ejbca_host to the address of the node itself"
        return refused(host, "identity", Problem("ejbca_identity_unknown", host, text, remedy))
    node = reading.node if reading is not None else None
    ejbca = view.identity.host_name if view is not None and view.identity is not None else None
    if node is None:
        return Row(host, "identity", NOT_CHECKED, "the node was not read")
    text = f"node {node.name}, HSM {node.hsm_serial}, EJBCA host name {ejbca or 'unknown'}"
    return Row(host, "identity", context.read, text)


def ejbca_rows(context: NodeContext, view: NodeView | None) -> list[Row]:
    """Return the rows of the EJBCA view and of the rights of its account."""
    host = context.host
    rights = Row(
        host, "rights", NOT_CHECKED, "the rights of the reader are unknown. Roles of Webconf are not documented"
    )
    problem = _first_problem(view)
    if view is None or view.left_out or (problem is not None and problem.code == "credentials_missing"):
        text = problem.text if problem is not None else "EJBCA was not contacted"
        missing = context.incomplete and problem is not None and problem.code == "credentials_missing"
        if missing and problem is not None:
            return [refused(host, "ejbca_view", Problem(problem.code, host, problem.text, "")), rights]
        return [Row(host, "ejbca_view", NOT_CHECKED, text), rights]
    if problem is not None and problem.code == _EXCESSIVE:
        excessive = refused(host, "rights", Problem(problem.code, host, problem.text, ""))
        return [Row(host, "ejbca_view", NOT_CHECKED, "the account may do more than read"), excessive]
    if view.read:
        rights = rights._replace(
            state=OBSERVED, text="EJBCA offers the reader no change. Roles of Webconf are not documented"
        )
    if problem is not None:
        return [refused(host, "ejbca_view", Problem(problem.code, host, problem.text, "")), rights]
    active = sum(token.active is True for token in view.tokens)
    text = f"EJBCA {view.version or 'of an unknown version'} shows {len(view.tokens)} crypto token(s), {active} active"
    return [Row(host, "ejbca_view", OBSERVED, text), rights]


def _first_problem(view: NodeView | None) -> ViewProblem | None:
    """Return the first problem of the node. How its keys differ from those of the source is a matter of other playbooks."""
    ignored = ("ejbca_identity_unknown", "source_view_unknown", "source_view_incomplete")
    return next((each for each in view.problems if each.code not in ignored), None) if view is not None else None


def may_check_health(view: NodeView | None) -> bool:
    """Whether a health check tries no PIN again: the view was read, and every crypto token that should be active is active."""
    return view is not None and view.read and _FAILING not in {problem.code for problem in view.problems}


def health_row(host: str, found: Health | UtrustError | None) -> Row:
    if found is None:
        text = "no request was sent, because the EJBCA view is unknown, or because a health check would try the PIN of a failing crypto token again"
        return Row(host, "health_check", NOT_CHECKED, text)
    if isinstance(found, UtrustError):
        return refused_by(host, "health_check", found)
    if found.error is None:
        return Row(host, "health_check", OBSERVED, "EJBCA reports ALLOK")
    remedy = "correct this in EJBCA before a change, because a load balancer takes the node out of traffic"
    return refused(host, "health_check", Problem("ejbca_not_healthy", host, found.error, remedy))


def duplicates_of(contacts: t.Mapping[str, Contact | UtrustError], ports: t.Mapping[str, int]) -> dict[str, str]:
    """Return the reason for each host whose server has the address or the certificate of another host."""
    reasons: dict[str, list[str]] = {}
    peers = {
        host: found.peer for host, found in contacts.items() if isinstance(found, Contact) and found.peer is not None
    }
    facts: tuple[tuple[str, t.Callable[[str], object]], ...] = (
        ("address", lambda host: (peers[host].address, ports[host])),
        ("certificate", lambda host: peers[host].certificate_fingerprint),
    )
    for fact, value in facts:
        for host in peers:
            same = sorted(other for other in peers if other != host and value(other) == value(host))
            if same:
                reasons.setdefault(host, []).append(f"it has the same {fact} as {', '.join(same)}")
    return {host: " and ".join(found) for host, found in reasons.items()}
