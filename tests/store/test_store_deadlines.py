"""Limits of time: nobody took it (`wait`), all attempts together (`total`)."""

from typing import Any

import pytest
from store_kit import DAY, HOUR, ROUNDS, Mill, StoreKind, failing_commits, name, race, until, waiting
from test_store_attempts import wants
from test_store_races import recount

from dispatcher.errors import Unavailable
from dispatcher.maintenance.attempts import Attempts
from dispatcher.model import End, Granted, State
from dispatcher.queue.report import Outcome, Verdict
from dispatcher.store.base import Store

NOBODY = "nobody took it within 60 s (wait_seconds)"
OVER = "not done within 300 s (total_seconds)"


def enforce(mill: Mill) -> int:
    """A pass over limits."""
    return Attempts(mill.queue).run_once(mill.clock.now())


def kept(mill: Mill) -> int:
    """How many limits are kept; the clock goes to the end of time and back."""
    wall = mill.clock.wall
    mill.clock.wall = wall + 10**12
    try:
        return len(mill.store.write(lambda tx: tx.due_deadlines(1000)))
    finally:
        mill.clock.wall = wall


def told(mill: Mill, task_id: int) -> tuple[State, str | None]:
    return mill.state(task_id), mill.queue.task(task_id)["error"]


def hold(mill: Mill, lease: Granted, seconds: int) -> None:
    """The worker lives on."""
    while seconds > 0:
        mill.clock.forward(min(30, seconds))
        mill.beat("ann", lease)
        seconds -= 30


# wait
def test_a_task_that_nobody_takes_fails(mill: Mill) -> None:
    task_id = mill.one(options=wants(wait_seconds=60))
    mill.clock.forward(59.9)
    assert enforce(mill) == 0
    assert mill.state(task_id) == State.PENDING
    mill.clock.forward(0.1)
    assert enforce(mill) == 1
    assert told(mill, task_id) == (State.FAILED, NOBODY)
    assert kept(mill) == 0
    assert mill.claim().tasks == []
    recount(mill)


@pytest.mark.parametrize("jump", [DAY, 10_000])
def test_a_clock_that_jumps_forward_ends_no_limit(mill: Mill, jump: int) -> None:
    alone = mill.one(task_type="other", options=wants(wait_seconds=60))
    taken = mill.one(options=wants(total_seconds=300))
    lease = mill.lease(task_types=["noop"])
    hold(mill, lease, 30)
    enforce(mill)
    mill.clock.wall += jump
    later = mill.one(task_type="other", options=wants(wait_seconds=60))
    enforce(mill)
    assert (mill.state(alone), mill.told("ann", lease)) == (State.PENDING, "ok")
    hold(mill, lease, 30)
    enforce(mill)
    assert (told(mill, alone), mill.state(later)) == ((State.FAILED, NOBODY), State.PENDING)
    hold(mill, lease, 30)
    enforce(mill)
    assert told(mill, later) == (State.FAILED, NOBODY), "what began after the jump is not put off"
    hold(mill, lease, 180)
    enforce(mill)
    assert mill.told("ann", lease) == "ok"
    hold(mill, lease, 30)
    enforce(mill)
    assert mill.told("ann", lease) == "cancel", "after 300 s in all"
    assert mill.state(taken) == State.IN_PROGRESS


def test_a_limit_whose_beginning_was_skipped_begins_then(mill: Mill) -> None:
    """A machine that sleeps through the time of a task has not made it wait."""
    task_id = mill.one(options=wants(wait_seconds=60), delay_ms=HOUR // 2)
    enforce(mill)
    mill.clock.wall += HOUR
    enforce(mill)
    assert mill.state(task_id) == State.PENDING
    mill.clock.forward(60)
    enforce(mill)
    assert told(mill, task_id) == (State.FAILED, NOBODY)


def test_what_follows_from_a_jump_is_tried_again_when_it_fails(mill: Mill) -> None:
    task_id = mill.one(options=wants(wait_seconds=60))
    enforce(mill)
    mill.clock.wall += HOUR
    with failing_commits(mill.store), pytest.raises(Unavailable):
        enforce(mill)
    enforce(mill)
    assert mill.state(task_id) == State.PENDING


def test_the_wait_begins_when_the_task_is_due(mill: Mill) -> None:
    task_id = mill.one(options=wants(wait_seconds=60), delay_ms=HOUR)
    mill.clock.forward(3659)
    enforce(mill)
    assert mill.state(task_id) == State.PENDING
    mill.clock.forward(1)
    enforce(mill)
    assert told(mill, task_id) == (State.FAILED, NOBODY)


@pytest.mark.parametrize("end", [End.FAILED, End.RELEASED, End.SNOOZED, None])
def test_a_task_that_was_taken_may_wait_again(mill: Mill, end: End | None) -> None:
    task_id = mill.one(options=wants(wait_seconds=60))
    lease = mill.lease()
    if end is not None:
        mill.report(Outcome(name(lease), end, snooze_ms=HOUR))
    mill.clock.forward(60)
    assert enforce(mill) == 1
    assert mill.state(task_id) == (State.PENDING if end else State.IN_PROGRESS)
    assert kept(mill) == 0


def test_a_plain_task_has_no_limit(mill: Mill, kind: StoreKind, store: Store) -> None:
    mill.submit(3)
    mill.one(options=wants(memory_mb=10))
    assert kept(mill) == 0
    mill.one(options=wants(wait_seconds=60))
    before = kind.written(store)
    assert enforce(mill) == 0
    assert kind.written(store) == before, "a pass with nothing due only reads"


def test_wait_limit_against_claim(mill: Mill) -> None:
    for _ in range(ROUNDS):
        task_id = mill.one(options=wants(wait_seconds=60))
        mill.clock.forward(60)
        _, claimed = race(lambda: enforce(mill), lambda: mill.claim().tasks)
        assert told(mill, task_id) == (State.IN_PROGRESS, None) if claimed else (State.FAILED, NOBODY)
        for lease in claimed:
            mill.succeed(lease)
        assert kept(mill) == 0
    recount(mill)


# total
def running(mill: Mill, **fields: Any) -> Granted:
    """A task whose time is over while it runs."""
    mill.one(options=wants(total_seconds=300), priority=1, **fields)
    lease = mill.lease("ann")
    hold(mill, lease, 300)
    return lease


def test_the_time_of_all_attempts_is_over_between_two(mill: Mill) -> None:
    task_id = mill.one(max_attempts=9, options=wants(total_seconds=300, backoff={"first_seconds": 3600}))
    mill.clock.forward(1000)  # waiting at first does not count
    enforce(mill)
    mill.fail(mill.lease())
    mill.clock.forward(299)
    enforce(mill)
    assert mill.state(task_id) == State.PENDING
    mill.clock.forward(1)
    enforce(mill)
    assert told(mill, task_id) == (State.FAILED, OVER)
    recount(mill)


def test_a_running_attempt_is_stopped_and_the_task_fails(mill: Mill) -> None:
    lease = running(mill)
    waits = waiting(mill, "ann", task_types=["other"])
    enforce(mill)
    assert until(lambda: waits.answer()).orders.cancel == (str(name(lease)),), "the holder hears of it at once"
    assert mill.told("ann", lease) == "cancel"
    assert mill.report(Outcome(name(lease), End.CANCELLED)) == [Verdict.ACCEPTED]
    assert told(mill, lease.task_id) == (State.FAILED, OVER)
    mill.clock.forward(60)
    enforce(mill)
    assert kept(mill) == 0
    recount(mill)


@pytest.mark.parametrize("end", [End.FAILED, End.RELEASED, End.SNOOZED, End.CANCELLED])
def test_every_end_but_a_success_fails_it(mill: Mill, end: End) -> None:
    lease = running(mill, max_attempts=9)
    enforce(mill)
    mill.report(Outcome(name(lease), end, error="why"))
    assert told(mill, lease.task_id) == (State.FAILED, f"{OVER}\nwhy")


def test_a_silent_holder_fails_it_too_and_gets_nothing_back(mill: Mill) -> None:
    lease = running(mill)
    enforce(mill)
    mill.expire()
    assert mill.state(lease.task_id) == State.FAILED
    assert mill.told("ann", lease) == "lost"
    assert mill.state(lease.task_id) == State.FAILED


def test_who_is_cancelled_before_is_cancelled(mill: Mill) -> None:
    lease = running(mill)
    mill.queue.cancel([lease.task_id])
    enforce(mill)
    mill.report(Outcome(name(lease), End.CANCELLED))
    assert mill.state(lease.task_id) == State.CANCELLED


def test_total_limit_against_success(mill: Mill) -> None:
    for _ in range(ROUNDS):
        lease = running(mill)
        _, verdict = race(lambda: enforce(mill), lambda lease=lease: mill.succeed(lease))
        assert verdict == Verdict.ACCEPTED, "the first success wins, also over the order to stop"
        assert mill.state(lease.task_id) == State.COMPLETED
    mill.clock.forward(600)
    enforce(mill)
    assert kept(mill) == 0
    recount(mill)


def test_a_late_success_wins_over_the_limit(mill: Mill) -> None:
    lease = running(mill)
    enforce(mill)
    mill.expire()
    assert mill.succeed(lease) == Verdict.ACCEPTED_LATE
    assert mill.state(lease.task_id) == State.COMPLETED


# a new life
def test_retry_begins_the_limits_anew(mill: Mill) -> None:
    task_id = mill.one(options=wants(wait_seconds=60, total_seconds=300))
    mill.clock.forward(60)
    enforce(mill)
    mill.queue.retry([task_id])
    assert kept(mill) == 2
    mill.clock.forward(59)
    enforce(mill)
    assert mill.state(task_id) == State.PENDING
    mill.clock.forward(1)
    enforce(mill)
    assert told(mill, task_id) == (State.FAILED, NOBODY)


def test_edit_changes_them(mill: Mill) -> None:
    task_id = mill.one(options=wants(wait_seconds=60))
    mill.clock.forward(50)
    mill.edit(task_id, {"options": wants(wait_seconds=30)})
    mill.clock.forward(29)
    enforce(mill)
    assert mill.state(task_id) == State.PENDING
    mill.clock.forward(1)
    enforce(mill)
    assert mill.state(task_id) == State.FAILED
    other = mill.one(options=wants(wait_seconds=60))
    mill.edit(other, {"options": None})
    assert kept(mill) == 0


def test_pruned_tasks_leave_no_limits(mill: Mill) -> None:
    mill.one(options=wants(total_seconds=3000))
    mill.succeed(mill.lease())
    mill.clock.forward(1)
    assert mill.prune() == 1
    assert kept(mill) == 0


def test_many_limits_at_once_are_many_short_steps(mill: Mill) -> None:
    mill.submit(200, options=wants(wait_seconds=60))
    mill.clock.forward(60)
    commits = mill.store._writer.commits  # type: ignore[attr-defined]
    assert enforce(mill) == 200
    assert mill.store._writer.commits - commits >= 8  # type: ignore[attr-defined]
    assert mill.counts() == {("default", "noop"): {"failed": 200}}


def test_total_limit_goes_on_for_a_lease_taken_back_from_a_failed_task(mill: Mill) -> None:
    """Its limit had been looked at, and dropped, while the task counted as failed."""
    mill.one(max_attempts=1, options=wants(total_seconds=300))
    lease = mill.lease()
    mill.expire()
    mill.clock.forward(60)
    mill.clock.forward(140)
    enforce(mill)
    assert mill.told("ann", lease) == "ok"
    enforce(mill)
    assert mill.told("ann", lease) == "cancel"
    assert mill.report(Outcome(name(lease), End.CANCELLED)) == [Verdict.ACCEPTED]
    assert told(mill, lease.task_id) == (State.FAILED, OVER)


def test_total_limit_of_a_lease_taken_back_early_is_not_over(mill: Mill) -> None:
    mill.one(max_attempts=1, options=wants(total_seconds=300))
    lease = mill.lease()
    mill.expire()
    assert mill.told("ann", lease) == "ok"
    enforce(mill)
    assert mill.told("ann", lease) == "ok"
    hold(mill, lease, 180)
    enforce(mill)
    assert mill.told("ann", lease) == "cancel"
