# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action plugin utrust_key_report. It runs on the controller only."""

from __future__ import annotations

import datetime
import json
import os
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._operations.cluster_info import READ_SPEC, VIEW_SPEC
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.persistence import mounts, why_not_persistent
from ansible_collections.keyops.utrust.plugins.plugin_utils._collection import collection_version
from ansible_collections.keyops.utrust.plugins.plugin_utils._connection import in_controller_job
from ansible_collections.keyops.utrust.plugins.plugin_utils._judging_action import JudgingActionBase
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.output import check_files, write_files
from ansible_collections.keyops.utrust.plugins.plugin_utils._report.report import report

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Spec
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading

SPEC: t.Final[Spec] = {
    **READ_SPEC,
    **VIEW_SPEC,
    "page": {"type": "path", "default": "key_report.html"},
    "data": {"type": "path"},
    "mode": {"type": "str", "default": "0640"},
    "cas": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "public_key_sha256": {"type": "str", "no_log": False},
            "label": {"type": "str"},
            "slot": {"type": "int"},
            "subject_dn": {"type": "str"},
            "not_after": {"type": "str"},
            "is_root": {"type": "bool"},
            "problem": {"type": "str"},
        },
    },
    "audit_file": {"type": "path"},
}
VERDICTS: t.Final = {"in_sync": "in sync", "drift": "DRIFT", "incomplete": "INCOMPLETE"}


class ActionModule(JudgingActionBase):
    name = "utrust_key_report"
    spec = SPEC

    def check(self, params: dict[str, t.Any], variables: dict[str, t.Any]) -> None:
        check_files(params["page"], params["data"], params["mode"], params["audit_file"])

    def judge(self, reading: ClusterReading, params: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        # Both need time to load, and only a report needs them.
        from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.history import read_history
        from ansible_collections.keyops.utrust.plugins.plugin_utils._report.html import render

        content = report(
            reading,
            time=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            version=collection_version(),
            cas=params["cas"],
            history=read_history(params["audit_file"]) if params["audit_file"] is not None else None,
        )
        files = check_files(params["page"], params["data"], params["mode"], params["audit_file"])
        page = render(content)
        if not self._task.check_mode:
            write_files(files, page, json.dumps(content, indent=2, sort_keys=True) + "\n")
        would = "would be written to " if self._task.check_mode else ""
        return {
            "changed": True,
            "verdict": content["verdict"],
            "page": str(files.page),
            "data": str(files.data),
            "msg": f"{VERDICTS[content['verdict']]}: {would}{files.page}, {files.data}{_lost_with_job(str(files.page), variables)}",
            "_ansible_verbose_always": True,
        }


def _lost_with_job(page: str, variables: dict[str, t.Any]) -> str:
    """Return a sentence if AWX deletes the files of the report after this job, or else an empty text."""
    reason = why_not_persistent(page, mounts(), os.environ) if in_controller_job(variables) else ""
    return (
        f". Nobody can read the files after the job: {reason}. Set page to a file on a volume of the jobs"
        if reason
        else ""
    )
