# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make the virtual environments of this checkout, and the path under which Ansible finds the collection in it.

demo      .venv           what running playbooks against the appliance simulator needs (seconds)
dev       .venv           the same, and everything that `make test` needs
floor     .venv-floor     the oldest ansible-core that the collection supports
next      .venv-next      the next ansible-core, before its release
importer  .venv-importer  galaxy-importer, whose dependencies do not fit into .venv
contract  .venv-contract  the OpenAPI linters, with Node.js for one of them
lock      .venv-lock      the program that writes the files of tests/requirements

pip installs only what the files tests/requirements/*.txt pin with a hash. It builds nothing but the appliance simulator.
Only the standard library is used, because this runs before anything is installed. A second run with
unchanged requirement files does nothing. A run that was interrupted leaves no stamp, and a virtual environment
without a stamp is made anew.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "tests" / "requirements"
APPLIANCE = ROOT / "tests" / "appliance"
STAMP = ".keyops-stamp.json"
OLDEST, NEWEST = (3, 11), (3, 14)
# Prints the interpreter itself, where it was asked through a shim or from inside a virtual environment.
PROBE = "import ensurepip, sqlite3, ssl, sys, venv; print(*sys.version_info[:2], getattr(sys, '_base_executable', sys.executable))"


class SetupError(Exception):
    """A problem that the reader of the message can fix."""


class Level(t.NamedTuple):
    """One kind of environment: its folder, whether the appliance simulator is in it, with which extras, and its Python."""

    folder: str
    appliance: bool = False
    extras: tuple[str, ...] = ()
    prefer_oldest: bool = False


LEVELS = {
    "demo": Level(".venv", appliance=True),
    "dev": Level(".venv", appliance=True, extras=("pkcs11",)),
    "floor": Level(".venv-floor", prefer_oldest=True),
    "next": Level(".venv-next"),
    "importer": Level(".venv-importer"),
    "contract": Level(".venv-contract"),
    "lock": Level(".venv-lock"),
}
# What an environment with the level contains, too.
CONTAINS = {"dev": ("demo", "dev")}


def say(message: str) -> None:
    print(f"setup: {message}", flush=True)


class Interpreter(t.NamedTuple):
    """A Python that runs."""

    version: tuple[int, int]
    path: str


def probe(python: str) -> Interpreter | None:
    """Return what this Python is when it really runs and has what a virtual environment needs."""
    try:
        done = subprocess.run([python, "-c", PROBE], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None  # a broken shim or a dangling link: not a Python that can be used
    words = done.stdout.strip().split(" ", 2)
    if done.returncode != 0 or len(words) != 3:
        return None
    return Interpreter((int(words[0]), int(words[1])), words[2])


def candidates() -> t.Iterator[str]:
    """Every interpreter worth asking: those on PATH, those of pyenv, and the one that runs this."""
    names = [f"python{major}.{minor}" for major, minor in ((3, n) for n in range(NEWEST[1], OLDEST[1] - 1, -1))]
    for name in (*names, "python3"):
        found = shutil.which(name)
        if found:
            yield found
    pyenv = Path(os.environ.get("PYENV_ROOT", "") or Path.home() / ".pyenv") / "versions"
    if os.access(pyenv, os.R_OK | os.X_OK):  # after su, PYENV_ROOT may still name the folder of the other user
        yield from (str(path) for path in sorted(pyenv.glob("3.*/bin/python3")))
    yield sys.executable


def interpreters() -> dict[tuple[int, int], str]:
    """Return one interpreter for every supported Python on this machine."""
    found: dict[tuple[int, int], str] = {}
    for python in candidates():
        interpreter = probe(python)
        if interpreter and OLDEST <= interpreter.version <= NEWEST:
            found.setdefault(*interpreter)
    return found


def find_python(level: Level) -> str:
    usable = interpreters()
    if not usable:
        raise SetupError(
            f"no Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]} with ssl, sqlite3, venv and ensurepip was found. "
            "On Debian or Ubuntu: apt-get install python3 python3-venv"
        )
    return usable[min(usable) if level.prefer_oldest else max(usable)]


def program(name: str, command: str) -> str:
    """Return the path of a program in an environment. Raises SetupError if the environment was not made."""
    folder = LEVELS[name].folder
    path = ROOT / folder / "bin" / command
    if not path.exists():
        raise SetupError(f"{folder} has no program {command}. Run this first: python3 tests/tools/setup_env.py {name}")
    return str(path)


def fingerprint(name: str) -> str:
    """Hash of everything that decides what is installed."""
    files = [REQUIREMENTS / f"{name}.txt"]
    files += [APPLIANCE / "pyproject.toml"] if LEVELS[name].appliance else []
    digest = hashlib.sha256(str(ROOT).encode())  # a moved checkout needs new environments
    for path in files:
        digest.update(b"\0" + path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def read_stamp(venv: Path) -> dict[str, str] | None:
    try:
        content = json.loads((venv / STAMP).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return content if probe(str(venv / "bin" / "python")) else None


def write_stamp(venv: Path, content: dict[str, str]) -> None:
    temporary = venv / (STAMP + ".new")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(venv / STAMP)


def run(command: list[str], what: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, check=False, cwd=cwd)
    if done.returncode != 0:
        raise SetupError(
            f"{what} failed with status {done.returncode}; run this to see it alone:\n  {' '.join(command)}"
        )


def install(name: str, venv: Path) -> None:
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    locked = ["--require-hashes", "--only-binary", ":all:", "--requirement", str(REQUIREMENTS / f"{name}.txt")]
    run([*pip, *locked], "pip install")
    if LEVELS[name].appliance:
        # With the build tools of the environment, and without a download.
        run([*pip, "--no-index", "--no-deps", "--no-build-isolation", "--editable", str(APPLIANCE)], "pip install")


def ensure(name: str, python: str | None) -> None:
    """Bring one environment to the required state; does nothing if it is there already."""
    level, venv, expected = LEVELS[name], ROOT / LEVELS[name].folder, fingerprint(name)
    stamp = read_stamp(venv)
    if stamp is not None and stamp.get(name) == expected:
        return
    started = time.monotonic()
    if stamp is None:
        python = python or find_python(level)
        say(f"{name}: making {level.folder} with {python}")
        run([python, "-m", "venv", "--clear", str(venv)], "making the virtual environment")
    else:
        say(f"{name}: {level.folder} is not complete or its requirements changed, updating it")
        (venv / STAMP).unlink()
    install(name, venv)
    write_stamp(venv, {part: fingerprint(part) for part in CONTAINS.get(name, (name,))})
    say(f"{name}: {level.folder} is ready after {time.monotonic() - started:.0f} s")


def link_collection() -> None:
    """`.ansible/collections/ansible_collections/keyops/utrust` is this checkout."""
    link = ROOT / ".ansible" / "collections" / "ansible_collections" / "keyops" / "utrust"
    link.parent.mkdir(parents=True, exist_ok=True)
    target = os.path.relpath(ROOT, link.parent)
    if not (link.is_symlink() and str(link.readlink()) == target):
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("level", choices=list(LEVELS), nargs="+", help="which environments to make")
    parser.add_argument("--python", help="this interpreter instead of the best one found")
    options = parser.parse_args()
    (ROOT / ".ansible").mkdir(exist_ok=True)
    with open(ROOT / ".ansible" / "setup.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second run waits for the first and then finds its work done
        link_collection()
        for name in options.level:
            ensure(name, options.python)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SetupError as problem:
        print(f"setup: {problem}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("setup: interrupted; run it again, it starts over where it must", file=sys.stderr)
        sys.exit(130)
