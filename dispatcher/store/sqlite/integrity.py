"""Whether the pages of a file are whole, looked at while it is worked on."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import apsw

from dispatcher.store.sqlite import opening

log = logging.getLogger("taskmill.integrity")
LOOK_S = 10.0  # nothing is checkpointed past the moment that is looked at, so the log grows meanwhile
FRESH_S = 60.0


class Look(NamedTuple):
    """What was found: `ok`, or the first fault; None: the file was not read to its end. `seconds` it took."""

    found: str | None
    seconds: float


class Examiner:
    """Looks at one file, on a connection of its own; who asks again within a minute is told the same."""

    def __init__(self, path: Path, look_s: float = LOOK_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._look_s, self._clock = path, look_s, clock
        self._door = threading.Lock()
        self._last: tuple[float, Look] | None = None

    def look(self) -> Look:
        """How the file is, or was within the last minute."""
        with self._door:
            if self._last is None or self._clock() - self._last[0] >= FRESH_S:
                found = self._examine()
                self._last = (self._clock(), found)
            return self._last[1]

    def _examine(self) -> Look:
        began = self._clock()
        try:
            with closing(opening.open_reader(self._path)) as db:
                found = opening.examined(db, self._look_s)
        except (apsw.CorruptError, apsw.NotADBError, apsw.IOError) as error:
            found = str(error)
        except apsw.Error as error:  # busy, no descriptors: nothing is known of its pages
            log.warning("the file could not be looked at: %s", error)
            found = None
        return Look(found, self._clock() - began)
