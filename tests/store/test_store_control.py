"""Control: cancel, retry, edit."""

from collections.abc import Callable

import pytest
from store_kit import HOUR, Mill, name

from dispatcher.model import End, Granted, Progress, State
from dispatcher.queue.report import Outcome, Verdict


def test_cancel_of_a_waiting_task(mill: Mill) -> None:
    now, later = mill.one(), mill.one(delay_ms=HOUR)
    assert mill.queue.cancel([now, later]) == {now: "cancelled", later: "cancelled"}
    assert [mill.state(i) for i in (now, later)] == [State.CANCELLED] * 2
    assert mill.claim().tasks == []
    assert mill.become_ready() == 0


def test_cancel_of_a_running_task_asks_its_holder(mill: Mill) -> None:
    task_id = mill.one()
    lease = mill.lease()
    assert mill.queue.cancel([task_id]) == {task_id: "cancel_requested"}
    assert mill.state(task_id) == State.IN_PROGRESS
    asked_at = mill.row(task_id).cancel_requested_at
    mill.clock.forward(5)
    assert mill.queue.cancel([task_id]) == {task_id: "cancel_requested"}
    assert mill.row(task_id).cancel_requested_at == asked_at, "once"
    assert mill.claim().orders.cancel == (str(name(lease)),)


def test_cancel_verdicts(mill: Mill) -> None:
    done, waits = mill.submit(2)
    mill.succeed(mill.lease())
    assert mill.queue.cancel([done, 4711, waits, waits]) == {
        done: "already_final", 4711: "not_found", waits: "cancelled",
    }  # fmt: skip
    assert mill.queue.cancel([waits]) == {waits: "already_final"}


def by(status: End) -> Callable[[Mill, Granted], object]:
    return lambda mill, lease: mill.report(Outcome(name(lease), status, error="why"))


ENDINGS = {
    "failed": by(End.FAILED),
    "released": by(End.RELEASED),
    "snoozed": by(End.SNOOZED),
    "cancelled": by(End.CANCELLED),
    "expired": lambda mill, lease: mill.expire(),
    "unlisted": lambda mill, lease: (mill.beat("ann"), mill.beat("ann")),
    "died": lambda mill, lease: mill.die("ann", started=[lease]),
    "died unstarted": lambda mill, lease: mill.die("ann"),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_end_but_a_success_cancels_what_is_to_be_cancelled(mill: Mill, ending: str) -> None:
    task_id = mill.one(max_attempts=5)
    lease = mill.lease("ann")
    mill.queue.cancel([task_id])
    ENDINGS[ending](mill, lease)
    assert mill.state(task_id) == State.CANCELLED
    assert mill.counts() == {("default", "noop"): {"cancelled": 1}}


def test_success_that_arrives_first_wins(mill: Mill) -> None:
    task_id = mill.one()
    lease = mill.lease()
    mill.queue.cancel([task_id])
    assert mill.succeed(lease) == Verdict.ACCEPTED
    assert mill.state(task_id) == State.COMPLETED


def completed(mill: Mill) -> int:
    task_id = mill.one(max_attempts=1)
    mill.succeed(mill.lease())
    return task_id


def failed(mill: Mill) -> int:
    task_id = mill.one(max_attempts=1)
    mill.fail(mill.lease())
    return task_id


def cancelled(mill: Mill) -> int:
    task_id = mill.one(max_attempts=1)
    mill.queue.cancel([task_id])
    return task_id


@pytest.mark.parametrize("finish", [completed, failed, cancelled])
def test_retry_starts_a_new_generation(mill: Mill, finish: Callable[[Mill], int]) -> None:
    task_id = finish(mill)
    assert mill.queue.retry([task_id, task_id]) == {task_id: "retried"}
    row = mill.row(task_id)
    assert (row.state, row.ready, row.attempts, row.generation) == (State.PENDING, 1, 0, 2)
    assert (row.finished_at, row.cancel_requested_at) == (None, None)
    assert mill.result(task_id) is None
    assert mill.counts() == {("default", "noop"): {"pending": 1, "ready": 1}}
    lease = mill.lease("bob")
    assert lease.attempt == 1
    assert mill.succeed(lease) == Verdict.ACCEPTED


def test_retry_verdicts(mill: Mill) -> None:
    running, waits = mill.submit(2)
    mill.lease()
    assert mill.queue.retry([running, waits, 4711]) == {
        running: "not_final", waits: "not_final", 4711: "not_found",
    }  # fmt: skip


def test_retry_forgets_the_checkpoint(mill: Mill) -> None:
    task_id = mill.one(max_attempts=1)
    lease = mill.lease()
    mill.beat("ann", lease, said=Progress(name(lease), 1.0, 2.0, "half", "7"))
    mill.fail(lease)
    mill.queue.retry([task_id])
    assert mill.lease().checkpoint is None


def test_repeated_failure_is_a_duplicate_after_a_retry(mill: Mill) -> None:
    task_id = mill.one(max_attempts=1)
    lease = mill.lease()
    mill.fail(lease)
    mill.queue.retry([task_id])
    assert mill.fail(lease) == Verdict.DUPLICATE
    assert mill.row(task_id).attempts == 0


def test_edit_changes_a_waiting_task_in_a_new_generation(mill: Mill) -> None:
    task_id = mill.one(data='{"old": 1}')
    mill.expire() if mill.lease() else None
    assert mill.row(task_id).attempts == 1
    lane = mill.store.write(lambda tx: tx.lane("other", "noop"))
    changes = {"data": '{"new": 1}', "priority": 5, "max_attempts": 9, "timeout_ms": 77, "lane_id": lane}
    assert mill.edit(task_id, changes)
    row = mill.row(task_id)
    assert (row.generation, row.attempts, row.ready) == (2, 0, 1)
    assert mill.counts() == {("other", "noop"): {"pending": 1, "ready": 1}}
    lease = mill.lease(queues=["other"])
    assert (lease.data, lease.max_attempts, lease.timeout_ms, lease.attempt) == ('{"new": 1}', 9, 77, 1)


def test_edit_of_run_at_moves_readiness(mill: Mill) -> None:
    task_id = mill.one()
    now = mill.clock.now().wall
    mill.edit(task_id, {"run_at": now + HOUR})
    assert mill.claim().tasks == []
    assert mill.counts() == {("default", "noop"): {"pending": 1}}
    mill.edit(task_id, {"run_at": now})
    assert mill.lease().task_id == task_id


def test_what_was_due_stays_due_when_the_clock_goes_back(mill: Mill) -> None:
    """It was ready, or leased: no clock takes that from it. What was put off waits by the new time."""
    ids = mill.submit(3)
    released, lost = mill.lease(), mill.lease("lost")
    mill.clock.wall -= HOUR
    mill.give_back(released)
    mill.die("lost", started=[lost])
    mill.edit(ids[2], {"priority": 1})
    assert sorted(task.task_id for task in mill.claim("bob", max_tasks=9).tasks) == ids
    assert mill.counts() == {("default", "noop"): {"in_progress": 3}}


def test_edit_refuses_what_does_not_wait(mill: Mill) -> None:
    running = mill.one()
    mill.lease()
    assert not mill.edit(running, {"priority": 1})
    assert not mill.edit(completed(mill), {"priority": 1})
    assert not mill.edit(4711, {"priority": 1})
    assert mill.row(running).generation == 1
