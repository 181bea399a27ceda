"""Is it the task or the worker? A retry prefers another worker; a worker on which a type fails stops getting it."""

from pathlib import Path
from typing import Any

import pytest
from store_kit import ROUNDS, SECOND, FakeClock, MakeStore, Mill, StoreKind, name, race, waiting
from test_store_attempts import wants
from test_store_races import recount

from dispatcher.maintenance.attempts import Attempts
from dispatcher.model import End, LeaseName
from dispatcher.queue.blame import AROUND_MS, IN_A_ROW, LOOK_MS, SPARE_MS
from dispatcher.queue.report import Outcome
from dispatcher.store.base import Store

AT_ONCE = wants(backoff={"first_seconds": 0})
SPARE_S, AROUND_S = SPARE_MS / SECOND, AROUND_MS / SECOND


def tend(mill: Mill) -> None:
    Attempts(mill.queue).run_once(mill.clock.now())


def fail(mill: Mill, worker: str, task_type: str = "noop", **how: Any) -> int:
    """A task that fails on this worker; its id."""
    task_id = mill.one(task_type=task_type, max_attempts=1)
    (lease,) = mill.claim(worker, task_types=[task_type]).tasks
    assert lease.task_id == task_id
    mill.report(Outcome(name(lease), End.FAILED, error="it broke", **how), worker=worker)
    return task_id


def succeed(mill: Mill, worker: str, task_type: str = "noop") -> None:
    mill.one(task_type=task_type)
    mill.succeed(mill.claim(worker, task_types=[task_type]).tasks[0])


def blamed(mill: Mill) -> list[tuple[str, str]]:
    return [(row["worker_id"], row["task_type"]) for row in mill.queue.blames()]


def fail_here_alone(mill: Mill, worker: str = "bad") -> None:
    for _ in range(IN_A_ROW):
        fail(mill, worker)
        succeed(mill, "good")


# a task
def failed_on(mill: Mill, worker: str) -> int:
    """A task that failed on this worker and is ready again."""
    task_id = mill.one(options=AT_ONCE, max_attempts=9)
    lease = mill.lease(worker)
    mill.report(Outcome(name(lease), End.FAILED, error="it broke"), worker=worker)
    return task_id


def test_a_retry_prefers_another_worker(mill: Mill) -> None:
    mill.claim("bob")
    task_id = failed_on(mill, "ann")
    assert mill.claim("ann").tasks == []
    assert [task.task_id for task in mill.claim("bob").tasks] == [task_id]


def test_others_behind_it_are_not_held_up(mill: Mill) -> None:
    mill.claim("bob")
    first = failed_on(mill, "ann")
    others = mill.submit(3)
    assert [task.task_id for task in mill.claim("ann", max_tasks=3).tasks] == others
    assert [task.task_id for task in mill.claim("bob", max_tasks=3).tasks] == [first]
    recount(mill)


def test_it_is_only_a_short_delay(mill: Mill) -> None:
    mill.claim("bob")
    task_id = failed_on(mill, "ann")
    mill.clock.forward(SPARE_S)
    assert mill.lease("ann").task_id == task_id


def test_who_waits_gets_it_when_the_delay_is_over(mill: Mill) -> None:
    mill.claim("bob")
    task_id = failed_on(mill, "ann")
    waits = waiting(mill, "ann")
    tend(mill)
    assert not waits.done
    mill.clock.forward(SPARE_S)
    tend(mill)
    assert [task.task_id for task in waits.answer().tasks] == [task_id]


@pytest.mark.parametrize("other", ["none", "long gone", "of another type"])
def test_a_worker_without_another_loses_no_time(mill: Mill, other: str) -> None:
    if other != "none":
        mill.claim("bob", task_types=["noop" if other == "long gone" else "other"])
    if other == "long gone":
        mill.clock.forward(AROUND_S)
    task_id = failed_on(mill, "ann")
    assert mill.lease("ann").task_id == task_id


def test_the_claim_on_the_same_request_leaves_it_too(mill: Mill) -> None:
    mill.claim("bob")
    mill.one(options=AT_ONCE, max_attempts=9)
    lease = mill.lease("ann")
    answer = mill.queue.report([Outcome(name(lease), End.FAILED)], "i-ann", mill.asking("ann", 5))[2]
    assert answer is not None
    assert answer.tasks == []


def test_blame_against_a_claim_by_another(mill: Mill) -> None:
    """Whoever comes first: the task is leased once, and not to the one on which it failed."""
    mill.claim("bob")
    for _ in range(ROUNDS):
        mill.one(options=AT_ONCE, max_attempts=9)
        lease = mill.lease("ann")
        race(
            lambda lease=lease: mill.report(Outcome(name(lease), End.FAILED)),
            lambda: mill.claim("bob").tasks,
            lambda: mill.claim("ann").tasks,
        )
        mill.claim("bob")
        row = mill.row(lease.task_id)
        assert row.lease_instance == mill.store.write(lambda tx: tx.instance("i-bob").id)  # type: ignore[union-attr]
        mill.queue.cancel([lease.task_id])
        mill.report(Outcome(lease_name(mill, lease.task_id), End.CANCELLED), worker="bob")
    recount(mill)


def lease_name(mill: Mill, task_id: int) -> LeaseName:
    return LeaseName(task_id, mill.row(task_id).lease or 0)


# a type
def test_a_worker_on_which_a_type_fails_stops_getting_it(mill: Mill) -> None:
    fail_here_alone(mill)
    fail(mill, "bad", "other")
    assert blamed(mill) == [("bad", "noop")]
    assert "3 tasks of type noop failed here in a row" in mill.queue.blames()[0]["reason"]
    mill.submit(1)
    mill.submit(1, "other")
    assert [task.lane.task_type for task in mill.claim("bad", max_tasks=5).tasks] == ["other"]
    assert mill.queue.claim_classic("bad") is None
    assert len(mill.claim("good", max_tasks=5).tasks) == 1


def test_its_waiting_claim_gets_none_either(mill: Mill) -> None:
    fail_here_alone(mill)
    waits = waiting(mill, "bad")
    mill.submit(1)
    assert not waits.done
    assert mill.queue.forgive("bad", "noop") == 1
    assert len(waits.answer().tasks) == 1


def test_blame_that_was_looked_for_too_early_is_learned_with_the_next_failure(mill: Mill) -> None:
    for _ in range(IN_A_ROW - 1):
        fail(mill, "bad")
        succeed(mill, "good")
    session = mill.store._writer._session  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        commit = session.commit
        patch.setattr(session, "commit", lambda: (mill.queue.learn_attempts(), commit())[1])
        fail(mill, "bad")
    assert blamed(mill) == [("bad", "noop")]
    mill.clock.forward(LOOK_MS / SECOND)
    fail(mill, "bad")
    mill.submit(1)
    assert mill.claim("bad").tasks == []


def test_where_everybody_fails_nobody_is_to_blame(mill: Mill) -> None:
    succeed(mill, "good")
    mill.clock.forward(1)
    for _ in range(2 * IN_A_ROW):
        fail(mill, "bad")
        fail(mill, "good")
        mill.clock.forward(1)
    assert blamed(mill) == []


def test_a_success_between_them_is_an_excuse(mill: Mill) -> None:
    for n in range(2 * IN_A_ROW - 1):
        fail(mill, "bad")
        succeed(mill, "good")
        if n == IN_A_ROW - 2:
            succeed(mill, "bad")
    assert blamed(mill) == []


def test_one_task_that_fails_again_and_again_is_the_tasks_fault(mill: Mill) -> None:
    mill.one(task_type="bad", options=AT_ONCE, max_attempts=9)
    for _ in range(2 * IN_A_ROW):
        (lease,) = mill.claim("bad", task_types=["bad"]).tasks
        mill.report(Outcome(name(lease), End.FAILED), worker="bad")
        mill.clock.forward(SPARE_S)
        succeed(mill, "good", "bad-not")
    assert blamed(mill) == []


def test_final_failures_speak_of_the_task(mill: Mill) -> None:
    for _ in range(IN_A_ROW):
        fail(mill, "bad", retry=False)
        succeed(mill, "good")
    assert blamed(mill) == []


def test_blame_outlives_the_dispatcher_and_ends_by_forgiving(
    make_store: MakeStore, tmp_path: Path, clock: FakeClock
) -> None:
    store = make_store(tmp_path, clock)
    fail_here_alone(Mill(store, clock))
    store.close()
    mill = Mill(make_store(tmp_path, clock), clock)
    mill.submit(1)
    assert mill.claim("bad", number=100).tasks == []
    assert mill.queue.forgive("bad", "other") == 0
    assert mill.queue.forgive("bad", None) == 1
    assert blamed(mill) == []
    assert len(mill.claim("bad").tasks) == 1


def test_forgiven_means_that_it_counts_anew(mill: Mill) -> None:
    fail_here_alone(mill)
    mill.queue.forgive("bad", "noop")
    fail(mill, "bad")
    assert blamed(mill) == []


def test_a_failure_of_a_lone_worker_writes_nothing_more(mill: Mill, kind: StoreKind, store: Store) -> None:
    fail(mill, "ann")
    before = kind.written(store)
    assert mill.claim("ann").tasks == []
    tend(mill)
    assert kind.written(store) == before, "I10: an empty poll writes nothing"
