"""PostgreSQL and what speaks its protocol (YugabyteDB): one database, any number of dispatchers."""

from dispatcher.store.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
