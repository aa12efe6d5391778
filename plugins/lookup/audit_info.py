# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lookup audit_info."""

from __future__ import annotations

DOCUMENTATION = r"""
name: audit_info
short_description: Verify an audit file and return its state
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - The lookup follows the hash chain of a file that P(keyops.utrust.audit#callback) wrote, and returns the first broken line.
  - Without a path, the lookup checks the audit trail of the current run. If the callback already reports a failure, the lookup does not read the file and
    returns only RV(_raw[].file) and RV(_raw[].refusal).
options:
  _terms:
    description: Paths of audit files on the machine that runs Ansible. Without a path, the lookup uses the file of this run.
    type: list
    elements: path
  public_key:
    description: Path of the Ed25519 public key (PEM) that fits the signed head beside the file. Requires the Python package C(cryptography).
    type: path
  count:
    description: Number of a record that you saved earlier, for example from syslog. A file that ends before this record is truncated.
    type: int
  head:
    description: Digest (C(sha256)) of record number O(count) that you saved earlier.
    type: str
  verify:
    description: Whether to read the file. If not, only RV(_raw[].refusal) is returned, with the failures that the callback detected.
    type: bool
    default: true
seealso:
  - plugin: keyops.utrust.audit
    plugin_type: callback
"""

EXAMPLES = r"""
- name: Check that the audit file is intact
  ansible.builtin.assert:
    that: audit.intact
    fail_msg: "{{ audit.problems | join('. ') }}"
  vars:
    audit: "{{ lookup('keyops.utrust.audit_info', '/var/lib/utrust/audit.jsonl') }}"

- name: Check that this run has an audit trail
  ansible.builtin.assert:
    that: not audit.refusal
    fail_msg: "{{ audit.refusal }}"
  vars:
    audit: "{{ lookup('keyops.utrust.audit_info') }}"
"""

RETURN = r"""
_raw:
  description: One entry for each file.
  type: list
  elements: dict
  contains:
    file:
      description: Path of the file, empty if this run has no audit file.
      type: str
    refusal:
      description: Reason why the file does not hold a complete audit trail of this run, with a stable code in brackets. Empty if the audit trail is complete.
      type: str
    intact:
      description: Whether all checks passed.
      type: bool
    problems:
      description: Problems found, each with a stable code in brackets.
      type: list
      elements: str
    summary:
      description: Content of the file as lines of text.
      type: list
      elements: str
    first_broken_line:
      description: Number of the first broken line, or V(null).
      type: int
    records:
      description: Number of the last intact record.
      type: int
    head:
      description: Digest of the last intact record.
      type: str
    fragments:
      description: Unfinished lines of killed writers, each with C(line), C(size) and C(recorded). C(recorded) is true if a later record names the fragment.
      type: list
      elements: dict
    open_jobs:
      description: Jobs that have not ended, each with C(job) and the C(line) of its start. These jobs are running or were killed.
      type: list
      elements: dict
    signed_records:
      description: Number of the record in the signed head, if O(public_key) is set and fits.
      type: int
"""

import os
import pathlib
import typing as t

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible.utils.display import Display
from ansible_collections.keyops.utrust.plugins.module_utils._printable import make_printable
from ansible_collections.keyops.utrust.plugins.module_utils._run.directory import remove_stale, removed_line
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import run_state
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.errors import AuditError
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.required import refusal
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.verify import verify_file


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: t.Any = None, **kwargs: t.Any) -> list[dict[str, t.Any]]:
        self.set_options(var_options=variables, direct=kwargs)
        for package in remove_stale():
            Display().display(removed_line(package), stderr=True)
        state = run_state.current_run()
        if terms:
            # Path.expanduser raises RuntimeError for an unknown user.
            paths = [os.path.realpath(os.path.expanduser(os.path.expandvars(str(term)))) for term in terms]  # noqa: PTH111
            return [make_printable(self._read(path, state)) for path in paths]
        path = state.file if state is not None else ""
        # A failure that the callback reported needs no reading, and the file itself may be broken.
        if reason := refusal(path, state, {}):
            return [{"file": path, "refusal": reason}]
        return [make_printable(self._read(path, state))]

    def _read(self, path: str, state: run_state.RunState | None) -> dict[str, t.Any]:
        found: dict[str, t.Any] = {}
        try:
            if path and self.get_option("verify"):
                public_key = self.get_option("public_key")
                found = verify_file(
                    path,
                    public_key=pathlib.Path(public_key).read_text(encoding="utf-8") if public_key else None,
                    count=self.get_option("count"),
                    head=self.get_option("head"),
                )
        except (AuditError, OSError) as exc:
            raise AnsibleError(make_printable(f"audit_info: {exc}")) from exc
        return {"file": path, **found, "refusal": refusal(path, state, found)}
