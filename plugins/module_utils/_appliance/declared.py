# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts of a node that the operator declares, because a transport cannot read them. Private to keyops.utrust."""

from __future__ import annotations

import dataclasses as dc
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits
from ansible_collections.keyops.utrust.plugins.module_utils._appliance import fields, schema
from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import UNKNOWN, ImportBehavior, Mbk, Member
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError, UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable

REQUIRED: t.Final = ("cluster_id", "hsm_serial")
#: Names of the variable `utrust_declared`.
NAMES: t.Final = (
    *REQUIRED,
    "cluster_name",
    "hsm_model",
    "hsm_firmware",
    "appliance_version",
    "mbk_name",
    "mbk_check_value",
    "mbk_required",
    "mbk_total",
    "fips",
    "import_effect",
    "restart",
)
NOT_A_TEXT: t.Final = ("fips", "mbk_required", "mbk_total")


@dc.dataclass(frozen=True)
class Declared:
    """Facts of one node and of its cluster. None means that nobody declared the fact."""

    cluster_id: str
    hsm_serial: str
    cluster_name: str
    hsm_model: str
    hsm_firmware: str | None
    appliance_version: str | None
    mbk: Mbk | None
    fips: bool | None
    import_behavior: ImportBehavior


def parse_declared(node: str, given: t.Any) -> Declared:
    """Return the declared facts of a node. Raises UtrustError (`declaration_invalid`)."""
    if not isinstance(given, dict):
        raise _invalid(node, f"the variable is missing. Set at least {' and '.join(REQUIRED)}")
    facts = {name: value for name, value in given.items() if value is not None and str(value).strip()}
    if unknown := sorted(str(name) for name in facts if name not in NAMES):
        raise _invalid(node, f"{', '.join(map(ascii, unknown)):.200} is unknown (names: {', '.join(NAMES)})")
    if missing := [name for name in REQUIRED if name not in facts]:
        raise _invalid(node, f"{' and '.join(missing)} is missing")
    if nested := [name for name, value in facts.items() if not isinstance(value, (str, int, float))]:
        raise _invalid(
            node, f"{' and '.join(nested)} must be one value. YAML reads a date without quotes as another type"
        )
    try:
        return _parse(facts)
    except ApiError as exc:
        raise _invalid(node, str(exc).removeprefix("reading a response: ")) from exc


def _parse(facts: dict[str, t.Any]) -> Declared:
    # An inventory is foreign text, as the response of a node is.
    texts = {
        name: value if name in NOT_A_TEXT else escape_unprintable(str(value).strip()) for name, value in facts.items()
    }
    return Declared(
        cluster_id=fields.get_str(texts, "cluster_id", limits.MAX_NAME),
        hsm_serial=fields.get_str(texts, "hsm_serial", limits.MAX_NAME),
        cluster_name=_text(texts, "cluster_name") or "",
        hsm_model=_text(texts, "hsm_model") or UNKNOWN,
        hsm_firmware=_text(texts, "hsm_firmware"),
        appliance_version=_text(texts, "appliance_version"),
        mbk=_mbk(texts),
        fips=fields.get_optional_bool({"fips": None, **texts}, "fips"),
        import_behavior=ImportBehavior(
            effect=_word(texts, "import_effect", "effect"), restart=_word(texts, "restart", "restart")
        ),
    )


def _text(facts: dict[str, t.Any], name: str) -> str | None:
    return fields.get_optional_str({name: None, **facts}, name, limits.MAX_NAME)


def _word(facts: dict[str, t.Any], name: str, behavior: str) -> str:
    value, allowed = facts.get(name, UNKNOWN), schema.IMPORT_BEHAVIOR_VALUES[behavior]
    if value not in (UNKNOWN, *allowed):
        raise fields.invalid(name, f"is {ascii(value)[:80]}, and must be one of {', '.join(allowed)}")
    return str(value)


def _mbk(facts: dict[str, t.Any]) -> Mbk | None:
    if "mbk_name" not in facts and "mbk_check_value" not in facts:
        return None
    document = {
        "name": facts.get("mbk_name"),
        "check_value": facts.get("mbk_check_value"),
        "m": facts.get("mbk_required"),
        "n": facts.get("mbk_total"),
    }
    return schema.parse_mbk(document)


def parse_members(given: t.Iterable[t.Mapping[str, t.Any]]) -> tuple[Member, ...]:
    """Return the hosts of the inventory with the same source. Nobody can read whether they are connected."""
    return tuple(Member(str(each["node"]), str(each["address"]), int(each["port"]), True, "declared") for each in given)


def _invalid(node: str, reason: str) -> UtrustError:
    return UtrustError(
        f"reading the variable utrust_declared of {node}: {reason}. Nothing was done. Correct the variable",
        code="declaration_invalid",
    )
