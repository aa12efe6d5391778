# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The end of a package that people downloaded: pure functions. Private to keyops.utrust.

A run cannot delete such a package. It names the package until a person confirms that every copy was destroyed.
"""

from __future__ import annotations

import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.people import (
    PACKAGE_DOWNLOADED,
    PACKAGE_UPLOADED,
    Step,
    make_confirmation,
)

Document = t.Mapping[str, t.Any]


def package_elsewhere(package: Document | None, confirmations: t.Iterable[Document], source: str) -> str | None:
    """Return the SHA-256 of the package that people downloaded from the source, or None.

    `package` is the result of the export of this run. A run without an export knows the package of an earlier run by its confirmation.
    """
    if package is not None:
        return str(package["sha256"]) if package.get("elsewhere") and package.get("sha256") else None
    for given in confirmations:
        if (given["node"], given["step"]) == (source, PACKAGE_DOWNLOADED) and given.get("sha256"):
            return f"sha256:{str(given['sha256']).strip().casefold().removeprefix('sha256:')}"
    return None


def uploads_between_runs(
    confirmations: t.Iterable[Document], targets: t.Mapping[str, str], pending: t.Container[str]
) -> list[dict[str, str]]:
    """Return the confirmed uploads to targets that already had the keys when the run began. No import of this run records them.

    `targets` are the names of nodes by inventory host, and `pending` the hosts with an import in this run.
    Raises UtrustError (`confirmation_invalid`).
    """
    names = {name for host, name in targets.items() if host not in pending}
    found = []
    for given in confirmations:
        if given["step"] != PACKAGE_UPLOADED or given["node"] not in names:
            continue
        step = Step(PACKAGE_UPLOADED, given["node"], (), ("sha256",))
        confirmed = make_confirmation(step, {name: part for name, part in given.items() if part is not None})
        found.append(
            {
                "node": step.node,
                "step": step.id,
                "confirmed_by": confirmed.confirmed_by,
                "origin": "option",
                **confirmed.values,
            }
        )
    return found


def kept_line(sha256: str) -> str:
    """Return the line of a run that failed, so that nobody forgets the package."""
    return (
        f"package {sha256}: NOT DESTROYED. The package is where people downloaded it, and contains every key of the cluster. "
        "Keep it only until the next run, then destroy it, also if the next run does not ask"
    )
