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
A cluster of SIMULATOR appliances: a stand-in for hardware appliances and their HSMs, cards and PIN pads, for tests and for
rehearsing a key session. It is no product of a vendor and no place for keys that matter."""
KINDS = "rsa-2048, rsa-3072, rsa-4096, ec-p256, ec-p384, ec-p521, aes-128, aes-256 or generic"
Sub = t.Any  # argparse's type of a set of subcommands is private


def key_mix(value: str) -> dict[str, int]:
    """`rsa-3072:1,ec-p256:3` -> {"rsa-3072": 1, "ec-p256": 3}"""
    mix = {}
    for part in value.split(","):
        kind, dummy, weight = part.partition(":")
        if not (weight or "1").isdecimal() or int(weight or "1") < 1:
            raise argparse.ArgumentTypeError(f"{part!r} is not TYPE or TYPE:WEIGHT")
        mix[kind.strip()] = int(weight or "1")
    return mix


def add(sub: Sub, name: str, text: str, *, node: bool = False) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = sub.add_parser(name, help=text, description=text)
    command.add_argument("--dir", required=True, metavar="D", help="the cluster's folder")
    if node:
        command.add_argument("--node", required=True, metavar="NAME", help="e.g. node2")
    return command


def group(sub: Sub, name: str, text: str) -> Sub:
    return sub.add_parser(name, help=text, description=text).add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        "utrust-appliance", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=f"utrust-appliance {__version__} (reference)")
    sub = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _cluster(sub)
    _people(sub)
    _keys(sub)
    _ejbca(sub)
    _tests(sub)
    return top


def _cluster(sub: Sub) -> None:
    up = add(sub, "up", "start a cluster in the background, or continue the one in D; returns when every node answers")
    up.add_argument(
        "--clusters",
        type=int,
        metavar="N",
        help="so many clusters in one process, in D/cluster01 and so on; only at the first start",
    )
    up.add_argument("--nodes", type=int, metavar="N", help="how many (of each cluster) (3); only at the first start")
    up.add_argument(
        "--address-mode", choices=["auto", "addresses", "ports"], help="an address of 127.0.0.0/8 each, or a port each"
    )
    up.add_argument("--port", type=int, help="0 (default): whichever is free; only at the first start")
    up.add_argument(
        "--joined", type=int, metavar="N", help="how many have joined the cluster (all); only at the first start"
    )
    up.add_argument(
        "--restored", type=int, metavar="N", help="how many begin with MBK and keys (1); only at the first start"
    )
    up.add_argument("--keys", type=int, metavar="N", help="how many keys (10); only at the first start")
    up.add_argument("--key-mix", type=key_mix, metavar="TYPE:WEIGHT,…", help="of which types; only at the first start")
    up.add_argument("--name", help="name of the cluster (keyops); only at the first start")
    up.add_argument(
        "--card-timeout", type=float, metavar="SECONDS", help="how long a PIN pad waits for a card or a PIN (120)"
    )
    up.add_argument(
        "--object-ttl", type=float, metavar="SECONDS", help="after how long packages and staged imports expire (900)"
    )
    up.add_argument("--max-upload", type=int, metavar="BYTES", help="the largest package that is taken (64 MiB)")
    up.add_argument(
        "--restart-time", type=float, metavar="SECONDS", help="how long a restart after an import takes (3)"
    )
    up.add_argument(
        "--profile",
        action="append",
        metavar="NAME",
        help="how it behaves where nobody knows what the real one does: a name or ASPECT=VALUE of `profile list`; may be given several times; kept",
    )
    up.add_argument("--hsm", choices=BACKENDS, help="what the HSMs are (software); only at the first start")
    up.add_argument(
        "--module", metavar="PATH", help="PKCS #11 module for --hsm pkcs11 (SoftHSM2 where it is installed); kept"
    )
    up.add_argument("--ejbca", action="store_true", help="a small CA beside every node that has joined; kept")
    up.add_argument(
        "--database", metavar="URL", help="the application's shared database, postgresql://… (a file in D); kept"
    )
    up.add_argument("--session-timeout", type=float, metavar="SECONDS", help="when an idle Webconf session ends (900)")
    up.add_argument("--faults", action="store_true", help="allow the command `fault`")
    up.add_argument(
        "--fault-port",
        type=int,
        metavar="N",
        help="allow faults, and take them over HTTP on 127.0.0.1, port N (0: any); token: D/fault.token",
    )
    up.add_argument("--foreground", action="store_true", help="stay in the foreground")
    down = add(sub, "down", "stop the cluster; its state stays in D")
    down.add_argument("--purge", action="store_true", help="remove D, too")
    add(sub, "status", "what runs in D; exit status 3 when nothing does").add_argument("--json", action="store_true")


def _people(sub: Sub) -> None:
    cards = group(sub, "card", "MBK cards and the readers they are put into")
    add(cards, "list", "all cards").add_argument("--json", action="store_true")
    insert = add(cards, "insert", "put a card into the PIN pad of a node", node=True)
    insert.add_argument("card", help="e.g. KEYOPS-1")
    insert.add_argument("--pin-pad", metavar="NAME", help="which one (where the guided restore is)")
    add(cards, "remove", "take the card out of the PIN pad before its PIN is entered", node=True)

    pin = add(
        sub,
        "pin",
        "type a PIN at a node's PIN pad: from the terminal without an echo, else from standard input",
        node=True,
    )
    pin.add_argument("--pin-pad", metavar="NAME")
    pads = group(sub, "pinpad", "the PIN pads of a node")
    add(pads, "status", "what they ask for", node=True).add_argument("--json", action="store_true")
    add(pads, "cancel", "press Cancel: ends the guided restore", node=True)

    mbks = group(sub, "mbk", "Master Backup Keys and their card sets")
    add(mbks, "list", "all MBKs that have cards, and the nodes that hold them").add_argument(
        "--json", action="store_true"
    )
    create = add(mbks, "create", "a new MBK on cards only: foreign cards for tests")
    create.add_argument("--name", required=True, help="1 to 8 letters and digits")
    create.add_argument("-m", type=int, default=2, help="cards that are needed")
    create.add_argument("-n", type=int, default=3, help="cards in all")
    load = add(mbks, "load", "make a node in Factory Reset Mode operational under an MBK, without keys", node=True)
    load.add_argument("--name", required=True)
    restore = add(
        sub, "restore", "a guided restore without people: the PINs come from the letters in D/cards", node=True
    )
    restore.add_argument("--source", default="node1", metavar="NAME")
    add(sub, "backup", "note that a backup of this node was made now", node=True)
    add(sub, "factory-reset", "destroy MBK, slots and keys of a node's HSM", node=True)


def _keys(sub: Sub) -> None:
    keys = group(sub, "key", "the keys in a node's HSM")
    add(keys, "list", "all keys", node=True).add_argument("--json", action="store_true")
    generate = add(keys, "generate", "make keys in this node's HSM, and in no other", node=True)
    generate.add_argument("--label", required=True, help="with --count, -0001 and so on are added")
    generate.add_argument("--type", default="ec-p256", help=KINDS)
    generate.add_argument("--slot", type=int, default=0)
    generate.add_argument("--count", type=int, default=1)
    for name, text in (("delete", "destroy a key"), ("damage", "make a key unusable: drop its public object")):
        _key_of(add(keys, name, text, node=True))
    public = add(keys, "public", "the public key as PEM", node=True)
    _key_of(public)
    public.add_argument("--out", metavar="FILE")
    sign = add(sub, "sign", "sign with a key of this node's HSM (RSA: PKCS #1 v1.5 with SHA-256; EC: ECDSA)", node=True)
    _key_of(sign)
    what = sign.add_mutually_exclusive_group(required=True)
    what.add_argument("--in", dest="file", metavar="FILE")
    what.add_argument("--message", metavar="TEXT")
    sign.add_argument("--out", metavar="FILE", required=True, help="the signature; - is standard output in Base64")
    slots = group(sub, "slot", "the slots of a node's HSM")
    add(slots, "list", "all slots", node=True).add_argument("--json", action="store_true")
    change = add(slots, "set", "change a slot", node=True)
    change.add_argument("--slot", type=int, required=True)
    change.add_argument("--label")
    change.add_argument("--capacity", type=int, metavar="KEYS")
    change.add_argument("--activation", choices=["auto", "manual", "smart_card"])
    change.add_argument("--activated", choices=["yes", "no"])


def _key_of(command: argparse.ArgumentParser) -> None:
    command.add_argument("--label", required=True)
    command.add_argument("--slot", type=int, help="needed where several slots hold such a label")


def _ejbca(sub: Sub) -> None:
    ejbca = group(sub, "ejbca", "the application beside a node; needs `up --ejbca`")
    add(ejbca, "status", "its crypto token, its CAs and its health", node=True).add_argument(
        "--json", action="store_true"
    )
    issue = add(ejbca, "issue", "issue a certificate for a throw-away key, signed by this node's HSM", node=True)
    issue.add_argument("--out", metavar="FILE", help="where it goes; the CA's certificate goes to FILE.ca")
    issue.add_argument("--name", default="throw-away", help="its common name")
    renew = add(ejbca, "renew", "renew the CA: with that key, else the next one, else a new key made here", node=True)
    renew.add_argument("--alias")
    following = add(ejbca, "next", "map a key as the CA's next one, on all nodes", node=True)
    following.add_argument("--alias", required=True)
    create = add(ejbca, "create", "one more CA, whose key is there already", node=True)
    create.add_argument("--name", required=True)
    create.add_argument("--alias", required=True)
    create.add_argument("--not-in-health-check", action="store_true", help="the health check does not look at it")
    for command in (issue, renew, following):
        command.add_argument("--ca", default="IssuingCA", help="which CA (IssuingCA)")
    add(ejbca, "activate", "activate the crypto token on this node: it reads its aliases", node=True)
    add(ejbca, "deactivate", "deactivate it; with auto-activation it activates itself again", node=True)
    change = add(ejbca, "set", "settings of the crypto token, on all nodes", node=True)
    change.add_argument("--auto-activation", choices=["yes", "no"])
    change.add_argument(
        "--second-key", choices=["yes", "no"], help="a next key that fails its test is made again under its alias"
    )


def _tests(sub: Sub) -> None:
    profiles = group(sub, "profile", "what the appliance does where nobody knows what the real one does")
    known = profiles.add_parser("list", help="the profiles and aspects", description="the profiles and aspects")
    known.add_argument("--json", action="store_true")
    other = add(profiles, "set", "behave like that from now on, also after the next `up`")
    other.add_argument("names", nargs="*", metavar="NAME", help="profiles and ASPECT=VALUE; none is the contract")
    faults = group(sub, "fault", "faults on demand; need `up --faults`")
    listed = faults.add_parser(
        "list", help="what can be set, and what is set", description="what can be set; with --dir, what is set, too"
    )
    listed.add_argument("--dir", metavar="D", help="the cluster's folder")
    listed.add_argument("--json", action="store_true")
    fault = add(faults, "set", "set a fault")
    fault.add_argument("name", help="see `fault list`")
    fault.add_argument("params", nargs="*", metavar="NAME=VALUE", help="its parameters; values are JSON, or else text")
    fault.add_argument("--node", metavar="NAME", help="only at this node")
    fault.add_argument("--method", help="only requests with this method")
    fault.add_argument("--path", metavar="REGEX", help="only requests whose path this is found in")
    fault.add_argument("--count", type=int, metavar="N", help="only so many times")
    add(faults, "clear", "end faults").add_argument("which", nargs="?", help="number or name; all when left out")
    log = add(sub, "log", "the connections and requests that reached a node")
    log.add_argument("--node", metavar="NAME")
    log.add_argument("--json", action="store_true")
    log.add_argument("--clear", action="store_true", help="forget them (of all nodes when no node is named)")
