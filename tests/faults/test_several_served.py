"""Several dispatchers on one PostgreSQL: restarted in turn, with clocks apart, waking each other's claims (I2, I8)."""

import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta, timezone
from itertools import count
from pathlib import Path
from typing import Any

from fault_farm import DEATH, LEASE
from overlapping import overlapping
from postgres_proxy import Plan as Injured
from postgres_proxy import proxied
from postgres_server import Schemas, running
from several_farm import SeveralFarm
from test_dispatcher_faults import _all_done_once

from client import Client

MINUTE = 60
HINTED_S, UNHINTED_S = 0.05, 1.0
SOON = 5.0  # seconds, far below the length of a wait
LATE = 1.5  # seconds after its time by which a task has begun
USERS = 4
CLOCKWORK = str(Path(__file__).parent / "clockwork")


@overlapping
def test_i8_a_rolling_restart_of_three_dispatchers_is_seen_by_nobody(folder: Path) -> str:
    """One attempt is all that a task has; no user tries a call again."""
    with running() as server, SeveralFarm(folder, server, workers=3) as farm, ThreadPoolExecutor(USERS) as pool:
        over, numbers = threading.Event(), count()
        ids = farm.submit_ledger([next(numbers) for _ in range(3)], seconds=6, max_attempts=1)
        users = [pool.submit(_submit_and_wait, farm, over, numbers) for _ in range(USERS)]
        try:
            for name in farm.own:
                _goes_on(farm)
                farm.drain(name)
                farm.start_one(name)
            _goes_on(farm)
        finally:
            over.set()
        ids += [task_id for user in users for task_id in user.result()]
        _all_done_once(farm, ids, 20)
        return f"a rolling restart of three dispatchers: {len(ids)} tasks, each done in its one attempt, no call failed"


def _submit_and_wait(farm: SeveralFarm, over: threading.Event, numbers: Iterator[int]) -> list[int]:
    """What a user does: one task after the other, its end waited for."""
    ids = []
    with farm.new_client(retry_seconds=0) as client:
        while not over.is_set():
            ids.append(client.submit("ledger", {"number": next(numbers), "seconds": 0.02}, max_attempts=1))
            assert client.wait(ids[-1], timeout=20)["status"] == "completed"
    return ids


def _goes_on(farm: SeveralFarm) -> None:
    done = len(farm.executions())
    farm.until(lambda: len(farm.executions()) >= done + 30, "tasks are executed")


@overlapping
def test_dispatchers_with_clocks_two_minutes_apart_end_nothing_early(folder: Path) -> None:
    """Every time is the database's, whose clock is right."""
    with running() as server:
        farm = SeveralFarm(folder, server, dispatchers=2, workers=0, concurrency=4)
        for name, off in zip(farm.own, (MINUTE, -MINUTE), strict=True):
            clock = folder / f"{name}.clock"
            clock.write_text(str(off))
            farm.own[name] |= {"PYTHONPATH": CLOCKWORK, "TASKMILL_TEST_CLOCK": str(clock)}
        with farm:
            for name in farm.own:
                farm.start_worker(f"worker-of-{name}", DISPATCHER_URL=farm.urls(name))
            farm.until(lambda: farm.client.stats()["active_workers"] == 2, "the workers come up")
            ids = farm.submit_ledger(range(4), seconds=max(LEASE, DEATH) + 3)
            farm.wait_executing(4)
            for number, name in enumerate(farm.own, 1):
                with farm.at(name) as client:
                    ids += _begin_in_time(farm, client, number * 10)
            _all_done_once(farm, ids, 15)


def _begin_in_time(farm: SeveralFarm, client: Client, number: int) -> list[int]:
    """Tasks for later, submitted at a dispatcher whose clock is wrong."""
    after, before = 1.5, time.monotonic_ns()
    due = datetime.now(timezone.utc) + timedelta(seconds=after)
    ids = [
        client.submit("ledger", {"number": number}, delay_seconds=after),
        client.submit("ledger", {"number": number + 1}, run_at=due),
    ]
    ended = farm.results(ids)
    waits = [(one.started - before) / 1e9 for one in farm.executions() if one.task_id in ids]
    assert len(waits) == 2
    assert all(after - 0.01 <= wait <= after + LATE for wait in waits), waits
    shown = [datetime.fromisoformat(client.task(one)["created_at"].replace("Z", "+00:00")) for one in ended]
    assert all(abs(due - at) < timedelta(seconds=10) for at in shown)
    return ids


def test_a_claim_that_waits_at_one_dispatcher_is_woken_by_a_submit_at_another(tmp_path: Path, capsys: Any) -> None:
    """Not beside other farms: it measures times, from before the submit until the handler runs."""
    with running() as server:
        farm = SeveralFarm(tmp_path, server, workers=0)
        hinted, submitting, unhinted = farm.own
        farm.own[unhinted]["DATABASE_NOTIFY"] = "no"
        numbers = count()
        with farm:
            with_hints = _lags(farm, hinted, submitting, numbers, 40)
            without = _lags(farm, unhinted, submitting, numbers, 12)
    told = f"from a submit at another dispatcher to the start: {_told(with_hints)}; without hints {_told(without)}"
    with capsys.disabled():
        print(f"\n{told}")  # noqa: T201
    assert statistics.median(with_hints) <= HINTED_S
    assert statistics.median(without) <= UNHINTED_S


def _lags(farm: SeveralFarm, waiting: str, submitting: str, numbers: Iterator[int], rounds: int) -> list[float]:
    """The seconds from submits at one dispatcher to the starts at a worker that waits at another."""
    worker = farm.start_worker(f"worker-of-{waiting}", DISPATCHER_URL=farm.urls(waiting))
    with farm.at(waiting) as there, farm.at(submitting) as here:
        lags = [_lag(farm, there, here, next(numbers)) for _ in range(rounds)]
    assert worker.stop() == 0
    return lags


def _lag(farm: SeveralFarm, there: Client, here: Client, number: int) -> float:
    farm.until(lambda: there.health()["waiting_claims"] == 1, "a claim waits")
    began = time.monotonic_ns()
    task_id = here.submit("ledger", {"number": number, "seconds": 0.0})
    farm.until(lambda: task_id in [one.task_id for one in farm.executions()], "it is executed")
    return (farm.executions()[-1].started - began) / 1e9


def _told(lags: list[float]) -> str:
    return f"p50 {statistics.median(lags) * 1000:.0f} ms, longest {max(lags) * 1000:.0f} ms"


@overlapping
def test_i7_a_dispatcher_of_another_database_settles_nothing(folder: Path) -> None:
    """Two URLs by mistake, two stores: what the workers hold of one waits until that one answers."""
    with running() as server, closing(Schemas(server.url)) as schemas:
        farm = SeveralFarm(folder, server, dispatchers=2, workers=0)
        right, wrong = farm.own
        farm.own[wrong]["DATABASE_URL"] = schemas.new()
        with farm:
            farm.dispatchers[wrong].kill()  # all begin at the right one
            for name in ("worker-1", "worker-2"):
                farm.start_worker(name)
            farm.until(lambda: farm.client.stats()["active_workers"] == 2, "the workers come up")
            farm.start_one(wrong)
            ids = farm.submit_ledger(range(4), seconds=2)
            farm.wait_executing(4)
            farm.dispatchers[right].kill()
            farm.results(farm.submit_ledger(range(100, 104), seconds=0), timeout=15)
            farm.until(lambda: _kept(farm) == len(ids), "all of it is kept")
            assert farm.client.stats()["completed_tasks"] == 4
            farm.start_one(right)
            farm.dispatchers[wrong].kill()
            _all_done_once(farm, ids, 15)
            farm.until(farm.outboxes_empty, "all outboxes are empty")


@overlapping
def test_a_claim_leaves_a_dispatcher_that_has_lost_the_database(folder: Path) -> None:
    """That one answers, so it is not silent, but what waits there would wait for nothing."""
    with running() as server, proxied(server.url, Injured()) as line:
        farm = SeveralFarm(folder, server, dispatchers=2, workers=0)
        cut, whole = farm.own
        farm.own[cut]["DATABASE_URL"] = line.url
        with farm, farm.at(cut) as there, farm.at(whole, retry_seconds=20) as here:
            farm.dispatchers[whole].kill()
            worker = farm.start_worker("worker-1")
            farm.until(lambda: there.health()["waiting_claims"] == 1, "a claim waits")
            farm.start_one(whole)
            with line.gone():
                farm.until(lambda: f"going on with the one at {here.url}" in worker.output(), "the worker moves")
                began = time.monotonic()
                here.wait(here.submit("ledger", {"number": 1}), timeout=20)
                assert time.monotonic() - began < SOON
                began = time.monotonic()
                assert worker.stop() == 0
                assert time.monotonic() - began < SOON
                assert "everything is handed back" in worker.output()


def _kept(farm: SeveralFarm) -> int:
    """Outcomes without a verdict, by the workers' own word."""
    return sum(worker["metadata"].get("outbox", 0) for worker in farm.client.stats()["workers"])
