# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The database that all nodes of a cluster share: crypto tokens, CAs with their key mappings, and certificates. It does not contain keys.

The database is SQLite in the folder of the cluster, or PostgreSQL. Nothing is cached, so that all nodes use changes immediately.
"""

from __future__ import annotations

import secrets
import typing as t
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from utrust_appliance.ejbca.errors import EjbcaError
from utrust_appliance.errors import OperationError

if t.TYPE_CHECKING:
    from collections.abc import Iterator

DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}
SUN, NG = "PKCS11CryptoToken", "Pkcs11NgCryptoToken"
_TABLES = sa.MetaData()
_TOKENS = sa.Table(
    "crypto_tokens",
    _TABLES,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("slot", sa.Integer, nullable=False),
    sa.Column("code_sha256", sa.Text, nullable=False),
    sa.Column("auto_activation", sa.Boolean, nullable=False),
    sa.Column("regenerate_next_key", sa.Boolean, nullable=False),
    sa.Column("id", sa.Integer, nullable=False, unique=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("placeholders", sa.JSON, nullable=False),
)
_AUTHORITIES = sa.Table(
    "authorities",
    _TABLES,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("subject_dn", sa.Text, nullable=False, unique=True),
    sa.Column("token", sa.ForeignKey("crypto_tokens.name"), nullable=False),
    sa.Column("current_alias", sa.Text, nullable=False),
    sa.Column("next_alias", sa.Text),
    sa.Column("previous_alias", sa.Text),
    sa.Column("certificate", sa.Text, nullable=False),
    sa.Column("in_health_check", sa.Boolean, nullable=False),
)
_CERTIFICATES = sa.Table(
    "certificates",
    _TABLES,
    sa.Column("serial_number", sa.Text, primary_key=True),
    sa.Column("authority", sa.ForeignKey("authorities.name"), nullable=False),
    sa.Column("node", sa.Text, nullable=False),
    sa.Column("alias", sa.Text, nullable=False),
    sa.Column("certificate", sa.Text, nullable=False),
)


@dataclass(frozen=True)
class TokenSettings:
    """A crypto token, which is a slot of the HSM of each node.

    `id`: a signed number with 32 bits. `type`: the class name in EJBCA. `placeholders`: aliases of key templates without a key.
    `regenerate_next_key`: if the test of the next key of a CA fails, generate another key under the same alias on this node.
    """

    name: str
    slot: int
    code_sha256: str
    auto_activation: bool = True
    regenerate_next_key: bool = False
    id: int = field(default_factory=lambda: secrets.randbits(32) - 2**31)
    type: str = SUN
    placeholders: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CertificateAuthority:
    """A CA with its key aliases and its certificate (PEM)."""

    name: str
    subject_dn: str
    token: str
    current_alias: str
    certificate: str
    next_alias: str | None = None
    previous_alias: str | None = None
    in_health_check: bool = True


Row = t.TypeVar("Row", TokenSettings, CertificateAuthority)


class SharedDatabase:
    """One connection pool for all nodes of the process."""

    def __init__(self, url: str) -> None:
        self._engine = sa.create_engine(_checked(url))
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _durable)
        try:
            _TABLES.create_all(self._engine)
        except SQLAlchemyError as exc:
            raise OperationError(f"The database of EJBCA is not available: {_reason(exc)}.") from exc

    def token(self, name: str) -> TokenSettings:
        return self._one(_TOKENS, TokenSettings, name, "crypto token")

    def tokens(self) -> list[TokenSettings]:
        return self._all(_TOKENS, TokenSettings)

    def put_token(self, settings: TokenSettings) -> None:
        self._put(_TOKENS, settings)

    def delete_token(self, name: str) -> None:
        with self._transaction() as connection:
            connection.execute(_TOKENS.delete().where(_TOKENS.c.name == name))

    def authority(self, name: str) -> CertificateAuthority:
        return self._one(_AUTHORITIES, CertificateAuthority, name, "CA")

    def authorities(self) -> list[CertificateAuthority]:
        return self._all(_AUTHORITIES, CertificateAuthority)

    def put_authority(self, authority: CertificateAuthority) -> None:
        self._put(_AUTHORITIES, authority)

    def record(self, *, serial_number: str, authority: str, node: str, alias: str, certificate: str) -> None:
        row = {"serial_number": serial_number, "authority": authority, "node": node, "alias": alias}
        with self._transaction() as connection:
            connection.execute(_CERTIFICATES.insert().values(**row, certificate=certificate))

    def problem(self) -> str | None:
        """The reason if the database is not available, else None."""
        try:
            with self._engine.connect() as connection:
                connection.execute(sa.text("SELECT 1"))
        except SQLAlchemyError as exc:
            return _reason(exc)
        return None

    def close(self) -> None:
        self._engine.dispose()

    def _one(self, table: sa.Table, kind: type[Row], name: str, what: str) -> Row:
        found = self._all(table, kind, name)
        if not found:
            raise EjbcaError(404, f"The {what} {name} does not exist")
        return found[0]

    def _all(self, table: sa.Table, kind: type[Row], name: str | None = None) -> list[Row]:
        query = sa.select(table).order_by(table.c.name)
        if name is not None:
            query = query.where(table.c.name == name)
        with self._transaction() as connection:
            return [kind(**row) for row in connection.execute(query).mappings()]

    def _put(self, table: sa.Table, row: TokenSettings | CertificateAuthority) -> None:
        values = asdict(row)
        with self._transaction() as connection:
            done = connection.execute(table.update().where(table.c.name == row.name).values(**values))
            if done.rowcount == 0:
                connection.execute(table.insert().values(**values))

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as exc:
            raise EjbcaError(500, f"The database request failed: {_reason(exc)}") from exc


def _checked(text: str) -> sa.URL:
    try:
        url = sa.make_url(text)
    except ArgumentError as exc:
        raise OperationError("--database must be a URL, for example postgresql://user@host/name.") from exc
    if url.drivername not in DRIVERS:
        raise OperationError(f"The scheme of --database must be {' or '.join(DRIVERS)}, not {url.drivername}.")
    if url.password:
        raise OperationError("--database must not contain a password, because process lists show it. Use PGPASSFILE.")
    if url.drivername == "postgresql":
        try:
            import psycopg  # noqa: F401 - availability check
        except ImportError as exc:
            raise OperationError(
                "PostgreSQL requires a driver. Run pip install './tests/appliance[postgresql]'."
            ) from exc
    return url.set(drivername=DRIVERS[url.drivername])


def _durable(connection: t.Any, dummy_record: t.Any) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}")


def _reason(exc: SQLAlchemyError) -> str:
    """The message of the database, without SQL and values."""
    return str(getattr(exc, "orig", None) or exc).strip().splitlines()[0]
