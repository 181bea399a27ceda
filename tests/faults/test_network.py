"""The wire hurt in every way between real workers and the dispatcher: nothing lost, nothing stuck, one result each.

Leases are long (120 s) and the runs short: a task whose lease was orphaned by a lost answer would miss the deadline.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tcp_proxy import SILENT, Fault, Message, Proxy

from client import Client
from client.testing import LocalCluster

HANDLERS = Path(__file__).parent / "handlers"
SETTINGS = {
    "TASKS_PATH": str(HANDLERS),
    "WORKER_HEARTBEAT_INTERVAL": "1",
    "CACHE_RETRY_INTERVAL": "1",
    "DEFAULT_LEASE_DURATION": "120",
    "WORKER_DEATH_TIMEOUT": "60",
}
LOUD = [
    Fault("delay", 1.0, 0.3),
    Fault("shuffle", 1.0, 0.1),
    Fault("drop", 0.4),
    Fault("half_close", 0.4),
    Fault("reset", 0.4),
    Fault("lost", 0.4),
    Fault("repeat", 1.0, 0.1),
]
TASKS, CHUNK = 240, 16
SOON = 20.0  # seconds in which all is done once the faults are off: far below any lease
NO_FAULT = Fault()


@dataclass
class Tally:
    """What became of the tasks of one run."""

    lost: int
    unexpected: int
    wrong: int
    too_many_attempts: int
    executed_twice: int
    ends: Counter[str]  # of leases that did not complete
    verdicts: Counter[str]
    drained: float = 0.0


@dataclass
class Net:
    """A farm whose workers and submitters reach the dispatcher through the proxy."""

    farm: LocalCluster
    proxy: Proxy
    ledger: Path
    submitted: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)

    def body(self, n: int, seconds: float = 0.003) -> dict[str, Any]:
        return {"task_type": "net_ledger", "task_data": {"ledger": str(self.ledger), "n": n, "seconds": seconds}}

    def submit(self, client: Client, count: int) -> list[int]:
        """The ids in chunks, so that claims wait, are served and ride on reports by turns."""
        ids: list[int] = []
        while len(ids) < count:
            size = min(CHUNK, count - len(ids))
            ids += client.submit_many(self.body(len(ids) + k) for k in range(size))
        self.submitted += count
        return ids

    def drain(self, ids: list[int], deadline: float = SOON) -> float:
        """Seconds until all have ended, with the faults off."""
        self.proxy.fault = NO_FAULT
        began = time.monotonic()
        list(self.farm.client.results(ids, timeout=deadline))
        return time.monotonic() - began

    def tally(self, ids: list[int]) -> Tally:
        tasks = {task["task_id"]: task for task in self.farm.client.tasks(ids=ids)}
        logs = [self.farm.client.task(task_id) for task_id in ids]
        runs = Counter(int(line) for line in self.ledger.read_text().split())
        stored = sum(n for name, n in self.farm.client.stats().items() if name in COUNTS)
        return Tally(
            lost=sum(tasks[one]["status"] != "completed" for one in ids),
            unexpected=stored - self.submitted + len(set(ids) ^ set(tasks)),
            wrong=sum(tasks[one].get("result") != {"n": n} for n, one in enumerate(ids)),
            too_many_attempts=sum(task["attempts"] > task["max_attempts"] for task in tasks.values()),
            executed_twice=sum(runs[one] - 1 for one in ids),
            ends=Counter(end["outcome"] for task in logs for end in task["attempts_log"]),
            verdicts=+self.verdicts,
        )

    def hear(self, request: Message, reply: Message) -> None:
        if request.path == "/submit-results" and reply.head.startswith(b"HTTP/1.1 200"):
            self.verdicts.update(one["verdict"] for one in json.loads(reply.body)["data"]["verdicts"])


COUNTS = {f"{state}_tasks" for state in ("blocked", "pending", "in_progress", "completed", "failed", "cancelled")}


def start(folder: Path) -> Iterator[Net]:
    with LocalCluster(workers=0, concurrency=2, parent=folder, settings=SETTINGS) as farm:
        port = int(farm.env["DISPATCHER_PORT"])
        with Proxy(port, seed=3) as proxy:
            net = Net(farm, proxy, farm.folder / "ledger")
            net.ledger.touch()
            proxy.heard = net.hear
            for name in ("near", "far"):
                farm.start_worker(name, DISPATCHER_URL=proxy.url)
            farm.until(lambda: farm.client.stats()["active_workers"] == 2, "both workers come up")
            yield net
            proxy.fault = NO_FAULT
            for worker in farm.workers.values():
                assert worker.stop() == 0
                assert "unexpected fault" not in worker.output()


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    yield from start(tmp_path_factory.mktemp("net"))


@pytest.fixture(autouse=True)
def _calm(net: Net) -> Iterator[None]:
    net.verdicts.clear()
    net.proxy.counts.clear()
    yield
    net.proxy.fault = NO_FAULT


def checked(net: Net, ids: list[int], drained: float) -> Tally:
    tally = net.tally(ids)
    tally.drained = drained
    print(net.proxy.counts, tally)  # noqa: T201
    assert (tally.lost, tally.unexpected, tally.wrong, tally.too_many_attempts) == (0, 0, 0, 0)
    assert set(tally.verdicts) <= {"accepted", "accepted_late", "duplicate", "superseded"}
    return tally


@pytest.mark.parametrize("fault", LOUD, ids=lambda fault: fault.kind)
def test_a_hurt_wire_loses_and_doubles_nothing(net: Net, fault: Fault) -> None:
    with Client(net.proxy.url) as client:
        net.proxy.fault = fault
        ids = net.submit(client, TASKS)
    tally = checked(net, ids, net.drain(ids))
    assert net.proxy.counts[fault.kind] >= 10
    if fault.kind != "repeat":  # a claim that comes again, late, may bring leases nobody knows of: they end unlisted
        assert not tally.ends
    assert not tally.executed_twice
