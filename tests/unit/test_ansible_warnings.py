# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A warning of Ansible fails a test of a playbook."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.ansible_warnings import unexpected_warnings
from tests.support.playbook import finish

DEPRECATED = (
    "[DEPRECATION WARNING]: The `bool` filter coerced an invalid value.\nThis will be removed from ansible-core 2.23."
)
WARNING = "[WARNING]: Could not match supplied host\npattern, ignoring: nowhere"
OUTPUT = "PLAY [x]\n\n{}\nTASK [y]\nok: [node1]\n"


def printing(text: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "import sys; print(sys.argv[1])", text]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("warning", [DEPRECATED, WARNING, f"fatal: x {WARNING}"])
def test_run_with_a_warning_fails(warning: str) -> None:
    with pytest.raises(AssertionError, match="WARNING"):
        finish(printing(OUTPUT.format(warning)))


def test_run_with_an_expected_warning_passes() -> None:
    """The beginning is compared without the line ends of Ansible."""
    expected = ["Could not match supplied host pattern"]
    assert finish(printing(OUTPUT.format(WARNING)), warnings=expected).status == 0
    assert len(unexpected_warnings(f"{WARNING}\n{DEPRECATED}", expected)) == 1


def test_run_without_a_warning_passes() -> None:
    assert finish(printing(OUTPUT.format("msg: WARNING is only a word"))).status == 0
