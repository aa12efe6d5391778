# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The key report as an HTML page. Private to keyops.utrust.

Ansible's templates do not escape HTML, so this module renders the page. It escapes every value that the template inserts, and shows unprintable
characters as codes. The Content-Security-Policy of the page allows only its own style and script, by digest.
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

#: A sign and a word for each cell, so that no meaning depends on the color.
CELLS: t.Final = {
    "present": ("✓", "present"),
    "missing": ("✗", "missing"),
    "extra": ("+", "extra"),
    "mismatched": ("≠", "mismatch"),
    "unusable": ("!", "unusable"),
    "absent": ("–", "absent"),
    "unknown": ("?", "unknown"),
}


def _csp_source(text: str) -> str:
    """The source expression of a Content-Security-Policy for this inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _escape_value(value: t.Any) -> t.Any:
    if value is None:
        return "–"
    return escape_unprintable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def render(report: t.Mapping[str, t.Any], *, template: str, style: str, script: str) -> str:
    """Render the page. `style` and `script` are inserted unescaped and must be as trusted as the template."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_escape_value, trim_blocks=True, lstrip_blocks=True
    )
    policy = f"default-src 'none'; style-src {_csp_source(style)}; script-src {_csp_source(script)}; img-src data:; base-uri 'none'; form-action 'none'"
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
