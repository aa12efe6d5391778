# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of the demo. Each step runs commands that people can repeat, and checks the results."""

from __future__ import annotations

import locale
import os
import re
import shlex
import sys
import threading
import typing as t
from collections import Counter
from pathlib import Path

from programs import Programs, ProgramTimeoutError
from utrust_appliance.control import Control
from utrust_appliance.errors import OperationError

if t.TYPE_CHECKING:
    from programs import Ended, Program

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
NODES = ("node1", "node2", "node3")
SOURCE, TARGETS = NODES[0], NODES[1:]
KEY = "caKey-2026"
LIMIT = 120.0  # seconds for one command
COLORS = re.compile(r"\x1b\[[0-9;]*m")
RECAP = re.compile(r"^(?P<host>\S+)\s+:\s+(?P<counts>ok=\d+.*)$")
OUTPUT_LOCK = threading.Lock()


class StepError(Exception):
    """A result is not as expected."""

    def __init__(self, expected: str, actual: str) -> None:
        super().__init__(f"expected: {expected}\nactual:   {actual}")


def say(text: str = "") -> None:
    """Print whole lines, also if several programs print at the same time."""
    with OUTPUT_LOCK:
        print(text, flush=True)


def bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m" if colorful() else text


def colorful() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def expect(name: str, expected: object, actual: object) -> None:
    if expected != actual:
        raise StepError(f"{name}: {expected}", str(actual))


def shown(path: Path) -> str:
    """A path relative to the checkout if possible."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def recap(ended: Ended) -> dict[str, dict[str, int]]:
    """Parse the PLAY RECAP: host -> ok, changed, failed and so on."""
    hosts = {}
    for line in ended.lines:
        if found := RECAP.match(COLORS.sub("", line)):
            counts = (count.split("=") for count in found["counts"].split())
            hosts[found["host"]] = {name: int(number) for name, number in counts}
    return hosts


class Demo:
    """One run of the demo. All its files are in `folder`. `card_timeout` is in seconds."""

    def __init__(self, folder: Path, card_timeout: float, with_card_holders: bool) -> None:
        self.folder = folder
        self.cluster = folder / "cluster"
        self._card_timeout = card_timeout
        self._with_card_holders = with_card_holders
        self._control = Control(self.cluster)
        settings = self._prepare()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "UTRUST_"))}
        if colorful():
            inherited["ANSIBLE_FORCE_COLOR"] = "1"
        # Ansible does not flush its output, so a pipe would show the prompts of the PIN pad too late.
        env = {**inherited, **settings, "PYTHONUNBUFFERED": "1"}
        self.programs = Programs(folder / "programs.json", cwd=ROOT, env=env)

    def _prepare(self) -> dict[str, str]:
        """Create the folder and the environment of the commands, also as a file for people who repeat the commands."""
        for name in ("run", "tmp", "ansible"):
            (self.folder / name).mkdir(mode=0o700)
        (self.folder / "message.txt").write_text("A message that any node can sign.\n", encoding="utf-8")
        settings = {
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"),
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
            "ANSIBLE_NOCOWS": "1",
        }
        if locale.getencoding().lower() not in ("utf-8", "utf8"):
            settings["LC_ALL"] = "C.UTF-8"  # Ansible requires UTF-8
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()]
        (self.folder / "env.sh").write_text("".join(lines), encoding="utf-8")
        # All files stay in this folder, so that nothing is left after any end of the demo.
        places = {"ANSIBLE_HOME": "ansible", "TMPDIR": "tmp", "XDG_RUNTIME_DIR": "run"}
        return {**settings, **{name: str(self.folder / place) for name, place in places.items()}}

    # Parts of a step

    def start(self, *command: str | Path, prefix: str = "    ") -> Program:
        words = [shown(word) if isinstance(word, Path) else word for word in command]
        say("  " + bold("$ " + shlex.join(words)))
        words[0] = str(BIN / words[0]) if (BIN / words[0]).exists() else words[0]
        return self.programs.start(words, lambda line: say(f"{prefix}{line}".rstrip()))

    def run(self, *command: str | Path, status: int = 0, limit: float = LIMIT, interruptible: bool = True) -> Ended:
        ended = self.programs.wait(self.start(*command), limit, interruptible=interruptible)
        expect(f"exit status of {command[0]}", status, ended.status)
        return ended

    def playbook(self, name: str) -> tuple[str | Path, ...]:
        inventory = self.cluster / "inventory.yml"
        return ("ansible-playbook", f"keyops.utrust.{name}", "-i", inventory, "-e", f"utrust_source={SOURCE}")

    def appliance(self, *command: str, node: str | None = None) -> tuple[str | Path, ...]:
        return ("utrust-appliance", *command, "--dir", self.cluster, *(("--node", node) if node else ()))

    def expect_changed(self, ended: Ended, *changed: str) -> None:
        counts = recap(ended)
        expected = {node: int(node in changed) for node in NODES}
        expect("`changed` of each host in the PLAY RECAP", expected, {host: counts[host]["changed"] for host in counts})

    def expect_states(self, *states: tuple[str, int]) -> None:
        found = {node["node"]: (node["state"], node["key_count"]) for node in self._control.status()["nodes"]}
        expect("state and number of keys of each HSM", dict(zip(NODES, states, strict=True)), found)

    def expect_in_sync(self, keys: int) -> None:
        self.expect_states(*[("operational", keys)] * len(NODES))
        nodes = self._control.status()["nodes"]
        expect("number of different keys digests", 1, len({node["keys_digest"] for node in nodes}))
        expect("number of different MBK check values", 1, len({node["mbk"]["check_value"] for node in nodes}))

    # Steps

    def start_cluster(self) -> str:
        command = self.appliance("up")
        # Not interruptible, because a partly started cluster could not be stopped.
        self.run(*command, "--nodes", "3", "--card-timeout", f"{self._card_timeout:g}", interruptible=False)
        keys = self._control.keys(SOURCE)
        kinds = Counter(key["curve"] or f"{key['type'].upper()}-{key['size']}" for key in keys)
        expect("kinds of keys in node1", {"AES-256", "P-256", "P-384", "RSA-3072"}, set(kinds))
        expect("slots with keys in node1", {0, 1}, {key["slot"] for key in keys})
        self.expect_states(("operational", 10), ("factory_reset", 0), ("factory_reset", 0))
        summary = ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items()))
        return f"node1 holds {summary} in two slots, node2 and node3 do not hold keys"

    def restore(self) -> str:
        people = None
        if self._with_card_holders:
            say("  A separate program plays the card holders. Its lines start with `people |`:")
            command = ("python", Path(__file__).resolve().with_name("card_holders.py"), "--dir", self.cluster, *TARGETS)
            people = self.start(*command, prefix="    people | ")
        else:
            say("  You are the card holder. Use `utrust-appliance pinpad status`, `card insert` and `pin`.")
        waits = 4 * len(TARGETS) * self._card_timeout  # two cards and two PINs each
        ended = self.run(*self.playbook("initial_sync"), limit=LIMIT + waits)
        if people is not None:
            expect("exit status of the card holders", 0, self.programs.wait(people, LIMIT).status)
        self.expect_changed(ended, *TARGETS)
        self.expect_in_sync(10)
        return "node2 and node3 hold the MBK and the ten keys, and Ansible never handled a PIN"

    def generate(self) -> str:
        self.run(*self.appliance("key", "generate", node=SOURCE), "--label", KEY, "--type", "ec-p384")
        for node in TARGETS:
            ended = self.run(*self.sign(node), status=1)
            expect(f"error of {node}", [f"utrust-appliance: The HSM of {node} does not have a key {KEY}."], ended.lines)
        return f"{KEY} exists on node1 only, so a CA with this key would fail on node2 and node3"

    def sign(self, node: str) -> tuple[str | Path, ...]:
        files = ("--in", self.folder / "message.txt", "--out", self.folder / f"{node}.sig")
        return (*self.appliance("sign", node=node), "--label", KEY, *files)

    def synchronize(self) -> str:
        self.expect_changed(self.run(*self.playbook("key_sync")), *TARGETS)
        self.expect_in_sync(11)
        expect("packages left on this machine", [], [str(path) for path in (self.folder / "run").iterdir()])
        return "one package of node1 was imported into node2 and node3, every key was verified, and the package was removed"

    def prove(self) -> str:
        public_key = self.folder / f"{KEY}.pem"
        self.run(*self.appliance("key", "public", node=SOURCE), "--label", KEY, "--out", public_key)
        for node in NODES:
            self.run(*self.sign(node))
            signed = (self.folder / f"{node}.sig", self.folder / "message.txt")
            ended = self.run("openssl", "dgst", "-sha384", "-verify", public_key, "-signature", *signed)
            expect(f"openssl result for the signature of {node}", ["Verified OK"], ended.lines)
        return "three HSMs, three signatures, one public key"

    def compare(self) -> str:
        ended = self.run(*self.playbook("status"))
        expected = "in sync: node1, node2, node3 hold the same 11 key(s)"
        if not any(expected in line for line in ended.lines):
            raise StepError(f"a line `{expected}`", "a table without this line")
        return "all nodes hold the same keys"

    def synchronize_again(self) -> str:
        self.run(*self.appliance("log", "--clear"))
        self.expect_changed(self.run(*self.playbook("key_sync")))
        # The run also claims the cluster at the source, and releases it. This changes no node.
        methods = {
            node: Counter(
                request["method"]
                for request in self._control.requests(node)
                if not request["path"].endswith("/cluster/claim")
            )
            for node in NODES
        }
        for node in NODES:
            expect(f"methods of the requests to {node}", {"GET"}, set(methods[node]))
        summary = ", ".join(f"{methods[node]['GET']} GET at {node}" for node in NODES)
        return (
            f"changed=0 on all nodes, and besides the claim of the cluster, the logs of the nodes show only {summary}"
        )

    STEPS: t.ClassVar[tuple[tuple[str, str, t.Callable[[Demo], str]], ...]] = (
        (
            "A cluster of three appliances",
            """These are simulated appliances with real keys. node1 has a Master Backup Key (MBK) with shares on three cards.
  Two cards are required. node2 and node3 have joined, and their HSMs are in Factory Reset Mode.""",
            start_cluster,
        ),
        (
            "First synchronization: guided restore of node2 and node3",
            "Ansible previews, starts and verifies the restores, and shows the prompts of the PIN pads. People insert cards and enter PINs.",
            restore,
        ),
        ("A new CA key, generated on node1", "The other HSMs do not have this key.", generate),
        ("Key synchronization", "One command, without cards, because all HSMs hold the same MBK.", synchronize),
        (
            "Test of the new key",
            "Every node signs the same message, and openssl verifies with the public key of node1.",
            prove,
        ),
        ("Keys of all nodes", "This read-only command works at any time.", compare),
        ("Second run", "A second run must not change anything.", synchronize_again),
    )

    def show(self) -> None:
        for number, (title, explanation, step) in enumerate(self.STEPS, start=1):
            say("\n" + bold(f"[{number}/{len(self.STEPS)}] {title}"))
            say(f"  {explanation}")
            try:
                self.programs.check()
                say(bold(f"  => {step(self)}"))
            except (StepError, ProgramTimeoutError, OperationError, OSError) as exc:
                raise DemoError(number, title, exc) from exc


class DemoError(Exception):
    """A failed step, with the expected and the actual result."""

    def __init__(self, number: int, title: str, reason: Exception) -> None:
        indented = str(reason).replace("\n", "\n  ")
        super().__init__(f"DEMO FAILED in step {number}, {title}\n  {indented}")
