# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The arguments of the command `utrust-appliance`."""

from __future__ import annotations

import argparse
import typing as t

from utrust_appliance import __version__
from utrust_appliance.hsm.backends import BACKENDS

ABOUT = """\
Simulate a cluster of hardware appliances with their HSMs, cards and PIN pads, for tests and for
rehearsing a key ceremony. The simulator is not a vendor product. Never store production keys in it."""
KINDS = "for example rsa-3072, ec-p256, ed25519, x25519, ml-dsa-65, aes-256, des3-168 or generic"
Sub = t.Any  # argparse's type of a set of subcommands is private


def key_mix(value: str) -> dict[str, int]:
    """`rsa-3072:1,ec-p256:3` -> {"rsa-3072": 1, "ec-p256": 3}"""
    mix = {}
    for part in value.split(","):
        kind, dummy, weight = part.partition(":")
        if not (weight or "1").isdecimal() or int(weight or "1") < 1:
            raise argparse.ArgumentTypeError(f"{part!r} must be TYPE or TYPE:WEIGHT")
        mix[kind.strip()] = int(weight or "1")
    return mix


def add(sub: Sub, name: str, text: str, *, node: bool = False) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = sub.add_parser(name, help=text, description=text)
    command.add_argument("--dir", required=True, metavar="D", help="folder of the cluster")
    if node:
        command.add_argument("--node", required=True, metavar="NAME", help="for example node2")
    return command


def group(sub: Sub, name: str, text: str) -> Sub:
    return sub.add_parser(name, help=text, description=text).add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        "utrust-appliance", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=f"utrust-appliance {__version__}")
    sub = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _cluster(sub)
    _people(sub)
    _keys(sub)
    _ejbca(sub)
    _tests(sub)
    return top


def _cluster(sub: Sub) -> None:
    up = add(sub, "up", "start a cluster in the background, or continue the cluster in D, until all nodes respond")
    _first_start(up)
    _run_options(up)
    up.add_argument("--foreground", action="store_true", help="stay in the foreground")
    down = add(sub, "down", "stop the cluster and keep its state in D")
    down.add_argument("--purge", action="store_true", help="also remove D")
    add(sub, "status", "show the cluster in D, with exit status 3 if no cluster runs").add_argument(
        "--json", action="store_true"
    )


def _first_start(up: argparse.ArgumentParser) -> None:
    up.add_argument(
        "--clusters",
        type=int,
        metavar="N",
        help="number of clusters in one process, in D/cluster01 and so on, first start only",
    )
    up.add_argument("--nodes", type=int, metavar="N", help="number of nodes of each cluster (3), first start only")
    up.add_argument(
        "--address-mode",
        choices=["auto", "addresses", "ports"],
        help="one address of 127.0.0.0/8 for each node, or one port for each node",
    )
    up.add_argument("--port", type=int, help="port of the nodes (0: a free port), first start only")
    up.add_argument(
        "--joined", type=int, metavar="N", help="number of nodes that have joined the cluster (all), first start only"
    )
    up.add_argument(
        "--restored", type=int, metavar="N", help="number of nodes that start with MBK and keys (1), first start only"
    )
    up.add_argument("--keys", type=int, metavar="N", help="number of keys (10), first start only")
    up.add_argument("--key-mix", type=key_mix, metavar="TYPE:WEIGHT,…", help="types of the keys, first start only")
    up.add_argument("--name", help="name of the cluster (keyops), first start only")


def _run_options(up: argparse.ArgumentParser) -> None:
    up.add_argument(
        "--card-timeout", type=float, metavar="SECONDS", help="time that a PIN pad waits for a card or a PIN (120)"
    )
    up.add_argument("--object-ttl", type=float, metavar="SECONDS", help="lifetime of packages and staged imports (900)")
    up.add_argument("--max-upload", type=int, metavar="BYTES", help="maximum size of an uploaded package (64 MiB)")
    up.add_argument("--restart-time", type=float, metavar="SECONDS", help="duration of a restart after an import (3)")
    up.add_argument(
        "--claim-second",
        type=float,
        metavar="SECONDS",
        help="duration of one second of the ttl of a claim, for tests (1)",
    )
    up.add_argument(
        "--profile",
        action="append",
        metavar="NAME",
        help="undocumented behavior to simulate: a name or ASPECT=VALUE of `profile list`, repeatable and stored",
    )
    _services(up)


def _services(up: argparse.ArgumentParser) -> None:
    up.add_argument("--hsm", choices=BACKENDS, help="backend of the HSMs (software), first start only")
    up.add_argument("--module", metavar="PATH", help="PKCS #11 module for --hsm pkcs11 (SoftHSM2 if installed), stored")
    up.add_argument(
        "--no-api",
        action="store_true",
        help="turn the appliance API of all nodes off, stored: Webconf, PIN pads and EJBCA remain, as on real appliances",
    )
    up.add_argument("--ejbca", action="store_true", help="simulate EJBCA on every joined node, stored")
    up.add_argument(
        "--database", metavar="URL", help="shared database of the simulated EJBCA, postgresql://… (a file in D), stored"
    )
    up.add_argument(
        "--session-timeout", type=float, metavar="SECONDS", help="idle time after which a Webconf session ends (900)"
    )
    up.add_argument("--faults", action="store_true", help="enable the command `fault`")
    up.add_argument(
        "--fault-port",
        type=int,
        metavar="N",
        help="enable faults, also over HTTP on 127.0.0.1, port N (0: a free port), with the token in D/fault.token",
    )


def _people(sub: Sub) -> None:
    cards = group(sub, "card", "manage MBK cards and card readers")
    add(cards, "list", "list all cards").add_argument("--json", action="store_true")
    insert = add(cards, "insert", "insert a card into the PIN pad of a node", node=True)
    insert.add_argument("card", help="for example KEYOPS-1")
    insert.add_argument("--pin-pad", metavar="NAME", help="PIN pad to use (the PIN pad of the guided restore)")
    add(cards, "remove", "remove the card from the PIN pad before its PIN is entered", node=True)

    pin = add(
        sub,
        "pin",
        "enter a PIN at the PIN pad of a node, from the terminal without echo or from standard input",
        node=True,
    )
    pin.add_argument("--pin-pad", metavar="NAME")
    pads = group(sub, "pinpad", "show or cancel the prompts of PIN pads")
    add(pads, "status", "show the prompt of each PIN pad", node=True).add_argument("--json", action="store_true")
    add(pads, "cancel", "press Cancel, which ends the guided restore", node=True)

    mbks = group(sub, "mbk", "manage Master Backup Keys and their card sets")
    add(mbks, "list", "list all MBKs that have cards, and the nodes that hold them").add_argument(
        "--json", action="store_true"
    )
    create = add(mbks, "create", "create an MBK on cards only, as foreign cards for tests")
    create.add_argument("--name", required=True, help="1 to 8 letters and digits")
    create.add_argument("-m", type=int, default=2, help="number of required cards")
    create.add_argument("-n", type=int, default=3, help="number of all cards")
    load = add(mbks, "load", "load an MBK, without keys, into a node in Factory Reset Mode", node=True)
    load.add_argument("--name", required=True)
    restore = add(sub, "restore", "run a guided restore without people, with the PINs in D/cards", node=True)
    restore.add_argument("--source", default="node1", metavar="NAME")
    add(sub, "backup", "set the time of the last backup of this node to now", node=True)
    add(sub, "factory-reset", "destroy MBK, slots and keys of the HSM of a node", node=True)


def _keys(sub: Sub) -> None:
    keys = group(sub, "key", "manage the keys in the HSM of a node")
    add(keys, "list", "list all keys", node=True).add_argument("--json", action="store_true")
    generate = add(keys, "generate", "generate keys in the HSM of this node only", node=True)
    generate.add_argument(
        "--label", required=True, help="label (can be empty), with the suffixes -0001, -0002, … if --count is set"
    )
    generate.add_argument("--type", default="ec-p256", help=KINDS)
    generate.add_argument("--slot", type=int, default=0)
    generate.add_argument("--count", type=int, default=1)
    for name, text in (("delete", "destroy a key"), ("damage", "make a key unusable by deleting its public object")):
        _key_of(add(keys, name, text, node=True))
    public = add(keys, "public", "show the public key in PEM", node=True)
    _key_of(public)
    public.add_argument("--out", metavar="FILE")
    sign = add(
        sub,
        "sign",
        "sign with a key in the HSM of this node (RSA: PKCS #1 v1.5 with SHA-256, EC: ECDSA, EdDSA, ML-DSA)",
        node=True,
    )
    _key_of(sign)
    source = sign.add_mutually_exclusive_group(required=True)
    source.add_argument("--in", dest="file", metavar="FILE")
    source.add_argument("--message", metavar="TEXT")
    sign.add_argument(
        "--out", metavar="FILE", required=True, help="output file of the signature (-: Base64 on standard output)"
    )
    slots = group(sub, "slot", "manage the slots of the HSM of a node")
    add(slots, "list", "list all slots", node=True).add_argument("--json", action="store_true")
    change = add(slots, "set", "change a slot", node=True)
    change.add_argument("--slot", type=int, required=True)
    change.add_argument("--label")
    change.add_argument("--capacity", type=int, metavar="KEYS")
    change.add_argument("--activation", choices=["auto", "manual", "smart_card"])
    change.add_argument("--activated", choices=["yes", "no"])


def _key_of(command: argparse.ArgumentParser) -> None:
    command.add_argument("--label", required=True)
    command.add_argument("--slot", type=int, help="required if several slots have a key with this label")
    command.add_argument("--fingerprint", help="key fingerprint, required if several keys have this slot and label")


def _ejbca(sub: Sub) -> None:
    ejbca = group(sub, "ejbca", "manage the simulated EJBCA of a node (requires `up --ejbca`)")
    add(ejbca, "status", "show crypto token, CAs and health", node=True).add_argument("--json", action="store_true")
    issue = add(ejbca, "issue", "issue a test certificate, signed by the HSM of this node", node=True)
    issue.add_argument(
        "--out", metavar="FILE", help="output file of the certificate, with the CA certificate in FILE.ca"
    )
    issue.add_argument("--name", default="test", help="common name")
    renew = add(ejbca, "renew", "renew the CA with this key, with the next key, or with a new key", node=True)
    renew.add_argument("--alias")
    following = add(ejbca, "next-key", "set the next key of the CA, on all nodes", node=True)
    following.add_argument("--alias", required=True)
    create = add(ejbca, "create-ca", "create a CA with an existing key", node=True)
    create.add_argument("--name", required=True)
    create.add_argument("--alias", required=True)
    create.add_argument("--not-in-health-check", action="store_true", help="exclude the CA from the health check")
    for command in (issue, renew, following):
        command.add_argument("--ca", default="IssuingCA", help="name of the CA (IssuingCA)")
    add(ejbca, "activate", "activate the crypto token on this node, which reads its aliases", node=True)
    add(ejbca, "deactivate", "deactivate the crypto token, which auto-activation activates again", node=True)
    change = add(ejbca, "set", "change settings of the crypto token, on all nodes", node=True)
    change.add_argument("--auto-activation", choices=["yes", "no"])
    change.add_argument(
        "--regenerate-next-key", choices=["yes", "no"], help="generate another key if the test of the next key fails"
    )


def _tests(sub: Sub) -> None:
    api = add(sub, "api", "turn the appliance API of a node, or of all nodes, on or off now and for the next `up`")
    api.add_argument("state", choices=["on", "off"])
    api.add_argument("--node", metavar="NAME", help="this node only")
    profiles = group(sub, "profile", "select undocumented behavior to simulate")
    known = profiles.add_parser("list", help="list profiles and aspects", description="list profiles and aspects")
    known.add_argument("--json", action="store_true")
    other = add(profiles, "set", "change the profile now and for the next `up`")
    other.add_argument("names", nargs="*", metavar="NAME", help="profiles and ASPECT=VALUE (the contract)")
    faults = group(sub, "fault", "inject faults (requires `up --faults`)")
    listed = faults.add_parser(
        "list", help="list all faults", description="list all faults, and with --dir also the active faults"
    )
    listed.add_argument("--dir", metavar="D", help="folder of the cluster")
    listed.add_argument("--json", action="store_true")
    fault = add(faults, "set", "set a fault")
    fault.add_argument("name", help="see `fault list`")
    fault.add_argument("params", nargs="*", metavar="NAME=VALUE", help="parameters with values in JSON or as text")
    fault.add_argument("--node", metavar="NAME", help="this node only")
    fault.add_argument("--method", help="requests with this method only")
    fault.add_argument("--path", metavar="REGEX", help="requests with a matching path only")
    fault.add_argument("--count", type=int, metavar="N", help="number of times (unlimited)")
    add(faults, "clear", "clear faults").add_argument("which", nargs="?", help="number or name (all)")
    log = add(sub, "log", "show the connections and requests of a node")
    log.add_argument("--node", metavar="NAME")
    log.add_argument("--json", action="store_true")
    log.add_argument("--clear", action="store_true", help="clear the log of the node, or of all nodes")
