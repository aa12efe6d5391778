# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bases of the actions that read a cluster, and of those that judge it on the controller. Private to keyops.utrust."""

from __future__ import annotations

import abc
import contextlib
import typing as t

from ansible.plugins.loader import lookup_loader
from ansible_collections.keyops.utrust.plugins.module_utils._argspec import CONNECTION_SPEC
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.parallel import Limits
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.read import ClusterReading
from ansible_collections.keyops.utrust.plugins.module_utils._cluster.view import ClusterView
from ansible_collections.keyops.utrust.plugins.module_utils._errors import Problem, UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._operations import cluster_info
from ansible_collections.keyops.utrust.plugins.module_utils._token_file import with_tokens_of_files
from ansible_collections.keyops.utrust.plugins.plugin_utils._action import (
    Arguments,
    Result,
    UtrustActionBase,
    Variables,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._commissioning.task import (
    RECORD,
    Commissioning,
    Host,
    check_record,
)
from ansible_collections.keyops.utrust.plugins.plugin_utils._connection import is_blank, is_true, without_blanks
from ansible_collections.keyops.utrust.plugins.plugin_utils._ejbca_view import mark_failing_nodes, view_options
from ansible_collections.keyops.utrust.plugins.plugin_utils._node_names import node_name

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._argspec import Spec
    from ansible_collections.keyops.utrust.plugins.module_utils._runner import Operation


class ClusterActionBase(UtrustActionBase):
    """A module that reads a cluster. Option `hosts` names inventory hosts, and their variables become option `nodes`."""

    def _complete(self, arguments: Arguments, variables: Variables) -> Arguments:
        if "nodes" in arguments:
            return arguments
        given = dict(arguments)
        self._require_source(given)
        hosts = given.pop("hosts", variables["ansible_play_hosts_all"])
        hosts = hosts if isinstance(hosts, list) else [hosts]
        names = dict.fromkeys(str(name) for name in (given.get("source"), *hosts) if not is_blank(name))
        view = is_true(given.get("ejbca_view"))
        nodes = [self._node(self._host_variables(variables, name), view=view) for name in names]
        return {**given, "nodes": nodes}

    def _run_operation(self, operation: Operation, arguments: Arguments, variables: Variables) -> Result:
        result = super()._run_operation(operation, arguments, variables)
        if result.get("ejbca_view") is not None:
            mark_failing_nodes(ClusterView.from_dict(result["ejbca_view"]), arguments["nodes"])
        return result

    def _require_source(self, arguments: Arguments) -> None:
        if "source" not in arguments:
            raise UtrustError(
                "the source is not set. Nothing was done. Set utrust_source in the inventory to the inventory host of the node with the latest keys",
                code="source_missing",
            )
        arguments["source"] = str(arguments["source"]).strip()

    def _node(self, of_host: t.Mapping[str, t.Any], *, view: bool) -> Arguments:
        options = {"inventory_host": of_host["inventory_hostname"], **self._node_options(of_host)}
        return {**options, **view_options(of_host)} if view else options


class JudgingActionBase(ClusterActionBase):
    """An action that reads the cluster and judges it on the controller. Its module file is documentation only."""

    operation = cluster_info.OPERATION
    name: t.ClassVar[str]
    spec: t.ClassVar[Spec]
    #: Rules between options, as ArgumentSpecValidator has them.
    rules: t.ClassVar[Spec] = {}

    @abc.abstractmethod
    def judge(self, reading: t.Any, params: Arguments, variables: Variables) -> Result:
        """Return the result. If `reading_needed` returns False, the reading is missing. Raises UtrustError."""

    def reading_needed(self, params: Arguments) -> bool:
        return True

    def keys_needed(self, params: Arguments) -> bool:
        """Whether the keys of the nodes are read, too."""
        return True

    def check(self, params: Arguments, variables: Variables) -> None:
        """Check the options before anything is read. Raises UtrustError."""

    def _perform(self, variables: Variables) -> Result:
        arguments = without_blanks(self._task.args, self.spec)
        if "source" in self.spec:
            self._require_source(arguments)
        params = self._validate(self.name, {"argument_spec": self.spec, **self.rules}, arguments)
        with contextlib.ExitStack() as undo:
            self.check(params, variables)
            self.claim_problems: list[Problem] = []
            if params.get("claim"):
                self._take_claim(params, variables, undo)
            reading = (
                self._read(arguments, variables, self.keys_needed(params)) if self.reading_needed(params) else None
            )
            result = {"changed": False, **self.judge(reading, params, variables)}
            if not result.get("failed"):
                undo.pop_all()
            return result

    def _take_claim(self, params: Arguments, variables: Variables, undo: contextlib.ExitStack) -> None:
        """Claim the cluster for this run. `undo` releases the claim. In check mode, only note the claim of another run."""
        claims, source = self._claims(variables), params["source"]
        if self._task.check_mode:
            self.claim_problems += claims.check(source)
        elif claims.take(source, variables["ansible_play_hosts_all"], claim_wait=params["claim_wait"]):
            undo.callback(self._release_claim, source, variables)

    def _release_claim(self, source: str, variables: Variables) -> None:
        """Release the claim if this role has taken it. A claim that is not released ends by itself, so an error is only shown."""
        try:
            self._claims(variables).release(source)
        except UtrustError as exc:
            self._show_progress(f"{source}: the claim of the cluster was not released, so it ends by itself. {exc}")

    def _read(self, arguments: Arguments, variables: Variables, keys: bool) -> ClusterReading:
        options = (*cluster_info.READ_SPEC, *cluster_info.VIEW_SPEC)
        how = {name: arguments[name] for name in options if name in arguments}
        completed = self._claims(variables).with_tokens(self._complete({**how, "keys": keys}, variables))
        if not self._task.delegate_to:
            rules = self.operation.module_arguments()
            params, tokens = with_tokens_of_files(self._validate(self.name, rules, completed))
            self._secrets += tokens
            reading = cluster_info.read(params)
            if reading.view is not None:
                mark_failing_nodes(reading.view, completed["nodes"])
            return reading
        found = self._execute(self.operation, completed, variables)
        if found.get("failed") or "nodes" not in found:
            raise UtrustError(
                str(found.get("msg", "the cluster was not read")), code=found.get("code", "internal_error")
            )
        return ClusterReading.from_dict(found)

    def _hosts_of(self, reading: ClusterReading, variables: Variables) -> dict[str, Host]:
        """Return options and variables of each host that was read, with its EJBCA if there is a commissioning record."""
        hosts, source = [each.host for each in reading.readings], reading.source.host
        has_record = not is_blank(self._host_variables(variables, source).get(RECORD))
        given = {"source": source, "hosts": hosts, "ejbca_view": has_record}
        checked = self._validate(self.name, self.operation.module_arguments(), self._complete(given, variables))
        nodes = {node["inventory_host"]: node for node in checked["nodes"]}
        return {host: Host(nodes[host], self._host_variables(variables, host)) for host in hosts}

    def _check_commissioning(
        self, reading: ClusterReading, hosts: t.Mapping[str, Host], params: Arguments
    ) -> Commissioning:
        """Compare the nodes with the commissioning record of the source."""
        limits = Limits(params["max_parallel"], params["node_timeout"])
        return check_record(reading, hosts, limits, on_bastion=bool(self._task.delegate_to))

    def _transports(self, hosts: t.Iterable[str], variables: Variables) -> set[str]:
        """Return the transports of inventory hosts."""
        found = [self._node_options(self._host_variables(variables, host)) for host in dict.fromkeys(hosts)]
        return {str(options.get("transport") or CONNECTION_SPEC["transport"]["default"]).strip() for options in found}

    def _managed_nodes(self, variables: Variables, source: str) -> dict[str, str]:
        """Return the name of the node of each host that the play names, also outside of --limit.

        A host with another utrust_source is in another cluster. Its node can have the same name.
        """
        play = t.cast("t.Any", self._task._parent)._play
        lookup = lookup_loader.get("ansible.builtin.inventory_hostnames", loader=self._loader, templar=self._templar)
        pattern = play.hosts if isinstance(play.hosts, str) else ",".join(play.hosts)
        hosts = lookup.run([self._templar.template(pattern)], variables=variables)
        found = {host: self._host_variables(variables, host) for host in hosts}
        sources = {host: str(of_host.get("utrust_source") or "").strip() for host, of_host in found.items()}
        return {host: node_name(of_host) for host, of_host in found.items() if sources[host] in ("", source)}
