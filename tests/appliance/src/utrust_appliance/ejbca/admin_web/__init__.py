# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pages of the Admin Web of the simulated EJBCA: main page, crypto tokens, keys, and the download of public keys.

The pages imitate the published source of EJBCA. They were never compared with a running EJBCA.
"""
