"""Oban (Python) on PostgreSQL: two workers with ten jobs at a time (a hundred are no faster); `enqueue_many` is one
statement."""

import asyncio
import os
import sys
import time
from typing import Any

from oban import Job, Oban, Record, worker
from oban.schema import install_sql

URL, POLL_S = os.environ["PEER_URL"], 0.005
OPEN = "SELECT count(*) FROM oban_jobs WHERE state <> 'completed'"
DONE = "SELECT count(*) FROM oban_jobs WHERE state = 'completed' AND id = ANY(%s)"


@worker(queue="default")
class Noop:
    async def process(self, _: Job) -> Any:
        return Record({})


def commands() -> list[list[str]]:
    return [[sys.executable, __file__]] * 2


class Peer:
    """It has no call that waits: its table is asked every 5 ms."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._runner.run(self._install())

    async def _install(self) -> None:
        self._pool = await Oban.create_pool(URL)
        async with self._pool.connection() as db:
            await db.execute(install_sql())
        self._oban = Oban(pool=self._pool)

    def bulk(self, tasks: int) -> float:
        return self._runner.run(self._bulk(tasks))

    async def _bulk(self, tasks: int) -> float:
        began = time.perf_counter()
        jobs = await self._oban.enqueue_many([Noop.new() for _ in range(tasks)])
        enqueued = time.perf_counter() - began
        while await self._value(OPEN):
            await asyncio.sleep(POLL_S)
        assert await self._value(DONE, [job.id for job in jobs]) == tasks
        return enqueued

    async def _value(self, statement: str, *values: Any) -> Any:
        async with self._pool.connection() as db:
            row = await (await db.execute(statement, values)).fetchone()
        return row and row[0]

    def single(self) -> None:
        self._runner.run(self._single())

    async def _single(self) -> None:
        job = await self._oban.enqueue(Noop.new())
        while not await self._value(DONE, [job.id]):
            await asyncio.sleep(POLL_S)

    def close(self) -> None:
        self._runner.run(self._pool.close())
        self._runner.close()


async def work() -> None:
    async with await Oban.create_pool(URL) as pool, Oban(pool=pool, queues={"default": 10}):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work())
