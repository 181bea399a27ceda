"""Numbered migrations of the SQLite store: files `sql/NNNN_name.sql`, each applied once, in order.

Each migration and the rise of `user_version` are one transaction, so that a kill leaves the file at a whole step.
"""

from pathlib import Path

import apsw

from dispatcher.errors import CannotOpen

FOLDER = Path(__file__).parent / "sql"


def steps() -> list[tuple[int, str]]:
    """The (number, SQL) of every migration, in order."""
    return [(int(path.name[:4]), path.read_text()) for path in sorted(FOLDER.glob("[0-9]*.sql"))]


def migrate(db: apsw.Connection, name: str) -> None:
    """Bring a database up to the newest schema; refuse one that is newer than this program."""
    known = steps()
    version = db.pragma("user_version")
    if version > known[-1][0]:
        raise CannotOpen(f"{name} has schema {version}, newer than this program's {known[-1][0]}: upgrade Taskmill")
    for number, sql in known:
        if number > version:
            db.execute(f"BEGIN IMMEDIATE; {sql}\n; PRAGMA user_version = {number}; COMMIT")
