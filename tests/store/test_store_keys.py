"""Tasks that share a key: never more of them run than the queue allows, and none of the rest is ready."""

import statistics
import time
from pathlib import Path
from typing import Any

import pytest
from store_kit import HOUR, FakeClock, MakeStore, Mill, name, race, waiting

from dispatcher.maintenance.recurring import Recurring
from dispatcher.model import End, Progress, State
from dispatcher.queue import queues
from dispatcher.queue.recurring import Schedules, Wanted
from dispatcher.queue.report import Verdict
from dispatcher.queue.submit import Submission
from dispatcher.queue.ticks import Rule

ROUNDS = 12


def limit(mill: Mill, n: int | None, queue: str = "default") -> None:
    queues.configure(mill.queue, queue, {"key_running": n})


def keyed(mill: Mill, n: int = 1, key: str = "user:42", **fields: Any) -> list[int]:
    return mill.submit(n, limit_key=key, **fields)


def check(mill: Mill, most: int) -> None:
    """The rows agree with each other and with the limit."""
    ready: dict[str, int] = {}
    for task in mill.all_tasks():
        row = mill.row(task["task_id"])
        assert not (row.ready and row.held)
        if row.held:
            assert row.state == State.PENDING
        if row.ready or row.state == State.IN_PROGRESS:
            ready[task["limit_key"]] = ready.get(task["limit_key"], 0) + 1
    for key, n in ready.items():
        assert key is None or n <= most, (key, n)
    with mill.store.read() as reader:
        for task in mill.all_tasks():
            found = reader.key_of(task["task_id"])
            assert found is None or found[1] == ready.get(found[0], 0)
    counted = sum(n.get("ready", 0) for n in mill.counts().values())
    assert counted == sum(bool(mill.row(task["task_id"]).ready) for task in mill.all_tasks())


def test_without_a_limit_a_key_means_nothing(mill: Mill) -> None:
    keyed(mill, 3)
    assert len(mill.claim(max_tasks=9).tasks) == 3
    check(mill, 3)


def test_only_so_many_of_a_key_run(mill: Mill) -> None:
    limit(mill, 2)
    mine, other, plain = keyed(mill, 5), keyed(mill, 1, "user:7"), mill.submit(1)
    first = mill.claim(max_tasks=9).tasks
    assert sorted(task.task_id for task in first) == [*mine[:2], *other, *plain]
    assert not mill.claim(max_tasks=9).tasks
    mill.succeed(first[0])
    assert [task.task_id for task in mill.claim(max_tasks=9).tasks] == [mine[2]]
    check(mill, 2)


def test_the_next_of_a_key_is_the_best(mill: Mill) -> None:
    limit(mill, 1)
    keyed(mill)
    lease = mill.lease()
    low, high, also_high = keyed(mill, priority=1)[0], keyed(mill, priority=5)[0], keyed(mill, priority=5)[0]
    for expected in (high, also_high, low):
        mill.succeed(lease)
        lease = mill.lease()
        assert lease.task_id == expected
    check(mill, 1)


def test_every_end_lets_the_next_one_in(mill: Mill, clock: FakeClock) -> None:
    limit(mill, 1)
    ids = keyed(mill, 6)
    mill.fail(mill.lease())  # tried again later
    mill.give_back(mill.lease(), End.SNOOZED, snooze_ms=HOUR)
    mill.give_back(mill.lease(), End.CANCELLED)
    lease = mill.lease()
    mill.queue.cancel([lease.task_id])
    mill.fail(lease)
    mill.queue.cancel([ids[4]])
    assert mill.lease().task_id == ids[5]
    assert not mill.claim().tasks
    check(mill, 1)


def test_a_task_that_is_given_back_stays_first(mill: Mill) -> None:
    limit(mill, 1)
    first, _ = keyed(mill, 2)
    mill.give_back(mill.lease())
    assert mill.lease().task_id == first
    check(mill, 1)


def test_cancelled_ready_task_makes_room_and_a_held_one_does_not(mill: Mill) -> None:
    limit(mill, 1)
    ids = keyed(mill, 3)
    mill.queue.cancel([ids[1]])
    check(mill, 1)
    mill.queue.cancel([ids[0]])
    assert mill.lease().task_id == ids[2]
    check(mill, 1)


def test_due_and_retried_and_edited_tasks_keep_to_the_limit(mill: Mill, clock: FakeClock) -> None:
    limit(mill, 1)
    first, later = keyed(mill)[0], keyed(mill, 2, delay_ms=HOUR)
    lease = mill.lease()
    clock.forward(3601)
    assert mill.become_ready() == 2
    assert not mill.claim("bob", 5).tasks
    assert mill.edit(later[1], {"priority": 9})
    mill.succeed(lease)
    second = mill.lease("bob")
    assert second.task_id == later[1]
    assert mill.queue.retry([first])[first] == "retried"
    check(mill, 1)
    mill.succeed(second)
    assert mill.lease("bob").task_id == later[0]  # due before the retry
    check(mill, 1)


def test_scheduler_rests_while_tasks_are_held(mill: Mill, clock: FakeClock) -> None:
    limit(mill, 1)
    keyed(mill, 5)
    assert mill.become_ready() == 0
    assert mill.queue.next_due() is None


def test_late_success_of_a_held_task(mill: Mill, clock: FakeClock) -> None:
    limit(mill, 1)
    keyed(mill, 2)
    lease = mill.lease()
    mill.expire()
    assert mill.succeed(lease) == Verdict.ACCEPTED_LATE
    assert mill.lease("bob").task_id != lease.task_id
    check(mill, 1)


def test_taken_back_lease_keeps_to_the_limit(mill: Mill, clock: FakeClock) -> None:
    limit(mill, 1)
    keyed(mill, 1, max_attempts=1)
    lease = mill.lease()
    mill.expire()
    assert mill.state(lease.task_id) == State.FAILED
    keyed(mill, 1)
    other = mill.lease("bob")
    assert mill.told("ann", lease) == "lost"
    mill.succeed(other)
    assert mill.told("ann", lease) == "ok"
    check(mill, 1)


def test_a_limit_that_comes_later_and_changes(mill: Mill) -> None:
    keyed(mill, 6)
    keyed(mill, 6, "user:7")
    limit(mill, 2)
    check(mill, 2)
    first = mill.claim(max_tasks=20).tasks
    assert len(first) == 4
    limit(mill, 1)
    for lease in first:
        mill.give_back(lease)
    check(mill, 1)
    later = waiting(mill, max_tasks=20)
    assert len(later.answer().tasks) == 2
    later = waiting(mill, "bob", max_tasks=20)
    limit(mill, 3)
    assert len(later.answer().tasks) == 4
    limit(mill, None)
    assert len(mill.claim(max_tasks=20).tasks) == 6


def test_an_end_wakes_who_waits_for_the_next(mill: Mill) -> None:
    limit(mill, 1)
    ids = keyed(mill, 2)
    lease = mill.lease()
    later = waiting(mill, "bob")
    assert not later.done
    mill.succeed(lease)
    assert [task.task_id for task in later.answer().tasks] == [ids[1]]


def test_pruned_tasks_leave_no_keys(mill: Mill, clock: FakeClock) -> None:
    limit(mill, 1)
    keyed(mill)
    mill.succeed(mill.lease())
    clock.forward(HOUR)
    assert mill.prune() == 1
    assert mill.store.write(lambda tx: tx.resettle_keys("default", "", 10)) is None  # knows no key any more


def test_ends_and_claims_at_once_keep_to_the_limit(mill: Mill) -> None:
    limit(mill, 2)
    keyed(mill, 90)
    held = list(mill.claim("w0", 5).tasks)
    for n in range(ROUNDS):
        ends = [lambda lease=lease: [mill.succeed(lease)] for lease in held]
        claims = [lambda w=w: mill.claim(f"w{w}", 3).tasks for w in range(4)]
        answers = race(*ends, *claims)
        held = [task for tasks in answers for task in tasks if not isinstance(task, Verdict)]
        held += mill.claim("rest", 5).tasks
        assert len({name(task) for task in held}) == 2, n
    check(mill, 2)


def test_submits_and_ends_at_once_leave_nobody_behind(mill: Mill) -> None:
    limit(mill, 1)
    keyed(mill)
    lease = mill.lease()
    for _ in range(ROUNDS):
        race(lambda lease=lease: mill.succeed(lease), lambda: keyed(mill, 1))
        lease = mill.lease()
    mill.succeed(lease)
    check(mill, 1)


def test_checkpoint_of_a_held_task_is_kept(mill: Mill) -> None:
    limit(mill, 1)
    keyed(mill)
    lease = mill.lease()
    mill.beat("ann", lease, said=Progress(name(lease), 1.0, 2.0, None, '{"at": 7}'))
    mill.give_back(lease)
    assert mill.lease().checkpoint == '{"at": 7}'


@pytest.mark.parametrize("held", [20_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_claims_are_not_slowed_by_tasks_at_one_keys_limit(
    make_store: MakeStore, tmp_path: Path, clock: FakeClock, held: int
) -> None:
    """Many held tasks of the same type at top priority: to pass them all would cost many times a claim."""
    for side in ("alone", "crowded"):
        (tmp_path / side).mkdir()
    alone, crowd = (Mill(make_store(tmp_path / side, clock), clock) for side in ("alone", "crowded"))
    for mill in (alone, crowd):
        limit(mill, 1)
    for _ in range(10):
        keyed(crowd, held // 10, priority=9)
    assert crowd.lease("holder").task_id
    ratios = []
    for _ in range(3):
        bare, slowed = medians([alone, crowd])
        ratios.append(slowed / bare)
        if ratios[-1] <= 1.5:
            return
    raise AssertionError(f"claims beside {held} held tasks cost {ratios} times as much")


def medians(mills: list[Mill]) -> list[float]:
    took: list[list[float]] = [[] for _ in mills]
    for mill in mills:
        mill.submit(1000)
    for _ in range(50):
        for mill, times in zip(mills, took, strict=True):
            began = time.perf_counter()
            assert len(mill.claim(max_tasks=20).tasks) == 20
            times.append(time.perf_counter() - began)
    return [statistics.median(times) for times in took]


def test_many_held_tasks_run_one_after_the_other(mill: Mill) -> None:
    limit(mill, 1)
    ids = keyed(mill, 300)
    done = []
    while tasks := mill.claim().tasks:
        mill.succeed(tasks[0])
        done.append(tasks[0].task_id)
    assert done == ids


def test_a_unique_twin_takes_no_place_of_its_key(mill: Mill) -> None:
    limit(mill, 1)
    twin = Submission("noop", "{}", limit_key="user:42", unique_key="k")
    (first,), _ = mill.queue.submitted([twin])
    assert mill.queue.submitted([twin, twin]) == ([first, first], [False, False])
    (other,) = keyed(mill)
    mill.succeed(mill.lease())
    assert [task.task_id for task in mill.claim(max_tasks=9).tasks] == [other]
    assert mill.queue.retry([first]) == {first: "retried"}
    assert mill.row(first).held
    check(mill, 1)


def test_ticks_of_a_schedule_share_their_key(mill: Mill) -> None:
    limit(mill, 1)
    task = Submission("noop", "{}", requires=("gpu",), limit_key="user:42")
    Schedules(mill.queue).create(Wanted("s", Rule(None, "UTC", 60_000), task, "all"))
    mill.clock.forward(180)
    assert Recurring(mill.queue).run_once(mill.clock.now()) == 3
    assert not mill.claim(max_tasks=9).tasks
    assert len(mill.claim(max_tasks=9, labels=frozenset({"gpu"})).tasks) == 1
    check(mill, 1)
