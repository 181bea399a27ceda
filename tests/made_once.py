"""What hundreds of tests begin with, made once: a folder in memory, and a queue without tasks."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from dispatcher.store.sqlite import opening

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for a while, in memory where the system offers it: nearly no test depends on the disk, and to wait for
    it takes hundreds of them longer than all else."""
    with tempfile.TemporaryDirectory(prefix="taskmill-", dir=MEMORY) as name:
        yield Path(name)


def empty_queue(path: Path) -> Path:
    """The path, where a file with all tables lies from now on, unless there is one: a store that opens it need not
    make them, and gives it a name of its own."""
    if not path.exists():
        path.write_bytes(_tables())
    return path


@cache
def _tables() -> bytes:
    with folder() as place:
        opening.open_writer(place / "queue.db").close()
        return (place / "queue.db").read_bytes()
