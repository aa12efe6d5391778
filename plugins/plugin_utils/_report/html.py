# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A page of HTML that nothing in its data can break out of. Private to keyops.utrust.

Ansible's own templates do not escape, so the page is not one of them: everything that the template inserts is escaped here, and what is not escape_unprintable is
shown as its code. A policy in the page allows its own style and script, by digest, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import typing as t

from ansible_collections.keyops.utrust.plugins.plugin_utils._printable import escape_unprintable
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.ca_impact import STATES
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.table import columns, key_type
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

#: A sign and a word for each cell: the color alone tells nothing.
CELLS: t.Final = {
    "present": ("✓", "there"),
    "missing": ("✗", "missing"),
    "extra": ("+", "extra"),
    "mismatched": ("≠", "other key"),
    "unusable": ("!", "unusable"),
    "absent": ("–", "not there"),
    "unknown": ("?", "unknown"),
}


def _allowed(text: str) -> str:
    """A source of a Content-Security-Policy: exactly this inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _shown(value: t.Any) -> t.Any:
    if value is None:
        return "–"
    return escape_unprintable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def render(report: t.Mapping[str, t.Any], *, template: str, style: str, script: str) -> str:
    """The page. `style` and `script` are as trusted as the template, and put in as they are."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_shown, trim_blocks=True, lstrip_blocks=True
    )
    policy = f"default-src 'none'; style-src {_allowed(style)}; script-src {_allowed(script)}; img-src data:; base-uri 'none'; form-action 'none'"
    return environment.from_string(template).render(
        report=report,
        columns=columns(report["matrix"]),
        cells=CELLS,
        states=STATES,
        key_type=key_type,
        policy=policy,
        style=Markup(style),
        script=Markup(script),
    )
