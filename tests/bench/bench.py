# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What key_sync and status cost: wall time, requests and memory, with few keys and with many; and what many simulated appliances cost.

Each beside what is aimed at.

Prints a Markdown table, as docs/benchmarks.md has it. Fails only where a run fails: a figure beside its aim is for people to judge.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / ".ansible" / "collections"
sys.path.insert(0, str(COLLECTIONS))

from ansible_collections.keyops.utrust.plugins.module_utils._appliance.rest import APPLIANCE_API, RestAppliance  # noqa: E402
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError  # noqa: E402
from ansible_collections.keyops.utrust.plugins.module_utils._http import Endpoint  # noqa: E402
from ansible_collections.keyops.utrust.plugins.module_utils._json_client import JsonClient  # noqa: E402
from utrust_appliance.testing import cluster, resource_usage  # noqa: E402

if t.TYPE_CHECKING:
    from utrust_appliance.control import Control

SOURCE, TARGETS = "node1", ("node2", "node3")
MBK = "KEYOPS"
FEW, MANY, LOTS = 10, 1000, 10_000
CROWD = 100
CLUSTERS, NODES = 33, 3
KIB, MIB = 1024, 1024 * 1024
# ru_maxrss is in KiB, on macOS in bytes.
MAXRSS_UNIT = 1 if sys.platform == "darwin" else KIB


class Measured(t.NamedTuple):
    """One run of a playbook. `cpu` is in seconds of processor, of all processes. `memory` is that of the largest process, in bytes."""

    seconds: float
    cpu: float
    memory: int
    requests: dict[str, int]

    @property
    def of_a_target(self) -> int:
        return max(self.requests[node] for node in TARGETS)


class BenchError(Exception):
    """A run did not do what is measured here."""


#: What the figures are compared with: a task of Ansible's own on each host, and two plays without a task.
ONE_DEBUG_TASK = [
    {
        "hosts": "utrust",
        "gather_facts": False,
        "tasks": [{"name": "Say hello", "ansible.builtin.debug": {"msg": "hello"}}],
    }
]
TWO_EMPTY_PLAYS = [{"hosts": "all:localhost", "gather_facts": False}, {"hosts": "utrust", "gather_facts": False}]


def baseline(plays: list[dict[str, t.Any]], control: Control) -> Measured:
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        file.write(json.dumps(plays))
        file.flush()
        return run(file.name, control)


def play(name: str, control: Control) -> Measured:
    """Run a playbook of the collection to its end."""
    return run(f"keyops.utrust.{name}", control)


def run(name: str, control: Control) -> Measured:
    control.clear_log()
    command = [str(Path(sys.executable).with_name("ansible-playbook")), name]
    command += ["-i", str(control.inventory_file), "-e", f"utrust_source={SOURCE}"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "UTRUST_"))}
    env = {**kept, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "ANSIBLE_HOME": str(control.folder.parent / "ansible")}
    with tempfile.TemporaryFile("w+") as output:
        began = time.monotonic()
        child = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        # wait4 reports the largest of this process and all processes that it waited for.
        dummy_pid, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            output.seek(0)
            raise BenchError(f"{name} ended with status {child.returncode}:\n{output.read()[-3000:]}")
    requests = {node: len(control.requests(node)) for node in (SOURCE, *TARGETS)}
    return Measured(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * MAXRSS_UNIT, requests)


def empty_targets(control: Control) -> None:
    """Targets that hold the cluster's MBK and no key."""
    for node in TARGETS:
        control.factory_reset(node)
        control.load_mbk(node, MBK)


def expect_in_sync(control: Control) -> None:
    if len({node["keys_digest"] for node in control.status()["nodes"]}) != 1:
        raise BenchError("the nodes do not hold the same keys")


def median(runs: t.Sequence[Measured]) -> Measured:
    """Median time and memory. The numbers of requests must not vary at all."""
    if len({tuple(each.requests.items()) for each in runs}) != 1:
        raise BenchError(f"the number of requests varies: {[each.requests for each in runs]}")
    seconds, cpu = (statistics.median(getattr(each, name) for each in runs) for name in ("seconds", "cpu"))
    return Measured(seconds, cpu, int(statistics.median(each.memory for each in runs)), runs[0].requests)


class Figures(t.NamedTuple):
    """All runs with one number of keys: two empty plays, all keys into two empty targets, nothing to do, one new key."""

    nothing: Measured
    change: Measured
    no_change: Measured
    one_key: Measured


def figures(keys: int, runs: int) -> Figures:
    with cluster(nodes=1 + len(TARGETS), keys=keys) as control:
        control.set_slot(SOURCE, 0, capacity=keys + 1)
        nothing, change, no_change, one_key = [], [], [], []
        for number in range(1, runs + 1):
            print(f"{keys} keys, run {number} of {runs} …", file=sys.stderr, flush=True)
            empty_targets(control)
            nothing.append(baseline(TWO_EMPTY_PLAYS, control))
            change.append(play("key_sync", control))
            expect_in_sync(control)
            no_change.append(play("key_sync", control))
            control.generate_key(SOURCE, f"bench-{number}", "ec-p256")
            one_key.append(play("key_sync", control))
            expect_in_sync(control)
            # The next run starts with the same number of keys, and so of pages.
            for node in (SOURCE, *TARGETS):
                control.delete_key(node, f"bench-{number}")
        return Figures(median(nothing), median(change), median(no_change), median(one_key))


class Status(t.NamedTuple):
    """The table of many nodes with many keys: all in sync, and with one node that lacks a key."""

    nothing: Measured
    in_sync: Measured
    drift: Measured


def status(runs: int) -> Status:
    with cluster(nodes=CROWD, restored=CROWD, keys=MANY) as control:
        nothing, in_sync = [], []
        for number in range(1, runs + 1):
            print(f"status of {CROWD} nodes with {MANY} keys, run {number} of {runs} …", file=sys.stderr, flush=True)
            nothing.append(baseline(ONE_DEBUG_TASK, control))
            in_sync.append(play("status", control))
        control.delete_key(TARGETS[0], control.keys(TARGETS[0])[0]["label"])
        drift = [play("status", control) for dummy in range(runs)]
        return Status(median(nothing), median(in_sync), median(drift))


class Transfer(t.NamedTuple):
    """One package: its size, and the most memory that Python held while it came and went. Bytes."""

    size: int
    download: int
    upload: int


def transfer(keys: int) -> Transfer:
    """Download a package from the source, and upload it to a target, with what the collection uses for it."""
    print(f"transfer of {keys} keys …", file=sys.stderr, flush=True)
    with cluster(nodes=2, restored=2, keys=0) as control, tempfile.TemporaryFile() as file:
        control.set_slot(SOURCE, 0, capacity=keys)
        control.generate_key(SOURCE, "bench", "ec-p256", count=keys)
        source, target = connect(control, SOURCE), connect(control, TARGETS[0])
        package = source.create_package(control.node(SOURCE)["keys_digest"])
        download = peak(lambda: source.download_package(package, t.cast("t.BinaryIO", file)))
        # With a wrong digest the node takes every byte and then refuses, so that its table is not in the measured memory.
        file.seek(0)
        size, digest = package.size or 0, target.node().keys_digest
        content = t.cast("t.BinaryIO", file)
        upload = peak(lambda: refused(lambda: target.stage_import(content, size, "00" * 32, digest)))
        source.close()
        target.close()
        taken = [request["bytes_in"] for request in control.requests(TARGETS[0]) if request["method"] == "POST"]
        if taken != [size]:
            raise BenchError(f"a package of {size} bytes was uploaded, and the node took {taken}")
        return Transfer(size, download, upload)


class Fleet(t.NamedTuple):
    """Many clusters in one process: seconds until all nodes respond, at the first start (and of processors, of all cores together) and after that;
    the most memory of the process in bytes."""

    first: float
    processors: float
    again: float
    memory: int


def fleet() -> Fleet:
    """`utrust-appliance up --clusters 33 --nodes 3 --keys 1000`, each key real and another one."""
    print(f"{CLUSTERS} clusters of {NODES} nodes with {MANY} keys …", file=sys.stderr, flush=True)
    began = time.monotonic()
    with cluster(clusters=CLUSTERS, nodes=NODES, keys=MANY) as control:
        first = time.monotonic() - began
        processors, memory = resource_usage(control)
        keys = [key for one in control.clusters() for key in one.keys(SOURCE)]
        strong = {key["fingerprint"] for key in keys if key["fingerprint"].startswith("sha256:")}
        if len(keys) != CLUSTERS * MANY or len(strong) != sum(key["type"] in ("rsa", "ec") for key in keys):
            raise BenchError(f"there are {len(keys)} keys, and {len(strong)} distinct key pairs")
        memory = max(memory, resource_usage(control)[1])
        control.down()
        began = time.monotonic()
        control.up(control.folder)
        return Fleet(first, processors, time.monotonic() - began, max(memory, resource_usage(control)[1]))


def connect(control: Control, name: str) -> RestAppliance:
    node, (certificate, key) = control.node(name), control.client()
    where = Endpoint(
        node["address"], node["port"], str(certificate), str(key), None, (node["tls_fingerprint"],), 10.0, 60.0
    )
    return RestAppliance(JsonClient(where, APPLIANCE_API))


def refused(action: t.Callable[[], object]) -> None:
    try:
        action()
    except ApiError:
        return
    raise BenchError("the node accepted what it should refuse")


def peak(action: t.Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    core = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), "--version"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n", maxsplit=1)[0]
    return f"{model}, {cores} cores; {platform.system()}, Python {platform.python_version()}, {core}"


def in_words(measured: Measured) -> str:
    return f"{measured.seconds:.2f} s"


def counts(measured: Measured) -> str:
    return f"{measured.requests[SOURCE]}, {measured.of_a_target}"


def ratio(measured: Measured, base: Measured) -> str:
    return f"{measured.seconds / base.seconds:.2f}"


def rows(
    few: Figures, many: Figures, table: Status, transfers: list[Transfer], all_of_them: Fleet
) -> t.Iterator[tuple[str, str, str]]:
    """What was measured, the aim, the result."""
    for keys, of in ((FEW, few), (MANY, many)):
        yield f"key_sync, {keys:,} keys into two empty targets: time", "", in_words(of.change)
        yield "… against two empty plays", "", ratio(of.change, of.nothing)
        yield "… requests at the source, at each target", "at most 7 a target", counts(of.change)
        yield "… largest process", "", f"{of.change.memory / MIB:.0f} MiB"
    for keys, of in ((FEW, few), (MANY, many)):
        yield f"key_sync, one new key beside {keys:,}: time", "", in_words(of.one_key)
        yield "… against two empty plays", "at most 3.8", ratio(of.one_key, of.nothing)
        yield "… requests at the source, at each target", "at most 7 a target", counts(of.one_key)
    for keys, of in ((FEW, few), (MANY, many)):
        yield f"key_sync, nothing to do, {keys:,} keys: time", "", in_words(of.no_change)
        yield "… against two empty plays", "at most 2.2", ratio(of.no_change, of.nothing)
        yield "… requests at the source, at each target", "1 a target", counts(of.no_change)
    yield (
        f"largest process, {MANY:,} keys against {FEW}",
        "at most 1.5",
        f"{many.change.memory / few.change.memory:.2f}",
    )
    for what, measured in (("in sync", table.in_sync), ("one of them lacks a key", table.drift)):
        yield f"status of {CROWD} nodes with {MANY:,} keys, {what}: time", "", in_words(measured)
        yield (
            "… processor time against one debug task on each host",
            "at most 1.3",
            f"{measured.cpu / table.nothing.cpu:.2f}",
        )
        yield "… time against one debug task on each host", "at most 1.5", ratio(measured, table.nothing)
        each = ", ".join(str(measured.requests[node]) for node in (SOURCE, *TARGETS))
        yield "… requests at the source, at the one, at another", "1 where the digest agrees", each
        yield "… largest process", "", f"{measured.memory / MIB:.0f} MiB"
    for one in transfers:
        size = f"{one.size / KIB:,.0f} KiB"
        came = f"{one.download / KIB:,.0f} KiB, {one.upload / KIB:,.0f} KiB"
        yield f"memory while a package of {size} is downloaded, uploaded", "does not grow with the package", came
    command = f"up --clusters {CLUSTERS} --nodes {NODES} --keys {MANY}"
    yield f"{command}: until all respond", "less than 60 s", f"{all_of_them.first:.1f} s"
    yield "… seconds of processors, all cores together", "", f"{all_of_them.processors:.1f} s"
    yield "… again, with the keys that are there", "", f"{all_of_them.again:.1f} s"
    yield "… most memory of the process", "less than 2 GiB", f"{all_of_them.memory / MIB:.0f} MiB"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--runs", type=int, default=3, help="of each; medians are shown (3)")
    options = parser.parse_args()
    try:
        few, many = figures(FEW, options.runs), figures(MANY, options.runs)
        table = status(options.runs)
        transfers = [transfer(keys) for keys in (FEW, MANY, LOTS)]
        all_of_them = fleet()
    except BenchError as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1
    print(f"{machine()}\nthree nodes, medians of {options.runs} runs; two empty plays take {in_words(few.nothing)}\n")
    shown = [("measured", "aim", "result"), *rows(few, many, table, transfers, all_of_them)]
    widths = [max(len(row[column]) for row in shown) for column in range(3)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in shown]
    print("\n".join(f"| {line} |" for line in [lines[0], " | ".join("-" * width for width in widths), *lines[1:]]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
