"""Many workers in one process, as far as a dispatcher can tell:  python simulated.py URL WORKERS

As after a while: their phases are spread, since a worker draws each interval anew. Each registers, sends a heartbeat
every 27 to 30 s and keeps one claim waiting for 20 to 25 s; a task is listed in a heartbeat at once,
completed, and the next claim goes out. Prints a line of JSON when all claims wait, and one for each task with the
moment (monotonic clock) at which its claim was answered. Ends with its standard input.
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

HEARTBEAT_S, WAIT_S = (27.0, 30.0), (20.0, 25.0)
SETTLE_S, TOGETHER = 1.0, 50


class Line:
    """One kept-alive connection: a request, then its answer."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, fields: dict[str, Any]) -> dict[str, Any]:
        """The data of the answer."""
        if self._writer is None:
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
            about = {"store_id": self._store, "seq": self._seq, "claims_in_flight": waiting}
            listed = [{"lease_id": lease} for lease in leases]
            await self._beats.post("/heartbeat", {**self._name, **about, "leases": listed, **more})

    async def register(self) -> None:
        about = {"task_types": {"noop": None}, "concurrency": 1, "queues": None, "labels": []}
        await self.heartbeat([], register=about, host={"hostname": "simulated", "pid": 1, "outbox": 0})

    async def beat(self) -> None:
        await asyncio.sleep(random.uniform(0.0, HEARTBEAT_S[1]))
        while True:
            await self.heartbeat([])
            await asyncio.sleep(random.uniform(*HEARTBEAT_S))

    async def claim(self) -> None:
        """One claim after the other, for ever."""
        wait = random.uniform(0.0, WAIT_S[1])
        while True:
            self._request += 1
            terms = {"request_id": self._request, "protocol": 1, "task_types": ["noop"], "max_tasks": 1}
            orders = {"orders": {"state": "run", "cancel": []}}
            told = await self._claims.post("/get-tasks", {**self._name, **terms, **orders, "wait_seconds": wait})
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
    running = [asyncio.ensure_future(step) for worker in workers for step in (worker.beat(), worker.claim())]
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
