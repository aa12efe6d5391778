# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Words of Webconf, in one map for each known revision of its pages. Private to keyops.utrust.

The words come from public pages of the vendor, and nothing was tried on hardware. Text between asterisks is quoted exactly.
Map a has the published pages (appliances 4.0), and map b a newer draft (5.x). No page states its version, so the operator chooses the map.
"""

from __future__ import annotations

import string
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.people import (
    HSM_RESTORED,
    PACKAGE_DESTROYED,
    PACKAGE_DOWNLOADED,
    PACKAGE_UPLOADED,
    Step,
)
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_ADDRESS
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable

PAGE_MAPS: t.Final = ("a", "b")

_LOG_IN: t.Final = "Log in to Webconf of {node} ({address}). Compare the TLS fingerprint with the front display."
_DOWNLOAD: t.Final = (
    _LOG_IN,
    "If a guide or a dialog is open already, stop: somebody else is at work.",
    "Open the page *Security*, and there the section *Key Synchronization*.",
    "Click *Download Cluster Key Synchronization Package*.",
    "Keep the file in a private directory on encrypted or volatile storage. It contains every key of the cluster.",
    "Compute the SHA-256 and the size: sha256sum FILE; stat -c %s FILE",
)
#: Before the upload: the package must be the exported one.
_BEFORE_UPLOAD: t.Final = (
    "Compute the SHA-256 of the package: sha256sum FILE",
    "Continue only if the result is {sha256}.",
    _LOG_IN,
    "Check that the page shows the node {node}, not the source {source}.",
    "If a guide or a dialog is open already, stop: somebody else is at work.",
    "Open the page *Security*, and there the section *Key Synchronization*.",
)
_RESTORE: t.Final = (
    "Check the serial number of the HSM on the front display of {node}: {hsm_serial}.",
    "Have the MBK cards and their PINs ready: {cards}.",
    _LOG_IN,
    "If a guide or a dialog is open already, stop: somebody else is at work.",
    "Open the page *Security*, and there the section *HSM Configuration*. The HSM must be in *Factory Reset Mode*.",
    "If the page shows *Initialize HSM*, stop: the node did not join the cluster, and initializing cannot be undone.",
)
#: After the button, the dialog of an initialization looks like the dialog of a restore.
_STOP: t.Final = (
    "If a dialog shows *Appliance Security Level*, *Administration Smart Card*, *Number of Copies* or *Next Step*: "
    "stop, click nothing more, and close the browser. These words belong to an initialization."
)
_CARDS: t.Final = (
    "Insert the cards and type the PINs only at the PIN pad. 3 or 5 wrong PINs, depending on the card, disable a card.",
    "Follow the guide to its end. Do not repeat a step that failed. Stop and report the failure instead.",
)
_DESTROY: t.Final = (
    "Delete every copy of the package with SHA-256 {sha256}, on each computer and storage medium.",
    "Check the directory of downloads and the trash, too. The package contains every key of the cluster.",
)

_LINES: t.Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "a": {
        PACKAGE_DOWNLOADED: _DOWNLOAD,
        PACKAGE_UPLOADED: (
            *_BEFORE_UPLOAD,
            "Upload the package as the manual of the appliance describes. The published pages do not show these words.",
            "The upload itself imports the keys. Finish the dialog after it shows its result.",
        ),
        HSM_RESTORED: (
            *_RESTORE,
            "Click *Synchronize HSM* in section *HSM Configuration*.",
            _STOP,
            "A pop-up window opens. *Be aware that PIN Pad interactions are required!*",
            "From here on follow the guide and the manual. The published pages show no more words.",
            *_CARDS,
            "The keys *will not be automatically transferred*. Synchronize the keys with a package after the restore.",
        ),
        PACKAGE_DESTROYED: _DESTROY,
    },
    "b": {
        PACKAGE_DOWNLOADED: _DOWNLOAD,
        PACKAGE_UPLOADED: (
            *_BEFORE_UPLOAD,
            "Use *Select a File* or drag and drop, and check the name of the file on the page.",
            "Click *Upload* once. The upload itself imports the keys.",
            "The dialog *Restore Keys from Key Synchronization Package* shows a table of the keys. Click *Finish*.",
        ),
        HSM_RESTORED: (
            *_RESTORE,
            "Click *Synchronize HSM* in the red field.",
            _STOP,
            "Dialog *HSM Guide Setup*: at *Choose PIN pad* select the PIN pad {pin_pad}. Click *Preview Restore*.",
            "Dialog *HSM Guided Restore Summary*: compare the number of cards. *Make sure to have the MBK Cards in reach*",
            "Click *Start Restore* once.",
            *_CARDS,
            "All existing keys are restored together with the MBK.",
        ),
        PACKAGE_DESTROYED: _DESTROY,
    },
}
#: Values that people give for each step.
_FIELDS: t.Final[dict[str, tuple[str, ...]]] = {
    PACKAGE_DOWNLOADED: ("sha256", "size"),
    PACKAGE_UPLOADED: ("sha256",),
    HSM_RESTORED: ("hsm_serial",),
    PACKAGE_DESTROYED: ("sha256",),
}
#: Text in place of a fact that the caller does not have.
_UNKNOWN: t.Final[dict[str, str]] = {
    "address": "address unknown",
    "cards": "as many as the MBK requires",
    "hsm_serial": "the number of the list of devices",
    "pin_pad": "next to this node",
    "source": "of the package",
}


def steps(page_map: str, step_id: str, node: str, **facts: str) -> Step:
    """Return one step at one node in the words of a page map.

    Facts are `address`, `source`, `sha256`, `hsm_serial`, `pin_pad` and `cards`. People must give the same value of a fact that is a field of the step.
    Raises UtrustError (`page_map_unknown`).
    """
    if page_map not in _LINES:
        raise UtrustError(
            f"steps at Webconf of {node}: the page map is {page_map!r}. Nothing was done. "
            f"Compare the pages with docs/real-appliance.md, and set utrust_page_map to one of: {', '.join(PAGE_MAPS)}",
            code="page_map_unknown",
        )
    known = {**_UNKNOWN, **{name: escape_unprintable(value[:MAX_ADDRESS]) for name, value in facts.items() if value}}
    known["node"] = escape_unprintable(node[:MAX_ADDRESS])
    lines = tuple(line.format_map(known) for line in _LINES[page_map][step_id] if _names(line) <= known.keys())
    fields = _FIELDS[step_id]
    return Step(step_id, node, lines, fields, {name: facts[name] for name in fields if facts.get(name)})


def _names(line: str) -> set[str]:
    return {part[1] for part in string.Formatter().parse(line) if part[1]}
