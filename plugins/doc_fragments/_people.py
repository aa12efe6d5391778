# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the option confirmations. Private to keyops.utrust."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  confirmations:
    description:
      - Confirmations of steps that people do at Webconf, for a transport that needs people.
      - A step without an entry is shown at the terminal of the run, and a person confirms the step there.
        This requires the variable C(utrust_terminal=true), and a run that is not a job of AWX.
      - Otherwise the module fails with C(confirmation_missing). The message lists the step and the entry to add.
    type: list
    elements: dict
    default: []
    suboptions:
      node:
        description: Name of the node.
        type: str
        required: true
      step:
        description: Step that the person did.
        type: str
        required: true
        choices: [package_downloaded, package_uploaded, hsm_restored, package_destroyed]
      confirmed_by:
        description: Name of the person who did the step or saw it done.
        type: str
        required: true
      sha256:
        description: SHA-256 of the package as 64 hexadecimal digits. The prefix C(sha256:) is optional.
        type: str
      size:
        description: Size of the package in bytes.
        type: str
      hsm_serial:
        description: Serial number of the HSM, as the person read it from the front display.
        type: str
  people_timeout:
    description: Seconds that one step of people at a terminal may take.
    type: float
    default: 3600.0
"""
