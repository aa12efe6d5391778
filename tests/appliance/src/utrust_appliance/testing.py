# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""For tests: a cluster in a temporary folder that is always removed."""

from __future__ import annotations

import shutil
import tempfile
import typing as t
from contextlib import contextmanager
from pathlib import Path

from utrust_appliance import process
from utrust_appliance.control import Control

if t.TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def cluster(nodes: int = 3, **options: t.Any) -> Iterator[Control]:
    """A running cluster; options are those of `utrust-appliance up`, e.g. `faults=True, restored=2, card_timeout=1`."""
    parent = Path(tempfile.mkdtemp(prefix="utrust-test-"))
    folder = parent / "cluster"
    try:
        yield Control.up(folder, nodes=nodes, **options)
    finally:
        try:
            if folder.exists():
                process.stop(folder)
        finally:
            shutil.rmtree(parent, ignore_errors=True)
