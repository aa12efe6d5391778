# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fewer cases of large matrices in `make test`, and all of them in `make test-all`."""

from __future__ import annotations

import itertools
import os
import typing as t

T = t.TypeVar("T")
EVERY = os.environ.get("UTRUST_TEST_MATRIX") == "all"


def covering(*dimensions: t.Sequence[t.Any], strength: int = 2) -> list[tuple[t.Any, ...]]:
    """Return cases that have every combination of `strength` values, or every combination in `make test-all`."""
    every = list(itertools.product(*(range(len(dimension)) for dimension in dimensions)))
    chosen: list[tuple[int, ...]] = [] if not EVERY else every
    open_parts = {part for case in every for part in _parts(case, strength)} if not EVERY else set()
    while open_parts:
        best = max(every, key=lambda case: len(open_parts & _parts(case, strength)))
        chosen.append(best)
        open_parts -= _parts(best, strength)
    return [tuple(dimension[index] for dimension, index in zip(dimensions, case, strict=True)) for case in chosen]


def _parts(case: tuple[int, ...], strength: int) -> set[tuple[tuple[int, int], ...]]:
    return set(itertools.combinations(enumerate(case), strength))


def some(cases: t.Sequence[T], number: int) -> t.Sequence[T]:
    """Return the first `number` cases, or all cases in `make test-all`. The first ones must differ most."""
    return cases if EVERY else cases[:number]
