# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action plugin utrust_readiness. It runs on the controller only."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.transports import INCOMPLETE_TRANSPORTS
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._token_file import with_tokens_of_files
from ansible_collections.keyops.utrust.plugins.plugin_utils._cluster.accounts import launcher_accounts
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning import record_file
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.accounts import read_certificate
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.facts import (
    EjbcaFacts,
    account_files,
    node_facts,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.record import Content, Maker
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.renew import renew_record
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.signing import load_signing_key
from ansible_collections.keyops.utrust.plugins.plugin_utils._ejbca_view import mark_failing_nodes
from ansible_collections.keyops.utrust.plugins.plugin_utils._judging_action import JudgingActionBase
from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness.machine import machine_rows, read_machine
from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness.node_rows import Rules
from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness.options import READINESS_SPEC, confirmations
from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness.reading import Readings, read_all
from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness.rows import (
    DECLARED,
    REFUSED,
    Row,
    format_rows,
    summary,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._readiness.table import (
    Given,
    node_table,
    states_of,
    unchecked,
)

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading

Arguments = dict[str, t.Any]

#: Hours that a backup may be old, where nobody can import the keys that an import destroyed.
MAX_BACKUP_HOURS: t.Final = 24.0


class ActionModule(JudgingActionBase):
    name = "utrust_readiness"
    spec = READINESS_SPEC

    def check(self, params: Arguments, variables: Arguments) -> None:
        if self._task.delegate_to:
            raise UtrustError(
                "readiness checks the way from the machine that executes this action, so it does not use utrust_bastion. Nothing was done. "
                "Run the playbook on the bastion itself, without utrust_bastion",
                code="readiness_needs_controller",
            )
        self._confirmed = confirmations(params)
        if (params["record_dest"] is None) != (params["signing_key"] is None):
            raise UtrustError(
                "record_dest, signing_key: only one of both is set. Nothing was done. Set both to write a commissioning record",
                code="option_invalid",
            )
        self._signer = load_signing_key(params["signing_key"]) if params["signing_key"] is not None else None

    def reading_needed(self, params: Arguments) -> bool:
        return False  # the own reading also continues if the source cannot be read

    def judge(self, reading: t.Any, params: Arguments, variables: Arguments) -> Arguments:
        readings = self._read_all(params, variables)
        rows = [*node_table(readings, self._given(readings, variables), self._rules(params, readings))]
        rows += machine_rows(read_machine(params["proc_path"]), self._confirmed.machine)
        bad = [row for row in rows if row.state == REFUSED]
        result: Arguments = {
            "msg": f"readiness of {', '.join(readings.nodes)}: {summary(rows)}",
            "rows": [row._asdict() for row in rows],
            "table": format_rows(rows),
            "refused": [f"{row.node}: {row.step}" for row in bad],
            "not_checked": unchecked(rows),
            "codes": list(dict.fromkeys(row.code for row in bad)),
            "record_digest": None,
        }
        if self._signer is None:
            return result
        if bad:
            return {**result, "msg": result["msg"] + ". The commissioning record was not written"}
        renewed = self._renew(readings, rows, params, variables)
        return {**result, **renewed, "msg": f"{result['msg']}. {self._end(renewed, params)}"}

    def _end(self, renewed: Arguments, params: Arguments) -> str:
        """Return the sentence about the record. People compare its digest with that of a plan."""
        state = "is unchanged"
        if renewed["changed"]:
            state = "would be written (check mode)" if self._task.check_mode else "was written"
        return f"The commissioning record {renewed['record_digest']} {state}: {params['record_dest']}"

    def _read_all(self, params: Arguments, variables: Arguments) -> Readings:
        names = ("source", "hosts", "max_parallel", "node_timeout")
        given = {name: params[name] for name in names if params[name] is not None}
        completed = self._complete({**given, "keys": False, "ejbca_view": True}, variables)
        rules = self.operation.module_arguments()
        validated, tokens = with_tokens_of_files(self._validate(self.name, rules, completed))
        self._secrets += tokens

        def mark_failing(cluster: ClusterReading) -> None:
            if cluster.view is not None:
                mark_failing_nodes(cluster.view, completed["nodes"])

        return read_all(validated, mark_failing)

    def _rules(self, params: Arguments, readings: Readings) -> Rules:
        incomplete = any(node["transport"] in INCOMPLETE_TRANSPORTS for node in readings.nodes.values())
        hours = params["max_backup_hours"]
        return Rules(
            max_clock_skew=params["max_clock_skew"],
            min_certificate_days=params["min_certificate_days"],
            max_backup_hours=MAX_BACKUP_HOURS if hours is None and incomplete else hours,
            confirmed_backups=self._confirmed.backups,
            now=datetime.datetime.now(datetime.UTC),
        )

    def _given(self, readings: Readings, variables: Arguments) -> dict[str, Given]:
        found = {}
        for host, options in readings.nodes.items():
            of_host = self._host_variables(variables, host)
            paths = account_files(options, of_host)
            certificates = {account: _certificate(path) for account, path in paths}
            found[host] = Given(of_host.get("utrust_page_map"), certificates)
        return found

    def _renew(self, readings: Readings, rows: list[Row], params: Arguments, variables: Arguments) -> Arguments:
        """Write the record, if it is not as before. In check mode, only show the difference."""
        account = launcher_accounts(variables)[0]
        signer, key_sha256 = t.cast("t.Any", self._signer)
        made_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        maker = Maker(params["made_by"] or account, account, made_at, key_sha256, signer.sign)
        declared = any(row.state == DECLARED for row in rows)
        source = t.cast("ClusterReading", readings.cluster).source_node
        content = Content(
            cluster={"id": source.cluster_id, "name": source.cluster_name},
            nodes={host: self._facts(readings, host, variables) for host in readings.nodes},
            steps=states_of(rows),
            declared_by=(params["declared_by"] or maker.name) if declared else None,
            canary_key=params["canary_key"],
        )
        renewal = renew_record(params["record_dest"], content, maker, signer.public_key)
        if renewal.changed and not self._task.check_mode:
            record_file.write(params["record_dest"], renewal.record)
        return renewal.result(params["record_dest"])

    def _facts(self, readings: Readings, host: str, variables: Arguments) -> Arguments:
        reading, view = readings.reading(host), readings.view(host)
        ejbca = EjbcaFacts()
        if view is not None and view.identity is not None:
            ejbca = EjbcaFacts(view.identity.host_name, view.version)
        node = t.cast("t.Any", reading).node
        return node_facts(readings.nodes[host], self._host_variables(variables, host), node, ejbca)


def _certificate(path: str | None) -> t.Any:
    """Return the certificate of a file, or why it cannot be read, or None."""
    try:
        return read_certificate(path) if path is not None else None
    except UtrustError as exc:
        return exc
