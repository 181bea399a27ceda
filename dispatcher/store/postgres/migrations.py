"""Numbered migrations: files `sql/NNNN_name.sql`, applied in order, each statement a step of its own.

Every statement is idempotent, and `meta.schema` rises only after the last one of a file: a migration that was cut
short, or that two dispatchers run at once, is simply run again.
"""

from pathlib import Path

import psycopg
from psycopg import errors

from dispatcher.errors import CannotOpen

FOLDER = Path(__file__).parent / "sql"
TRIES = 10
# what two that create the same thing at once tell one of them
OVERTAKEN = (errors.UniqueViolation, errors.DuplicateTable, errors.DuplicateObject, errors.SerializationFailure)


def steps() -> list[tuple[int, list[str]]]:
    """The (number, statements) of every migration, in order."""
    return [(int(path.name[:4]), statements(path.read_text())) for path in sorted(FOLDER.glob("[0-9]*.sql"))]


def statements(text: str) -> list[str]:
    """The statements of a file: each ends with a semicolon at the end of a line."""
    return [part.strip() for part in f"{text}\n".split(";\n") if part.strip()]


def migrate(db: psycopg.Connection, name: str) -> None:
    """Bring a database up to the newest schema; refuse one that is newer than this program."""
    known = steps()
    version = schema_version(db)
    if version > known[-1][0]:
        raise CannotOpen(f"{name} has schema {version}, newer than this program's {known[-1][0]}: upgrade Taskmill")
    for number, parts in known:
        if number > version:
            for part in parts:
                _apply(db, part)
            _apply(
                db,
                f"""INSERT INTO meta VALUES ('schema', '{number}') ON CONFLICT (key) DO UPDATE
                           SET value = greatest(meta.value::int, excluded.value::int)::text""",
            )


def schema_version(db: psycopg.Connection) -> int:
    """The number of the last migration that was applied; 0 for an empty database."""
    found = db.execute("SELECT to_regclass('meta')").fetchone()
    if found is None or found[0] is None:
        return 0
    row = db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    return int(row[0]) if row else 0


def _apply(db: psycopg.Connection, statement: str) -> None:
    for tries_left in range(TRIES, -1, -1):
        try:
            db.execute(statement)
            return
        except OVERTAKEN:
            if not tries_left:
                raise
