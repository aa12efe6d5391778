# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of a run with the defaults that its transports require. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError, raise_for_problems
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_TEXT, MAX_TIMEOUT
from ansible_collections.keyops.utrust.plugins.module_utils._printable import make_printable
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.defaults import STRICT, Defaults, with_defaults
from ansible_collections.keyops.utrust.plugins.plugin_utils._connection import is_blank

Arguments = dict[str, t.Any]


def change_reference(variables: t.Mapping[str, t.Any]) -> str | None:
    """Return the variable utrust_change_reference as text, or None."""
    value = variables.get("utrust_change_reference")
    return None if is_blank(value) else str(make_printable(str(value).strip()))[:MAX_TEXT]


def complete_options(
    params: Arguments, transports: t.Iterable[str], variables: t.Mapping[str, t.Any], prefix: str
) -> Defaults:
    """Set the defaults of the options in `params`. `prefix` is the prefix of the options of the role.

    Raises UtrustError (`option_invalid`, `reason_missing`, `change_reference_missing`).
    """
    given = {name: params[name] for name in STRICT if name in params}
    reference = change_reference(variables)
    found = with_defaults(given, transports, change_reference=reference, reasons=params["reasons"], prefix=prefix)
    raise_for_problems(f"checking the options {prefix}*", found.problems)
    params.update(found.options)
    return found


def check_settle_time(params: Arguments) -> None:
    """Raises UtrustError (`option_invalid`)."""
    settle_time = params["settle_time"]
    if not 0 <= settle_time <= MAX_TIMEOUT:
        raise UtrustError(
            f"settle_time: {settle_time:g} is invalid. Set 0 to {MAX_TIMEOUT:g} seconds", code="option_invalid"
        )
