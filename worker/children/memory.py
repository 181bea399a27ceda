"""How much memory a task uses, and who uses more than its `memory_mb`.

What counts is resident memory: of the child, of every process in its session, and of all that descend from it. Where
that is more than one process and over the limit, pages that they share are counted once (their proportional size), so
that a pool of forked processes is not charged for its parent's data many times over. Address space says nothing
(numeric libraries reserve far more than they touch), so there is no RLIMIT_AS; RLIMIT_DATA at twice the limit, set by
the child for the time of the task, catches what grows faster than we look: the handler gets a MemoryError.

What an earlier task left behind in the child is not charged: its size when the task began, beyond that of a fresh one.
"""

import math
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from worker.children.process import ChildProcess

LOOK_SECONDS = 0.2
FRESH_BYTES = 32 * 2**20  # what a child that has run nothing has at most
MIB = 2**20
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Seen(NamedTuple):
    """A process at a look, resident bytes."""

    parent: int
    session: int
    resident: int


class MemoryWatch:
    """Looks at the children whose tasks have a limit, five times a second."""

    def __init__(self) -> None:
        self._look_at = -math.inf

    def over(self, children: Iterable[ChildProcess]) -> Iterator[tuple[ChildProcess, int]]:
        """The children over the limit of their task, and the bytes that they use; empty between two looks."""
        watched = [(child, limit) for child in children if (limit := limit_of(child))]
        if not watched or time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_SECONDS
        seen = look()
        for child, limit in watched:
            if (used := _used(seen, child, limit)) > limit:
                yield child, used

    def next_look(self, children: Iterable[ChildProcess]) -> float:
        """When to look again (monotonic)."""
        return self._look_at if any(limit_of(child) for child in children) else math.inf


def limit_of(child: ChildProcess) -> int:
    """The limit of what it runs in bytes; 0 without one, or when it is about to end anyway."""
    held = child.current
    return 0 if held is None or child.doomed or held.task.memory_mb is None else held.task.memory_mb * MIB


def left_over(child: ChildProcess) -> int:
    """What earlier tasks left in a child, to be asked when it begins one."""
    seen = _process(child.pid) if child.ran else None
    return 0 if seen is None else max(0, seen.resident - FRESH_BYTES)


def look() -> dict[int, Seen]:
    """All processes; empty on a system without /proc, where no limit is watched."""
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except FileNotFoundError:
        return {}
    return {pid: seen for pid in pids if (seen := _process(pid))}


def family(seen: dict[int, Seen], leader: int) -> list[int]:
    """The session of a process, and what descends from it."""
    children: dict[int, list[int]] = {}
    for pid, one in seen.items():
        children.setdefault(one.parent, []).append(pid)
    found = {pid for pid, one in seen.items() if one.session == leader or pid == leader}
    new = list(found)
    while new:
        new = [pid for parent in new for pid in children.get(parent, ()) if pid not in found]
        found.update(new)
    return sorted(found)


def _used(seen: dict[int, Seen], child: ChildProcess, limit: int) -> int:
    pids = family(seen, child.pid)
    used = sum(seen[pid].resident for pid in pids if pid in seen) - child.left_over
    if used > limit and len(pids) > 1:
        used = sum(_proportional(pid) or seen[pid].resident for pid in pids) - child.left_over
    return used


def _process(pid: int) -> Seen | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:  # gone meanwhile
        return None
    return Seen(int(fields[1]), int(fields[3]), int(fields[21]) * _PAGE)


def _proportional(pid: int) -> int:
    """Its resident bytes with each shared page divided among those who share it; 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
