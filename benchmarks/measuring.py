"""What processes cost: CPU time and memory of a process and all that it started, as Linux tells them."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and its descendants that live now."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def cpu_s(pids: Sequence[int]) -> float:
    """Seconds of processor time that these processes have used so far."""
    spent = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        spent += int(fields[11]) + int(fields[12])
    return spent / TICK


def pss_mb(pids: Sequence[int]) -> float:
    """Their memory in MB, what they share counted once."""
    kib = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        kib += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kib * 1024 / 1e6


def idle_cost(roots: Sequence[int], seconds: float) -> dict[str, float]:
    """Percent of one core over so many seconds, and memory at the end."""
    pids = [pid for root in roots for pid in family(root)]
    before, began = cpu_s(pids), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    return {"cpu_percent": 100 * (cpu_s(pids) - before) / took, "pss_mb": pss_mb(pids), "processes": len(pids)}
