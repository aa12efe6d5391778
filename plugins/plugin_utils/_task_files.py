# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Task files of users, which a role includes later. Private to keyops.utrust.

Ansible ends the whole run without its `always` section if an included file is not valid. So the files are checked before the first change.
"""

from __future__ import annotations

import inspect
import pathlib
import typing as t

from ansible.errors import AnsibleError
from ansible.playbook.helpers import load_list_of_blocks
from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError

#: Keywords of a block that have tasks.
BLOCKS: t.Final = ("block", "rescue", "always")

if t.TYPE_CHECKING:
    from ansible.parsing.dataloader import DataLoader
    from ansible.playbook.task import Task


def check_task_files(paths: t.Mapping[str, str | None], task: Task, loader: DataLoader) -> None:
    """Check the task file of each option. `task` is a task of the role that includes them. Raises UtrustError (`option_invalid`)."""
    for name, path in paths.items():
        if path is None:
            continue
        if not (pathlib.Path(path).is_absolute() and pathlib.Path(path).is_file()):
            raise UtrustError(
                f"{name}: {path} is not the absolute path of a file on the controller. Nothing was done. Correct the path, for example with playbook_dir",
                code="option_invalid",
            )
        try:
            _load(path, task, loader)
        except AnsibleError as exc:
            reason = " ".join(str(exc).split())
            raise UtrustError(
                f"{name}: {path} is not a valid task file: {reason:.500}. Nothing was done. Correct the file",
                code="option_invalid",
            ) from exc


def _load(path: str, task: Task, loader: DataLoader) -> None:
    """Load the tasks as an include does, and forget them."""
    trusted = "trusted_as_template" in inspect.signature(loader.load_from_file).parameters
    more: dict[str, t.Any] = {"trusted_as_template": True} if trusted else {}
    data = loader.load_from_file(path, **more)
    if not isinstance(data, list):
        raise AnsibleError("the file is not a list of tasks")
    check_statements(data)
    load_list_of_blocks(
        data,
        play=t.cast("t.Any", task._parent)._play,
        role=task._role,
        variable_manager=task.get_variable_manager(),
        loader=loader,
    )


def check_statements(tasks: t.Any) -> None:
    """Raise AnsibleError for a statement that ends the run without its summary, or that Ansible cannot load below a task of a role."""
    for task in tasks if isinstance(tasks, list) else ():
        if not isinstance(task, dict):
            continue
        for name in BLOCKS:
            check_statements(task.get(name))
        for name, value in task.items():
            word = str(name).removeprefix("ansible.builtin.").removeprefix("ansible.legacy.")
            if word == "import_tasks":
                raise AnsibleError("import_tasks is not possible here. Use include_tasks")
            if word == "meta" and str(value).strip().startswith("end_"):
                raise AnsibleError(
                    f"meta: {value!s:.40} would leave the node drained without a summary. Use a condition"
                )
