"""burn: pure Python for a number of rounds.  Payload `{"rounds": 100000}`, result `{"cpu_seconds": …}`."""

import time
from typing import Any


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
