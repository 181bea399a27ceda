"""A worker with several dispatchers: rolling restarts cost no task and no call, a frozen one no time.

Relays before one dispatcher stand for the dispatchers; the store behind them is what counts, and it is one.
"""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from doubles import wait_until
from patience import slowness
from relay import Relay
from whole_system import Process, System

from client import Client
from client.failover import connect
from worker.link import Link, note_move


class Farm(System):
    """A dispatcher, three relays before it, and workers and clients that know the relays."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.relays = [Relay(self.port) for _ in range(3)]
        self.urls = ",".join(relay.url for relay in self.relays)
        self.settings["DISPATCHER_URL"] = self.urls

    def await_move(self, workers: list[Process], relay: Relay) -> None:
        """Returns when the last move that each of these workers tells of is the one to this relay."""
        logs = [worker.log for worker in workers]

        def moved() -> bool:
            return all(log.read_text().rpartition("going on with the one at ")[2].startswith(relay.url) for log in logs)

        wait_until(moved, what="a worker does not move")

    def end(self) -> None:
        for relay in self.relays:
            relay.frozen = False
        super().end()
        for relay in self.relays:
            relay.stop()


class Submitter(threading.Thread):
    """Submits one task after another; a call that fails is not tried again."""

    def __init__(self, urls: str) -> None:
        super().__init__()
        self.client = Client(urls, retry_seconds=0)
        self.task_ids: list[int] = []
        self.errors: list[Exception] = []
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.01):
            try:
                self.task_ids.append(self.client.submit("noop"))
            except Exception as error:
                self.errors.append(error)

    def more(self, count: int = 5) -> None:
        """Returns when so many more were submitted, or one failed."""
        wanted = len(self.task_ids) + count
        wait_until(lambda: len(self.task_ids) >= wanted or self.errors, what="nothing is submitted any more")


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    made = Farm(tmp_path)
    try:
        yield made
    finally:
        made.end()


def test_i8_a_rolling_restart_under_load_is_seen_by_nobody(farm: Farm) -> None:
    """One of three answers at a time, and that one changes; everybody must move each time."""
    workers = [farm.start_worker(name) for name in ("lab-1", "lab-2")]
    submitter = Submitter(farm.urls)
    submitter.start()
    try:
        up, second, third = farm.relays
        second.stop()
        third.stop()
        for relay in (second, third, up, second):
            submitter.more()
            relay.start()
            up.stop()
            submitter.more()
            farm.await_move(workers, relay)
            up = relay
    finally:
        submitter.over.set()
        submitter.join()
    assert not submitter.errors
    tasks = list(submitter.client.results(submitter.task_ids, timeout=20))
    submitter.client.close()
    assert {(task["status"], task["attempts"]) for task in tasks} == {("completed", 1)}
    assert len(tasks) == len(submitter.task_ids)
    assert not any(worker.said("no answer from any dispatcher") for worker in workers)


def test_a_waiting_claim_leaves_a_frozen_dispatcher_with_the_heartbeat(farm: Farm) -> None:
    worker = farm.start_worker()
    wait_until(farm.has(farm.submit("noop", {}), "completed"))
    wait_until(lambda: any(relay.connections for relay in farm.relays))
    frozen = next(relay for relay in farm.relays if relay.connections)
    frozen.frozen = True
    wait_until(lambda: worker.said(f"the dispatcher at {frozen.url} is left"), what="the heartbeat does not move")
    soon = min(20, 8 * slowness())  # far below the 25 s of its wait
    wait_until(farm.has(farm.submit("noop", {}), "completed"), soon, what="the claim stays in the frozen one")
    assert not worker.said("no answer from any dispatcher")


def test_all_gone_is_one_outage_and_its_end(farm: Farm) -> None:
    worker = farm.start_worker()
    for relay in farm.relays:
        relay.stop()
    wait_until(lambda: worker.said("no answer from any dispatcher"))
    task_id = farm.submit("noop", {})
    farm.relays[2].start()
    wait_until(farm.has(task_id, "completed"))
    assert worker.log.read_text().count("no answer from any dispatcher") == 1
    assert worker.said("the dispatcher answers again")


def test_every_move_is_logged_once(farm: Farm, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    link = Link(connect(farm.urls.split(","), on_move=note_move))
    claim = {"worker_id": "x", "instance_id": "0" * 32, "request_id": 1, "protocol": 1, "max_tasks": 0}
    assert link.post("/get-tasks", {**claim, "wait_seconds": 0}, 5.0)["tasks"] == []
    first = next(relay for relay in farm.relays if relay.connections)
    first.stop()
    go = threading.Barrier(4)

    def call() -> None:
        go.wait(5)
        link.post("/submit-results", {"worker_id": "x", "instance_id": "0" * 32, "outcomes": []}, 5.0)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    [moved] = [record.getMessage() for record in caplog.records if record.name == "worker.link"]
    assert moved.startswith(f"the dispatcher at {first.url} is left (no answer from the dispatcher at {first.url}: ")
    assert not link.silent
    link.close()
