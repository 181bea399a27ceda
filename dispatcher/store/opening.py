"""Which store: a database where DATABASE_URL names one, else the SQLite file."""

from pathlib import Path

from dispatcher.store.base import Store


def open_store(database_url: str, db_path: Path, notify: bool = True) -> Store:
    """The store, open and migrated. Raises CannotOpen."""
    if database_url:
        from dispatcher.store.postgres import PostgresStore  # its driver is loaded only where it is used

        return PostgresStore(database_url, notify=notify)
    from dispatcher.store.sqlite import SqliteStore

    return SqliteStore(db_path)
