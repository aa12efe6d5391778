# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the attributes. Private to keyops.utrust."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Whether the module can predict its result without changing the node or the disk.
  diff_mode:
    description: Whether the module returns details on what it changed, or would change in check mode.
  idempotent:
    description: Whether a second run with the same options changes nothing.
  async:
    description: Whether the module supports the C(async) keyword.
    support: none
"""

    ACTIONGROUP_UTRUST = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/keyops.utrust.utrust) in C(module_defaults) to set connection options for all modules of this collection.
    support: full
    membership:
      - keyops.utrust.utrust
"""

    READ_ONLY = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This module does not change anything.
  diff_mode:
    support: N/A
    details:
      - This module does not change anything.
  idempotent:
    support: full
    details:
      - This module does not change anything.
"""
