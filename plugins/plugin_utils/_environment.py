# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connection options from the environment of a task. Private to keyops.utrust."""

from __future__ import annotations

import functools
import os
import typing as t

from ansible.plugins.action import ActionBase
from ansible_collections.keyops.utrust.plugins.module_utils._argspec import CONNECTION_SPEC
from ansible_collections.keyops.utrust.plugins.plugin_utils._connection import without_blanks

#: Variables of the environment, by the option that each of them sets.
_VARIABLES: t.Final = {
    option: variable
    for option, spec in CONNECTION_SPEC.items()
    for variable in (spec["fallback"][1] if "fallback" in spec else ())
}
_SECRET: t.Final = {_VARIABLES[option] for option in _VARIABLES if CONNECTION_SPEC[option].get("no_log")}


class EnvironmentActionBase(ActionBase):
    """An action that reads connection options from the environment, and keeps secrets out of the command that starts a module."""

    @functools.cached_property
    def _environment(self) -> dict[str, t.Any]:
        """Return the connection options that the environment of the task or of the controller sets."""
        given: dict[str, t.Any] = {}
        super()._compute_environment_string(given)
        found = {option: given.get(variable, os.environ.get(variable)) for option, variable in _VARIABLES.items()}
        return without_blanks(found, CONNECTION_SPEC)

    def _compute_environment_string(self, raw_environment_out: dict[str, t.Any] | None = None) -> str:
        """Leave out secrets: every user of a bastion can read a command line, and the options of the module have them."""
        found: dict[str, t.Any] = {}
        super()._compute_environment_string(found)
        kept = {name: value for name, value in found.items() if name not in _SECRET}
        if raw_environment_out is not None:
            raw_environment_out.update(kept)
        return str(self._connection._shell.env_prefix(**kept))
