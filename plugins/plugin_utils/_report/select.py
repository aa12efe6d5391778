# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Choosing keys by a JMESPath expression. Private to keyops.utrust."""

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


def select(hsm_keys: t.Sequence[t.Mapping[str, t.Any]], expression: str, *, by: str) -> list[Key]:
    """Those keys that the expression leaves, in its order. `by` names the filter in messages. Raises AnsibleFilterError."""
    if JMESPATH_MISSING is not None:
        raise AnsibleFilterError(
            f"{by}: choosing keys by an expression needs the Python library jmespath where Ansible runs, and it cannot be imported ({JMESPATH_MISSING}); "
            "install it into Ansible's own Python: pip install 'jmespath>=1.0.1'"
        ) from JMESPATH_MISSING
    # jmespath goes by exact types, and Ansible's texts and lists are subclasses of them.
    plain: list[Key] = json.loads(json.dumps([dict(key) for key in hsm_keys]))
    try:
        found = jmespath.search(str(expression), plain)
    except jmespath.exceptions.JMESPathError as exc:
        raise AnsibleFilterError(f"{by}: the expression {str(expression)!r} cannot be used: {exc}") from exc
    known = {json.dumps(key, sort_keys=True) for key in plain}
    if not isinstance(found, list) or any(json.dumps(one, sort_keys=True) not in known for one in found):
        raise AnsibleFilterError(
            f"{by}: the expression {str(expression)!r} does not leave whole keys; write a condition in brackets, such as \"[?type=='ec' && slot==`0`]\""
        )
    return found
