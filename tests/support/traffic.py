# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Drain and undrain tasks of a user."""

from __future__ import annotations

import json
import typing as t

if t.TYPE_CHECKING:
    from pathlib import Path


class Traffic:
    """Task files that write each event to a log. `options` are more variables of each run with these files."""

    def __init__(self, folder: Path, role: str, **options: t.Any) -> None:
        self.log = folder / "events.log"
        self.log.touch()
        self._folder, self._role, self._options = folder, role, options
        self.write("drain")
        self.write("undrain")

    def write(self, word: str, *, failing: str = "", more: list[dict[str, t.Any]] | None = None) -> str:
        """Write the file of drain or undrain tasks. `failing` is the host on which the file fails after its event."""
        path = self._folder / f"{word}.yml"
        command = f"echo {word} {{{{ utrust_drain_node }}}} >> {self.log}"
        local = {"delegate_to": "localhost", "vars": {"ansible_connection": "local"}, "changed_when": False}
        tasks: list[dict[str, t.Any]] = [
            {"name": word, "ansible.builtin.shell": command, **local},
            *(more or []),
            {
                "name": f"Fail to {word}",
                "ansible.builtin.fail": {"msg": f"cannot {word}"},
                "when": f"utrust_drain_node == '{failing}'",
            },
        ]
        path.write_text(json.dumps(tasks), encoding="utf-8")
        return str(path)

    def options(self, **more: t.Any) -> list[str]:
        given = {
            "utrust_source": "node1",
            f"{self._role}_drain_tasks": str(self._folder / "drain.yml"),
            f"{self._role}_undrain_tasks": str(self._folder / "undrain.yml"),
            **self._options,
            **more,
        }
        return ["-e", json.dumps({name: value for name, value in given.items() if value is not None})]

    @property
    def events(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").splitlines()
