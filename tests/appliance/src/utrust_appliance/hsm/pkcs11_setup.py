# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the token of a node by its label, or initialize the first token that is not initialized.

With SoftHSM2, every HSM folder has its own configuration and token folder. Other modules are used as they are configured.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import typing as t

import pkcs11
from pkcs11 import TokenFlag

from utrust_appliance.files import write_private

if t.TYPE_CHECKING:
    from pathlib import Path

    from pkcs11 import Session, Token

C_INIT_TOKEN = 9  # index in CK_FUNCTION_LIST, PKCS #11 v2.40 and later


class _FunctionList(ctypes.Structure):
    _fields_: t.ClassVar = [("version", ctypes.c_ubyte * 2), ("functions", ctypes.c_void_p * 68)]


def open_session(folder: Path, module: str, label: str) -> Session:
    """Open a read-write session and log in. The PINs are stored in the folder, for simulation only."""
    os.environ["SOFTHSM2_CONF"] = str(_softhsm_configuration(folder))
    pin, so_pin = _pin(folder / "pin"), _pin(folder / "so-pin")
    library = pkcs11.lib(module)
    token = _find(library, label)
    if token is None:
        empty = [slot for slot in library.get_slots(token_present=True) if _is_empty(slot.get_token())]
        if not empty:
            raise ValueError(f"{module} does not have this token, and does not have a token that can be initialized")
        _init_token(module, empty[0].slot_id, so_pin, label)
        library.reinitialize()
        token = _find(library, label)
    if token is None:
        raise ValueError(f"{module} does not list the token after its initialization")
    if not token.flags & TokenFlag.USER_PIN_INITIALIZED:
        with token.open(rw=True, so_pin=so_pin) as session:
            session.init_pin(pin)
    return token.open(rw=True, user_pin=pin)


def _find(library: t.Any, label: str) -> Token | None:
    slots = library.get_slots(token_present=True)
    return next((token for token in (slot.get_token() for slot in slots) if token.label == label), None)


def _is_empty(token: Token) -> bool:
    return not token.flags & TokenFlag.TOKEN_INITIALIZED


def _init_token(module: str, slot: int, so_pin: str, label: str) -> None:
    """Call C_InitToken. python-pkcs11 does not support it, and other tools require PINs on the command line."""
    functions = ctypes.POINTER(_FunctionList)()
    result = ctypes.CDLL(module).C_GetFunctionList(ctypes.byref(functions))
    if result == 0:
        kind = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
        pin, padded = so_pin.encode(), label.encode().ljust(32)
        result = kind(functions.contents.functions[C_INIT_TOKEN])(slot, pin, len(pin), padded)
    if result != 0:
        raise ValueError(f"{module} cannot initialize the token in slot {slot}: CK_RV {result:#x}")


def _softhsm_configuration(folder: Path) -> Path:
    path, tokens = folder.absolute() / "softhsm2.conf", folder.absolute() / "tokens"
    tokens.mkdir(mode=0o700, exist_ok=True)
    lines = [f"directories.tokendir = {tokens}", "objectstore.backend = file", "log.level = ERROR"]
    write_private(path, "\n".join(lines).encode() + b"\n")
    return path


def _pin(path: Path) -> str:
    if not path.exists():
        write_private(path, secrets.token_hex(8).encode())
    return path.read_text(encoding="ascii")
