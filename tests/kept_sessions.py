"""Sessions of PostgreSQL that the stores of the tests use one after the other.

A new session has to learn all about the tables before its first statement is planned, which takes longer than nearly
any test. So a store that lets go of its sessions leaves them here, for the next one that wants the same.
"""

import threading
from collections.abc import Hashable
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool

from dispatcher.store.postgres import store

MOST = 60  # that wait for a store, of the 200 that the server allows
BUSY = (TransactionStatus.ACTIVE, TransactionStatus.UNKNOWN)


class KeptSession(psycopg.Connection[Any]):
    """To the store that has it, a session like any other."""

    _wanted_as: Hashable = None
    _waits = False

    @classmethod
    def connect(cls, conninfo: str = "", *, autocommit: bool = False, **given: Any) -> "KeptSession":  # type: ignore[override]
        wanted_as = (conninfo, autocommit, tuple(sorted((name, str(value)) for name, value in given.items())))
        while found := _taken(wanted_as):
            if found._begins_anew(autocommit):
                return found
        made = super().connect(conninfo, autocommit=autocommit, **given)
        made._wanted_as = wanted_as
        return made

    @property
    def closed(self) -> bool:
        return self._waits or super().closed

    def close(self) -> None:
        if not self.closed and not self._is_left():
            super().close()

    def _is_left(self) -> bool:
        with _lock:
            if self._wanted_as is None or self.info.transaction_status in BUSY or len(_waiting) >= MOST:
                return False
            self._waits = True
            _waiting.append(self)
            return True

    def _begins_anew(self, autocommit: bool) -> bool:
        """Whether it is as after its start; it may have been cut meanwhile."""
        self._waits = False
        try:
            self.rollback()
            self.autocommit = True
            self.execute("RESET ALL")
            self.isolation_level = self.read_only = None
            self.autocommit = autocommit
        except psycopg.OperationalError:
            self._wanted_as = None
            self.close()
            return False
        return True


class KeptSessionsPool(ConnectionPool[KeptSession]):
    """A pool of them."""

    def __init__(self, **given: Any) -> None:
        super().__init__(connection_class=KeptSession, **given)


_waiting: list[KeptSession] = []
_lock = threading.Lock()


def _taken(wanted_as: Hashable) -> KeptSession | None:
    with _lock:
        for place, session in enumerate(reversed(_waiting), 1):
            if session._wanted_as == wanted_as:
                return _waiting.pop(-place)
    return None


def use(patch: pytest.MonkeyPatch) -> None:
    """For every store that opens from now on."""
    patch.setattr(psycopg, "connect", KeptSession.connect)
    patch.setattr(store, "ConnectionPool", KeptSessionsPool)


def close() -> None:
    """End those that wait."""
    while _waiting:
        session = _waiting.pop()
        session._waits, session._wanted_as = False, None
        session.close()
