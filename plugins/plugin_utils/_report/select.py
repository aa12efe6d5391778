# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Selection of keys by a JMESPath expression. Private to keyops.utrust."""

from __future__ import annotations

import json
import typing as t

try:
    import jmespath
    import jmespath.exceptions
except ImportError as exc:
    JMESPATH_MISSING: ImportError | None = exc
else:
    JMESPATH_MISSING = None

from ansible.errors import AnsibleFilterError

Key = dict[str, t.Any]


def select(hsm_keys: t.Sequence[t.Mapping[str, t.Any]], expression: str, *, caller: str) -> list[Key]:
    """Return the selected keys in the order of the expression. `caller` names the filter in messages. Raises AnsibleFilterError."""
    if JMESPATH_MISSING is not None:
        raise AnsibleFilterError(
            f"{caller}: selecting keys requires the Python library jmespath, and importing it failed: {JMESPATH_MISSING}. "
            "Install the library into the Python environment of Ansible: pip install 'jmespath>=1.0.1'"
        ) from JMESPATH_MISSING
    # jmespath requires the exact types, and Ansible's strings and lists are subclasses.
    plain: list[Key] = json.loads(json.dumps([dict(key) for key in hsm_keys]))
    try:
        found = jmespath.search(str(expression), plain)
    except jmespath.exceptions.JMESPathError as exc:
        raise AnsibleFilterError(
            f"{caller}: the expression {str(expression)!r} is invalid [option_invalid]: {exc}"
        ) from exc
    known = {json.dumps(key, sort_keys=True) for key in plain}
    if not isinstance(found, list) or any(json.dumps(key, sort_keys=True) not in known for key in found):
        raise AnsibleFilterError(
            f"{caller}: the expression {str(expression)!r} does not return a list of keys [option_invalid]. "
            f"Use a condition in brackets, such as \"[?type=='ec' && slot==`0`]\""
        )
    return found
