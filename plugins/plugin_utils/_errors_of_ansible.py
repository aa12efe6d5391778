# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of Ansible without secrets. Private to keyops.utrust."""

from __future__ import annotations

import contextlib
import typing as t

from ansible.errors import AnsibleError
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._secrets import without_secrets


@contextlib.contextmanager
def errors_without_secrets(secrets: t.Sequence[str]) -> t.Iterator[None]:
    """Replace an error of Ansible that quotes a secret by UtrustError (`internal_error`), because Ansible shows its errors itself."""
    try:
        yield
    except AnsibleError as exc:
        if (text := without_secrets(str(exc), secrets)) == str(exc):
            raise
        raise UtrustError(text, code="internal_error") from None
