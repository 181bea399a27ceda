"""Claim: what is taken, by whom, in which order, and what a repeated number gets (mechanism 4, I2, I10)."""

from collections import Counter

import pytest
from store_kit import LEASE_S, SECOND, Mill, StoreKind, name

from dispatcher.errors import InstanceDead
from dispatcher.model import Grant, NewTask, Progress, State, TaskTerms
from dispatcher.store.base import Store


def taken(mill: Mill, n: int = 99, **fields: object) -> list[int]:
    return [task.task_id for task in mill.claim(max_tasks=n, **fields).tasks]


def test_order_is_priority_then_run_at_then_id(mill: Mill) -> None:
    now = mill.clock.now().wall
    late = mill.one(run_at=now - 1)
    first, second = mill.submit(2, run_at=now - 5)
    low = mill.one(priority=-1, run_at=now - 900)
    high = mill.one(priority=10)
    assert taken(mill) == [high, first, second, late, low]


def test_order_holds_across_the_types_of_a_queue(mill: Mill) -> None:
    a = mill.one(task_type="a", priority=1)
    b = mill.one(task_type="b", priority=2)
    c = mill.one(task_type="c", priority=1)
    d = mill.one(task_type="a", priority=3)
    assert taken(mill, 3) == [d, b, a]
    assert taken(mill) == [c]


def test_only_named_types_are_taken(mill: Mill) -> None:
    mill.one(task_type="a")
    b = mill.one(task_type="b")
    assert taken(mill, task_types=["b", "unheard-of"]) == [b]
    assert taken(mill, task_types=[]) == []


def test_only_named_queues_are_taken(mill: Mill) -> None:
    mill.one(queue="left")
    right = mill.one(queue="right")
    assert taken(mill, queues=["right"]) == [right]
    assert taken(mill, queues=[]) == []


def requiring(store: Store, labels: tuple[str, ...]) -> int:
    return store.write(
        lambda tx: tx.insert(
            [NewTask(TaskTerms(tx.lane("default", "noop", labels), 0, tx.now.wall, 3, None), "{}", ())]
        )[0]
    )


def test_labels_must_cover_what_a_lane_requires(mill: Mill, store: Store) -> None:
    task_id = requiring(store, ("big-disk", "gpu"))
    assert taken(mill) == []
    assert taken(mill, labels=["gpu"]) == []
    assert taken(mill, labels=["gpu", "big-disk", "extra"]) == [task_id]


def test_lane_has_one_id(store: Store) -> None:
    first = store.write(lambda tx: tx.lane("q", "t", ("x",)))
    assert store.write(lambda tx: (tx.lane("q", "t", ("x",)), tx.lane("q", "t"))) != (first, first)
    assert store.write(lambda tx: tx.lane("q", "t", ("x",))) == first


def test_queues_get_equal_shares(mill: Mill) -> None:
    for queue in ("a", "b", "c"):
        mill.submit(20, queue=queue, priority=ord(queue))
    got = Counter(task.lane.queue for task in mill.claim(max_tasks=10).tasks)
    assert sorted(got.values()) == [3, 3, 4]


def test_what_one_queue_leaves_goes_to_the_others(mill: Mill) -> None:
    mill.submit(1, queue="a")
    mill.submit(20, queue="b")
    mill.submit(3, queue="c")
    got = Counter(task.lane.queue for task in mill.claim(max_tasks=12).tasks)
    assert got == {"a": 1, "b": 8, "c": 3}


@pytest.mark.parametrize("step", [1, 2])
def test_no_queue_starves_whatever_the_numbers(mill: Mill, step: int) -> None:
    for queue in ("a", "b"):
        mill.submit(40, queue=queue)
    got = {mill.lease(number=1 + step * turn).lane.queue for turn in range(40)}
    assert got == {"a", "b"}


def test_no_queue_starves_classic_workers(mill: Mill) -> None:
    for queue in ("a", "b"):
        mill.submit(40, queue=queue)
    got = [mill.queue.claim_classic("old") for _ in range(40)]
    assert {task.lane.queue for task in got if task} == {"a", "b"}


def test_lease_has_a_fresh_name_and_its_full_length(mill: Mill) -> None:
    mill.one()
    lease = mill.lease()
    row = mill.row(lease.task_id)
    assert (row.state, row.lease, row.attempts, row.ready) == (State.IN_PROGRESS, lease.token, 1, 0)
    assert row.lease_expires == mill.clock.now().steady + LEASE_S * SECOND
    assert lease.length == LEASE_S * SECOND
    mill.give_back(lease)
    again = mill.lease()
    assert again.token != lease.token
    assert again.attempt == 1


def test_i2_a_leased_task_is_given_to_nobody_else(mill: Mill) -> None:
    mill.submit(3)
    first = taken(mill, worker="ann")
    assert taken(mill, worker="bob") == []
    mill.clock.forward(10 * LEASE_S)
    assert taken(mill, worker="bob") == [], "a claim never ends a lease, only the reaper does"
    assert len(first) == 3


def test_repeated_number_gets_the_same_leases(mill: Mill) -> None:
    mill.submit(5)
    first = mill.claim(max_tasks=3, number=7)
    again = mill.claim(max_tasks=3, number=7)
    assert [name(task) for task in again.tasks] == [name(task) for task in first.tasks]
    assert [task.attempt for task in again.tasks] == [1, 1, 1]
    assert mill.counts()["default", "noop"] == {"pending": 2, "ready": 2, "in_progress": 3}


def test_repeated_number_gets_what_is_still_held(mill: Mill) -> None:
    mill.submit(5)
    first = mill.claim(max_tasks=3, number=7).tasks
    mill.succeed(first[0])
    mill.give_back(first[1])
    assert [name(task) for task in mill.claim(max_tasks=3, number=7).tasks] == [name(first[2])]


@pytest.mark.parametrize("number", [7, 6, 1])
def test_number_not_above_the_answered_one_gets_nothing_new(mill: Mill, number: int) -> None:
    mill.submit(5)
    lease = mill.lease(number=7)
    mill.succeed(lease)
    assert mill.claim(max_tasks=3, number=number).tasks == []
    assert mill.claim(max_tasks=3, number=number, wait_ms=60_000).tasks == []


def test_repeated_number_never_waits_for_new_tasks(mill: Mill) -> None:
    mill.one()
    mill.succeed(mill.lease(number=7))
    assert mill.claim(number=7, wait_ms=60_000).tasks == []
    assert len(mill.queue.waiting) == 0


def test_number_below_one_that_was_seen_gets_nothing(mill: Mill) -> None:
    assert mill.claim(number=9).tasks == []
    mill.submit(2)
    assert mill.claim(number=8).tasks == []
    assert mill.claim(number=10).tasks


def test_repeat_does_not_bring_back_what_expired(mill: Mill) -> None:
    mill.one()
    lease = mill.lease(number=7)
    mill.expire()
    assert mill.claim(number=7).tasks == []
    assert mill.lease("bob").task_id == lease.task_id


def test_numbers_of_two_instances_are_apart(mill: Mill) -> None:
    mill.submit(2)
    first, second = mill.lease("ann", number=5), mill.lease("bob", number=5)
    assert first.task_id != second.task_id


@pytest.mark.parametrize("wait_ms", [0, 20])
def test_i10_an_empty_poll_writes_nothing(mill: Mill, store: Store, kind: StoreKind, wait_ms: int) -> None:
    mill.one(task_type="foreign")
    mill.one(delay_ms=60_000)
    mill.beat("ann")
    before = kind.written(store)
    for worker in ("ann", "stranger"):
        assert not mill.claim(worker, task_types=["noop"], wait_ms=wait_ms).tasks
        assert not mill.claim(worker, max_tasks=0, wait_ms=wait_ms).tasks
        assert not mill.queue.claim_classic(worker, frozenset({"noop"}))
    assert kind.written(store) == before
    mill.one()
    assert kind.written(store) > before, "the measure itself must see a write"


def test_i10_repeating_a_settled_number_writes_nothing(mill: Mill, store: Store, kind: StoreKind) -> None:
    mill.one()
    mill.succeed(mill.lease(number=7))
    before = kind.written(store)
    mill.claim(number=7)
    assert kind.written(store) == before


def test_no_free_slot_takes_nothing(mill: Mill) -> None:
    mill.one()
    assert taken(mill, 0) == []
    assert mill.counts()["default", "noop"] == {"pending": 1, "ready": 1}


def test_dead_instance_gets_no_leases(mill: Mill) -> None:
    mill.submit(2)
    mill.lease("ann")
    mill.die("ann")
    with pytest.raises(InstanceDead):
        mill.claim("ann")
    with pytest.raises(InstanceDead):
        mill.claim("ann", number=1)
    assert mill.queue.report([], "i-ann", mill.asking("ann"))[2] is None


def test_attempts_are_counted_by_claims(mill: Mill) -> None:
    task_id = mill.one(max_attempts=4)
    for attempt in (1, 2, 3):
        assert mill.lease().attempt == attempt
        mill.expire()
        assert mill.row(task_id).attempts == attempt


def test_report_may_carry_the_next_claim(mill: Mill) -> None:
    mill.submit(3)
    lease = mill.lease()
    _, _, claimed = mill.queue.report([], "i-ann", mill.asking("ann", 2))
    assert claimed is not None
    assert len(claimed.tasks) == 2
    assert lease.task_id not in {task.task_id for task in claimed.tasks}


def test_claim_with_a_report_never_waits(mill: Mill) -> None:
    _, _, claimed = mill.queue.report([], "i-ann", mill.asking("ann", wait_ms=60_000))
    assert claimed is not None
    assert not claimed.tasks
    assert len(mill.queue.waiting) == 0


def test_checkpoint_comes_with_the_next_lease(mill: Mill) -> None:
    mill.one()
    lease = mill.lease()
    mill.beat("ann", lease, said=Progress(name(lease), 1.0, 2.0, "half", '{"at": 7}'))
    mill.give_back(lease)
    assert mill.lease("bob").checkpoint == '{"at": 7}'


def test_take_skips_what_is_not_ready(mill: Mill, store: Store) -> None:
    """The contract's sentence: only ready tasks of the named lanes, at most `limit`."""
    ids = mill.submit(3)
    mill.one(delay_ms=9_000, priority=9)

    def take(tx) -> list[int]:
        instance = tx.meet("i-x", "x")
        lane = tx.lane("default", "noop")
        empty = tx.lane("default", "nothing-here")
        return [task.task_id for task in tx.take([empty, lane], 2, Grant(instance.id, 1, 1000, False))]

    assert store.write(take) == ids[:2]
    assert store.write(take) == ids[2:]
    assert store.write(take) == []
    assert store.write(lambda tx: tx.take([], 5, Grant(1, 1, 1000, False))) == []
