# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Simulator of a cluster of hardware appliances, for tests and rehearsals of keyops.utrust."""

from __future__ import annotations

__version__ = "1.0.0"
SERVER = "utrust-appliance-simulator"
