"""Huey on SQLite (WAL, synchronous=FULL): two worker processes, told to poll every 5 to 20 ms."""

import os
import sys
import time
from pathlib import Path

from huey import SqliteHuey

huey = SqliteHuey("peers", filename=str(Path(os.environ["PEER_FOLDER"]) / "huey.db"))
POLL_S = 0.002


@huey.task()
def noop() -> dict[str, int]:
    return {}


def commands() -> list[list[str]]:
    program = Path(sys.executable).with_name("huey_consumer")
    return [[str(program), "huey_sqlite.huey", "-w", "2", "-k", "process",
             "-d", "0.005", "-m", "0.02", "-b", "1.0"]]  # fmt: skip


class Peer:
    """`map` is its bulk call; it has one transaction a task."""

    def bulk(self, tasks: int) -> float:
        began = time.perf_counter()
        group = noop.map([() for _ in range(tasks)])
        enqueued = time.perf_counter() - began
        while huey.result_count() < tasks:
            time.sleep(10 * POLL_S)
        assert group.get(blocking=True) == [{}] * tasks
        return enqueued

    def single(self) -> None:
        result = noop()
        while (value := result.get()) is None:
            time.sleep(POLL_S)
        assert value == {}

    def close(self) -> None:
        huey.storage.close()
