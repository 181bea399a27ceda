"""What each request costs the dispatcher's processor, and PostgreSQL's: what simulate_workers.py counts with.

    python benchmarks/costs.py [--seconds 2]

One client sends one kind of request after the other to a real dispatcher over HTTP, on SQLite and on PostgreSQL (that
of the tests, with fsync on), so that no commit is shared; when many ask at once, group commits make it less.
Microseconds of processor time for each request, or for each task of a batch.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import measuring
import services
from report import ROOT, arguments, tell
from simulated import Line

from client.testing import LocalCluster

BULK, SUPPLY = 1000, {1: 10_000, 64: 50_000}  # tasks that wait when turns of so many are counted
Ask = Callable[[], Awaitable[object]]


TASK = {"task_type": "noop", "task_data": {}}


def named(fields: dict[str, Any]) -> dict[str, Any]:
    """A submit of one or many as the client sends it."""
    return {**fields, "idempotency_key": secrets.token_hex(12)}


class Asker:
    """One instance of a worker, and a sender of tasks."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._line = Line(str(address.hostname), int(address.port or 80))
        self._name = {"worker_id": "asker", "instance_id": secrets.token_hex(16)}
        self._seq, self._request = 0, 0
        self._held: dict[str, Any] = {}

    async def single(self) -> None:
        await self._line.post("/submit-task", named(TASK))

    async def bulk(self, tasks: int) -> None:
        await self._line.post("/submit-tasks", named({"tasks": [TASK] * tasks}))

    async def heartbeat(self) -> None:
        self._seq += 1
        about: dict[str, Any] = {"store_id": None, "seq": self._seq, "claims_in_flight": [], "leases": []}
        await self._line.post("/heartbeat", {**self._name, **about})

    async def empty_claim(self) -> None:
        """One that waits (a hundredth of a second) in vain."""
        await self._line.post("/get-tasks", {**self._claim(1, "nothing"), **self._name, "wait_seconds": 0.01})

    async def turn(self, tasks: int) -> None:
        """A report of so many tasks which brings the next ones."""
        self._held = await self._report(self._held, self._claim(tasks, "noop"))
        assert len(self._held["tasks"]) == tasks

    async def begin(self, tasks: int) -> None:
        self._held = await self._line.post("/get-tasks", {**self._claim(tasks, "noop"), **self._name})

    async def end(self) -> None:
        await self._report(self._held, None)

    def _claim(self, tasks: int, kind: str) -> dict[str, Any]:
        self._request += 1
        return {"request_id": self._request, "protocol": 1, "task_types": [kind], "max_tasks": tasks, "wait_seconds": 0,
                "brief": True}  # fmt: skip

    async def _report(self, held: dict[str, Any], claim: dict[str, Any] | None) -> dict[str, Any]:
        outcomes = [[held["store_id"], task_id, lease_id, 0, {}] for task_id, lease_id, *_ in held["tasks"]]
        body = {**self._name, "outcomes": outcomes, "claim": claim, "brief": True}
        told = await self._line.post("/submit-results", body)
        assert told["verdicts"] == "accepted"
        return dict(told.get("claim") or {})


class Meter:
    """Counts what the processes of one store spend on a kind of request."""

    def __init__(self, seconds: float, **roots: int) -> None:
        self._seconds, self._roots, self.told = seconds, roots, dict[str, dict[str, float]]()

    async def count(self, name: str, ask: Ask, parts: int = 1, most: int = 1_000_000) -> None:
        """Ask for so many seconds, at most so many parts; the cost of each part."""
        await ask()
        before, began, asked = self._spent(), time.perf_counter(), 0
        while time.perf_counter() - began < self._seconds and asked + parts <= most:
            await ask()
            asked += parts
        after = self._spent()
        self.told[name] = {f"{root}_us": 1e6 * (after[root] - before[root]) / asked for root in self._roots}
        self.told[name]["wall_us"] = 1e6 * (time.perf_counter() - began) / asked

    def _spent(self) -> dict[str, float]:
        return {name: measuring.cpu_s(measuring.family(pid)) for name, pid in self._roots.items()}


async def measure(url: str, meter: Meter) -> dict[str, dict[str, float]]:
    """All kinds of requests."""
    asker = Asker(url)
    await meter.count("heartbeat", asker.heartbeat)
    await meter.count("empty_claim", asker.empty_claim)
    await meter.count("submit", asker.single)
    await meter.count("bulk_submit", lambda: asker.bulk(BULK), BULK)
    for batch, supply in SUPPLY.items():
        for _ in range(0, supply, 10_000):
            await asker.bulk(10_000)
        await asker.begin(batch)
        turns = supply // batch - 3
        await meter.count(f"turn_{batch}", lambda batch=batch: asker.turn(batch), most=turns)  # type: ignore[misc]
        await asker.end()
    return meter.told


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    with LocalCluster(0, 1, parent=ROOT) as farm:
        sqlite = asyncio.run(measure(farm.client.url, Meter(options.seconds, dispatcher=farm.dispatcher.pid)))
    with services.postgres() as server, LocalCluster(0, 1, {"DATABASE_URL": server.url}, ROOT) as farm:
        meter = Meter(options.seconds, dispatcher=farm.dispatcher.pid, database=server.pid)
        postgres = asyncio.run(measure(farm.client.url, meter))
    for name, told in {"sqlite": sqlite, "postgresql": postgres}.items():
        for kind, cost in told.items():
            print(f"{name:10} {kind:12} {', '.join(f'{what} {us:,.0f}' for what, us in cost.items())}")
    tell("costs", {"seconds": options.seconds, "sqlite": sqlite, "postgresql": postgres})


if __name__ == "__main__":
    main()
