"""What processes cost: CPU time and memory of a process and all that it started, as Linux tells them; and how fast the
machine is meanwhile."""

import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from handlers.burn_task import burn

if TYPE_CHECKING:
    from client import Client

TICK = os.sysconf("SC_CLK_TCK")
LOOP = 300_000
TRIAL_ROUNDS = 2_000_000  # of one task


class Pace:
    """How long a loop of pure Python takes, always the same one, from time to time: what others do on the host of a
    virtual machine may make it half as fast for minutes, and every figure with it."""

    def __init__(self) -> None:
        self._ms: list[float] = []

    def note(self) -> float:
        """Milliseconds now, the least of three tries."""
        self._ms.append(min(_loop_ms() for _ in range(3)))
        return self._ms[-1]

    def told(self) -> dict[str, float]:
        """The least, the median and the most so far."""
        times = {"least": min(self._ms), "p50": statistics.median(self._ms), "most": max(self._ms)}
        return {f"loop_{name}_ms": ms for name, ms in times.items()}


def _loop_ms() -> float:
    began = time.perf_counter()
    burn(LOOP)
    return (time.perf_counter() - began) * 1000


def burnt(client: "Client", sizes: Sequence[int]) -> float:
    """The CPU time that burn tasks of so many rounds took together, seconds."""
    ids = client.submit_many({"task_type": "burn", "task_data": {"rounds": size}} for size in sizes)
    ended = list(client.results(ids))
    assert sorted(task["task_id"] for task in ended) == sorted(ids)
    assert all(task["status"] == "completed" for task in ended)
    return float(sum(task["result"]["cpu_seconds"] for task in ended))


def rounds_a_second(client: "Client", children: int) -> float:
    """How many rounds of a burn task are a second's work, while all children have some."""
    trial = [TRIAL_ROUNDS] * 5 * children
    return sum(trial) / burnt(client, trial)


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
