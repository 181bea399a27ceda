"""pgqueuer on PostgreSQL: two workers; enqueues in one statement; it keeps a status and no result.

A worker takes ten tasks at a time by default; PEER_AT_A_TIME says otherwise.
"""

import asyncio
import os
import sys
import time
from datetime import timedelta

import asyncpg
from pgqueuer import AsyncpgDriver, Job, PgQueuer, Queries
from pgqueuer.core.completion import CompletionWatcher

URL, POLL_S = os.environ["PEER_URL"], 0.01
DONE = "SELECT count(DISTINCT job_id) FROM pgqueuer_log WHERE status = 'successful' AND job_id = ANY($1)"


def commands() -> list[list[str]]:
    return [[sys.executable, __file__]] * 2


class Peer:
    """Counts the statuses in its log."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._runner.run(self._install())

    async def _install(self) -> None:
        self._db = await asyncpg.connect(URL)
        self._driver = AsyncpgDriver(await asyncpg.connect(URL))
        self._queries = Queries(self._driver)
        await self._queries.install()
        watcher = CompletionWatcher(self._driver, queries=self._queries, debounce=timedelta(milliseconds=1))
        self._watcher = await watcher.__aenter__()

    def bulk(self, tasks: int) -> float:
        return self._runner.run(self._bulk(tasks))

    async def _bulk(self, tasks: int) -> float:
        began = time.perf_counter()
        ids = await self._queries.enqueue(["noop"] * tasks, [None] * tasks, [0] * tasks)
        enqueued = time.perf_counter() - began
        while await self._db.fetchval("SELECT EXISTS (SELECT FROM pgqueuer)"):
            await asyncio.sleep(POLL_S)
        while await self._db.fetchval(DONE, ids) < tasks:
            await asyncio.sleep(POLL_S)
        return enqueued

    def single(self) -> None:
        self._runner.run(self._single())

    async def _single(self) -> None:
        (job,) = await self._queries.enqueue("noop", None)
        assert await self._watcher.wait_for(job) == "successful"

    def close(self) -> None:
        self._runner.run(self._db.close())
        self._runner.close()


async def work() -> None:
    worker = PgQueuer.from_asyncpg_connection(await asyncpg.connect(URL))

    @worker.entrypoint("noop")
    async def noop(_: Job) -> None:
        pass

    await worker.run(batch_size=int(os.environ.get("PEER_AT_A_TIME", "10")))


if __name__ == "__main__":
    asyncio.run(work())
