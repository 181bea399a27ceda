"""Connections: how the URL is read, what every session is set to, and what an error of the driver means to us.

A dispatcher that is stopped inside a transaction would hold its row locks against all others: the server ends such a
session after `IDLE_MS`, and nobody waits for a lock longer than `LOCK_MS`. A dead network shows within `DEAD_MS`.
"""

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from dispatcher.errors import CannotOpen, DispatcherError, StorageFull, Unavailable

log = logging.getLogger("taskmill.store")
IDLE_MS, LOCK_MS, STATEMENT_MS, DEAD_MS = 5_000, 2_000, 20_000, 10_000
DEFAULTS: dict[str, Any] = {
    "application_name": "taskmill",
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": DEAD_MS,
    "target_session_attrs": "read-write",  # of several hosts in the URL: the one that is not a standby
}
SETTINGS = {
    "idle_in_transaction_session_timeout": IDLE_MS,
    "lock_timeout": LOCK_MS,
    "statement_timeout": STATEMENT_MS,
    "jit": "off",
}
# tables are joined as written: to look for the best order of eight takes longer than what it is for
READING = {**SETTINGS, "join_collapse_limit": 1}
BY_CHANCE = (errors.SerializationFailure, errors.DeadlockDetected)  # the same again may well succeed
# one operation met a lock or took too long; the others of its group are well
REFUSED = (errors.LockNotAvailable, errors.QueryCanceled)
PASSING = (*BY_CHANCE, *REFUSED)  # tried again it may well succeed
# the schema is not as it should be, or not ours to use: nobody's request is at fault
DAMAGED = (
    errors.InternalError,
    errors.InsufficientPrivilege,
    errors.UndefinedTable,
    errors.UndefinedColumn,
    errors.UndefinedFunction,
    errors.InvalidSchemaName,
)
AWAY = (
    errors.OperationalError,  # the driver's own: no connection, or it was cut
    errors.InterfaceError,
    errors.ReadOnlySqlTransaction,  # a failover: this one has become the standby
    errors.IdleInTransactionSessionTimeout,
    errors.InFailedSqlTransaction,
)


def shown(url: str) -> str:
    """The URL without user, password and options, for messages; nothing of one that cannot be read for certain."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        return "the database"
    host, port, name = (str(given.get(part) or "") for part in ("host", "port", "dbname"))
    if "@" in host + name or not all(one == "" or one.isdecimal() for one in port.split(",")):
        return "the database"  # a password with a / in it, not written as %2F
    ports = port.split(",") if port else [""]
    hosts = host.split(",") if host else ["local socket"]
    ports = ports if len(ports) == len(hosts) else ports[:1] * len(hosts)
    places = (f"{one}:{number}" if number else one for one, number in zip(hosts, ports, strict=True))
    return f"postgresql://{','.join(places)}/{name}"


def parameters(url: str) -> dict[str, Any]:
    """What to connect with: the URL's own words, our defaults for the rest. Raises CannotOpen, whose text holds nothing
    of the URL: what the driver cannot read may be the password."""
    with suppress(psycopg.Error):
        if url.partition("?")[0].count("@") <= 1:
            return {**DEFAULTS, **conninfo_to_dict(url)}
    raise CannotOpen("DATABASE_URL cannot be read: percent-encode what is special in user and password")


def connect(given: dict[str, Any]) -> psycopg.Connection:
    """A session in autocommit mode, set as ours are. Raises CannotOpen and what the driver does."""
    try:
        db = psycopg.connect(autocommit=True, **given)
    except UnicodeError:
        raise CannotOpen("DATABASE_URL names a host that cannot be one") from None
    try:
        configure(db)
        if _value(db, "synchronous_commit") == "off":  # an acknowledged task must survive a power cut (I1)
            db.execute("SET synchronous_commit = on")
    except BaseException:
        db.close()
        raise
    return db


def configure(db: psycopg.Connection, settings: Mapping[str, Any] = SETTINGS) -> None:
    """Set a session; what an engine does not know is left."""
    for name, value in settings.items():
        try:
            db.execute(f"SET {name} = {value}")
        except (errors.UndefinedObject, errors.FeatureNotSupported) as error:
            log.info("%s is not known here: %s", name, first_line(error))


def look_at_durability(db: psycopg.Connection) -> None:
    """Warn of a server that keeps nothing through a power cut, whatever a session is set to."""
    if _value(db, "fsync") == "off":
        log.warning("the database runs with fsync = off: a power cut can lose everything")


def _value(db: psycopg.Connection, name: str) -> str | None:
    try:
        row = db.execute(f"SHOW {name}").fetchone()
    except errors.UndefinedObject:
        return None
    return str(row[0]) if row else None


def cause(error: Exception) -> DispatcherError:
    """What a caller is told of an error that is not its own fault; what the driver said is for the log."""
    if isinstance(error, errors.DiskFull):
        return StorageFull()
    level = logging.DEBUG if isinstance(error, PASSING) else logging.WARNING
    log.log(level, "the database: %s: %s", type(error).__name__, first_line(error))
    return Unavailable("the database cannot be used now")


def first_line(error: Exception) -> str:
    """What the driver said, without its hints."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
