# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The token process: `python -m utrust_appliance.hsm.pkcs11_token SOCKET MODULE LABEL` in the folder of the HSM.

C_WrapKey and C_UnwrapKey with CKM_AES_KEY_WRAP_PAD (RFC 5649) move keys between tokens under the MBK. The MBK is a sensitive object that cannot be
extracted. A wrapped key does not contain label, id and public key object, so an import creates them again.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import sys
import threading
import typing as t
from collections import Counter, defaultdict
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from pkcs11 import MGF, Attribute, KeyType, Mechanism, ObjectClass, PKCS11Error
from pkcs11.constants import DEFAULT
from pkcs11.util.ec import decode_ec_public_key, encode_named_curve_parameters

from utrust_appliance import key_material, process
from utrust_appliance.hsm import pkcs11_objects as pk
from utrust_appliance.hsm import pkcs11_setup
from utrust_appliance.hsm.base import UnwrapError
from utrust_appliance.hsm.pkcs11_process import Entry

if t.TYPE_CHECKING:
    from pkcs11 import Object, Session

# python-pkcs11 also sets attributes of secret keys on private keys. DEFAULT omits them.
PRIVATE = {Attribute.ENCRYPT: DEFAULT, Attribute.VERIFY: DEFAULT, Attribute.WRAP: DEFAULT, Attribute.SIGN: True}
SECRET = {
    "aes": {Attribute.ENCRYPT: True, Attribute.DECRYPT: True, Attribute.WRAP: False, Attribute.UNWRAP: False},
    "des3": {Attribute.ENCRYPT: True, Attribute.DECRYPT: True, Attribute.WRAP: False, Attribute.UNWRAP: False},
    "generic": {Attribute.SIGN: True, Attribute.VERIFY: True},
}
EXTRACTABLE_KEY = {Attribute.PRIVATE: True, Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: True}
NON_EXTRACTABLE_KEY = {Attribute.PRIVATE: True, Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
NO_USE = dict.fromkeys(
    (Attribute.ENCRYPT, Attribute.DECRYPT, Attribute.SIGN, Attribute.VERIFY, Attribute.WRAP, Attribute.UNWRAP), False
)
CURVE_NAMES = {"P-256": "secp256r1", "P-384": "secp384r1", "P-521": "secp521r1", "secp256k1": "secp256k1"}
CURVE_NAMES["brainpoolP256r1"] = "brainpoolp256r1"
Place = tuple[pk.Part, str, str]  # kind of object, label, id


class Token:
    """An open token with cached object handles, because object searches are slow in large tokens."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._objects: dict[int, list[Object]] = {}
        self._transport: tuple[t.Any, t.Any] | None = None

    # Assignment of objects to keys

    def find(self, live: list[Entry], to_destroy: list[Entry]) -> dict[str, list[int]]:
        """Find the objects of live keys, and destroy the objects in `to_destroy`. Objects of other programs stay unchanged.

        Several objects can have the same label and id, for example a key and its replacement, or keys of two slots. In this case, the key data decides.
        """
        found = self._by_place()
        claims = Counter(place for key in [*live, *to_destroy] for place in _places(key))
        result: dict[str, list[int]] = {"missing": [], "incomplete": []}
        for key in live:
            objects: list[Object | None] = []
            for place in _places(key):
                certain = claims[place] == len(found[place]) == 1
                mine = [thing for thing in found[place] if certain or self._is_of(key, place, thing)][:1]
                objects += mine or [None]
                found[place] = [thing for thing in found[place] if thing not in mine]
            self._objects[key.number] = [thing for thing in objects if thing is not None]
            if objects[0] is None:
                result["missing"].append(key.number)
                self.drop([key.number])
            elif None in objects:
                result["incomplete"].append(key.number)
        self._destroy(to_destroy, found)
        return result

    def _by_place(self) -> dict[Place, list[Object]]:
        found: dict[Place, list[Object]] = defaultdict(list)
        for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY, ObjectClass.SECRET_KEY):
            for thing in self._session.get_objects({Attribute.CLASS: kind}):
                if facts := pk.read(thing, Attribute.KEY_TYPE, Attribute.LABEL, Attribute.ID):
                    key_type, label, key_id = facts
                    found[(kind, key_type), label, bytes(key_id).hex()].append(thing)
        return found

    def _destroy(self, to_destroy: list[Entry], found: dict[Place, list[Object]]) -> None:
        for key in to_destroy:
            for place in _places(key):
                for thing in found[place]:
                    if self._is_of(key, place, thing) is not False:
                        pk.destroy(thing)
        if to_destroy:  # an object that was being written during a kill can lack label and id
            for part in {part for parts in pk.PARTS.values() for part in parts}:
                for thing in found[part, "", ""]:
                    if not pk.is_finished(self._session, part, thing):
                        pk.destroy(thing)

    def _is_of(self, key: Entry, place: Place, thing: Object) -> bool | None:
        return pk.is_of(self._session, key, place[0], thing)

    # MBK

    def transport_key(self) -> str:
        """The public key of a key pair for the import of the MBK. The key pair exists as long as this process."""
        if self._transport is None:
            template = {**NON_EXTRACTABLE_KEY, Attribute.UNWRAP: True, Attribute.DECRYPT: False, Attribute.SIGN: False}
            self._transport = self._session.generate_keypair(KeyType.RSA, 2048, private_template=template)
        return pk.encode(pk.public_key("rsa", self._transport[0]))

    def take_mbk(self, key: Entry, mbk: str, mac: str) -> None:
        """Import MBK and MAC key, encrypted for the transport key (RSA-OAEP, RFC 8017)."""
        if self._transport is None:
            raise ValueError("the transport key does not exist")
        objects = self._objects[key.number] = []
        for (kind, key_type), blob, use in zip(
            pk.PARTS["mbk"], (mbk, mac), ((Attribute.WRAP, Attribute.UNWRAP), (Attribute.SIGN,)), strict=True
        ):
            objects.append(
                self._transport[1].unwrap_key(
                    kind,
                    key_type,
                    bytes.fromhex(blob),
                    label=key.label,
                    id=bytes.fromhex(key.id),
                    mechanism=Mechanism.RSA_PKCS_OAEP,
                    mechanism_param=(Mechanism.SHA_1, MGF.SHA1, None),  # the only parameters that SoftHSM 2.6 supports
                    store=True,
                    template={**NO_USE, **NON_EXTRACTABLE_KEY, **dict.fromkeys(use, True)},
                )
            )

    def mac(self, mbk: int, data: str) -> str:
        return str(self._any(mbk, 1).sign(bytes.fromhex(data), mechanism=Mechanism.SHA256_HMAC).hex())

    # Keys

    def generate(self, key: Entry, kind: str) -> dict[str, t.Any]:
        """Generate a key. Returns key_material.Facts as a dict."""
        family, dummy, variant = kind.partition("-")
        place: dict[str, t.Any] = {"label": key.label, "id": bytes.fromhex(key.id), "store": True}
        if family in SECRET:
            size = int(variant or 256)
            length = (
                None if family == "des3" else size
            )  # DES3 has one size, which PKCS #11 does not accept as a parameter
            template = {**SECRET[family], **EXTRACTABLE_KEY}
            secret = self._session.generate_key(pk.PARTS[family][0][1], length, template=template, **place)
            self._objects[key.number] = [secret]
            return key_material.Facts(family, size, None, pk.check_value(self._session, family, secret), None)._asdict()
        templates: dict[str, t.Any] = {
            "private_template": {**EXTRACTABLE_KEY, Attribute.SIGN: True},
            "public_template": {Attribute.PRIVATE: False},
        }
        if family == "rsa":
            public, private = self._session.generate_keypair(KeyType.RSA, int(variant), **templates, **place)
        else:
            parameters = encode_named_curve_parameters(CURVE_NAMES[key_material.EC_KINDS[kind]])
            domain = self._session.create_domain_parameters(KeyType.EC, {Attribute.EC_PARAMS: parameters}, local=True)
            public, private = domain.generate_keypair(**templates, **place)
        self._objects[key.number] = [private, public]
        model = pk.public_key(family, public)
        return {**key_material.facts_of_public(model)._asdict(), "public": pk.encode(model)}

    def unwrap(self, mbk: int, keys: list[tuple[Entry, str]]) -> None:
        """Unwrap keys into the token, and create their public key objects."""
        for key, blob in keys:
            self._objects[key.number] = [self._unwrap(mbk, key, blob, store=True)]
            if key.public:
                self._objects[key.number].append(self._put_public(key))

    def check(self, mbk: int, key: Entry, blob: str) -> None:
        """Check a wrapped key with a temporary object. Raises UnwrapError."""
        pk.destroy(self._unwrap(mbk, key, blob, store=False))

    def _unwrap(self, mbk: int, key: Entry, blob: str, *, store: bool) -> Object:
        kind, key_type = pk.PARTS[key.type][0]
        template = {**(PRIVATE if kind == ObjectClass.PRIVATE_KEY else SECRET[key.type]), **EXTRACTABLE_KEY}
        try:
            thing: Object = self._any(mbk).unwrap_key(
                kind,
                key_type,
                bytes.fromhex(blob),
                label=key.label,
                id=bytes.fromhex(key.id),
                mechanism=Mechanism.AES_KEY_WRAP_PAD,
                store=store,
                template=template,
            )
        except PKCS11Error as exc:
            raise UnwrapError(f"label {key.label}, id {key.id} cannot be unwrapped: {pk.error_text(exc)}") from exc
        if not pk.is_of(self._session, key, (kind, key_type), thing):
            pk.destroy(thing)
            raise UnwrapError(
                f"label {key.label}, id {key.id} contains another key than its identity names ({key.fingerprint})"
            )
        return thing

    def _put_public(self, key: Entry) -> Object:
        public = pk.load(key.public)
        if isinstance(public, rsa.RSAPublicKey):
            numbers = public.public_numbers()
            facts = {Attribute.MODULUS: pk.as_bytes(numbers.n), Attribute.PUBLIC_EXPONENT: pk.as_bytes(numbers.e)}
        else:
            facts = decode_ec_public_key(bytes.fromhex(key.public or ""))
        kind, key_type = pk.PARTS[key.type][1]
        place = {Attribute.LABEL: key.label, Attribute.ID: bytes.fromhex(key.id), Attribute.TOKEN: True}
        use = {Attribute.PRIVATE: False, Attribute.VERIFY: True}
        thing: Object = self._session.create_object(
            {**facts, **place, **use, Attribute.CLASS: kind, Attribute.KEY_TYPE: key_type}
        )
        return thing

    def wrap(self, mbk: int, numbers: list[int]) -> list[str]:
        key = self._any(mbk)
        return [key.wrap_key(self._any(number), mechanism=Mechanism.AES_KEY_WRAP_PAD).hex() for number in numbers]

    def sign(self, number: int, data: str, curve: str | None) -> str:
        """Sign data. RSA: PKCS #1 v1.5 with SHA-256. EC: ECDSA with the hash of the curve."""
        key, message = self._any(number), bytes.fromhex(data)
        if curve is None:
            return str(key.sign(message, mechanism=Mechanism.SHA256_RSA_PKCS).hex())
        digest = hashes.Hash(key_material.CURVES[curve][1])
        digest.update(message)
        return pk.ecdsa(key, digest.finalize()).hex()

    def drop(self, numbers: list[int]) -> None:
        for number in numbers:
            for thing in self._objects.pop(number, []):
                pk.destroy(thing)

    def drop_public(self, number: int) -> None:
        while len(self._objects[number]) > 1:
            pk.destroy(self._objects[number].pop())

    def _any(self, number: int, part: int = 0) -> t.Any:
        return self._objects[number][part]


def _places(key: Entry) -> list[Place]:
    return [(part, key.label, key.id) for part in pk.PARTS[key.type]]


def _listen(channel: socket.socket, requests: queue.SimpleQueue[dict[str, t.Any]]) -> None:
    with channel.makefile("rb") as lines:
        for line in lines:
            requests.put(json.loads(line))
    os._exit(0)  # the client has ended, so a running request can be dropped


def _entries(details: dict[str, t.Any]) -> dict[str, t.Any]:
    """Convert the lists with these names, which JSON cannot mark as Entry."""
    for name in ("live", "to_destroy"):
        if name in details:
            details[name] = [Entry(*item) for item in details[name]]
    if "keys" in details:
        details["keys"] = [(Entry(*item), blob) for item, blob in details["keys"]]
    if "key" in details:
        details["key"] = Entry(*details["key"])
    return details


def main() -> None:
    descriptor, module, label = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    os.umask(0o077)
    channel, requests = socket.socket(fileno=descriptor), queue.SimpleQueue[dict[str, t.Any]]()
    threading.Thread(target=_listen, args=(channel, requests), daemon=True).start()
    # The token process of a killed simulator needs some time to end.
    locked, token = process.lock(Path(), timeout=30.0), None
    while True:
        request = requests.get()
        try:
            if locked is None:
                raise ValueError(f"another process has the token open in {Path().absolute()}")
            token = token or Token(pkcs11_setup.open_session(Path(), module, label))
            result = getattr(token, request["method"])(**_entries(request["details"]))
            response = {"result": result}
        except UnwrapError as exc:
            response = {"unwrap_failed": str(exc)}
        except (PKCS11Error, OSError, ValueError, LookupError) as exc:
            what = request["method"] if token else "open"
            response = {"failed": f"PKCS #11 token '{label}', {what}: {pk.error_text(exc)}"}
        channel.sendall(json.dumps(response).encode() + b"\n")


if __name__ == "__main__":
    main()
