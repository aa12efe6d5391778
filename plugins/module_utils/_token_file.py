# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Option bearer_token_file: the token is read where the operation runs. Private to keyops.utrust."""

from __future__ import annotations

import os
import stat
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils._errors import UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._limits import MAX_TOKEN_BYTES
from ansible_collections.keyops.utrust.plugins.module_utils._secrets import check_length, is_header_token

Params = t.Mapping[str, t.Any]


def with_tokens_of_files(params: Params) -> tuple[dict[str, t.Any], list[str]]:
    """Return the parameters with bearer_token from bearer_token_file, also in each entry of `nodes`, and the tokens that were read.

    Raises UtrustError (`option_invalid`, `bearer_token_file_invalid`, `secret_too_short`).
    """
    tokens: list[str] = []
    filled = _filled(params, tokens)
    if isinstance(params.get("nodes"), list):
        filled["nodes"] = [_filled(node, tokens) for node in params["nodes"]]
    return filled, tokens


def _filled(params: Params, tokens: list[str]) -> dict[str, t.Any]:
    path = params.get("bearer_token_file")
    if not path:
        return dict(params)
    if params.get("bearer_token"):
        raise UtrustError(
            "bearer_token and bearer_token_file are both set. Nothing was sent. Set only one of them, also in the environment",
            code="option_invalid",
        )
    tokens.append(_read(path))
    return {**params, "bearer_token": tokens[-1]}


def _read(path: str) -> str:
    """Return the token in a file. A line end after the token is not part of the token."""
    try:
        # Without O_NONBLOCK, a named pipe would block the run.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError("it is not a regular file")
            content = file.read(MAX_TOKEN_BYTES + 1)
    except (OSError, ValueError) as exc:
        raise _invalid(path, str(getattr(exc, "strerror", None) or exc)) from exc
    if len(content) > MAX_TOKEN_BYTES:
        raise _invalid(path, f"it has more than {MAX_TOKEN_BYTES} bytes")
    token = content.decode("latin-1").rstrip("\r\n")
    check_length(token, "bearer_token_file")
    if not is_header_token(token):
        raise _invalid(path, "the token has a blank, a line end or another character that is not allowed in a token")
    return token


def _invalid(path: str, reason: str) -> UtrustError:
    return UtrustError(
        f"bearer_token_file: the token cannot be read from {path!r:.200}: {reason}. Nothing was sent. Set the path of a file with the token only",
        code="bearer_token_file_invalid",
    )
