"""Sessions of PostgreSQL that the stores of the tests use one after the other.

A new session has to learn all about the tables before its first statement is planned, which takes longer than nearly
any test. So a store that lets go of a session leaves its line to the server here, with what is prepared there, for the
next one that wants the same. The store's own object is closed for good.
"""

import threading
from collections.abc import Hashable
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool

from dispatcher.store.postgres import store

MOST = 30  # that wait for a store; a server may allow no more than a hundred
ANEW = ("RESET ALL", "UNLISTEN *", "SELECT pg_advisory_unlock_all()", "DISCARD TEMP")  # all but the plans


class _Left(NamedTuple):
    wanted_as: Hashable
    line: Any
    prepared: Any


class KeptSession(psycopg.Connection[Any]):
    """To the store that has it, a session like any other."""

    _wanted_as: Hashable = None
    _is_over = False

    @classmethod
    def connect(cls, conninfo: str = "", *, autocommit: bool = False, **given: Any) -> "KeptSession":  # type: ignore[override]
        wanted_as = (conninfo, autocommit, tuple(sorted((name, str(value)) for name, value in given.items())))
        while left := _taken(wanted_as):
            if made := cls._over(left, autocommit):
                return made
        made = super().connect(conninfo, autocommit=autocommit, **given)
        made._wanted_as = wanted_as
        return made

    @classmethod
    def _over(cls, left: _Left, autocommit: bool) -> "KeptSession | None":
        """A session over a line that was left; None where it was cut meanwhile."""
        made = cls(left.line)
        made._prepared = left.prepared
        try:
            made.autocommit = True
            for words in ANEW:
                made.execute(words, prepare=False)
            made.autocommit = autocommit
        except psycopg.Error:
            made.close()
            return None
        made._wanted_as = left.wanted_as
        return made

    @property
    def closed(self) -> bool:
        return self._is_over or super().closed

    def close(self) -> None:
        with _lock:
            if self.closed:
                return
            is_idle = self.info.transaction_status == TransactionStatus.IDLE
            if self._wanted_as is not None and is_idle and len(_waiting) < MOST:
                self._is_over = True
                _waiting.append(_Left(self._wanted_as, self.pgconn, self._prepared))
                return
        super().close()


class KeptSessionsPool(ConnectionPool[KeptSession]):
    """A pool of them."""

    def __init__(self, **given: Any) -> None:
        super().__init__(connection_class=KeptSession, **given)


_waiting: list[_Left] = []
_lock = threading.Lock()


def _taken(wanted_as: Hashable) -> _Left | None:
    with _lock:
        for place, left in enumerate(reversed(_waiting), 1):
            if left.wanted_as == wanted_as:
                return _waiting.pop(-place)
    return None


def use(patch: pytest.MonkeyPatch) -> None:
    """For every store that opens from now on."""
    patch.setattr(psycopg, "connect", KeptSession.connect)
    patch.setattr(store, "ConnectionPool", KeptSessionsPool)


def close() -> None:
    """End those that wait."""
    while _waiting:
        _waiting.pop().line.finish()
