"""One round of one system, run by the Python that has it installed:  python round.py ADAPTER TASKS SINGLES

An adapter is a module beside this file: `commands()`, the workers' command lines, and `Peer` with `bulk(n)` (submit n
no-op tasks at once, wait for all, check them; seconds of the submit alone) and `single()` (one task, waited for and
checked). PEER_FOLDER and PEER_URL (of its broker or database) are in the environment. Prints one line of JSON.
"""

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SETTLE_S = 3.0  # workers that start sweep what others hold: let them finish
WARM_TASKS, WARM_SINGLES = 400, 20


def measure(peer: Any, tasks: int, singles: int) -> dict[str, Any]:
    """The figures of a peer whose workers run; times of singles in milliseconds."""
    for _ in range(2):
        peer.bulk(WARM_TASKS)
    began = time.perf_counter()
    enqueue = peer.bulk(tasks)
    took = time.perf_counter() - began
    times = [milliseconds(peer.single) for _ in range(WARM_SINGLES + singles)]
    return {"tasks_per_s": tasks / took, "enqueue_per_s": tasks / enqueue, "singles_ms": times[WARM_SINGLES:]}


def milliseconds(call: Any) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def main() -> None:
    name, tasks, singles = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    adapter = importlib.import_module(name)
    peer = adapter.Peer()
    with (Path(os.environ["PEER_FOLDER"]) / "workers.log").open("ab") as log:
        workers = [subprocess.Popen(argv, cwd=HERE, stdout=log, stderr=log) for argv in adapter.commands()]
    try:
        time.sleep(SETTLE_S)
        assert all(worker.poll() is None for worker in workers), "a worker has ended"
        print(json.dumps(measure(peer, tasks, singles)), flush=True)
    finally:
        peer.close()
        for worker in workers:
            worker.terminate()


if __name__ == "__main__":
    main()
