# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The strings of the vendor's pages in their order: the menu of the documentation, and the page about key synchronization.

Templates use `v.<name>`. Strings that are not on the vendor's page are in the templates.
"""

from __future__ import annotations

STRINGS: dict[str, str] = {
    # The menu
    "overview": "Overview",
    "access": "Access",
    "security": "Security",
    "cluster": "Cluster",
    "backup": "Backup/Restore",
    "services": "Services",
    # Initial HSM synchronization
    "hsm_configuration": "HSM Configuration",
    "factory_reset_mode": "Factory Reset Mode",
    "synchronize_hsm": "Synchronize HSM",
    "hsm_guide_setup": "HSM Guide Setup",
    "choose_pin_pad": "Choose PIN pad",
    "preview_restore": "Preview Restore",
    "restore_summary": "HSM Guided Restore Summary",
    "interactions": "Be aware that PIN Pad interactions are required!",
    "cards_in_reach": "Make sure to have the MBK Cards in reach.",
    "start_restore": "Start Restore",
    # Later changes of keys
    "key_synchronization": "Key Synchronization",
    "download_package": "Download Cluster Key Synchronization Package",
    "package": "Cluster Key Synchronization Package",
    "drag_and_drop": "Drag and Drop",
    "select_file": "Select a File",
    "upload": "Upload",
    "restore_keys": "Restore Keys from Key Synchronization Package",
    "finish": "Finish",
}
