# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The commands of `utrust-appliance` that use a running cluster."""

from __future__ import annotations

import base64
import contextlib
import getpass
import json
import sys
import typing as t
from pathlib import Path

from utrust_appliance.errors import OperationError
from utrust_appliance.faults import CRASH_POINTS, describe_kinds

if t.TYPE_CHECKING:
    from utrust_appliance.control import Control

Args = t.Any  # argparse.Namespace, whose attributes have no types


def table(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    )


def show(args: Args, data: list[dict[str, t.Any]], columns: list[str]) -> None:
    if getattr(args, "json", False):
        print(json.dumps(data, indent=1))
    else:
        print(table(columns, [[_cell(item.get(column)) for column in columns] for item in data]))


def _cell(value: t.Any) -> str:
    if isinstance(value, dict):
        return str(value.get("name", json.dumps(value)))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "-" if value is None else str(value)


def show_restore(restore: dict[str, t.Any]) -> None:
    if restore["notice"]:
        print(restore["notice"]["text"])
    if restore["prompt"]:
        print(restore["prompt"]["text"])
    else:
        print(
            f"State of the guided restore: {restore['state'].replace('_', ' ')}. Accepted cards: {restore['cards_accepted']} of {restore['cards_required']}."
        )
    if restore["notice"]:
        raise OperationError(f"The PIN pad rejected the input ({restore['notice']['code']}).")


def card(control: Control, args: Args) -> None:
    if args.action == "list":
        show(args, control.cards(), ["card", "mbk", "locked", "wrong_pins", "in_reader_of"])
    elif args.action == "insert":
        show_restore(control.insert_card(args.node, args.card, args.pin_pad))
    else:
        print(control.remove_card(args.node)["prompt"]["text"])


def pin(control: Control, args: Args) -> None:
    value = getpass.getpass("PIN: ") if sys.stdin.isatty() else sys.stdin.readline().strip()
    if not value:
        raise OperationError("The PIN is missing.")
    show_restore(t.cast("dict[str, t.Any]", control.call("pin", node=args.node, pin=value, pin_pad=args.pin_pad)))


def pinpad(control: Control, args: Args) -> None:
    if args.action == "cancel":
        print(control.cancel_at_pin_pad(args.node)["problem"]["detail"])
        return
    facts = control.pin_pad(args.node)
    if args.json:
        print(json.dumps(facts, indent=1))
        return
    show(args, facts["pin_pads"], ["name", "kind", "address", "status"])
    if facts["restore"]:
        with contextlib.suppress(OperationError):  # a notice of the PIN pad is not a failure of this command
            show_restore(facts["restore"])


def mbk(control: Control, args: Args) -> None:
    if args.action == "list":
        show(args, control.mbks(), ["name", "check_value", "m", "n", "nodes"])
    elif args.action == "create-ca":
        made = control.create_mbk(args.name, args.m, args.n)
        show(args, made, ["card", "mbk", "locked"])
        print(f"The PINs are in {control.folder}/cards/{args.name}-*.json.")
    else:
        loaded = control.load_mbk(args.node, args.name)
        print(f"{args.node} is operational with MBK {loaded['name']} ({loaded['check_value']}).")


def restore(control: Control, args: Args) -> None:
    result = control.restore(args.node, args.source)
    print(f"{args.node} has the {result['key_count']} keys of {args.source}.")


def backup(control: Control, args: Args) -> None:
    control.backup(args.node)
    print(f"The time of the last backup of {args.node} was set to now.")


def factory_reset(control: Control, args: Args) -> None:
    control.factory_reset(args.node)
    print(f"{args.node} is in Factory Reset Mode.")


def key(control: Control, args: Args) -> None:
    columns = ["slot", "label", "id", "type", "size", "curve", "fingerprint", "usable"]
    if args.action == "list":
        show(args, control.keys(args.node), columns)
    elif args.action == "generate":
        show(args, control.generate_key(args.node, args.label, args.type, slot=args.slot, count=args.count), columns)
    elif args.action == "public":
        pem = control.public_key(args.node, args.label, args.slot, args.fingerprint)
        if args.out:
            Path(args.out).write_text(pem, encoding="ascii")
        else:
            print(pem, end="")
    elif args.action == "delete":
        control.delete_key(args.node, args.label, args.slot, args.fingerprint)
        print(f"{args.label} was deleted from the HSM of {args.node}.")
    else:
        control.damage_key(args.node, args.label, args.slot, args.fingerprint)
        print(f"{args.label} is now unusable on {args.node}.")


def sign(control: Control, args: Args) -> None:
    message = Path(args.file).read_bytes() if args.file else args.message.encode()
    signature = control.sign(args.node, args.label, message, args.slot, args.fingerprint)
    if args.out == "-":
        print(base64.b64encode(signature).decode())
    else:
        Path(args.out).write_bytes(signature)
        print(f"{args.node} signed with {args.label}. The signature is in {args.out}.")


def slot(control: Control, args: Args) -> None:
    columns = ["slot", "label", "activation", "activated", "capacity"]
    if args.action == "list":
        show(args, control.slots(args.node), columns)
        return
    activated = None if args.activated is None else args.activated == "yes"
    settings = {"label": args.label, "capacity": args.capacity, "activation": args.activation, "activated": activated}
    show(args, [control.set_slot(args.node, args.slot, **settings)], columns)


def fault(control: Control, args: Args) -> None:
    if args.action == "list":
        list_faults(args, control.faults())
    elif args.action == "set":
        params = dict(_parameter(text) for text in args.params)
        number = control.fault(
            args.name, node=args.node, method=args.method, path=args.path, count=args.count, **params
        )
        print(f"Fault {number} is active.")
    else:
        which = int(args.which) if args.which and args.which.isdecimal() else args.which
        print(f"Cleared faults: {control.clear_faults(which)}.")


def list_faults(args: Args, active: list[dict[str, t.Any]] | None) -> None:
    """Print every kind of fault. `active` lists the active faults. Without a cluster, it has the value None."""
    if args.json:
        print(json.dumps({"kinds": describe_kinds(), "active": active}, indent=1))
        return
    rows = []
    for name, kind in describe_kinds().items():
        given = " ".join(f"{param}={json.dumps(value)}" for param, value in kind["params"].items())
        rows.append([name, given or "-", kind["description"]])
    print(table(["fault", "parameters and defaults", "effect"], rows))
    print(f"\ncrash_at point=…: {', '.join(CRASH_POINTS)}")
    if active is not None:
        columns = ["id", "name", "node", "method", "path", "count", "params"]
        print("\nactive faults" + ("" if active else ": none"))
        if active:
            show(args, active, columns)


def _parameter(text: str) -> tuple[str, t.Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise OperationError(f"{text!r} must be NAME=VALUE.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def log(control: Control, args: Args) -> None:
    if args.clear:
        control.clear_log(args.node)
        return
    if not args.node:
        raise OperationError("Select a node with --node.")
    entries = control.log(args.node)
    if args.json:
        print(json.dumps(entries, indent=1))
        return
    for entry in entries:
        if entry["event"] == "request":
            client = entry["client"] or "unauthenticated"
            print(
                f"{entry['at']}  {entry['method']} {entry['path']}  {entry['status'] or 'no response'}  {client}  {entry['seconds']} s"
            )
        else:
            print(f"{entry['at']}  {entry['event']} from {entry['peer']}")


def ejbca(control: Control, args: Args) -> None:
    options = {
        "ca": getattr(args, "ca", None),
        "name": getattr(args, "name", None),
        "alias": getattr(args, "alias", None),
    }
    options = {name: value for name, value in options.items() if value is not None}
    if args.action == "status":
        facts = control.ejbca(args.node, "status")
        print(json.dumps(facts, indent=1) if args.json else ejbca_status(facts))
    elif args.action == "issue":
        made = control.ejbca(args.node, "issue", ca=args.ca, common_name=args.name)
        if args.out:
            Path(args.out).write_text(made["certificate"], encoding="ascii")
            Path(f"{args.out}.ca").write_text(made["ca_certificate"], encoding="ascii")
        else:
            print(made["certificate"], end="")
    elif args.action == "renew":
        print(f"{args.ca} now uses {control.ejbca(args.node, 'renew', **options)['alias']}, on all nodes.")
    elif args.action == "create-ca":
        control.ejbca(args.node, "create_ca", **options, in_health_check=not args.not_in_health_check)
        print(f"{args.name} was created, on all nodes.")
    elif args.action == "set":
        settings = {name: getattr(args, name) for name in ("auto_activation", "regenerate_next_key")}
        chosen = {name: value == "yes" for name, value in settings.items() if value is not None}
        changed = control.ejbca(args.node, "set", **chosen)
        print(", ".join(f"{name}: {_cell(changed[name])}" for name in settings))
    else:
        control.ejbca(args.node, args.action.replace("-", "_"), **options)
        print(ejbca_status(control.ejbca(args.node, "status")))


def ejbca_status(facts: dict[str, t.Any]) -> str:
    lines = [facts["url"], f"health check: {facts['health']['status']} {facts['health']['text']}", ""]
    for token in facts["crypto_tokens"]:
        state = "active" if token["active"] else "offline"
        lines.append(
            f"crypto token {token['name']} (slot {token['slot']}) is {state}. Keys: {', '.join(token['keys']) or 'none'}."
        )
    for ca in facts["certificate_authorities"]:
        for place in ("current", "next", "previous"):
            if key := ca[place]:
                lines.append(
                    f"CA {ca['name']}: {place} key {key['alias']} is {'available' if key['available'] else 'NOT AVAILABLE'} on {facts['node']}."
                )
    return "\n".join(lines)


def profile(control: Control, args: Args) -> None:
    for aspect, value in control.set_profile(*args.names).items():
        print(f"{aspect}={value}")


def api(control: Control, args: Args) -> None:
    off = control.set_api(args.state == "on", node=args.node)
    print(f"Nodes without the appliance API: {', '.join(off) or 'none'}. Inventory: {control.inventory_file}")


COMMANDS: dict[str, t.Callable[[Control, Args], None]] = {
    "card": card,
    "pin": pin,
    "pinpad": pinpad,
    "mbk": mbk,
    "restore": restore,
    "backup": backup,
    "factory-reset": factory_reset,
    "key": key,
    "sign": sign,
    "slot": slot,
    "fault": fault,
    "log": log,
    "ejbca": ejbca,
    "profile": profile,
    "api": api,
}
