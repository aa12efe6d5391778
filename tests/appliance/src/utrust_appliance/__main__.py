# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run `utrust-appliance` as `python -m utrust_appliance`."""

from __future__ import annotations

import sys

from utrust_appliance.cli import main

if __name__ == "__main__":
    sys.exit(main())
