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
short_description: A report about keys and nodes as a page of HTML
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Makes one page that needs nothing else of what P(keyops.utrust.key_report#filter) returns. Whatever labels and names the nodes report is escaped.
options:
  _input:
    description: A report.
    type: dict
    required: true
  template:
    description: Text of a Jinja2 template of a page, in which every expression is escaped. That of the role is C(files/key_report.html.j2).
    type: str
    required: true
  style:
    description: Style sheet, the only one that the page allows.
    type: str
    required: true
  script:
    description: Script, the only one that the page allows.
    type: str
    required: true
seealso:
  - plugin: keyops.utrust.key_report
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Write a page of your own
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
  description: The page.
  type: str
"""


def key_report_page(report: t.Mapping[str, t.Any], template: str, style: str, script: str) -> str:
    """See DOCUMENTATION. Raises AnsibleFilterError for a template that cannot be used."""
    try:
        return render(report, template=template, style=style, script=script)
    except TemplateError as exc:
        raise AnsibleFilterError(f"key_report_page: the template cannot be used: {exc}") from exc


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"key_report_page": key_report_page}
