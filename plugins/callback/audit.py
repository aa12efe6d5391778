# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Callback audit."""

from __future__ import annotations

DOCUMENTATION = r"""
name: audit
type: notification
short_description: Record each event of a run in a hash-chained file
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - The callback appends one line of JSON to a file for each event of a run. Each line carries the SHA-256 of the line before.
  - Events are the start and the end of the job, each module result, and each failed task.
  - Declarations are events, too. Roles and playbooks declare facts such as approvals, manual confirmations or cards.
  - A line is on disk before the run continues. Several runs may write to one file at the same time.
  - Only names on an allow-list are recorded. Messages, task names, arguments and variables are not recorded.
  - If an event cannot be written, the callback shows an error at once, and the audit trail of the run is incomplete. A role that requires an audit trail stops
    before its next change.
  - A fact of M(ansible.builtin.set_fact) or of an action of this collection is recorded as a declaration if its name ends in C(__audit).
  - The record names the role in C(by), which is the name of
    the fact without this suffix and without leading underscores.
  - C(docs/audit.md) of the collection lists the recorded names and all events.
options:
  file:
    description:
      - Path of the audit file on the machine that runs Ansible. Its directory must exist. The callback creates the file with mode 0600.
      - Use a disk that outlives the job. In an execution environment this is a mounted volume.
    type: path
    env:
      - name: UTRUST_AUDIT_FILE
    ini:
      - section: callback_utrust_audit
        key: file
  assume_persistent:
    description:
      - Whether to skip the check that the file is on persistent storage.
      - The check rejects a path in memory, in the writable layer of a container, or in a directory for temporary files.
      - The check also rejects a path in the private data directory of an AWX job.
    type: bool
    default: false
    env:
      - name: UTRUST_AUDIT_ASSUME_PERSISTENT
    ini:
      - section: callback_utrust_audit
        key: assume_persistent
  signing_key:
    description:
      - Path of an Ed25519 private key (PEM, without passphrase, mode 0600).
      - The callback signs each line. After each line the callback also signs the head of the chain, in a file whose name ends in C(.head.sig).
      - The callback does not append to a file that has fewer records than its signed head, or records without a signature after a signed record.
      - Requires the Python package C(cryptography).
    type: path
    env:
      - name: UTRUST_AUDIT_SIGNING_KEY
    ini:
      - section: callback_utrust_audit
        key: signing_key
  syslog:
    description:
      - Address of a syslog server that also receives the sequence number and the digest of each line. With this copy, another machine can detect missing lines.
      - A path such as C(/dev/log), or V(HOST:PORT) or V([IPV6]:PORT) for UDP.
    type: str
    env:
      - name: UTRUST_AUDIT_SYSLOG
    ini:
      - section: callback_utrust_audit
        key: syslog
requirements:
  - Enable the callback with C(callbacks_enabled) in C(ansible.cfg), or with E(ANSIBLE_CALLBACKS_ENABLED).
seealso:
  - plugin: keyops.utrust.audit_info
    plugin_type: lookup
"""

EXAMPLES = r"""
ansible_cfg: |
  # ansible.cfg
  [defaults]
  callbacks_enabled = keyops.utrust.audit

  [callback_utrust_audit]
  file = /var/lib/utrust/audit.jsonl
  signing_key = /etc/utrust/audit.key
  syslog = /dev/log
"""

import json
import os
import pathlib
import platform
import pwd
import re
import socket
import sys
import typing as t
import uuid
from logging import INFO, LogRecord
from logging.handlers import SysLogHandler

from ansible import context
from ansible.plugins.callback import CallbackBase
from ansible.release import __version__ as ansible_version
from ansible_collections.keyops.utrust.plugins.module_utils._printable import make_printable
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import events, jobs, persistence, run_state
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.chain import ENDED, LOST, STARTED
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.errors import AuditError
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.file import AuditFile
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.signed_head import load_signer, now
from ansible_collections.keyops.utrust.plugins.plugin_utils._collection import collection_digest, collection_version


class RaisingSysLogHandler(SysLogHandler):
    """Raises an error if a message cannot be sent, because the base class only prints the error."""

    def handleError(self, record: LogRecord) -> None:  # noqa: N802 - the name is given
        raise sys.exception() or OSError("syslog")


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "keyops.utrust.audit"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments: t.Any, **more: t.Any) -> None:
        super().__init__(*arguments, **more)
        self._job = uuid.uuid4().hex
        self._playbook = ""
        self._started = False
        self._file: AuditFile | None = None
        self._syslog: RaisingSysLogHandler | None = None
        self._state = run_state.RunState(self._job, "", "", "")
        self._lost = 0
        run_state.clear_state()

    # Ansible calls these methods in its main process, one at a time.

    def v2_playbook_on_start(self, playbook: t.Any) -> None:
        self._playbook = pathlib.Path(str(playbook._file_name)).name

    def v2_playbook_on_play_start(self, play: t.Any) -> None:
        if not self._started:
            self._started = True
            self._start(play.get_variable_manager().extra_vars)

    def v2_runner_on_ok(self, result: t.Any) -> None:
        if "results" not in result._result:  # Each item of a loop was recorded already.
            self._record(result, "changed" if result.is_changed() else "ok")

    def v2_runner_on_failed(self, result: t.Any, ignore_errors: bool = False) -> None:
        if "results" not in result._result:
            self._record(result, "failed")

    def v2_runner_on_unreachable(self, result: t.Any) -> None:
        self._record(result, "unreachable")

    def v2_runner_item_on_ok(self, result: t.Any) -> None:
        self._record(result, "changed" if result.is_changed() else "ok")

    def v2_runner_item_on_failed(self, result: t.Any) -> None:
        self._record(result, "failed")

    def v2_playbook_on_stats(self, stats: t.Any) -> None:
        if not self._started:
            return
        hosts = {str(host): stats.summarize(host) for host in sorted(stats.processed)}
        failed = any(numbers["failures"] or numbers["unreachable"] for numbers in hosts.values())
        self._append(ENDED, outcome="failed" if failed else "ok", hosts=hosts)

    # Recording

    def _start(self, extra_vars: t.Mapping[str, t.Any]) -> None:
        try:
            path = self._open()
            lost = jobs.lost_jobs(path, socket.gethostname())
        except (AuditError, OSError, ValueError) as exc:
            self._fail(str(exc))
            return
        try:
            self._open_syslog()
        except (AuditError, OSError, ValueError) as exc:
            self._fail(f"syslog: {exc}")
        self._append(
            STARTED,
            playbook=self._playbook,
            requester=events.requester(extra_vars, _system_user()),
            controller_job=events.controller_job(extra_vars),
            **events.change_reference(extra_vars),
            check_mode=bool(context.CLIARGS.get("check")),
            limit=str(context.CLIARGS.get("subset") or ""),
            machine=socket.gethostname(),
            process=jobs.this_process(),
            ansible=ansible_version,
            python=platform.python_version(),
            collection={"version": collection_version(), "digest": collection_digest()},
            persistent=not self._state.not_persistent,
        )
        for record in lost:
            self._append(LOST, lost_job=record["job"], started=record.get("time"), process=record["process"])

    def _open(self) -> str:
        path = self.get_option("file")
        if not path:
            raise AuditError(
                "audit_not_configured", "the audit file is not configured. Set UTRUST_AUDIT_FILE or the option file"
            )
        key = self.get_option("signing_key")
        self._file = AuditFile(path, load_signer(key) if key else None)
        not_persistent = (
            ""
            if self.get_option("assume_persistent")
            else persistence.why_not_persistent(self._file.path, persistence.mounts(), os.environ)
        )
        self._state = self._state._replace(file=self._file.path, not_persistent=not_persistent)
        run_state.publish_state(self._state)
        return self._file.path

    def _open_syslog(self) -> None:
        if self.get_option("syslog"):
            self._syslog = RaisingSysLogHandler(_address(self.get_option("syslog")))
            self._syslog.ident = "keyops-utrust-audit: "

    def _record(self, result: t.Any, outcome: str) -> None:
        task = {
            "host": result._host.get_name(),
            "action": str(getattr(result._task, "resolved_action", None) or result._task.action),
            "outcome": outcome,
            "check_mode": bool(result._task.check_mode),
        }
        for event, record in events.task_events(task, result._result, result._task.args.get("state")):
            self._append(event, **record)
        if events.is_hidden(task, result._result):
            self._fail(f"no_log hides a result of {task['action']}. Remove no_log, and unset ANSIBLE_NO_LOG")

    def _append(self, event: str, **facts: t.Any) -> None:
        if self._file is None:
            self._lost += 1
            return
        record = {"time": now(), "job": self._job, "event": event, **facts}
        if self._lost:
            record["events_lost_before"] = self._lost
        try:
            head = self._file.append(record)
            self._lost = 0
            self._send_to_syslog({"file": self._file.path, **head._asdict(), "job": self._job, "event": event})
        except (AuditError, OSError) as exc:
            self._fail(str(exc))
        except BaseException as exc:
            self._fail(repr(exc))
            raise

    def _send_to_syslog(self, message: dict[str, t.Any]) -> None:
        if self._syslog is not None:
            self._syslog.handle(LogRecord("audit", INFO, "", 0, json.dumps(message), None, None))

    def _fail(self, text: str) -> None:
        """Show the error at once and publish it to later tasks. The audit trail of this run stays incomplete."""
        self._lost += 1
        self._state = self._state._replace(failure=text)
        run_state.publish_state(self._state)
        self._display.error(f"keyops.utrust.audit: THE AUDIT TRAIL IS INCOMPLETE: {make_printable(text)}")


def _system_user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _address(text: str) -> str | tuple[str, int]:
    """Return a path, or host and port. Raises AuditError (`audit_syslog_invalid`)."""
    text = text.strip()
    if text.startswith("/"):
        return text
    parts = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([^\s:\[\]/]+)):([0-9]{1,5})", text)
    if parts is None or not 1 <= int(parts[3]) <= 65535:
        raise AuditError(
            "audit_syslog_invalid", f"{text!r:.200} is not an address. Set a path, HOST:PORT or [IPV6]:PORT"
        )
    return parts[1] or parts[2], int(parts[3])
