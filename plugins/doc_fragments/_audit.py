# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the option audit. Private to keyops.utrust."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  audit:
    description:
      - With V(required), the action plugin fails before it contacts a node unless P(keyops.utrust.audit#callback) records this run completely.
    type: str
    choices: [optional, required]
    default: optional
"""
