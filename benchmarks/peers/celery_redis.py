"""Celery on Redis: prefork with two children, its defaults; `group` is its bulk call."""

import os
import sys
import time

from celery import Celery, group

app = Celery("celery_redis", broker=os.environ["PEER_URL"], backend=os.environ["PEER_URL"])


@app.task
def noop() -> dict[str, int]:
    return {}


def commands() -> list[list[str]]:
    return [[sys.executable, "-m", "celery", "-A", "celery_redis", "worker", "-c", "2", "-l", "WARNING"]]


class Peer:
    """Results come by its Redis backend's subscription."""

    def bulk(self, tasks: int) -> float:
        began = time.perf_counter()
        results = group(noop.s() for _ in range(tasks)).apply_async()
        enqueued = time.perf_counter() - began
        assert results.join_native(timeout=300) == [{}] * tasks
        return enqueued

    def single(self) -> None:
        assert noop.delay().get(timeout=30, interval=0.002) == {}

    def close(self) -> None:
        app.close()
