# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Selection of the HSM backend."""

from __future__ import annotations

import importlib.util
import typing as t
from dataclasses import dataclass
from pathlib import Path

from utrust_appliance.errors import OperationError

if t.TYPE_CHECKING:
    from utrust_appliance.hsm.base import Checkpoint, Hsm

BACKENDS = ("software", "pkcs11")
# Paths of SoftHSM2: Debian and Ubuntu, Fedora and RHEL, openSUSE, built from source, Homebrew.
SOFTHSM_MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)


@dataclass(frozen=True)
class HsmBackend:
    """The backend, and the path of the module for `pkcs11`."""

    backend: str = "software"
    module: str | None = None

    @classmethod
    def of(cls, backend: str, module: str | None) -> HsmBackend:
        """Raises OperationError if the backend is not available on this machine."""
        if backend not in BACKENDS:
            raise OperationError(f"The HSM backend {backend} does not exist. Backends: {', '.join(BACKENDS)}.")
        if backend == "software":
            if module is not None:
                raise OperationError("--module requires --hsm pkcs11.")
            return cls()
        if importlib.util.find_spec("pkcs11") is None:
            raise OperationError("--hsm pkcs11 requires python-pkcs11. Run pip install './tests/appliance[pkcs11]'.")
        if module is not None and not Path(module).is_file():
            raise OperationError(f"The PKCS #11 module {module} does not exist.")
        found = module or next((path for path in SOFTHSM_MODULES if Path(path).is_file()), None)
        if found is None:
            raise OperationError(
                "--hsm pkcs11 did not find SoftHSM2. Run apt-get install softhsm2, or specify a PKCS #11 module with --module PATH."
            )
        return cls(backend, str(Path(found).absolute()))

    def open(self, folder: Path, checkpoint: Checkpoint, label: str) -> Hsm:
        """Open the HSM in this folder. `label` is the label of its token."""
        if self.module is None:
            from utrust_appliance.hsm.software import SoftwareHsm

            return SoftwareHsm(folder, checkpoint)
        from utrust_appliance.hsm.pkcs11 import Pkcs11Hsm

        return Pkcs11Hsm(folder, checkpoint, self.module, label)
