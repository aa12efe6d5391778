# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Jobs of the templates in awx/job_templates.yml, with a site such as awx/site.yml, as AWX starts them: surveys, credentials and inventory."""

from __future__ import annotations

import json
import tempfile
import typing as t
from pathlib import Path

import yaml
from jinja2 import StrictUndefined
from jinja2.nativetypes import NativeEnvironment
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tests.support.awx_job import CONNECTION, Controller, Unsafe, dump, finish, unsafe
from tests.support.playbook import ROOT

if t.TYPE_CHECKING:
    from collections.abc import Mapping

    from utrust_appliance.control import Control

    from tests.support.awx_job import JobResult

Data = dict[str, t.Any]
#: Secrets of the credentials, by the names of the credentials of awx/site.yml.
APPLIANCE: t.Final = "Berlin appliance operator"
#: Clients of the simulator whose certificates people enter into these credentials.
CLIENTS: t.Final = {
    APPLIANCE: "operator",
    "Berlin EJBCA reader": "ejbca-reader",
    "Berlin EJBCA operator": "ejbca-operator",
}
#: Variables that the credentials of AWX replace.
_SECRETS: t.Final = ("client_cert", "client_key") + tuple(
    f"ejbca_{account}_client_{part}" for account in ("reader", "operator") for part in ("cert", "key")
)


class _Loader(yaml.SafeLoader):
    """Reads !unsafe as text that Ansible does not render."""


_Loader.add_constructor(
    "!unsafe", lambda loader, node: Unsafe(loader.construct_scalar(t.cast("yaml.ScalarNode", node)))
)


def read(name: str) -> Data:
    """Return the data of a file in awx/."""
    return t.cast("Data", _Loader((ROOT / "awx" / name).read_text(encoding="utf-8")).get_single_data())


def _rendered(value: t.Any, variables: Data) -> t.Any:
    if isinstance(value, dict):
        return {name: _rendered(part, variables) for name, part in value.items()}
    if isinstance(value, list):
        return [_rendered(part, variables) for part in value]
    if isinstance(value, str) and not isinstance(value, Unsafe) and "{{" in value:
        return NativeEnvironment(undefined=StrictUndefined).from_string(value).render(variables)
    return value


def survey_defaults(template: Data) -> Data:
    """Return what AWX sends for questions without a reply. AWX omits a default that the question itself rejects, as a blank number."""
    numbers: dict[str, t.Any] = {"integer": int, "float": (int, float)}
    return {
        question["variable"]: question["default"]
        for question in template["survey"]["spec"]
        if "default" in question and isinstance(question["default"], numbers.get(question["type"], str))
    }


def _certificate(control: Control, client: str) -> Data:
    """Return what people enter into a credential. A cluster without EJBCA has no clients of EJBCA, and its jobs do not use them."""
    files = control.client(client)
    cert, key = files if files[0].exists() else control.client()
    return {"client_cert": cert.read_text(encoding="utf-8"), "client_key": key.read_text(encoding="utf-8")}


class TemplateController(Controller):
    """A substitute for AWX after awx/setup.yml. The nodes of the site are those of the simulator."""

    def __init__(self, control: Control, folder: Path, **changes: t.Any) -> None:
        super().__init__(control, folder)
        nodes = {
            name: {
                variable: value for variable, value in host.items() if variable.removeprefix("utrust_") not in _SECRETS
            }
            for name, host in self._inventory["utrust"]["hosts"].items()
        }
        self.site: Data = {**read("site.yml"), "site_nodes": nodes, **changes}
        self.templates: dict[str, Data] = {
            each["name"]: each for each in _rendered(read("job_templates.yml")["job_templates"], self.site)
        }
        #: What people enter into the credentials.
        self.secrets: dict[str, Data] = {name: _certificate(control, client) for name, client in CLIENTS.items()}
        #: Path of the private directory in the container of a job.
        self.place: str | None = None

    def _hosts(self) -> Data:
        hosts = {name: {**CONNECTION, **host, **self.host_vars} for name, host in self.site["site_nodes"].items()}
        group = {"hosts": dict.fromkeys(hosts)}
        return {"all": {"vars": self.site["site_variables"], "hosts": hosts, "children": {"utrust": group}}}

    def prepare_launch(
        self, name: str, replies: Mapping[str, t.Any] | None = None, *, job_type: str | None = None, **options: t.Any
    ) -> tuple[Path, list[str]]:
        """Write the private directory of a template, and return it with the arguments of ansible-playbook. `options` are those of `prepare`.

        Raises AssertionError for a reply or a job type for which the template does not ask.
        """
        template = self.templates[name]
        asked = {question["variable"] for question in template["survey"]["spec"]}
        assert set(replies or ()) <= asked
        assert job_type is None or template["ask_job_type"]
        survey = {**survey_defaults(template), **(replies or {})}
        playbook = template["playbook"].removesuffix(".yml")
        private = self.prepare(playbook, survey, template=template.get("extra_vars"), **options)
        arguments = ["--check"] if (job_type or template["job_type"]) == "check" else []
        arguments += ["--diff"] if template["diff_mode"] else []
        for credential in template["credentials"]:
            arguments += self._inject(private, credential)
        return private, arguments

    def launch(self, name: str, replies: Mapping[str, t.Any] | None = None, *more: str, **options: t.Any) -> JobResult:
        """Launch a template and wait for the end of the job. `options` are those of `prepare_launch`."""
        private, arguments = self.prepare_launch(name, replies, **options)
        return finish(private, self.start(private, *arguments, *more))

    def _inject(self, private: Path, credential: str) -> list[str]:
        """Write the files of a credential, as AWX does: secrets in files with random names, and only their paths in variables."""
        kind = next(each["type"] for each in self.site["site_credentials"] if each["name"] == credential)
        types = {each["name"]: each for each in read("credential_types.yml")["credential_types"]}
        fields, injectors = types[kind]["inputs"]["fields"], types[kind]["injectors"]
        values = self.secrets[credential]
        assert set(values) == {field["id"] for field in fields}
        render = ImmutableSandboxedEnvironment(undefined=StrictUndefined).from_string
        names = {
            label.removeprefix("template."): self._file(private, render(text).render(values))
            for label, text in injectors["file"].items()
        }
        seen = {**values, "tower": {"filename": names}}
        rendered = {
            part: {variable: render(text).render(seen) for variable, text in injectors.get(part, {}).items()}
            for part in ("env", "extra_vars")
        }
        env = private / "env/envvars"
        env.write_text(json.dumps({**json.loads(env.read_text(encoding="utf-8")), **rendered["env"]}), encoding="utf-8")
        if not rendered["extra_vars"]:
            return []
        return ["-e", "@" + self._file(private, dump(unsafe(rendered["extra_vars"])))]

    def _file(self, private: Path, content: str) -> str:
        with tempfile.NamedTemporaryFile("w", dir=private / "env", delete=False, encoding="utf-8") as file:
            file.write(content)
        return str(Path(self.place or private) / "env" / Path(file.name).name)
