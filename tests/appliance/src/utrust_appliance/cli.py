# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command `utrust-appliance`."""

from __future__ import annotations

import json
import os
import sys
import typing as t
from pathlib import Path

from utrust_appliance import process
from utrust_appliance.arguments import parser
from utrust_appliance.behavior import ASPECTS, PROFILES
from utrust_appliance.commands import COMMANDS, list_faults, table
from utrust_appliance.control import Control
from utrust_appliance.errors import OperationError

UP_OPTIONS = (
    "clusters", "nodes", "port", "address_mode", "joined", "restored", "keys", "key_mix", "name",
    "card_timeout", "object_ttl", "max_upload", "session_timeout", "restart_time", "claim_second", "profile",
    "hsm", "module", "no_api", "ejbca", "database", "faults", "fault_port",
)  # fmt: skip


def start(folder: str, options: dict[str, t.Any]) -> int:
    """Start the background process. `Control.up` calls this function."""
    try:
        process.spawn(Path(folder).absolute(), options)
    except (OperationError, OSError) as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


def up(folder: Path, args: t.Any) -> None:
    options = {name: getattr(args, name) for name in UP_OPTIONS}
    if args.foreground:
        from utrust_appliance.main import run

        os.umask(0o077)
        run(folder, options, show_all)
        return
    process.spawn(folder, options)
    if clusters := Control(folder).clusters():
        show_all([one.status() for one in clusters])
        print(
            f"\nThese are simulated appliances. Never store production keys in them.\n"
            f"inventory  {folder}/inventory.yml, one group for each cluster; one cluster: {clusters[0].folder}/inventory.yml\n"
            f"commands   --dir {clusters[0].folder} and so on\nstop       utrust-appliance down --dir {folder}"
        )
        return
    status = Control(folder).status()
    show_all([status])
    print(
        f"\nThese are simulated appliances. Never store production keys in them.\n"
        f"inventory  {folder}/inventory.yml\nclient     {folder}/clients/operator.pem, operator.key\n"
        f"webconf    every URL above; user and password: {folder}/clients/webconf-login.json\n"
        f"PIN pads   {status['pin_pads_url']}/\n"
        f"cards      {folder}/cards/*.json contain the PINs, for rehearsals only\nlog        {folder}/log\n"
        f"stop       utrust-appliance down --dir {folder}"
    )
    if url := (process.running(folder) or {}).get("faults"):
        print(f"faults     {url}, bearer token in {folder}/fault.token")


def show_all(statuses: list[dict[str, t.Any]]) -> None:
    if len(statuses) == 1:
        show_nodes(statuses[0]["nodes"])
        return
    rows = []
    for status in statuses:
        nodes = status["nodes"]
        keys = sorted({node["key_count"] for node in nodes})
        key_count = str(keys[0]) if len(keys) == 1 else f"{keys[0]} to {keys[-1]}"
        rows.append([status["cluster"], str(len(nodes)), key_count, nodes[0]["url"], nodes[-1]["url"]])
    print(table(["cluster", "nodes", "keys per node", "first node", "last node"], rows), flush=True)


def show_nodes(nodes: list[dict[str, t.Any]]) -> None:
    rows = [
        [
            node["node"],
            node["url"],
            "yes" if node["joined"] else "no",
            node["state"],
            str(node["key_count"]),
            node["tls_fingerprint"],
        ]
        for node in nodes
    ]
    print(table(["node", "url", "joined", "HSM state", "keys", "TLS fingerprint"], rows), flush=True)


def profiles(args: t.Any) -> None:
    if args.json:
        data = {name: {"meaning": meaning, "aspects": chosen} for name, (meaning, chosen) in PROFILES.items()}
        print(json.dumps({"profiles": data, "aspects": ASPECTS}, indent=1))
        return
    rows = [
        [name, meaning + (f" ({', '.join(f'{aspect}={value}' for aspect, value in chosen.items())})" if chosen else "")]
        for name, (meaning, chosen) in PROFILES.items()
    ]
    print(table(["profile", "meaning"], rows) + "\n")
    aspects = [
        [f"{aspect}={value}", meaning] for aspect, values in ASPECTS.items() for value, meaning in values.items()
    ]
    print(table(["aspect", "meaning; the first value of each aspect is the default"], aspects))


def down(folder: Path, args: t.Any) -> None:
    run = process.running(folder)
    stopped = process.stop(folder)
    print(f"Process {run['pid']} has ended." if stopped and run else f"No cluster runs in {folder}.")
    if args.purge:
        process.purge(folder)
        print(f"{folder} was removed.")


def status(folder: Path, args: t.Any) -> int:
    run = process.running(folder)
    if run is None:
        print(json.dumps({"running": False}) if args.json else f"No cluster runs in {folder}.")
        return 3  # "not running" of `systemctl status` and LSB
    control = Control(folder)
    facts = {"running": True, "pid": run["pid"]}
    if clusters := {one.folder.name: one.status() for one in control.clusters()}:
        facts["clusters"] = clusters
    else:
        facts |= control.status()
    if args.json:
        print(json.dumps(facts, indent=1))
    else:
        show_all(list(clusters.values()) or [facts])
        if not clusters:
            print(f"\nPIN pads: {facts['pin_pads_url']}/")
    return 0


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if args.command == "profile" and args.action == "list":
        profiles(args)
        return 0
    if args.command == "fault" and args.dir is None:
        list_faults(args, None)
        return 0
    folder = Path(args.dir).absolute()
    try:
        if args.command == "up":
            up(folder, args)
        elif args.command == "down":
            down(folder, args)
        elif args.command == "status":
            return status(folder, args)
        else:
            COMMANDS[args.command](Control(folder), args)
    except (OperationError, OSError) as exc:
        print(f"utrust-appliance: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
