# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wait for a package that a node prepares, and compare it with the planned manifest. Private to keyops.utrust."""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._wait import WaitOptions, wait_until_available

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.model import Package
    from ansible_collections.keyops.utrust.plugins.module_utils._appliance.protocol import Appliance, ProgressCallback
    from ansible_collections.keyops.utrust.plugins.module_utils._package.manifest import Manifest


def wait_for_package(
    appliance: Appliance, package: Package, source: str, patience: WaitOptions, progress: ProgressCallback
) -> Package:
    """Return the package as soon as it is ready. Raises UtrustError: the code of the package, `package_not_ready` or `node_wait_timeout`."""
    action = f"exporting from {source}"
    if package.state != "ready" and not package.ended:
        progress(f"{source}: the node prepares the package")
        package = wait_until_available(
            functools.partial(appliance.read_package, package),
            patience,
            f"{action}: waiting for the package",
            not_ready=lambda found: None if found.state == "ready" or found.ended else f"the package is {found.state}",
            outcome="No package was written",
        )
    if package.ended:
        code, text = package.problem or ("package_not_ready", f"the node reports that the package is {package.state}")
        raise UtrustError(
            f"{action}: {text.rstrip('.')}. No package was written. Fix the problem, then run again",
            code=code,
        )
    return package


def is_planned(package: Package, planned: Manifest) -> bool:
    """Compare the facts of the package that the node knows. The node has accepted the expected keys digest, also for an opaque package."""
    return (
        package.keys_digest in (None, planned.keys_digest)
        and package.source in (None, planned.source)
        and (package.mbk is None or package.mbk.same_as(planned.mbk))
    )
