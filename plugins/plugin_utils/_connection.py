# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connection options of a node from the variables of its inventory host. Private to keyops.utrust."""

from __future__ import annotations

import re
import typing as t

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.keyops.utrust.plugins.module_utils import _json
from ansible_collections.keyops.utrust.plugins.module_utils._argspec import CONNECTION_SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.plugin_utils._node_names import node_name

Variables = t.Mapping[str, t.Any]

#: These come from the name of the host, from the source and from the run, not from a variable of the same name.
NOT_A_VARIABLE: t.Final = frozenset({"expect_node", "members", "cluster_claim", "assisted"})


def is_blank(value: t.Any) -> bool:
    """Whether an option counts as not set: null and blank text, as a survey sends them."""
    return value is None or (isinstance(value, str) and not value.strip())


def is_true(value: t.Any) -> bool:
    """Whether an option that is not validated yet is true."""
    return not is_blank(value) and boolean(value, strict=False)


def in_controller_job(variables: Variables) -> bool:
    """Whether a job of AWX runs this task. Nobody sits at its terminal, and its disk may end with the job."""
    return any(not is_blank(variables.get(name)) for name in ("awx_job_id", "tower_job_id"))


def without_blanks(arguments: Variables, spec: Variables) -> dict[str, t.Any]:
    """Return the arguments that are set, at any depth. A text for a list is split at commas and line ends, and its items are stripped.

    Raises UtrustError (`option_invalid`) for an invalid JSON list.
    """
    return {
        name: _without_blanks(name, value, spec.get(name) or {})
        for name, value in arguments.items()
        if not is_blank(value)
    }


def _without_blanks(name: str, value: t.Any, option: Variables) -> t.Any:
    if option.get("type") == "list":
        value = _items(name, value) if isinstance(value, str) else value
    if option.get("type") == "dict" and isinstance(value, str):
        value = _on_one_line(value)
    if isinstance(value, (list, tuple)):
        return [
            item.strip()
            if isinstance(item, str)
            else _without_blanks(name, item, {**option, "type": option.get("elements")})
            for item in value
            if not is_blank(item)
        ]
    if isinstance(value, t.Mapping) and option.get("options"):
        return without_blanks(value, option["options"])
    return value


def with_nearer(farther: Variables, nearer: Variables) -> dict[str, t.Any]:
    """Return the options of both, where `nearer` wins. A token and the file of a token replace each other.

    The replaced option has the value None, because Ansible would else read it from the environment.
    """
    tokens = ("bearer_token", "bearer_token_file")
    replaced = dict.fromkeys(tokens) if any(name in nearer for name in tokens) else {}
    return {**farther, **replaced, **nearer}


def _items(name: str, text: str) -> list[t.Any]:
    """Return the items of a text for a list: a JSON list, which a text field of a survey can have, or parts between commas and line ends.

    Raises UtrustError (`option_invalid`) for an invalid JSON list.
    """
    if text.lstrip().startswith("["):
        try:
            return t.cast("list[t.Any]", _json.decode(text.encode()))
        except ValueError as exc:
            raise UtrustError(
                f'{name}: the text begins with "[", but it is invalid JSON: {exc!s:.200}. Nothing was done. Correct the JSON list, or write one value a line',
                code="option_invalid",
            ) from exc
    return re.split(r"[,\r\n]", text)


def _on_one_line(text: str) -> str:
    """Return lines such as node2=UT000002 as one line, because Ansible takes a line end as a part of the value. JSON stays."""
    lines = [re.sub(r"\s*=\s*", "=", line.strip(" \t,")) for line in text.splitlines() if line.strip(" \t,")]
    return text if text.lstrip().startswith("{") else ", ".join(lines)


def connection_options(variables: Variables) -> dict[str, t.Any]:
    """Return the connection options that the variables of one host set. Nothing is read from the environment.

    `host` is `utrust_host`, or else `ansible_host`, or else the name of the inventory host.
    """
    options: dict[str, t.Any] = {
        option: variables[f"utrust_{option}"]
        for option in CONNECTION_SPEC
        if option not in NOT_A_VARIABLE and not is_blank(variables.get(f"utrust_{option}"))
    }
    if "host" not in options:
        address = variables.get("ansible_host")
        options["host"] = variables["inventory_hostname"] if is_blank(address) else address
    return {"expect_node": node_name(variables), **options}
