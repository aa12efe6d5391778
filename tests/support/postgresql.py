# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A PostgreSQL server for tests in a temporary folder, with a Unix socket only."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import typing as t
from contextlib import contextmanager
from pathlib import Path

if t.TYPE_CHECKING:
    from collections.abc import Iterator


def programs() -> Path:
    """The folder of the PostgreSQL programs, which Debian does not add to PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    assert found or on_path, "PostgreSQL is missing; install it as root: apt-get install postgresql"
    return found[-1].parent if found else Path(str(on_path)).resolve().parent


class Server:
    """A running server. `url` is the URL of an empty database."""

    def __init__(self, folder: Path) -> None:
        # PostgreSQL does not run as root, so the user of its Debian package runs it.
        self._user = "postgres" if os.geteuid() == 0 else None
        self._tools, self._data = programs(), folder / "data"
        name = self._user or pwd.getpwuid(os.geteuid()).pw_name
        folder.chmod(0o755)
        self._data.mkdir()
        if self._user:
            for place in (folder, self._data):
                shutil.chown(place, self._user)
        self._run("initdb", "--auth=trust", "--no-sync", f"--username={name}", "--encoding=UTF8", "--no-locale")
        settings = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off -c max_connections=20"
        log = f"--log={self._data}/log"
        self._run("pg_ctl", "start", "--wait", "--timeout=60", "--silent", log, f"--options={settings}")
        self.running = True
        self.url = f"postgresql://{name}@/postgres?host={folder}"

    def stop(self) -> None:
        if self.running:
            self._run("pg_ctl", "stop", "--mode=immediate", "--silent")
        self.running = False

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._tools / program), "-D", str(self._data), *arguments]
        # The output is not captured, because the server keeps the descriptors of pg_ctl open.
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            done = subprocess.run(command, user=self._user, cwd="/", stdout=nowhere, timeout=120, check=False)
        assert done.returncode == 0, f"{program} failed with status {done.returncode}"


@contextmanager
def server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="utrust-pg-"))
    try:
        running = Server(folder)
        try:
            yield running
        finally:
            running.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
