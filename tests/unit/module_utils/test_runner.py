# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that leaves an operation is a result or a coded error."""

from __future__ import annotations

import types
import typing as t

import pytest
from ansible_collections.keyops.utrust.plugins.module_utils import _runner
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._runner import (
    Invocation,
    Operation,
    coded_errors,
    execute,
    run_module,
)

INVOCATION = Invocation({}, False, lambda line: None, None)
SECRET = "a-token-with-24-letters!"


def raising(error: BaseException) -> Operation:
    def run(invocation: Invocation) -> dict[str, object]:
        raise error

    return Operation("utrust_test", {}, {}, run)


@pytest.mark.parametrize(
    "error",
    [
        ValueError(f"Invalid header value b'Bearer {SECRET}'"),
        KeyError(SECRET),
        RecursionError(SECRET),
        OverflowError(SECRET),
        UnicodeEncodeError("ascii", SECRET, 0, 1, SECRET),
        OSError(5, SECRET, SECRET),
    ],
    ids=lambda error: type(error).__name__,
)
def test_unexpected_error_has_a_code_and_no_text(error: Exception) -> None:
    """The text of an exception can quote a secret."""
    result = execute(raising(error), INVOCATION)
    assert (result["failed"], result["changed"], result["code"]) == (True, False, "internal_error")
    assert type(error).__name__ in result["msg"]
    assert SECRET not in str(result)


def test_coded_error_stays_as_it_is() -> None:
    result = execute(raising(UtrustError("reading: failed", code="some_code", more=1)), INVOCATION)
    assert (result["msg"], result["code"], result["more"]) == ("reading: failed", "some_code", 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)], ids=lambda error: type(error).__name__)
def test_end_of_the_process_is_not_an_error(error: BaseException) -> None:
    with pytest.raises(type(error)):
        execute(raising(error), INVOCATION)


def test_error_of_a_passed_type_is_not_converted() -> None:
    with pytest.raises(LookupError), coded_errors((LookupError,)):
        raise KeyError("host")


@pytest.mark.parametrize("version", [(3, 9, 18), (3, 10, 0), (3, 10, 99)])
def test_old_python_of_a_bastion_is_named(monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...]) -> None:
    """Older versions read times in another way, and the clock of the node would seem to differ."""

    class Module:
        def fail_json(self, **result: t.Any) -> t.NoReturn:
            raise LookupError(result["code"], result["msg"])

    monkeypatch.setattr(_runner, "sys", types.SimpleNamespace(version_info=version))
    with pytest.raises(LookupError, match="python_too_old") as caught:
        run_module(t.cast("t.Any", Module()), raising(AssertionError()))
    assert f"is Python 3.{version[1]}. Nothing was done" in caught.value.args[1]
