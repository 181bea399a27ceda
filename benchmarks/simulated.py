"""Many workers in one process, as far as a dispatcher can tell:  python simulated.py URL WORKERS

As after a while: claims have waited in vain before, so that each waits for 40 to 50 s and stands for the heartbeats
meanwhile, and their phases are spread, since a worker draws each wait anew. Each registers and keeps one claim waiting;
a task is listed in a heartbeat at once, completed, and the next claim goes out. Prints a line of JSON when all claims
wait, and one for each task with the moment (monotonic clock) at which its claim was answered. Ends with its standard
input.
"""

import asyncio
import json
import random
import resource
import secrets
import sys
import time
from typing import Any
from urllib.parse import urlsplit

WAIT_S = (40.0, 50.0)
HOST = {"hostname": "simulated", "pid": 1, "system": "Linux x86_64, Python 3.12.1", "running": 0, "outbox": 0,
        "quarantined": 0, "finished_per_minute": 0, "load": 0.5, "cpus": 2, "memory_mb": 7900,
        "memory_free_mb": 4200}  # fmt: skip
SETTLE_S, TOGETHER = 1.0, 50


class Line:
    """One kept-alive connection, opened again when it was closed: a request, then its answer."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, fields: dict[str, Any]) -> dict[str, Any]:
        """The data of the answer."""
        if self._writer is None or self._reader.at_eof():
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        body = json.dumps(fields).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nContent-Type: application/json\r\n"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        lengths = [line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        told = json.loads(await self._reader.readexactly(int(lengths[0].split(b":")[1])))
        assert told["status"] == "success", told
        return dict(told["data"])


class Worker:
    """One simulated worker."""

    def __init__(self, number: int, host: str, port: int) -> None:
        self._name = {"worker_id": f"simulated-{number}", "instance_id": secrets.token_hex(16)}
        self._claims, self._beats = Line(host, port), Line(host, port)
        self._turn, self._seq, self._request = asyncio.Lock(), 0, 0
        self._store: str | None = None

    async def heartbeat(self, leases: list[str], **more: Any) -> None:
        async with self._turn:
            self._seq += 1
            waiting = [self._request] if self._request else []
            about = {"store_id": self._store, "seq": self._seq, "claims_in_flight": waiting, "host": HOST}
            listed = [{"lease_id": lease} for lease in leases]
            await self._beats.post("/heartbeat", {**self._name, **about, "leases": listed, **more})

    async def register(self) -> None:
        about = {"task_types": {"noop": None}, "concurrency": 1, "queues": None, "labels": []}
        await self.heartbeat([], register=about)

    async def claim(self) -> None:
        """One claim after the other, for ever."""
        wait = random.uniform(0.0, WAIT_S[1])  # what is left of one that waits already
        while True:
            self._request += 1
            terms = {"request_id": self._request, "protocol": 1, "task_types": ["noop"], "max_tasks": 1}
            more = {"orders": {"state": "run", "cancel": []}, "wait_seconds": wait, "host": HOST}
            told = await self._claims.post("/get-tasks", {**self._name, **terms, **more})
            at, self._store = time.monotonic(), told["store_id"]
            wait = random.uniform(*WAIT_S)
            for task in told["tasks"]:
                print(json.dumps({"task": task["task_id"], "at": at}), flush=True)
                await self._complete(task)

    async def _complete(self, task: dict[str, Any]) -> None:
        await self.heartbeat([task["lease_id"]])
        named = {"store_id": self._store, "task_id": task["task_id"], "lease_id": task["lease_id"]}
        outcome = {**named, "status": "completed", "result": {}, "run_seconds": 0.0}
        told = await self._claims.post("/submit-results", {**self._name, "outcomes": [outcome]})
        assert told["verdicts"][0]["verdict"] == "accepted", told


async def main() -> None:
    url = urlsplit(sys.argv[1])
    workers = [Worker(n, str(url.hostname), int(url.port or 80)) for n in range(int(sys.argv[2]))]
    for start in range(0, len(workers), TOGETHER):
        await asyncio.gather(*(worker.register() for worker in workers[start : start + TOGETHER]))
    running = [asyncio.ensure_future(worker.claim()) for worker in workers]
    over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await asyncio.sleep(SETTLE_S + len(workers) / 500)
    print(json.dumps({"waiting": len(workers)}), flush=True)
    done, _ = await asyncio.wait([over, *running], return_when=asyncio.FIRST_COMPLETED)
    for one in done:
        one.result()  # a worker that failed says why


if __name__ == "__main__":
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    asyncio.run(main())
