# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the EJBCA view of one node: page 0, crypto tokens, keys. Private to keyops.utrust.

A crypto token that cannot be activated is viewed once. Every further view tries its PIN again, and the HSM can lock the slot.
"""

from __future__ import annotations

import collections
import typing as t

from ansible_collections.keyops.utrust.plugins.module_utils import _limits as limits
from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.view import (
    EjbcaView,
    ViewKey,
    ViewProblem,
    ViewToken,
)
from ansible_collections.keyops.utrust.plugins.module_utils._errors import ApiError, UtrustError
from ansible_collections.keyops.utrust.plugins.module_utils._printable import escape_unprintable

if t.TYPE_CHECKING:
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.client import AdminWeb
    from ansible_collections.keyops.utrust.plugins.module_utils._ejbca.admin_web.pages import (
        KeyRow,
        ListedToken,
        TokenPage,
    )

Rows = dict[int, "ListedToken"]


class Selection(t.NamedTuple):
    """Which crypto tokens are read. Without names and ids, every listed crypto token is read.

    `ids` also serve an EJBCA whose list does not show ids.
    """

    names: frozenset[str] = frozenset()
    ids: frozenset[int] = frozenset()

    def has(self, token_id: int, name: str) -> bool:
        return not (self.names or self.ids) or token_id in self.ids or name in self.names


def read_view(admin_web: AdminWeb, selection: Selection) -> EjbcaView:
    """Return the view. A crypto token that cannot be read has a problem. Raises UtrustError if nothing is known of the node."""
    home = admin_web.home()
    view = _Reader(admin_web, selection).read()._replace(**home._asdict())
    admin_web.check_node(home.host_name)
    return view


class _Reader:
    def __init__(self, admin_web: AdminWeb, selection: Selection) -> None:
        self._admin_web = admin_web
        self._selection = selection
        self._keys = _Keys(admin_web)
        self._listed_since_token = False
        self._failing = False

    def read(self) -> EjbcaView:
        listed = self._list()
        if any(row.id is None for row in listed):
            return self._read_without_ids(listed)
        rows = _by_id(listed)
        self._check_selection(rows)
        tokens = []
        for token_id in rows:
            if self._selection.has(token_id, rows[token_id].name):
                rows = self._list_again(rows)
                tokens.append(self._token(token_id, rows[token_id]))
            else:
                tokens.append(_unread(token_id, rows[token_id]))
        return EjbcaView(None, None, None, tuple(tokens))

    def _list(self) -> tuple[ListedToken, ...]:
        """Return the list of crypto tokens. Drawing it looks at every crypto token, so a PIN that fails is tried again."""
        listed = self._admin_web.list_tokens()
        if len(listed) > limits.MAX_CRYPTO_TOKENS:
            raise _too_large(f"{len(listed)} crypto tokens", limits.MAX_CRYPTO_TOKENS)
        self._failing = self._failing or any(map(_fails, listed))
        self._listed_since_token = True
        return listed

    def _list_again(self, rows: Rows) -> Rows:
        """Return the list of now. Older versions show a crypto token as it was when the list was drawn.

        The list is not drawn again if the activation of a crypto token fails. The keys are current even then, because the id changes with each page.
        """
        if self._listed_since_token or self._failing:
            return rows
        found = _by_id(self._list())
        if set(found) != set(rows):
            raise ApiError(
                "reading EJBCA's Admin Web: the list of crypto tokens changed while it was read. Run again",
                code="crypto_tokens_changed",
            )
        return found

    def _check_selection(self, rows: Rows) -> None:
        names = {row.name for row in rows.values()}
        missing = [*sorted(self._selection.names - names), *map(str, sorted(self._selection.ids - set(rows)))]
        if missing:
            raise UtrustError(
                f"reading EJBCA's Admin Web: crypto token {', '.join(missing)} is missing in the list (crypto tokens: "
                f"{', '.join(sorted(names)) or 'none'}). Correct the option, or let the reader view the crypto token",
                code="crypto_token_missing",
            )

    def _read_without_ids(self, listed: tuple[ListedToken, ...]) -> EjbcaView:
        """Read the crypto tokens of option `token_ids`. Their pages have their names, and the list has the state of each name."""
        failing = [row.name for row in listed if _fails(row)]
        if failing:
            raise ApiError(
                f"reading EJBCA's Admin Web: the activation of crypto token {', '.join(failing)} fails, and the list shows no ids. "
                "No page of a crypto token was read, because the page of this crypto token would try its PIN again. Correct the PIN in EJBCA",
                code="token_activation_failing",
            )
        if not self._selection.ids:
            raise UtrustError(
                "reading EJBCA's Admin Web: the list of crypto tokens shows no ids. Set token_ids to the ids that the pages of the crypto tokens show",
                code="crypto_token_id_missing",
            )
        by_name = {row.name: row for row in listed}
        tokens = []
        for token_id in sorted(self._selection.ids):
            if not (self._listed_since_token or self._failing):
                by_name = {row.name: row for row in self._list()}
            page = self._token(token_id, None)
            row = by_name.pop(page.name, None)
            tokens.append(page if row is None else _with_slot(page, row))
        left = sorted(set(by_name) - {token.name for token in tokens})
        warnings = [f"crypto token {name} is in the list, but not in token_ids, so it was not read" for name in left]
        return EjbcaView(None, None, None, tuple(tokens), tuple(warnings))

    def _token(self, token_id: int, row: ListedToken | None) -> ViewToken:
        token = _unread(token_id, row)
        if token.problem is not None:
            return token
        self._listed_since_token = False
        try:
            page = self._admin_web.token(token_id)
        except ApiError as exc:
            return token._replace(problem=ViewProblem(exc.code, str(exc)))
        auto = page.auto_activation if page.auto_activation is not None else token.auto_activation
        token = token._replace(
            name=token.name or page.name, type=page.type, active=page.active, auto_activation=auto, used=page.used
        )
        if page.problem is not None:
            return token._replace(active=_certain(page), problem=page.problem)
        if page.rows is None:
            self._failing = self._failing or auto is not False
            return token._replace(problem=_activation_failing(token.name) if auto is not False else None)
        keys = self._keys.read(token_id, page.rows)
        return token._replace(keys=keys, needs_authorization=page.needs_authorization)


class _Keys:
    """Downloads public keys, each SubjectKeyID once."""

    def __init__(self, admin_web: AdminWeb) -> None:
        self._admin_web = admin_web
        self._known: dict[str, tuple[str | None, str | None]] = {}
        self._failures = 0
        self._count = 0

    def read(self, token_id: int, rows: t.Sequence[KeyRow]) -> tuple[ViewKey, ...]:
        self._count += len(rows)
        if self._count > limits.MAX_VIEW_KEYS:
            raise _too_large(f"{self._count} keys", limits.MAX_VIEW_KEYS)
        counts = collections.Counter(row.alias for row in rows)
        return tuple(self._key(token_id, row, unique=counts[row.alias] == 1) for row in rows)

    def _key(self, token_id: int, row: KeyRow, *, unique: bool) -> ViewKey:
        key = ViewKey(escape_unprintable(row.alias), row.algorithm, row.specification, row.subject_key_id, None)
        if row.subject_key_id is None:
            return key
        if not unique:
            return key._replace(subject_key_id=None, problem="several keys of the crypto token have this alias")
        if row.subject_key_id not in self._known:
            if self._failures >= limits.MAX_FAILED_DOWNLOADS:
                return key._replace(problem="the public key was not downloaded, because other downloads failed")
            try:
                found = self._admin_web.public_key(token_id, row.alias)
            except ApiError as exc:
                self._failures += 1
                return key._replace(problem=str(exc))
            if found.subject_key_id != row.subject_key_id:
                return key._replace(
                    subject_key_id=None,
                    problem=f"the downloaded public key has the SubjectKeyID {found.subject_key_id}, the page shows {row.subject_key_id}",
                )
            self._known[row.subject_key_id] = found.fingerprint, found.problem
        fingerprint, problem = self._known[row.subject_key_id]
        return key._replace(fingerprint=fingerprint, problem=problem)


def _by_id(listed: tuple[ListedToken, ...]) -> Rows:
    """Return the rows by their ids. Raises ApiError (`ejbca_page_unrecognized`) if an id is missing or occurs twice."""
    rows = {row.id: row for row in listed if row.id is not None}
    if len(rows) != len(listed):
        raise ApiError(
            "reading EJBCA's Admin Web: the list of crypto tokens shows an id twice or not at all. Nothing was concluded from the list. "
            "Check the version of EJBCA",
            code="ejbca_page_unrecognized",
        )
    return rows


def _unread(token_id: int, row: ListedToken | None) -> ViewToken:
    if row is None:
        return ViewToken(token_id, "", None, None, active=None, auto_activation=None, used=None, keys=None)
    # Each list tries the PIN, so also a crypto token that nobody asked for has this problem.
    problem = _activation_failing(row.name) if _fails(row) else None
    token = ViewToken(
        token_id, row.name, None, None, row.active, row.auto_activation, used=None, keys=None, problem=problem
    )
    return _with_slot(token, row)


def _with_slot(token: ViewToken, row: ListedToken) -> ViewToken:
    return token._replace(reference=row.reference, reference_type=row.reference_type)


def _fails(row: ListedToken) -> bool:
    """Whether EJBCA activates the crypto token by itself but could not. Without a known setting it may have tried."""
    return row.active is False and row.auto_activation is not False


def _activation_failing(name: str) -> ViewProblem:
    return ViewProblem(
        "token_activation_failing",
        f"crypto token {name} is inactive although auto-activation is on. Each view of EJBCA tries its PIN again. Correct the PIN before the next run",
    )


def _certain(page: TokenPage) -> bool | None:
    """Return whether the crypto token is active, or None if the page contradicts itself."""
    contradictory = page.problem is not None and page.problem.code == "crypto_token_state_contradictory"
    return None if contradictory else page.active


def _too_large(found: str, limit: int) -> ApiError:
    return ApiError(
        f"reading EJBCA's Admin Web: it shows {found}, at most {limit} are accepted. Set crypto_tokens to read fewer",
        code="response_too_large",
    )
