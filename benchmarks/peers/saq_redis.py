"""SAQ on Redis: two worker processes, ten coroutines each (a hundred are no faster); twenty enqueues at a time."""

import asyncio
import os
import sys
import time
from typing import Any

from saq import Job, Queue

queue = Queue.from_url(os.environ["PEER_URL"])
TOGETHER, POLL_S, LOOK_AGAIN_S = 20, 0.01, 0.5


async def noop(_: Any) -> dict[str, int]:
    return {}


settings = {"queue": queue, "functions": [noop], "concurrency": 10}


def commands() -> list[list[str]]:
    return [[sys.executable, "-m", "saq", "saq_redis.settings", "--workers", "2", "--quiet"]]


class Peer:
    """An event loop's client."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._runner.run(queue.connect())

    def bulk(self, tasks: int) -> float:
        return self._runner.run(self._bulk(tasks))

    async def _bulk(self, tasks: int) -> float:
        began, jobs = time.perf_counter(), list[Job | None]()
        for start in range(0, tasks, TOGETHER):
            number = min(TOGETHER, tasks - start)
            jobs += await asyncio.gather(*(queue.enqueue("noop") for _ in range(number)))
        enqueued = time.perf_counter() - began
        keys = [job.key for job in jobs if job]
        while await queue.count("incomplete"):
            await asyncio.sleep(POLL_S)
        done = await queue.jobs(keys)
        assert [job and job.result for job in done] == [{}] * tasks
        return enqueued

    def single(self) -> None:
        assert self._runner.run(self._single()) == {}

    async def _single(self) -> Any:
        job = await queue.enqueue("noop")
        assert job
        while not job.completed:
            try:
                await job.refresh(until_complete=LOOK_AGAIN_S)  # it may miss the notice
            except (TimeoutError, asyncio.TimeoutError):
                continue
        return job.result

    def close(self) -> None:
        self._runner.run(queue.disconnect())
        self._runner.close()
