# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The key report as an HTML page. Private to keyops.utrust.

Ansible's templates do not escape HTML, so this module renders the page. It escapes every value that the template inserts, and shows unprintable
characters as codes. The Content-Security-Policy of the page allows only its own style and script, by digest.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import pathlib
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._cluster.matrix import cell
from ansible_collections.keyops.utrust.plugins.module_utils._printable import make_printable
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.ca_impact import STATES
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.columns import columns
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.table import key_type, row_cells
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

FILES: t.Final = pathlib.Path(__file__).resolve().parent / "files"
#: A sign and a word for each cell, so that no meaning depends on the color.
CELLS: t.Final = {
    "present": ("✓", "present"),
    "missing": ("✗", "missing"),
    "extra": ("+", "extra"),
    "mismatched": ("≠", "mismatch"),
    "moved": ("→", "moved"),
    "duplicate": ("‖", "duplicate"),
    "unusable": ("!", "unusable"),
    "absent": ("–", "absent"),
    "unknown": ("?", "unknown"),
}
#: The cells of the EJBCA views, each with the class of its color.
VIEW_CELLS: t.Final = {
    "present": ("present", "✓", "shown"),
    "absent": ("missing", "✗", "not shown"),
    "stale": ("moved", "↻", "stale"),
    "moved": ("moved", "→", "moved"),
    "mismatched": ("mismatched", "≠", "mismatch"),
    "inactive": ("unusable", "!", "inactive"),
    "unknown": ("unknown", "?", "unknown"),
    "not_read": ("unknown", "?", "not read"),
}


def _csp_source(text: str) -> str:
    """The source expression of a Content-Security-Policy for this inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _escape_value(value: t.Any) -> t.Any:
    if value is None:
        return "–"
    return value if isinstance(value, Markup) else make_printable(value)


def render(report: t.Mapping[str, t.Any]) -> str:
    """Return the page of a report."""
    style, script = (_file(name) for name in ("key_report.css", "key_report.js"))
    policy = f"default-src 'none'; style-src {_csp_source(style)}; script-src {_csp_source(script)}; img-src data:; base-uri 'none'; form-action 'none'"
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_escape_value, trim_blocks=True, lstrip_blocks=True
    )
    matrix, view = report["matrix"], report["ejbca_view"]
    return environment.from_string(_file("key_report.html.j2")).render(
        report=report,
        columns=columns(matrix),
        cells=CELLS,
        view_columns=columns(view) if view is not None else [],
        view_cells=VIEW_CELLS,
        cell_of=cell,
        row_cells=functools.partial(row_cells, matrix),
        states=STATES,
        key_type=key_type,
        policy=policy,
        # Both are files of this collection, so they are inserted unescaped.
        style=Markup(style),
        script=Markup(script),
    )


def _file(name: str) -> str:
    return (FILES / name).read_text(encoding="utf-8")
