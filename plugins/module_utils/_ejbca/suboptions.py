# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of one account at EJBCA of one node. Private to keyops.utrust."""

from __future__ import annotations

import typing as t

EJBCA_SUBOPTIONS: t.Final[dict[str, t.Any]] = {
    "host": {"type": "str", "required": True},
    "port": {"type": "int", "default": 443},
    "client_cert": {"type": "path", "required": True},
    # Paths of files: the content is secret, the paths are not.
    "client_key": {"type": "path", "no_log": False},
    "ca_file": {"type": "path"},
    "tls_fingerprint": {"type": "list", "elements": "str"},
}
#: Why EJBCA of a node is not contacted: a person excluded its view, or an earlier task of this run found a crypto token that cannot be activated.
LEFT_OUT, FAILING = "left_out", "activation_failing"
UNREAD_OPTION: t.Final[dict[str, t.Any]] = {"type": "str", "choices": [LEFT_OUT, FAILING]}


def ejbca_option(*, required: bool) -> dict[str, t.Any]:
    """Return the specification of option `ejbca`. EJBCA has another port than Webconf, and often another address and login."""
    return {"type": "dict", "required": required, "options": EJBCA_SUBOPTIONS}
