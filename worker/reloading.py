"""Notices that the handlers' files have changed.

Every Python file in the folders of handlers counts, since a handler may import its siblings. A change is passed on
once the files have stood still from one look to the next, so that an editor or a copy is not caught half-way.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

LOOK_SECONDS = 1.0

Files = dict[str, tuple[int, int, int]]


class HandlerWatch:
    """Calls `changed` from the thread that makes the steps; made before the handlers are loaded for the first time."""

    def __init__(self, folders: Sequence[Path], changed: Callable[[], None]) -> None:
        self._folders, self._changed = folders, changed
        self._loaded = self._last = files_in(folders)

    def step(self) -> float:
        """Look once; returns the seconds until the next look."""
        now = files_in(self._folders)
        settled, self._last = now == self._last, now
        if settled and now != self._loaded:
            self._loaded = now  # before the call: what changes while it loads is found by the next look
            self._changed()
        return LOOK_SECONDS


def files_in(folders: Sequence[Path]) -> Files:
    """Time, size and inode of each Python file in the folders."""
    found: Files = {}
    for folder in folders:
        for path in folder.glob("*.py"):
            try:
                stat = path.stat()
            except OSError:  # gone meanwhile
                continue
            found[str(path)] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return found
