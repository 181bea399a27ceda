"""Taskmill: its defaults, one worker with two children, SQLite with synchronous=FULL."""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from client.testing import LocalCluster


def commands() -> list[list[str]]:
    """None: the cluster starts its own."""
    return []


class Peer:
    """A client beside a cluster."""

    def __init__(self) -> None:
        self._farm = LocalCluster(1, 2, parent=Path(os.environ["PEER_FOLDER"])).__enter__()

    def bulk(self, tasks: int) -> float:
        began = time.perf_counter()
        ids = self._farm.client.submit_many({"task_type": "noop", "task_data": {}} for _ in range(tasks))
        enqueued = time.perf_counter() - began
        ended = list(self._farm.client.results(ids))
        assert len(ended) == tasks == len({task["task_id"] for task in ended})
        assert all(task["status"] == "completed" and task["result"] == {} for task in ended)
        return enqueued

    def single(self) -> None:
        assert self._farm.client.result(self._farm.client.submit("noop")) == {}

    def close(self) -> None:
        self._farm.close()
