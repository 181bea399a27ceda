"""Queues: pause, limits, rates, weights, backlog, priorities and labels, on every store."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from store_kit import SECOND, FakeClock, MakeStore, Mill, StoreKind, failing_commits, name, race, waiting

from dispatcher.errors import BacklogFull, Unavailable
from dispatcher.maintenance.limiter import Limiter
from dispatcher.model import End, QueueSettings
from dispatcher.queue import queues
from dispatcher.queue.report import Outcome, Verdict
from dispatcher.queue.submit import Submission
from dispatcher.store.base import Store

ROUNDS = 12


def configure(mill: Mill, queue: str = "default", **changes: Any) -> QueueSettings:
    return queues.configure(mill.queue, queue, changes)


def rate(mill: Mill, count: int | None, seconds: float = 1) -> QueueSettings:
    return configure(mill, rate_count=count, rate_ms=None if count is None else int(seconds * SECOND))


def running(mill: Mill, queue: str = "default") -> int:
    return sum(n.get("in_progress", 0) for (name, _), n in mill.counts().items() if name == queue)


# settings


def test_settings_are_kept(mill: Mill, make_store: MakeStore, tmp_path: Path, clock: FakeClock) -> None:
    configure(mill, "mail", max_running=2, weight=3, max_waiting=9, key_running=1)
    configure(mill, "mail", rate_count=5, rate_ms=1000, weight=None)
    expected = QueueSettings("mail", False, 2, 5, 1000, None, 9, 1)
    assert mill.store.write(lambda tx: dict(tx.queue_settings())) == {"mail": expected}
    mill.store.close()
    again = Mill(make_store(tmp_path, clock), clock)
    (view,) = queues.listed(again.queue)
    assert view.settings == expected
    assert view.counts["pending"] == 0


def test_a_failed_change_is_forgotten(mill: Mill, store: Store) -> None:
    def change(tx) -> None:  # type: ignore[no-untyped-def]
        tx.configure("default", {"paused": True})
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.write(change)
    mill.one()
    assert mill.claim().tasks


# pause


def test_paused_queue_gives_nothing_and_others_go_on(mill: Mill) -> None:
    mill.submit(3)
    other = mill.one(queue="mail")
    configure(mill, paused=True)
    assert [task.task_id for task in mill.claim(max_tasks=9).tasks] == [other]
    assert mill.queue.claim_classic("old") is None
    configure(mill, paused=False)
    assert len(mill.claim(max_tasks=9).tasks) == 3


def test_what_runs_in_a_paused_queue_goes_on(mill: Mill) -> None:
    mill.one()
    lease = mill.lease()
    configure(mill, paused=True)
    assert mill.told("ann", lease) == "ok"
    assert mill.succeed(lease) == Verdict.ACCEPTED


def test_i10_claims_that_a_limit_keeps_empty_write_nothing(mill: Mill, kind: StoreKind, store: Store) -> None:
    mill.submit(3)
    mill.lease()
    mill.submit(3, queue="paused")
    configure(mill, max_running=1)
    configure(mill, "paused", paused=True)
    before = kind.written(store)
    for _ in range(3):
        assert not mill.claim().tasks
    assert kind.written(store) == before


def test_resume_wakes_a_waiting_claim(mill: Mill) -> None:
    configure(mill, paused=True)
    task_id = mill.one()
    later = waiting(mill)
    assert not later.done
    configure(mill, paused=False)
    assert [task.task_id for task in later.answer().tasks] == [task_id]


def test_race_of_pause_and_claims(mill: Mill) -> None:
    """After the pause is answered no claim gets a task."""
    mill.submit(400)
    for n in range(ROUNDS):
        after: list[int] = []

        def pause(after: list[int] = after, n: int = n) -> None:
            configure(mill, paused=True)
            after.extend(task.task_id for task in mill.claim(f"late-{n}", 5).tasks)

        calls = [lambda w=w, n=n: mill.claim(f"w{w}-{n}", 2) for w in range(4)]
        race(pause, *calls)
        before = running(mill)
        assert not after
        assert not mill.claim("ann", 5).tasks
        assert running(mill) == before
        configure(mill, paused=False)


# how many run


def test_limit_of_running_tasks(mill: Mill) -> None:
    mill.submit(9)
    configure(mill, max_running=3)
    first = mill.claim(max_tasks=2).tasks
    assert len(mill.claim("bob", 5).tasks) == 1
    assert not mill.claim("bob", 5).tasks
    mill.succeed(first[0])
    assert len(mill.claim("bob", 5).tasks) == 1
    configure(mill, max_running=None)
    assert len(mill.claim("bob", 9).tasks) == 5


def test_an_end_lets_a_waiting_claim_in(mill: Mill) -> None:
    mill.submit(2)
    configure(mill, max_running=1)
    lease = mill.lease()
    later = waiting(mill, "bob")
    assert not later.done
    mill.fail(lease)
    assert len(later.answer().tasks) == 1


def test_a_raised_limit_wakes_a_waiting_claim(mill: Mill) -> None:
    mill.submit(2)
    configure(mill, max_running=0)
    later = waiting(mill)
    configure(mill, max_running=1)
    assert len(later.answer().tasks) == 1


def test_limit_holds_under_eight_claimers(mill: Mill) -> None:
    mill.submit(200)
    configure(mill, max_running=5)
    leases: list[Any] = []
    for n in range(ROUNDS):
        answers = race(*[lambda w=w: mill.claim(f"w{w}", 2).tasks for w in range(8)])
        leases += [task for tasks in answers for task in tasks]
        assert running(mill) == len(leases) == 5, n
        for lease in leases[:3]:
            mill.succeed(lease)
        del leases[:3]


def test_an_end_wakes_who_waits_for_room_also_after_a_failed_transaction(mill: Mill) -> None:
    configure(mill, max_running=1)
    first, following = mill.submit(2)
    lease = mill.lease("bob")
    waits = waiting(mill, "ann")
    with failing_commits(mill.store), pytest.raises(Unavailable):
        mill.queue.cancel([first])
    mill.succeed(lease)
    assert [task.task_id for task in waits.answer().tasks] == [following]


def test_taken_back_lease_keeps_to_the_limit(mill: Mill) -> None:
    """Its slot was given away meanwhile: the silent holder has lost the task."""
    mill.submit(1)
    configure(mill, max_running=1)
    lease = mill.lease()
    mill.expire()
    mill.submit(1, priority=9)
    other = mill.lease("bob")
    assert other.task_id != lease.task_id
    assert mill.told("ann", lease) == "lost"
    mill.succeed(other)
    assert mill.told("ann", lease) == "ok"
    assert running(mill) == 1


# rate


def test_rate_gives_a_burst_and_then_its_pace(mill: Mill, clock: FakeClock) -> None:
    """10 a second: five at once, which is half a second's worth, then one every tenth."""
    mill.submit(40)
    rate(mill, 10)
    assert len(mill.claim(max_tasks=40).tasks) == 5
    assert not mill.claim(max_tasks=40).tasks
    clock.forward(0.1)
    assert len(mill.claim(max_tasks=40).tasks) == 1
    clock.forward(0.35)
    assert len(mill.claim(max_tasks=2).tasks) == 2
    clock.forward(60)
    assert len(mill.claim(max_tasks=40).tasks) == 5


def test_rate_is_never_passed_over_its_period(mill: Mill, clock: FakeClock) -> None:
    mill.submit(500)
    rate(mill, 20)
    started: list[int] = []
    for _ in range(300):
        started += [clock.steady] * len(mill.claim(max_tasks=7).tasks)
        clock.forward(0.013)
    for begin in started:
        assert sum(begin <= at < begin + SECOND for at in started) <= 20 + 10
    assert len(started) >= 20 * 300 * 0.013 - 1


def test_a_slow_rate_lets_one_start(mill: Mill, clock: FakeClock) -> None:
    mill.submit(3)
    rate(mill, 1, 3600)
    assert len(mill.claim(max_tasks=3).tasks) == 1
    clock.forward(3599)
    assert not mill.claim(max_tasks=3).tasks
    clock.forward(1)
    assert len(mill.claim(max_tasks=3).tasks) == 1


def test_a_claim_that_waits_for_the_rate_is_served_when_it_allows(mill: Mill, clock: FakeClock) -> None:
    limiter = Limiter(mill.queue)
    mill.submit(3)
    rate(mill, 1, 10)
    mill.lease()
    later = waiting(mill, "bob")
    assert limiter.run_once(clock.now()) == 0
    clock.forward(10)
    assert limiter.run_once(clock.now()) == 1
    assert len(later.answer().tasks) == 1
    assert limiter.run_once(clock.now()) == 0


def test_rate_under_a_race(mill: Mill, clock: FakeClock) -> None:
    mill.submit(200)
    rate(mill, 10)
    for _ in range(ROUNDS):
        answers = race(*[lambda w=w: mill.claim(f"w{w}", 3).tasks for w in range(6)])
        assert sum(map(len, answers)) == 5
        clock.forward(0.5)


# weight and priority


def test_queues_share_by_weight(mill: Mill) -> None:
    mill.submit(400, queue="a")
    mill.submit(400, queue="b")
    configure(mill, "a", weight=3)
    taken = Counter(task.lane.queue for task in mill.claim(max_tasks=100).tasks)
    assert taken == {"a": 75, "b": 25}


def test_small_claims_share_by_weight_in_the_long_run(mill: Mill) -> None:
    mill.submit(900, queue="a")
    mill.submit(900, queue="b")
    configure(mill, "a", weight=3)
    taken = Counter(task.lane.queue for n in range(250) for task in mill.claim(max_tasks=3).tasks)
    assert taken["a"] == pytest.approx(750 * 0.75, abs=50)


def test_a_limited_queue_leaves_its_share_to_others(mill: Mill) -> None:
    mill.submit(50, queue="a")
    mill.submit(50, queue="b")
    configure(mill, "a", max_running=2, weight=9)
    assert Counter(task.lane.queue for task in mill.claim(max_tasks=20).tasks) == {"a": 2, "b": 18}


def test_priority_first_then_first_in_first_out_in_each_queue(mill: Mill) -> None:
    ids = {(queue, p): mill.submit(2, queue=queue, priority=p) for p in (0, 5, -3) for queue in ("a", "b")}
    for queue in ("a", "b"):
        got = [task.task_id for task in mill.claim(max_tasks=6, queues=[queue]).tasks]
        assert got == ids[(queue, 5)] + ids[(queue, 0)] + ids[(queue, -3)]


# backlog


def test_backlog_refuses_all_or_none(mill: Mill) -> None:
    configure(mill, max_waiting=3)
    mill.submit(2)
    with pytest.raises(BacklogFull):
        mill.submit(2)
    mill.submit(5, queue="other")
    mill.submit(1)
    assert mill.counts()[("default", "noop")]["pending"] == 3
    mill.claim(max_tasks=2, queues=["default"])
    mill.submit(2)


def test_repeated_submit_is_answered_though_the_queue_is_full(mill: Mill) -> None:
    configure(mill, max_waiting=1)
    assert mill.submit(1, key="once") == mill.submit(1, key="once")


def test_a_unique_twin_takes_no_place_in_the_backlog(mill: Mill) -> None:
    configure(mill, max_waiting=2)
    twin = Submission("noop", "{}", unique_key="k")
    (first, second), created = mill.queue.submitted([twin, twin])
    assert (first == second, created) == (True, [True, False])
    mill.submit(1)
    assert mill.queue.submitted([twin]) == ([first], [False])
    with pytest.raises(BacklogFull):
        mill.queue.submitted([twin, twin._replace(unique_key="another")])


def test_backlog_under_a_race_of_submits(mill: Mill) -> None:
    configure(mill, max_waiting=10)

    def submit() -> int:
        try:
            return len(mill.submit(3))
        except BacklogFull:
            return 0

    assert sum(race(*[submit for _ in range(8)])) == 9
    assert mill.counts()[("default", "noop")]["pending"] == 9


# labels


def test_a_task_that_requires_labels_goes_to_who_has_them(mill: Mill) -> None:
    task_id = mill.one(requires=("gpu", "host:lab3"))
    assert not mill.claim("plain").tasks
    assert not mill.claim("half", labels=["gpu"]).tasks
    assert mill.queue.claim_classic("old") is None
    (task,) = mill.claim("full", labels=["gpu", "host:lab3", "more"]).tasks
    assert task.task_id == task_id
    assert mill.report(Outcome(name(task), End.COMPLETED, "1")) == [Verdict.ACCEPTED]
