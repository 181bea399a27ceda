"""What `taskmill doctor` looks at in a PostgreSQL: whether it keeps what it acknowledged, and what slows it down."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg

from cli.checks import FAIL, OK, WARN, Finding
from dispatcher.errors import CannotOpen
from dispatcher.store.postgres.connecting import connect, parameters, shown
from dispatcher.store.postgres.migrations import schema_version, steps

OLD_SNAPSHOT_S = 300
CROWDED = 0.8
DEAD_ROWS = 100_000
OLDEST = """SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::bigint
    FROM pg_stat_activity WHERE backend_xmin IS NOT NULL OR backend_xid IS NOT NULL"""
CONNECTIONS = "SELECT count(*), current_setting('max_connections')::int FROM pg_stat_activity"
DEAD = "SELECT n_dead_tup, n_live_tup FROM pg_stat_user_tables WHERE relid = to_regclass('tasks')"
STANDBYS = "SELECT count(*), current_setting('synchronous_standby_names') FROM pg_stat_replication"


def examine(url: str) -> Iterator[Finding]:
    """All findings about the database that DATABASE_URL names."""
    try:
        db = connect(parameters(url))
    except (CannotOpen, psycopg.Error) as error:
        why = str(error).strip().partition("\n")[0]
        yield Finding("database", FAIL, f"{shown(url)}: {why}", "start it, or correct DATABASE_URL")
        return
    with closing(db):
        yield _version(db, shown(url))
        yield _durability(db)
        for name, check in (("old snapshots", _snapshots), ("connections", _connections), ("dead rows", _dead_rows),
                            ("standbys", _standbys)):  # fmt: skip
            yield _as_far_as_known(name, check, db)


def _as_far_as_known(name: str, check: Callable[[psycopg.Connection], Finding], db: psycopg.Connection) -> Finding:
    """Engines that only speak PostgreSQL's protocol do not have all of its views."""
    try:
        return check(db)
    except psycopg.Error as error:
        return Finding(name, OK, f"not told here: {str(error).partition(chr(10))[0]}")


def _version(db: psycopg.Connection, place: str) -> Finding:
    (version,) = _row(db, "SELECT version()")
    ours, theirs = steps()[-1][0], schema_version(db)
    found = f"{place}: {' '.join(version.split()[:2])}, schema {theirs}"
    if theirs > ours:
        return Finding("database", FAIL, f"{found}, newer than this program's {ours}", "upgrade Taskmill here")
    return Finding("database", OK, found)


def _durability(db: psycopg.Connection) -> Finding:
    off = [name for name in ("fsync", "full_page_writes", "synchronous_commit") if _row(db, f"SHOW {name}") == ("off",)]
    if off:
        return Finding("durability", FAIL, f"{', '.join(off)} = off", "a power cut loses what was acknowledged: set on")
    return Finding("durability", OK, "commits reach the disk")


def _snapshots(db: psycopg.Connection) -> Finding:
    (seconds,) = _row(db, OLDEST)
    if seconds > OLD_SNAPSHOT_S:
        return Finding("old snapshots", WARN, f"a transaction is open for {seconds} s", "end it: nothing is vacuumed")
    return Finding("old snapshots", OK, f"the oldest transaction is open for {seconds} s")


def _connections(db: psycopg.Connection) -> Finding:
    used, most = _row(db, CONNECTIONS)
    if used > CROWDED * most:
        return Finding("connections", WARN, f"{used} of {most} are used", "raise max_connections (11 a dispatcher)")
    return Finding("connections", OK, f"{used} of {most} are used")


def _dead_rows(db: psycopg.Connection) -> Finding:
    dead, live = _row(db, DEAD) or (0, 0)
    if dead > max(DEAD_ROWS, live):
        return Finding("dead rows", WARN, f"{dead} beside {live} live tasks", "is autovacuum on? end old snapshots")
    return Finding("dead rows", OK, f"{dead} beside {live} live tasks")


def _standbys(db: psycopg.Connection) -> Finding:
    standbys, synchronous = _row(db, STANDBYS)
    if standbys and not synchronous:
        remedy = "a failover may lose acknowledged tasks: set synchronous_standby_names"
        return Finding("standbys", WARN, f"{standbys}, none synchronous", remedy)
    return Finding("standbys", OK, f"{standbys}{', synchronous' if standbys else ''}")


def _row(db: psycopg.Connection, sql: str) -> Any:
    return db.execute(sql).fetchone()
