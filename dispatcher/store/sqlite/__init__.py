"""The embedded store: one SQLite file through apsw, whose wheel brings a current SQLite (DESIGN section 7.6)."""

from dispatcher.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
