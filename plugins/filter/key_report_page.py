# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter key_report_page."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.html import render
from jinja2 import TemplateError

DOCUMENTATION = r"""
name: key_report_page
short_description: "[INTERNAL] Render a key report as an HTML page"
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - B(Internal to the roles of this collection.) The filter can change or disappear in any release.
  - Renders the data of P(keyops.utrust.key_report#filter) as one page without other resources. All labels and names are escaped.
options:
  _input:
    description: Data of the report.
    type: dict
    required: true
  template:
    description: Jinja2 template of the page. The filter escapes each expression. The role uses C(files/key_report.html.j2).
    type: str
    required: true
  style:
    description: Style sheet. The page allows no other style sheet.
    type: str
    required: true
  script:
    description: Script. The page allows no other script.
    type: str
    required: true
seealso:
  - plugin: keyops.utrust.key_report
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Write a page from another template
  ansible.builtin.copy:
    content: "{{ report | keyops.utrust.key_report_page(template=template, style=style, script=script) }}"
    dest: /srv/www/keys.html
    mode: "0644"
  vars:
    template: "{{ lookup('ansible.builtin.file', 'page.html.j2') }}"
    style: "{{ lookup('ansible.builtin.file', 'page.css') }}"
    script: "{{ lookup('ansible.builtin.file', 'page.js') }}"
"""

RETURN = r"""
_value:
  description: HTML page.
  type: str
"""


def key_report_page(report: t.Mapping[str, t.Any], template: str, style: str, script: str) -> str:
    """See DOCUMENTATION. Raises AnsibleFilterError for an invalid template."""
    try:
        return render(report, template=template, style=style, script=script)
    except TemplateError as exc:
        raise AnsibleFilterError(f"key_report_page: the template is invalid: {exc}") from exc


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"key_report_page": key_report_page}
