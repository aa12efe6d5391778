# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read page 0 of EJBCA of nodes that have joined. Page 0 views no crypto token, so it tries no PIN. Private to keyops.utrust."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._cluster.parallel import Job, Limits, run_all
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.client import AdminWeb
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.argspec import ejbca_endpoint
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._runner import coded_errors
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.facts import EjbcaFacts

Options = t.Mapping[str, t.Any]


def read_identities(nodes: t.Mapping[str, Options], limits: Limits) -> dict[str, EjbcaFacts]:
    """Return host name and version that each EJBCA shows. `nodes` has validated options by inventory host. A node that fails has unknown facts."""
    found = run_all([_job(host, options) for host, options in nodes.items()], limits)
    return {host: EjbcaFacts() if isinstance(facts, UtrustError) else facts for host, facts in found.items()}


def _job(host: str, options: Options) -> Job[EjbcaFacts]:
    admin_web = AdminWeb(ejbca_endpoint(options), retries=options["retries"])

    def run() -> EjbcaFacts:
        with coded_errors(), contextlib.closing(admin_web):
            home = admin_web.home()
            return EjbcaFacts(home.host_name, home.version)

    return Job(host, run, admin_web.client.abort)
