# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lookup audit_info."""

from __future__ import annotations

DOCUMENTATION = r"""
name: audit_info
short_description: Read an audit file and tell whether it is unbroken
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Follows the hash chain of a file that P(keyops.utrust.audit#callback) wrote, and names the first broken line.
  - Without a file, tells how the evidence of this very run stands. The file is then read only if the callback itself knows nothing
    against it; otherwise RV(_raw[].file) and RV(_raw[].refusal) are all that is returned.
options:
  _terms:
    description: Paths of audit files on the machine that runs Ansible. The file of this run if there is none.
    type: list
    elements: path
  public_key:
    description: Path of the Ed25519 public key (PEM) that fits the signed head beside the file. Needs the Python package C(cryptography).
    type: path
  count:
    description: Number of the record that somebody remembers as the last one, for example from syslog. A file that ends before it is truncated.
    type: int
  head:
    description: The digest (C(sha256)) of the record with number O(count), as somebody remembers it.
    type: str
  verify:
    description: Whether to read the file. If not, only RV(_raw[].refusal) tells something, and only what the callback itself knows.
    type: bool
    default: true
seealso:
  - plugin: keyops.utrust.audit
    plugin_type: callback
"""

EXAMPLES = r"""
- name: Make sure that the evidence is unbroken
  ansible.builtin.assert:
    that: audit.intact
    fail_msg: "{{ audit.problems | join('. ') }}"
  vars:
    audit: "{{ lookup('keyops.utrust.audit_info', '/var/lib/utrust/audit.jsonl') }}"

- name: Make sure that this run leaves evidence
  ansible.builtin.assert:
    that: not audit.refusal
    fail_msg: "{{ audit.refusal }}"
  vars:
    audit: "{{ lookup('keyops.utrust.audit_info') }}"
"""

RETURN = r"""
_raw:
  description: One for each file.
  type: list
  elements: dict
  contains:
    file:
      description: The path; empty if this run writes no evidence.
      type: str
    refusal:
      description: Why this run's evidence in this file does not count, with a stable code in brackets; empty if it does.
      type: str
    intact:
      description: Whether nothing speaks against the file.
      type: bool
    problems:
      description: What does, each with a stable code in brackets.
      type: list
      elements: str
    summary:
      description: What is in it, in words.
      type: list
      elements: str
    first_broken_line:
      description: Number of the first line that is not what was written there, or nothing.
      type: int
    records:
      description: Number of the last intact record.
      type: int
    head:
      description: Its digest.
      type: str
    fragments:
      description: What killed writers left, each with C(line), C(size), and C(recorded), which is true once a later record says that it was found.
      type: list
      elements: dict
    open_jobs:
      description: Jobs that have started and not ended, each with C(job) and the C(line) of its start. They are running, or were killed.
      type: list
      elements: dict
    signed_records:
      description: Number of the record that the signed head is about, if O(public_key) was given and fits.
      type: int
"""

import pathlib
import typing as t

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import run_state as audit_run
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.file import AuditError
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.verify import verify_file


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: t.Any = None, **kwargs: t.Any) -> list[dict[str, t.Any]]:
        self.set_options(var_options=variables, direct=kwargs)
        state = audit_run.current_run()
        if terms:
            return [self._read(str(pathlib.Path(term).resolve()), state) for term in terms]
        path = state.file if state is not None else ""
        # What the callback knows already needs no reading, and the file may be what is broken.
        if known := refusal(path, state, {}):
            return [{"file": path, "refusal": known}]
        return [self._read(path, state)]

    def _read(self, path: str, state: audit_run.RunState | None) -> dict[str, t.Any]:
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
            raise AnsibleError(f"audit_info: {exc}") from exc
        return {"file": path, **found, "refusal": refusal(path, state, found)}


def refusal(path: str, state: audit_run.RunState | None, found: t.Mapping[str, t.Any]) -> str:
    """Why this run's evidence in that file does not count. `found` is empty if the file was not read."""
    if state is None:
        return (
            "the callback keyops.utrust.audit is not active in this run: name it in callbacks_enabled [audit_inactive]"
        )
    if state.failure:
        return f"an event of this run could not be recorded: {state.failure} [audit_incomplete]"
    if state.file != path:
        return f"this run records its events in {state.file}, not in {path} [audit_elsewhere]"
    if state.volatile:
        return (
            f"{state.volatile}: choose another path, or set assume_persistent if you know better [audit_not_persistent]"
        )
    if found and not found["intact"]:
        return f"{path} is broken: {'. '.join(found['problems'])} [audit_broken]"
    if found and state.job not in [one["job"] for one in found["open_jobs"]]:
        return f"{path} does not hold the start of this run [audit_missing]"
    return ""
