# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ansible-test runs to get pip into an empty virtual environment: the one that Python brings along.

ansible-test wants to download a script for this from a server of its own. With this one nothing is needed but the
package index that pip is configured for. tests/tools/sanity.py puts it where ansible-test looks first.
"""

from __future__ import annotations

import subprocess
import sys

names = [word for word in sys.argv[1:] if not word.startswith("-")]
subprocess.check_call([sys.executable, "-m", "ensurepip", "--default-pip"], stdout=subprocess.DEVNULL)
if names:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.check_call([*install, *names])
