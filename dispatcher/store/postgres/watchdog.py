"""A server that hangs while its kernel still acknowledges: no time-out of the driver or of the server itself would ever
fire, and the writer would wait for ever. So somebody else looks at how long a statement has taken and cuts the line."""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from dispatcher.store.postgres.connecting import STATEMENT_MS

log = logging.getLogger("taskmill.store")
LONGEST_S = STATEMENT_MS / 1000 + 5  # the server itself ends what takes too long, if it still can
LOOK_S = 1.0


class Watchdog:
    """Looks at one connection's present statement from a thread of its own."""

    def __init__(self) -> None:
        self._watched: tuple[psycopg.Connection, float] | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)
        self._thread.start()

    @contextmanager
    def over(self, db: psycopg.Connection) -> Iterator[None]:
        """Watch what is done with the connection meanwhile."""
        self._watched = (db, time.monotonic())
        try:
            yield
        finally:
            self._watched = None

    def close(self) -> None:
        """Look no more."""
        self._stopped.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stopped.wait(LOOK_S):
            watched = self._watched
            if watched is not None and time.monotonic() - watched[1] > LONGEST_S:
                log.warning("the database has not answered for %.0f s: the line is cut", LONGEST_S)
                _cut(watched[0])


def _cut(db: psycopg.Connection) -> None:
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(db.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
