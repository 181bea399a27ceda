"""Attempts: how they are repeated, which count, and what ends a task for good."""

from collections.abc import Callable
from typing import Any

import pytest
from store_kit import HOUR, LEASE_S, SECOND, FakeClock, MakeStore, Mill, name, race
from test_store_races import recount

from dispatcher.model import End, Granted, Progress, State
from dispatcher.queue.ending import ERROR_CHARS, POISON
from dispatcher.queue.options import Options
from dispatcher.queue.report import Outcome, Verdict

STEADY = {"first_seconds": 10, "factor": 3, "max_seconds": 60, "jitter": 0}


def wants(**options: Any) -> str | None:
    return Options(**options).dump()


def fail(mill: Mill, lease: Granted, **how: Any) -> Verdict:
    return mill.report(Outcome(name(lease), End.FAILED, error="it broke", **how))[0]


def due_in(mill: Mill, task_id: int) -> float:
    return (mill.row(task_id).run_at - mill.clock.wall) / SECOND


def again(mill: Mill, worker: str = "ann") -> Granted:
    """The next attempt, as soon as it is due."""
    mill.clock.forward(3 * 3600)
    mill.become_ready()
    return mill.lease(worker)


def save(mill: Mill, lease: Granted, checkpoint: str) -> None:
    mill.beat("ann", lease, said=Progress(name(lease), None, None, None, checkpoint))


# backoff
def test_a_task_says_how_it_is_tried_again(mill: Mill) -> None:
    task_id = mill.one(max_attempts=6, options=wants(backoff=STEADY))
    waits = []
    for _ in range(4):
        fail(mill, again(mill))
        waits.append(due_in(mill, task_id))
    assert waits == [10, 30, 60, 60]


def test_a_type_says_it_for_tasks_that_do_not(mill: Mill) -> None:
    text = '{"max_attempts": 2, "timeout_seconds": 7.5, "backoff": {"first_seconds": 5, "jitter": 0}}'
    mill.beat("ann", types={"noop": None}, defaults={"noop": text})
    silent, own = mill.one(), mill.one(max_attempts=9, timeout_ms=1, options=wants(backoff=STEADY))
    rows = [mill.row(i) for i in (silent, own)]
    assert [(row.max_attempts, row.timeout_ms) for row in rows] == [(2, 7500), (9, 1)]
    for lease in mill.claim(max_tasks=2).tasks:
        fail(mill, lease)
    assert [due_in(mill, i) for i in (silent, own)] == [5, 10]
    mill.beat("ann", types={"noop": None}, defaults={})
    assert mill.row(mill.one()).max_attempts == 3, "what is published no more counts no more"


def test_what_types_want_outlives_the_dispatcher(make_store: MakeStore, tmp_path: Any, clock: FakeClock) -> None:
    store = make_store(tmp_path, clock)
    Mill(store, clock).beat("ann", types={"noop": None}, defaults={"noop": '{"max_attempts": 8}'})
    store.close()
    mill = Mill(make_store(tmp_path, clock), clock)
    assert mill.row(mill.one()).max_attempts == 8


# what handlers say
def test_a_final_failure_leaves_no_attempt(mill: Mill) -> None:
    task_id = mill.one(max_attempts=5)
    assert fail(mill, mill.lease(), retry=False) == Verdict.ACCEPTED
    assert (mill.state(task_id), mill.row(task_id).attempts) == (State.FAILED, 1)
    assert mill.queue.task(task_id)["error"] == "it broke"


def test_of_very_many_attempts_the_newest_are_shown(mill: Mill) -> None:
    task_id = mill.one(max_attempts=999)
    for n in range(205):
        lease = mill.lease()
        mill.report(Outcome(name(lease), End.FAILED, error=f"{n} " + "x" * 5_000))
        mill.clock.forward(2 * HOUR / SECOND)
        mill.become_ready()
    shown = mill.queue.task(task_id)["ended"]
    assert [one["error"].split()[0] for one in shown] == [str(n) for n in range(5, 205)]
    assert {len(one["error"]) for one in shown} == {4096}


def test_a_snoozed_attempt_does_not_count(mill: Mill) -> None:
    task_id = mill.one(max_attempts=1)
    mill.give_back(mill.lease(), End.SNOOZED, snooze_ms=90_000)
    assert (mill.state(task_id), mill.row(task_id).attempts, due_in(mill, task_id)) == (State.PENDING, 0, 90)


def test_each_ended_attempt_is_kept(mill: Mill) -> None:
    task_id = mill.one(max_attempts=5)
    fail(mill, mill.lease("ann"))
    mill.give_back(again(mill, "bob"))
    mill.lease("cat")
    mill.expire()
    told = mill.queue.task(task_id)["ended"]
    assert [(one["worker_id"], one["how"], bool(one["charged"])) for one in told] == [
        ("ann", "failed", True), ("bob", "released", False), ("cat", "expired", True),
    ]  # fmt: skip
    assert told[0]["error"] == "it broke"
    assert told[2]["ended_at"] - told[2]["claimed_at"] == LEASE_S * SECOND


def test_a_long_error_keeps_its_beginning_and_its_end(mill: Mill) -> None:
    task_id = mill.one(max_attempts=1)
    mill.fail(mill.lease(), "ValueError: no\n" + "x" * 500_000 + "the very end")
    error = mill.queue.task(task_id)["error"]
    assert error.startswith("ValueError: no")
    assert error.endswith("the very end")
    assert len(error) <= ERROR_CHARS + 5


# poison
def test_poison_is_failed_though_attempts_are_left(mill: Mill) -> None:
    task_id = mill.one(max_attempts=10)
    for n in range(1, POISON + 1):
        lease = again(mill)
        if n == 2:
            fail(mill, lease)  # an ordinary failure between them changes nothing
            lease = again(mill)
        fail(mill, lease, crashed=True)
        assert mill.state(task_id) == (State.PENDING if n < POISON else State.FAILED)
    assert mill.queue.task(task_id)["error"].startswith("poison: it killed its child 3 times")


def test_a_new_generation_is_innocent(mill: Mill) -> None:
    task_id = mill.one(max_attempts=10)
    for _ in range(POISON):
        fail(mill, again(mill), crashed=True)
    mill.queue.retry([task_id])
    fail(mill, again(mill), crashed=True)
    assert mill.state(task_id) == State.PENDING


def poisoned(mill: Mill) -> tuple[Granted, Granted]:
    """An attempt that fell silent, and the one that will be the last crash."""
    mill.one(max_attempts=10, priority=1)
    for _ in range(POISON - 1):
        fail(mill, again(mill), crashed=True)
    mill.clock.forward(3 * 3600)
    mill.become_ready()
    silent = mill.lease("ann")
    mill.expire()
    return silent, mill.lease("bob")


def test_poison_against_a_late_success(mill: Mill) -> None:
    for order in (0, 1):
        silent, last = poisoned(mill)
        acts: list[Callable[[], Verdict]] = [
            lambda last=last: fail(mill, last, crashed=True), lambda silent=silent: mill.succeed(silent, '"late"'),
        ]  # fmt: skip
        acts[order]()
        acts[1 - order]()
        assert (mill.state(silent.task_id), mill.result(silent.task_id)) == (State.COMPLETED, '"late"')
    for _ in range(10):
        silent, last = poisoned(mill)
        race(
            lambda last=last: fail(mill, last, crashed=True),
            lambda silent=silent: mill.succeed(silent, '"late"'),
        )
        assert (mill.state(silent.task_id), mill.result(silent.task_id)) == (State.COMPLETED, '"late"')
    recount(mill)


# losses
ENDINGS = {
    "expired": lambda mill, lease: mill.expire(),
    "died": lambda mill, lease: mill.die("ann", started=[lease]),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_loss_after_a_newer_checkpoint_does_not_count(mill: Mill, ending: str) -> None:
    task_id = mill.one(max_attempts=1)
    lease = mill.lease()
    save(mill, lease, '{"at": 60}')
    ENDINGS[ending](mill, lease)
    assert (mill.state(task_id), mill.row(task_id).attempts) == (State.PENDING, 0)
    told = mill.queue.task(task_id)["ended"][0]
    assert (told["how"], bool(told["charged"])) == (ending, False)
    assert "checkpoint" in told["error"]
    assert mill.lease("bob").checkpoint == '{"at": 60}'


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_loss_without_a_newer_checkpoint_counts(mill: Mill, ending: str) -> None:
    task_id = mill.one(max_attempts=2)
    first = mill.lease("bob")
    mill.beat("bob", first, said=Progress(name(first), None, None, None, '{"at": 60}'))
    mill.give_back(first)
    lease = mill.lease()
    save(mill, lease, '{"at": 60}')  # no further than it began
    mill.beat("ann", lease, said=Progress(name(lease), 1, 2, "only progress", None))
    ENDINGS[ending](mill, lease)
    assert (mill.state(task_id), mill.row(task_id).attempts) == (State.PENDING, 1)


def test_three_reboots_of_a_long_task(mill: Mill) -> None:
    task_id = mill.one(max_attempts=1)
    for n in range(3):
        lease = mill.lease(f"w{n}")
        mill.beat(f"w{n}", lease, said=Progress(name(lease), None, None, None, str(n)))
        mill.die(f"w{n}", started=[lease])
    assert mill.succeed(mill.lease("bob")) == Verdict.ACCEPTED
    assert mill.row(task_id).attempts == 1


def test_a_crash_counts_whatever_was_saved(mill: Mill) -> None:
    task_id = mill.one(max_attempts=1)
    lease = mill.lease()
    save(mill, lease, "1")
    fail(mill, lease, crashed=True)
    assert mill.state(task_id) == State.FAILED


def test_take_back_counts_again_what_a_checkpoint_excused(mill: Mill) -> None:
    task_id = mill.one()
    lease = mill.lease()
    save(mill, lease, "1")
    mill.expire()
    assert mill.row(task_id).attempts == 0
    assert mill.told("ann", lease) == "ok"
    assert mill.row(task_id).attempts == 1
