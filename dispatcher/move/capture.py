"""Following a live file: triggers note the key of every row that changes, in the transaction that changes it.

The log holds keys, not rows: whoever reads it looks up the rows as they are now, so applying it twice, or late, is
harmless. It lives in the file and survives whatever ends the dispatcher; a move that is taken up again finds all that
happened meanwhile. A move that nobody takes up costs each write a little, and room up to MOST entries: then the log
stops, and the next move starts anew. `number` is of the present log: with another one nothing is known of a target.
"""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import apsw

from dispatcher.move.tables import Table

MOST = 5_000_000
LOG = """CREATE TABLE move_changes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    tab TEXT NOT NULL,
    key TEXT NOT NULL
) STRICT"""
ROOM = (
    f"""(SELECT coalesce(max(seq), 0) FROM move_changes) - (SELECT coalesce(min(seq), 0) FROM move_changes) < {MOST}"""
)
TRIGGERS = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND name LIKE 'move\\_%' ESCAPE '\\'"


class Change(NamedTuple):
    """One row that changed."""

    seq: int
    table: str
    key: str


def install(db: apsw.Connection, tables: Sequence[Table]) -> None:
    """Begin to follow; goes on with what an earlier move began, where that is whole."""
    wanted = dict(trigger for table in tables for trigger in _triggers(table))
    if dict(db.execute(TRIGGERS)) == wanted and number(db) and not _is_full(db):
        return
    remove(db)
    db.execute(LOG)
    for sql in wanted.values():
        db.execute(sql)
    db.execute("INSERT INTO meta VALUES ('move_capture', ?)", (secrets.token_hex(8),))


def remove(db: apsw.Connection) -> None:
    """Follow no longer."""
    for name, _ in list(db.execute(TRIGGERS)):
        db.execute(f"DROP TRIGGER {name}")
    db.execute("DROP TABLE IF EXISTS move_changes")
    db.execute("DELETE FROM meta WHERE key = 'move_capture'")


def number(db: apsw.Connection) -> str | None:
    """What names the present log. A restored backup holds the log of its own time, so the very file counts as well."""
    found = db.execute("SELECT value FROM meta WHERE key = 'move_capture'").get
    return f"{found}-{os.stat(Path(db.filename)).st_ino}" if found else None


def is_whole_since(db: apsw.Connection, seq: int) -> bool:
    """Whether everything after that place is still in the log."""
    first, last = first_and_last(db)
    return first <= seq + 1 <= last + 1 and not _is_full(db)


def first_and_last(db: apsw.Connection) -> tuple[int, int]:
    """Places in the log: of its first entry (the next one where it is empty), and of the last ever written."""
    last = int(db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'move_changes'").get or 0)
    first = db.execute("SELECT min(seq) FROM move_changes").get
    return (last + 1 if first is None else int(first)), last


def changes(db: apsw.Connection, after: int, limit: int) -> list[Change]:
    """The next entries."""
    sql = "SELECT seq, tab, key FROM move_changes WHERE seq > ? ORDER BY seq LIMIT ?"
    return [Change(*row) for row in db.execute(sql, (after, limit))]


def forget(db: apsw.Connection, upto: int, limit: int) -> int:
    """Drop entries that the target has; how many."""
    sql = "DELETE FROM move_changes WHERE seq IN (SELECT seq FROM move_changes WHERE seq <= ? ORDER BY seq LIMIT ?)"
    db.execute(sql, (upto, limit))
    return db.changes()


def _is_full(db: apsw.Connection) -> bool:
    return not db.execute(f"SELECT {ROOM}").get


def _triggers(table: Table) -> list[tuple[str, str]]:
    new, old = (f"json_array({', '.join(f'{row}.{column}' for column in table.key)})" for row in ("new", "old"))
    note = f"INSERT INTO move_changes (tab, key) SELECT '{table.name}',"
    bodies = {
        "insert": f"{note} {new};",
        "delete": f"{note} {old};",
        "update": f"{note} {new}; {note} {old} WHERE {old} IS NOT {new};",
    }
    made = "CREATE TRIGGER {name} AFTER {verb} ON {table} WHEN {room} BEGIN {body} END"
    named = {verb: f"move_{table.name}_{verb}" for verb in bodies}
    return [
        (named[verb], made.format(name=named[verb], verb=verb.upper(), table=table.name, room=ROOM, body=body))
        for verb, body in bodies.items()
    ]
