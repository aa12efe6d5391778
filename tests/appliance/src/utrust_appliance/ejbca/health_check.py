# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The health check of EJBCA. From 8.2 on, parameters select CAs and test keys. Earlier versions ignore all parameters."""

from __future__ import annotations

import typing as t

from utrust_appliance.ejbca.errors import EjbcaError, TokenOfflineError

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from utrust_appliance.ejbca.database import CertificateAuthority
    from utrust_appliance.ejbca.ejbca_node import EjbcaNode

Parameters = t.Mapping[str, list[str]]


def check_health(ejbca: EjbcaNode, parameters: Parameters) -> tuple[int, str]:
    """Status and text. It tests only the current key of each CA, not the next and previous keys."""
    flags = ejbca.state.flags
    if not ejbca.state.observed:
        ejbca.state.counters["health_checks"] += 1
    if flags.maintenance is not None:
        problems = [f"MAINT: {flags.maintenance}"]
    else:
        problems = _problems(ejbca, parameters if flags.since(8, 2) else {})
    if not problems:
        return 200, flags.health_ok
    text = flags.health_error if flags.health_error is not None else "\n".join(problems)
    return (500 if flags.health_send_error else 200), text


def _problems(ejbca: EjbcaNode, parameters: Parameters) -> list[str]:
    with ejbca.lock:
        if problem := ejbca.database.problem():
            return [f"DB: Error creating connection to database: {problem}"]
        disconnected = [
            f"CA: Error CA Token is disconnected, CA Name : {authority.name}"
            for authority in _selected(ejbca.database.authorities(), parameters.get("ca", []))
            if not _is_available(ejbca, authority.token, authority.current_alias)
        ]
        return disconnected + [
            problem for token, alias in pairs(parameters).items() if (problem := _test(ejbca, token, alias))
        ]


def _selected(authorities: Iterable[CertificateAuthority], names: list[str]) -> list[CertificateAuthority]:
    known = [authority for authority in authorities if authority.in_health_check]
    return [authority for authority in known if not names or authority.name in names]


def pairs(parameters: Mapping[str, list[str]]) -> dict[str, str]:
    """Token name and alias of `token<suffix>` and `key<suffix>`. Only the last key of a token is in the map, as in EJBCA."""
    return {
        names[0]: parameters[f"key{suffix}"][0]
        for name, names in parameters.items()
        if name.startswith("token") and f"key{(suffix := name.removeprefix('token'))}" in parameters
    }


def _is_available(ejbca: EjbcaNode, token: str, alias: str) -> bool:
    try:
        return ejbca.token(token).fingerprint(alias) is not None
    except TokenOfflineError:
        return False


def _test(ejbca: EjbcaNode, token: str, alias: str) -> str | None:
    try:
        found = ejbca.token(token)
    except EjbcaError:
        return f"TOKEN: {token} unknown" if ejbca.state.flags.since(9) else "java.lang.NullPointerException"
    try:
        found.test(alias)
    except EjbcaError:
        return f"TOKEN: Test key failed for token={token} key={alias}"
    return None
