"""Hints between dispatchers by LISTEN/NOTIFY: "there is something to take". Nothing depends on them.

NOTIFY takes a lock of the whole server at its commit, so it goes out in a transaction of its own, off the writer's way,
without waiting for the disk, and at most once in `APART_S`. An engine that has none of it, or not now, is asked again
later; until then the others look around by themselves twice a second.
"""

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any

import psycopg

from dispatcher.store.postgres.connecting import connect

log = logging.getLogger("taskmill.hints")
CHANNEL = "taskmill"
APART_S = 0.01
AGAIN_S = 5.0
SLICE_S = 0.5  # how long a wait for hints may keep `close` waiting


class Hints:
    """One thread that sends, one that listens, each on a connection of its own."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given
        self._rung, self._stopped = threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []
        self._start("hints-out", self._send, lambda: None)

    def ring(self) -> None:
        """There is news for the others."""
        self._rung.set()

    def listen(self, call: Callable[[], None]) -> None:
        """Call whenever news comes."""
        self._start("hints-in", self._receive, call)

    def close(self) -> None:
        """End both."""
        self._stopped.set()
        self._rung.set()
        for thread in self._threads:
            thread.join()

    def _start(self, name: str, work: Callable[..., None], call: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=self._keep, args=(work, call), name=name, daemon=True))
        self._threads[-1].start()

    def _keep(self, work: Callable[..., None], call: Callable[[], None]) -> None:
        said = False
        while not self._stopped.is_set():
            if work == self._send:  # which needs no connection before there is something to send
                self._rung.wait()
            try:
                with connect(self._given) as db:
                    work(db, call)
            except psycopg.Error as error:
                if not said:
                    log.info("no hints between dispatchers for now: %s", str(error).partition("\n")[0])
                said = True
                self._stopped.wait(AGAIN_S)

    def _send(self, db: psycopg.Connection, _: Callable[[], None]) -> None:
        with contextlib.suppress(psycopg.errors.UndefinedObject):
            db.execute("SET synchronous_commit = off")
        while self._rung.wait():
            self._rung.clear()
            if self._stopped.is_set():  # looked at after the line above: `close` rings once, and after it nobody does
                return
            db.execute(f"NOTIFY {CHANNEL}")
            self._stopped.wait(APART_S)

    def _receive(self, db: psycopg.Connection, call: Callable[[], None]) -> None:
        db.execute(f"LISTEN {CHANNEL}")
        while not self._stopped.is_set():
            for _ in db.notifies(timeout=SLICE_S, stop_after=1):
                call()
