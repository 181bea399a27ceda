"""Whether a worker for a task lives, whichever dispatcher it speaks to; both stores."""

import json
from typing import Any

import pytest
from store_kit import SILENCE_S, FakeClock, Mill

from dispatcher.queue import why
from dispatcher.queue.heartbeat import Heartbeat


def told(mill: Mill, task_id: int) -> str | None:
    return why.because(mill.queue, mill.queue.task(task_id))


def register(mill: Mill, worker: str = "ann", **about: Any) -> None:
    """A worker that speaks to another dispatcher: all that is known here of it lies in the store."""
    said = {"concurrency": 2, "labels": [], "task_types": ["noop"], **about}
    mill.beat(worker, about=json.dumps(said))


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"task_types": ["prime"]}, "no live worker for task type noop"),
        ({"queues": ["mail"]}, "no live worker for queue default"),
        ({"labels": ["lab"]}, "no live worker with label gpu"),
        ({"labels": ["gpu"]}, "it is next"),
        ({"labels": ["gpu"], "queues": ["default"]}, "it is next"),
    ],
)
def test_what_a_worker_registered_counts_wherever_it_asks(mill: Mill, about: Any, expected: str) -> None:
    task_id = mill.one(requires=("gpu",))
    register(mill, **about)
    assert told(mill, task_id) == expected


def test_parts_that_no_single_worker_has(mill: Mill) -> None:
    task_id = mill.one(requires=("gpu",))
    register(mill, "ann", labels=["gpu"], task_types=["prime"])
    register(mill, "bob")
    assert told(mill, task_id) == "no live worker has its task type, queue and labels together"


def test_a_new_registration_replaces_the_old_one(mill: Mill) -> None:
    task_id = mill.one()
    register(mill)
    register(mill, task_types=["prime"])
    assert told(mill, task_id) == "no live worker for task type noop"


def test_who_registered_nothing_may_take_anything(mill: Mill) -> None:
    task_id = mill.one(requires=("gpu",))
    register(mill, task_types=["prime"])
    mill.queue.heartbeat_classic("old", None)
    assert told(mill, task_id) == "it is next"


def test_leases_say_that_a_worker_elsewhere_is_busy(mill: Mill) -> None:
    mill.submit(3)
    register(mill, "ann", concurrency=2)
    mill.claim("ann", 2)
    mill.queue.asks._asks.clear()  # as if it had asked another dispatcher
    (waiting,) = [task["task_id"] for task in mill.all_tasks() if task["status"] == "pending"]
    assert told(mill, waiting) == "it is next; all workers for it are busy"
    register(mill, "bob", concurrency=1)
    assert told(mill, waiting) == "it is next"


def test_the_dead_and_the_silent_do_not_count(mill: Mill, clock: FakeClock) -> None:
    task_id = mill.one()
    register(mill, "ann")
    mill.claim("ann", 0)
    register(mill, "bob")
    mill.die("bob", reporter="cid")
    register(mill, "cid", task_types=["prime"])
    assert told(mill, task_id) == "it is next; all workers for it are busy"
    mill.die("ann", reporter="cid")
    assert told(mill, task_id) == "no live worker for task type noop", "though it asked a moment ago"
    clock.forward(SILENCE_S + 1)
    assert told(mill, task_id) == "no live worker"


def test_two_workers_of_one_name(mill: Mill) -> None:
    """One asks here, its namesake with another type elsewhere."""
    task_id = mill.one()
    register(mill, "ann", task_types=["prime"])
    mill.claim("ann", 1, task_types=["prime"])
    assert told(mill, task_id) == "no live worker for task type noop"
    mill.queue.heartbeat(Heartbeat("ann", "i-other", 1, {}, about=json.dumps({"task_types": ["noop"]})))
    assert told(mill, task_id) == "it is next"


@pytest.mark.parametrize("order", ["quiet", "sleep", "stop"])
@pytest.mark.parametrize("asks_here", [True, False])
def test_quiet_workers_are_named_as_the_reason(mill: Mill, order: str, asks_here: bool) -> None:
    task_id = mill.one()
    register(mill)
    if asks_here:
        mill.claim("ann", 0)
    mill.queue.order_worker("ann", order)
    assert told(mill, task_id) == "every live worker for it is quiet, asleep or stops"
    mill.queue.order_worker("ann", "run")
    assert (told(mill, task_id) or "").startswith("it is next")
    register(mill, task_types=["prime"])
    mill.queue.order_worker("ann", order)
    if not asks_here:
        assert told(mill, task_id) == "no live worker for task type noop"


def test_blamed_workers_are_named_as_the_reason(mill: Mill) -> None:
    task_id = mill.one()
    register(mill)
    mill.queue.blame.learn([{"worker_id": "ann", "task_type": "noop", "reason": "x"}])
    assert told(mill, task_id) == "every live worker for it is blamed for task type noop"
    register(mill, "bob")
    assert told(mill, task_id) == "it is next"


def test_a_worker_of_another_dispatcher(mills: list[Mill]) -> None:
    one, other = mills
    task_id = one.one(requires=("gpu",))
    register(other, "ann", labels=["lab"])
    other.claim("ann", 1, labels=["lab"])
    assert told(one, task_id) == told(other, task_id) == "no live worker with label gpu"
    register(other, "bob", labels=["gpu"])
    assert told(one, task_id) == told(other, task_id) == "it is next"
    other.queue.order_worker("bob", "quiet")
    assert told(one, task_id) == "every live worker for it is quiet, asleep or stops"
