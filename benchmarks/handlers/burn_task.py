"""burn: pure Python for a number of rounds.  Payload `{"rounds": 100000}`, result `{"cpu_seconds": …}`."""

import statistics
import time
from typing import Any

TRIED = 1_000_000


def execute(task_id: int, payload: dict[str, Any]) -> dict[str, Any]:
    """The processor time that it took."""
    began = time.process_time()
    burn(payload["rounds"])
    return {"cpu_seconds": time.process_time() - began}


def burn(rounds: int) -> int:
    total = 0
    for n in range(rounds):
        total = (total + n * n) % 1_000_003
    return total


def rounds_of(seconds: float) -> int:
    """How many rounds take so long here, once processor and interpreter are warm."""
    tries = [_a_try() for _ in range(5)]
    return int(TRIED * seconds / statistics.median(tries[1:]))


def _a_try() -> float:
    began = time.process_time()
    burn(TRIED)
    return time.process_time() - began
