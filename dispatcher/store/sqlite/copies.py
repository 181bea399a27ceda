"""Copies for others, one at a time: each made by a thread of its own, and given away once.

The thread reads on a connection of its own, so that no writer waits for it. Its file lies beside the database and
loses its name as soon as it is open: whatever ends the dispatcher, nothing stays behind. A copy whose taker does not
come back, or that would fill the disk, is dropped.
"""

import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from dispatcher.errors import CopyRuns, DispatcherError, NoRoom, Unavailable
from dispatcher.store.sqlite import backup, opening
from dispatcher.store.sqlite.store import cause

log = logging.getLogger("taskmill.copies")
PATIENCE_S = 60.0  # a taker comes back sooner
SPARE_BYTES = 64 * 2**20  # is left to the queue itself
PIECE = 256 * 1024


class Copies:
    """The copies of one database. `stopping` tells when there is no more time for them."""

    def __init__(self, path: Path, stopping: Callable[[], bool], vfs: str | None = None) -> None:
        self._path, self._stopping, self._vfs = path, stopping, vfs
        self._door = threading.Lock()
        self._current: Copy | None = None

    def ask(self, name: str, seconds: float) -> "Copy":
        """The copy of that name, begun now if it is new, finished unless it takes longer than `seconds`.

        Raises CopyRuns while there is another, NoRoom, Unavailable.
        """
        with self._door:
            if self._current is None or self._current.over.is_set():
                self._current = Copy(name, self._path, self._stopping, self._vfs)
            found = self._current
        if found.name != name:
            raise CopyRuns
        found.wait(seconds)
        return found


class Copy:
    """One copy of the database, from its first page to the end of its delivery."""

    def __init__(self, name: str, path: Path, stopping: Callable[[], bool], vfs: str | None) -> None:
        self.name, self.share, self.size, self.sha256 = name, 0.0, 0, ""
        self.over = threading.Event()
        self._path, self._stopping, self._vfs = path, stopping, vfs
        self._made, self._taken = threading.Event(), threading.Event()
        self._error: DispatcherError | None = None
        self._file: BinaryIO | None = None
        self._door = threading.Lock()
        self._asked = time.monotonic()
        threading.Thread(target=self._run, name="copy", daemon=True).start()

    def wait(self, seconds: float) -> None:
        """Until it is made, or the time is over. Raises what went wrong."""
        self._asked = time.monotonic()
        self._made.wait(seconds)
        if self._error is not None:
            raise self._error

    def take(self) -> Iterator[bytes] | None:
        """Its bytes, for the first who asks once it is made; `close` must follow. None while it is being made."""
        if not self._made.is_set():
            return None
        with self._door:
            if self._taken.is_set() or self._file is None:
                raise CopyRuns
            self._taken.set()
        return self._pieces(self._file)

    def _pieces(self, file: BinaryIO) -> Iterator[bytes]:
        file.seek(0)
        left = self.size
        while left:
            piece = file.read(PIECE)
            left -= len(piece)
            if not left:  # who has it all may ask for the next at once
                self.close()
            yield piece

    def close(self) -> None:
        """Let go of it; the next one may begin."""
        with self._door:
            self._drop()

    def _drop(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
        self.over.set()

    def _run(self) -> None:
        try:
            self._make()
        except DispatcherError as error:
            self._error = error
        except Exception as error:  # whatever keeps the file from being read or written
            self._error = cause(error)
            log.warning("a copy of the database failed: %s", error)
        if self._error is not None:
            self.close()  # before it is told: the next one may begin then
        self._made.set()
        if not self.over.is_set() and not self._taken.wait(PATIENCE_S):
            with self._door:
                if not self._taken.is_set():  # nor taken just now
                    self._drop()

    def _make(self) -> None:
        began = time.monotonic()
        path = self._path.with_name(f"{self._path.name}.copy-{secrets.token_hex(8)}")
        self._leave_room(self._path.stat().st_size)
        try:
            self._file = path.open("x+b")
            path.chmod(0o600)
            with closing(opening.open_reader(self._path)) as source:
                self.sha256 = backup.write(source, path, self._file, lambda share: self._go_on(share, path), self._vfs)
        finally:
            path.unlink(missing_ok=True)
        self.size = os.fstat(self._file.fileno()).st_size
        log.info("made a copy of %d bytes in %.1f s", self.size, time.monotonic() - began)

    def _go_on(self, share: float, path: Path) -> None:
        path.unlink(missing_ok=True)  # open by now
        self.share = share
        self._leave_room(0)
        if self._stopping():
            raise Unavailable("the dispatcher is stopping")
        if time.monotonic() - self._asked > PATIENCE_S:
            raise Unavailable("nobody asked for the copy any more")

    def _leave_room(self, needed: int) -> None:
        """A full disk would stop the queue: rather no copy."""
        if shutil.disk_usage(self._path.parent).free - needed < SPARE_BYTES:
            raise NoRoom
