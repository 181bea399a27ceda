"""What /proc says about the processes of a farm. Every one of them has the farm's folder in its environment."""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def state(pid: int) -> str:
    """R, S, D, T (stopped) …, or Z for one that is gone, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    return state(pid) == "Z"


def children(pid: int) -> list[int]:
    """The living children of a process, all threads counted."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return [child for child in found if not gone(child)]


def of_folder(folder: Path) -> list[tuple[int, str]]:
    """Pid and command line of every living process whose environment names a farm's folder."""
    return [(pid, _command(pid)) for pid in _pids() if str(folder).encode() in _read(pid, "environ") and not gone(pid)]


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid())


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _command(pid: int) -> str:
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of this host."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def is_unlocked(path: Path) -> bool:
    """Whether nobody holds the lock of a file."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def wait(condition: Callable[[], Any], what: str, seconds: float) -> float:
    """Look again and again until it holds; how long that took. Raises AssertionError after the deadline."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)
    return time.monotonic() - began
