"""The wire hurt in every way between real workers and the dispatcher: nothing lost, nothing stuck, one result each.

Leases are long (120 s) and the runs short: a task whose lease was orphaned by a lost answer would miss the deadline.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from overlapping import overlapping
from tcp_proxy import SILENT, Fault, Message, Proxy
from warm import Cluster

from client import Client
from client.testing import LocalCluster

HANDLERS = Path(__file__).parent / "handlers"
SETTINGS = {
    "TASKS_PATH": str(HANDLERS),
    "WORKER_HEARTBEAT_INTERVAL": "1",
    "CACHE_RETRY_INTERVAL": "0.5",
    "DEFAULT_LEASE_DURATION": "120",
    "WORKER_DEATH_TIMEOUT": "60",
}
LOUD_ONES = [
    Fault("delay", 1.0, 0.1),
    Fault("shuffle", 1.0, 0.1),
    Fault("drop", 0.4),
    Fault("half_close", 0.4),
    Fault("reset", 0.4),
    Fault("lost", 0.4),
    Fault("repeat", 1.0, 0.1),
]
LOUD = {fault.kind: fault for fault in LOUD_ONES}
GROUPS = [("half_close", "drop"), ("delay", "shuffle", "reset", "lost", "repeat")]
HURT = ("/get-tasks", "/submit-results")  # what each fault must have hit
TASKS, CHUNK = 160, 16
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

    def submit(self, client: Client, ids: list[int], count: int = CHUNK) -> None:
        """More tasks, whose ids join the others."""
        ids += client.submit_many(self.body(len(ids) + k) for k in range(count))
        self.submitted += count

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
            told = json.loads(reply.body)["data"]["verdicts"]
            if isinstance(told, str):  # one word for all
                self.verdicts[told] += len(json.loads(request.body)["outcomes"])
            else:
                self.verdicts.update(one["verdict"] for one in told)


COUNTS = {f"{state}_tasks" for state in ("blocked", "pending", "in_progress", "completed", "failed", "cancelled")}


@contextmanager
def start(folder: Path) -> Iterator[Net]:
    with Cluster(workers=0, concurrency=2, parent=folder, settings=SETTINGS) as farm:
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


def checked(net: Net, ids: list[int], drained: float) -> Tally:
    """What became of the tasks, with the faults off."""
    tally = net.tally(ids)
    tally.drained = drained
    told = f"{net.proxy.counts} {tally}"
    assert (tally.lost, tally.unexpected, tally.wrong, tally.too_many_attempts) == (0, 0, 0, 0), told
    assert set(tally.verdicts) <= {"accepted", "accepted_late", "duplicate", "superseded"}, told
    return tally


@pytest.mark.parametrize("kinds", GROUPS, ids=" ".join)
@overlapping
def test_a_hurt_wire_loses_and_doubles_nothing(folder: Path, kinds: tuple[str, ...]) -> None:
    """One fault after the other, on one farm."""
    with start(folder) as net:
        for kind in kinds:
            net.verdicts.clear()
            net.proxy.counts.clear()
            _hurt(net, LOUD[kind])


def _hurt(net: Net, fault: Fault) -> None:
    ids: list[int] = []
    deadline = time.monotonic() + SOON
    with Client(net.proxy.url) as client:
        net.proxy.fault = fault
        while len(ids) < TASKS or min(net.proxy.counts[path] for path in HURT) < 3:
            assert time.monotonic() < deadline, (fault, net.proxy.counts)
            net.submit(client, ids)
    tally = checked(net, ids, net.drain(ids))
    assert not tally.executed_twice, fault
    if fault.kind == "repeat":  # a claim that comes again, late, may bring leases that nobody knows of
        assert set(tally.ends) <= {"unlisted"}
    else:
        assert not tally.ends, fault
    if fault.kind in ("lost", "repeat"):
        assert tally.verdicts["duplicate"], fault


def silence(net: Net, fault: Fault) -> list[int]:
    """The ids of tasks submitted before and while no answer comes through; the fault stays on."""
    said = {name: worker.output().count("no answer") for name, worker in net.farm.workers.items()}
    ids: list[int] = []
    net.submit(net.farm.client, ids, TASKS // 2)
    net.proxy.fault = fault
    net.submit(net.farm.client, ids, TASKS // 2)
    for name, worker in net.farm.workers.items():
        net.farm.until(lambda w=worker, n=name: w.output().count("no answer") > said[n], f"{name} notices")
    return ids


@pytest.mark.parametrize("kind", ["blackhole", pytest.param("one_way", marks=pytest.mark.long)])
@overlapping
def test_a_silent_wire_is_given_up(folder: Path, kind: str) -> None:
    """What was caught is never answered and never closed: one call that is answered again frees all the others."""
    with start(folder) as net:
        ids = silence(net, Fault(kind))
        tally = checked(net, ids, net.drain(ids))
        assert not tally.executed_twice
        assert set(tally.ends) <= {"expired"}  # provisional leases of answers that were swallowed


@pytest.mark.long
@pytest.mark.parametrize("kind", SILENT)
@overlapping
def test_reports_alone_that_get_no_answer_are_given_up_by_their_own_timeout(folder: Path, kind: str) -> None:
    with start(folder) as net:
        ids = silence(net, Fault(kind, paths=("/submit-results",)))
        tally = checked(net, ids, net.drain(ids))
        assert not tally.executed_twice
        assert not tally.ends


@pytest.mark.long
@pytest.mark.parametrize("seed", [0])
@overlapping
def test_a_wire_hurt_in_every_way_by_turns(folder: Path, seed: int) -> str:
    """Every fault for a moment, silence too, over thousands of tasks."""
    with start(folder) as net:
        ids = _storm(net, random.Random(seed))
        tally = checked(net, ids, net.drain(ids, 60))
        assert set(tally.ends) <= {"unlisted", "expired", "superseded"}
        return f"a storm on the wire: {len(ids)} tasks, {tally}"


def _storm(net: Net, order: random.Random) -> list[int]:
    ids: list[int] = []
    with Client(net.proxy.url) as client:
        for _ in range(30):
            net.proxy.fault = order.choice(LOUD_ONES)
            deadline = time.monotonic() + 0.5
            while time.monotonic() < deadline:
                net.submit(client, ids)
            if order.random() < 0.3:  # nobody submits through silence: a submit waits longer than it lasts
                net.proxy.fault = Fault(order.choice(SILENT))
                net.submit(net.farm.client, ids, TASKS)
                time.sleep(order.uniform(0.1, 2))  # the fault itself
    return ids
