# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action plugin of module utrust_cluster_info."""

from __future__ import annotations

from ansible_collections.keyops.utrust.plugins.module_utils._operations.cluster_info import OPERATION
from ansible_collections.keyops.utrust.plugins.plugin_utils._judging_action import ClusterActionBase


class ActionModule(ClusterActionBase):
    operation = OPERATION
