# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Callback audit."""

from __future__ import annotations

DOCUMENTATION = r"""
name: audit
type: notification
short_description: Record who did what to which HSM in a hash-chained file
version_added: 1.0.0
author:
  - The keyops.utrust authors (@keyops)
description:
  - Appends one line of JSON for each event of a run to a file in which every line carries the SHA-256 of the one before. An event is the start and the end of
    the job, every result of a module of this collection, what a role or playbook declares (approvals, manual_confirmations, cards), and every task that failed.
  - A line is on the disk before the run goes on. Several runs may write to one file at the same time.
  - Only names on an allow-list are recorded. Messages, task names, arguments and variables are not.
  - If an event cannot be written, an error says so at once, the run's evidence counts as incomplete, and a role that requires evidence stops before its
    next change.
  - A fact of M(ansible.builtin.set_fact) whose name ends in C(__audit) is recorded as a declaration; C(docs/audit.md) of the collection names what
    it may hold, and all events.
options:
  file:
    description:
      - Path of the audit file on the machine that runs Ansible. Its directory must exist. The file is made with mode 0600.
      - It should be on a disk that outlives the job. In an execution environment this is a mounted volume.
    type: path
    env:
      - name: UTRUST_AUDIT_FILE
    ini:
      - section: callback_utrust_audit
        key: file
  assume_persistent:
    description:
      - Take the path for one that persists, whatever the machine says about it. A path is taken for one that does not if it is in memory, in the writable
        layer of a container, in a directory for temporary files, or in the private data directory of an AWX job.
    type: bool
    default: false
    env:
      - name: UTRUST_AUDIT_ASSUME_PERSISTENT
    ini:
      - section: callback_utrust_audit
        key: assume_persistent
  signing_key:
    description:
      - Path of an Ed25519 private key (PEM, without passphrase, mode 0600). After each line the head of the chain is signed, in a file beside the audit file
        whose name ends in C(.head.sig). A file that lost lines behind its signed head is not written to any more.
      - Needs the Python package C(cryptography).
    type: path
    env:
      - name: UTRUST_AUDIT_SIGNING_KEY
    ini:
      - section: callback_utrust_audit
        key: signing_key
  syslog:
    description:
      - Where to send the sequence number and the digest of each line, too, so that they are known to another machine. A path such as C(/dev/log), or
        V(HOST:PORT) for UDP.
    type: str
    env:
      - name: UTRUST_AUDIT_SYSLOG
    ini:
      - section: callback_utrust_audit
        key: syslog
requirements:
  - enable it with C(callbacks_enabled) in C(ansible.cfg), or E(ANSIBLE_CALLBACKS_ENABLED)
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
import socket
import sys
import typing as t
import uuid
from logging import INFO, LogRecord
from logging.handlers import SysLogHandler

from ansible import context
from ansible.plugins.callback import CallbackBase
from ansible.release import __version__ as ansible_version
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import allow_list as fields
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import persistence
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit import run_state as run
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.chain import ENDED, STARTED
from ansible_collections.keyops.utrust.plugins.plugin_utils._audit.file import AuditError, AuditFile, load_signer, now
from ansible_collections.keyops.utrust.plugins.plugin_utils._collection import collection_digest, collection_version


class LoudSysLogHandler(SysLogHandler):
    """Raises what it cannot send, instead of printing it."""

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
        self._syslog: LoudSysLogHandler | None = None
        self._state = run.RunState(os.getpid(), self._job, "", "", "")
        self._lost = 0
        run.clear_state()  # of a run around this one

    # What Ansible calls, in its main process and one at a time

    def v2_playbook_on_start(self, playbook: t.Any) -> None:
        self._playbook = pathlib.Path(str(playbook._file_name)).name

    def v2_playbook_on_play_start(self, play: t.Any) -> None:
        if not self._started:
            self._started = True
            self._start(play.get_variable_manager().extra_vars)

    def v2_runner_on_ok(self, result: t.Any) -> None:
        if "results" not in result._result:  # the items of a loop were recorded one by one
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

    # What becomes of it

    def _start(self, extra_vars: t.Mapping[str, t.Any]) -> None:
        try:
            self._open()
        except (AuditError, OSError, ValueError) as exc:
            self._fail(str(exc))
            return
        self._append(
            STARTED,
            playbook=self._playbook,
            requester=_requester(extra_vars),
            controller_job=_controller_job(extra_vars),
            check_mode=bool(context.CLIARGS.get("check")),
            limit=str(context.CLIARGS.get("subset") or ""),
            machine=socket.gethostname(),
            pid=os.getpid(),
            ansible=ansible_version,
            python=platform.python_version(),
            collection={"version": collection_version(), "digest": collection_digest()},
            persistent=not self._state.volatile,
        )

    def _open(self) -> None:
        path = self.get_option("file")
        if not path:
            raise AuditError(
                "audit_not_configured", "no audit file is configured; set UTRUST_AUDIT_FILE or option file"
            )
        key = self.get_option("signing_key")
        self._file = AuditFile(path, load_signer(key) if key else None)
        volatile = (
            ""
            if self.get_option("assume_persistent")
            else persistence.why_not_persistent(self._file.path, persistence.mounts(), os.environ)
        )
        self._state = self._state._replace(file=self._file.path, volatile=volatile)
        run.publish_state(self._state)
        if self.get_option("syslog"):
            self._syslog = LoudSysLogHandler(_address(self.get_option("syslog")))
            self._syslog.ident = "keyops-utrust-audit: "

    def _record(self, result: t.Any, outcome: str) -> None:
        task, facts = result._task, result._result
        name = str(getattr(task, "resolved_action", None) or task.action)
        about: dict[str, t.Any] = {"host": result._host.get_name(), "action": name, "outcome": outcome}
        about["check_mode"] = bool(task.check_mode)
        if facts.get("censored"):
            about["censored"] = True
        if outcome in ("failed", "unreachable"):
            about["codes"] = fields.codes(facts.get("msg", ""))
        if name.startswith("keyops.utrust."):
            event = fields.event_of(name.rpartition(".")[2], facts, check_mode=about["check_mode"])
            self._append(event, **about, result=fields.public(facts, fields.RESULT))
        elif outcome in ("failed", "unreachable"):
            self._append("task_failed", **about)
        elif name in ("ansible.builtin.set_fact", "set_fact"):
            for fact, value in (facts.get("ansible_facts") or {}).items():
                if fact.endswith("__audit"):
                    declared = fields.public(value, fields.DECLARED)
                    self._append("declaration", **about, by=fact.removesuffix("__audit").lstrip("_"), result=declared)

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
            self._tell_syslog({"file": self._file.path, **head._asdict(), "job": self._job, "event": event})
        except (AuditError, OSError) as exc:
            self._fail(str(exc))
        except BaseException as exc:
            self._fail(repr(exc))
            raise

    def _tell_syslog(self, facts: dict[str, t.Any]) -> None:
        if self._syslog is not None:
            self._syslog.handle(LogRecord("audit", INFO, "", 0, json.dumps(facts), None, None))

    def _fail(self, text: str) -> None:
        """Say it at once, and to every task that starts from now on. Nothing takes it back: this run's evidence is not complete."""
        self._lost += 1
        self._state = self._state._replace(failure=text)
        run.publish_state(self._state)
        self._display.error(f"keyops.utrust.audit: EVIDENCE IS NOT BEING RECORDED: {text}")


def _requester(extra_vars: t.Mapping[str, t.Any]) -> dict[str, str]:
    """Who asked for the run: the user of AWX or the controller, as it says; else the user of this process, as the system knows it."""
    for name in ("awx_user_name", "tower_user_name"):
        if extra_vars.get(name):
            return {"name": str(extra_vars[name])[: fields.LONGEST], "known_from": name}
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return {"name": name, "known_from": "system"}


def _controller_job(extra_vars: t.Mapping[str, t.Any]) -> dict[str, str]:
    given = {name: extra_vars.get(f"awx_{name}", extra_vars.get(f"tower_{name}")) for name in fields.CONTROLLER}
    return {name: str(value)[: fields.LONGEST] for name, value in given.items() if value is not None}


def _address(text: str) -> str | tuple[str, int]:
    host, colon, port = text.rpartition(":")
    return (host, int(port)) if colon and not text.startswith("/") else text
