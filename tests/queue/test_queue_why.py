"""Why a task waits, in words."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dispatcher.clock import Now
from dispatcher.model import End, LeaseName, Outcome
from dispatcher.queue import Queue, queues, why
from dispatcher.queue.claim import Claim
from dispatcher.queue.death import Death
from dispatcher.queue.heartbeat import Heartbeat
from dispatcher.queue.submit import Submission
from dispatcher.store.sqlite import SqliteStore

T = 1_800_000_000_000


class Clock:
    ms = T

    def now(self) -> Now:
        return Now(self.ms, self.ms)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Iterator[Queue]:
    store = SqliteStore(tmp_path / "queue.db", clock)
    yield Queue(store)
    store.close()


def submit(mill: Queue, n: int = 1, **fields: Any) -> int:
    return mill.submit([Submission("noop", "{}", **fields) for _ in range(n)])[-1]


def claim(queue: Queue, number: int, most: int = 0, **fields: Any) -> Any:
    sets = {key: frozenset(fields.pop(key)) for key in ("task_types", "queues", "labels") if key in fields}
    return queue.claim(Claim("ann", "i-ann", number, most, **sets)).tasks


def told(queue: Queue, task_id: int) -> str | None:
    return why.because(queue, queue.task(task_id))


def test_not_due(queue: Queue, clock: Clock) -> None:
    task_id = submit(queue, run_at=T + 60_000)
    assert told(queue, task_id) == "not due until 2027-01-15T08:01:00.000Z"


def test_next_attempt(queue: Queue, clock: Clock) -> None:
    task_id = submit(queue)
    (lease,) = claim(queue, 1, 1)
    assert told(queue, task_id) is None
    queue.report([Outcome(LeaseName(lease.task_id, lease.token), End.FAILED, error="x")], "i-ann")
    assert (told(queue, task_id) or "").startswith("attempt 1 of 3 has ended, the next is due at 2027-01-15T08:00:0")


def test_paused_and_nobody_there(queue: Queue) -> None:
    task_id = submit(queue)
    queues.configure(queue, "default", {"paused": True})
    assert told(queue, task_id) == "queue default is paused; no live worker"


@pytest.mark.parametrize(
    ("asks", "expected"),
    [
        ({"task_types": ["prime"]}, "no live worker for task type noop"),
        ({"queues": ["mail"]}, "no live worker for queue default"),
        ({"labels": ["lab"]}, "no live worker with label gpu"),
        ({"labels": ["gpu"]}, "it is next; all workers for it are busy"),
    ],
)
def test_no_worker_for_it(queue: Queue, asks: Any, expected: str) -> None:
    task_id = submit(queue, requires=("gpu",))
    claim(queue, 1, **asks)
    assert told(queue, task_id) == expected


def test_a_worker_that_fell_silent_is_no_worker(queue: Queue, clock: Clock) -> None:
    task_id = submit(queue)
    claim(queue, 1)
    clock.ms += 61_000
    assert told(queue, task_id) == "no live worker"


def test_nothing_is_said_of_workers_that_ask_another_dispatcher(queue: Queue) -> None:
    task_id = submit(queue)
    queue.heartbeat(Heartbeat("bob", "i-bob", 1, {}))
    assert told(queue, task_id) == "it is next"


def test_limits(queue: Queue) -> None:
    queues.configure(queue, "default", {"max_running": 2, "key_running": 1, "rate_count": 2, "rate_ms": 60_000})
    task_id = submit(queue, 3, limit_key="user:42")
    last = submit(queue)
    assert len(claim(queue, 1, 1)) == 1
    assert told(queue, task_id) == (
        "key limit: 1 of 1 tasks with key user:42 run or stand before it; "
        "rate limit: queue default starts 2 in 60 s, the next in 30 s"
    )
    queues.configure(queue, "default", {"rate_count": None, "rate_ms": None, "max_running": 1})
    assert told(queue, last) == "queue limit: 1 of 1 tasks of queue default run"


def test_rate_of_a_key(queue: Queue, clock: Clock) -> None:
    queues.configure(queue, "default", {"key_rate_count": 10, "key_rate_ms": 60_000})
    task_id = submit(queue, 3, limit_key="user:42")
    claim(queue, 1)
    assert told(queue, task_id) == "limit of the key user:42: 10 a minute, 1 before it"
    assert len(claim(queue, 2, 5)) == 1
    clock.ms += 500
    assert told(queue, task_id) == "limit of the key user:42: 10 a minute, the next in 5.5 s"
    queues.configure(queue, "default", {"key_rate_count": 10, "key_rate_ms": 3_600_000})
    assert "10 an hour, the next in " in told(queue, task_id)
    queues.configure(queue, "default", {"key_rate_count": 1, "key_rate_ms": 90_000, "key_running": 1})
    assert told(queue, task_id) == (
        "key limit: 1 of 1 tasks with key user:42 run or stand before it; "
        "limit of the key user:42: 1 in 90 s, the next in 5.5 s"
    )
    queues.configure(queue, "default", {"key_rate_count": None, "key_rate_ms": None, "key_running": None})
    assert told(queue, task_id) == "1 task before it"


def test_place_in_the_line(queue: Queue) -> None:
    submit(queue, 2, priority=5)
    submit(queue, 3)
    task_id = submit(queue)
    submit(queue, 4, priority=-1)
    submit(queue, 4, queue="other", priority=9)
    claim(queue, 1)
    assert told(queue, task_id) == "5 tasks before it; all workers for it are busy"
    many = submit(queue, 1500, priority=-2)
    assert told(queue, many) == "more than 1000 tasks before it; all workers for it are busy"


def test_quiet_and_dead_workers_take_nothing(queue: Queue) -> None:
    task_id = submit(queue)
    queue.heartbeat(Heartbeat("ann", "i-ann", 1, {}))
    claim(queue, 1, queues=["other"], most=1)
    claim(queue, 2)
    queue.order_worker("ann", "quiet")
    assert told(queue, task_id) == "every live worker for it is quiet, asleep or stops"
    queue.order_worker("ann", "run")
    assert told(queue, task_id) == "it is next; all workers for it are busy"
    queue.report_death(queue.store.store_id, Death("heir", "i-heir", "ann", "i-ann", (), ()))
    queue.heartbeat(Heartbeat("heir", "i-heir", 1, {}))
    queue.claim(Claim("heir", "i-heir", 1, 0, frozenset({"other"})))
    assert told(queue, task_id) == "no live worker for task type noop"


def test_a_blamed_worker_takes_nothing_of_the_type(queue: Queue) -> None:
    task_id = submit(queue)
    claim(queue, 1)
    queue.store.write(lambda tx: tx.blame("ann", "noop", "it fails here"))
    queue.learn_attempts()
    assert told(queue, task_id) == "every live worker for it is blamed for task type noop"
    queue.claim(Claim("bob", "i-bob", 1, 0))
    assert told(queue, task_id) == "it is next; all workers for it are busy"
