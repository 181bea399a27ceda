"""Submit: once, all or none, in order, exact (DESIGN mechanism 4)."""

import json
from pathlib import Path

import pytest
from store_kit import DAY, HOUR, FakeClock, MakeStore, Mill, StoreKind

from dispatcher.errors import KeyConflict
from dispatcher.model import State
from dispatcher.queue.submit import Submission
from dispatcher.store.base import Store


def keyed(key: str, digest: bytes = b"body") -> Submission:
    return Submission("noop", "{}", key=key, digest=digest)


def test_same_key_and_body_is_the_same_task(mill: Mill) -> None:
    first = mill.queue.submit([keyed("k")])
    assert mill.queue.submit([keyed("k")]) == first
    assert len(mill.all_tasks()) == 1


def test_same_key_within_one_batch_is_one_task(mill: Mill) -> None:
    ids = mill.queue.submit([keyed("k"), Submission("noop", "{}"), keyed("k"), keyed("other")])
    assert ids[0] == ids[2]
    assert len(set(ids)) == 3
    assert len(mill.all_tasks()) == 3


def test_batch_of_old_and_new_keys_answers_in_order(mill: Mill) -> None:
    old = mill.queue.submit([keyed("b")])[0]
    ids = mill.queue.submit([keyed("a"), keyed("b"), keyed("c"), Submission("noop", "{}")])
    assert ids[1] == old
    assert len(set(ids)) == 4
    assert mill.queue.submit([keyed("c"), keyed("a")]) == [ids[2], ids[0]]


def test_other_body_under_a_key_conflicts_and_stores_nothing(mill: Mill) -> None:
    mill.queue.submit([keyed("k")])
    with pytest.raises(KeyConflict, match="'k'"):
        mill.queue.submit([Submission("fresh-type", "{}"), keyed("new"), keyed("k", b"different")])
    assert len(mill.all_tasks()) == 1
    assert mill.counts() == {("default", "noop"): {"pending": 1, "ready": 1}}
    assert mill.queue.submit([keyed("new", b"now free")])


def test_conflict_within_one_batch_stores_nothing(mill: Mill) -> None:
    with pytest.raises(KeyConflict):
        mill.queue.submit([keyed("k", b"one"), keyed("k", b"two")])
    assert mill.all_tasks() == []
    assert mill.counts() == {}


def test_lane_of_a_failed_submit_can_be_made_again(mill: Mill) -> None:
    mill.queue.submit([keyed("k")])
    with pytest.raises(KeyConflict):
        mill.queue.submit([Submission("rare", "{}"), keyed("k", b"different")])
    task_id = mill.one(task_type="rare")
    assert mill.lease(task_types=["rare"]).task_id == task_id


def test_key_is_known_after_completion(mill: Mill) -> None:
    task_id = mill.queue.submit([keyed("k")])[0]
    mill.succeed(mill.lease())
    assert mill.queue.submit([keyed("k")]) == [task_id]


@pytest.mark.parametrize(("age", "known"), [(2 * HOUR, True), (DAY - 1000, True), (DAY + 1000, False)])
def test_key_outlives_its_pruned_task_to_24_hours(mill: Mill, age: int, known: bool) -> None:
    task_id = mill.queue.submit([keyed("k")])[0]
    mill.succeed(mill.lease())
    mill.clock.forward(age / 1000)
    assert mill.prune() == 1
    assert (mill.queue.submit([keyed("k")]) == [task_id]) is known


def test_key_of_a_task_that_lives_is_known_for_ever(mill: Mill) -> None:
    task_id = mill.queue.submit([keyed("k")])[0]
    mill.clock.forward(90 * DAY / 1000)
    mill.prune()
    assert mill.queue.submit([keyed("k")]) == [task_id]


def test_ids_are_never_used_again(mill: Mill) -> None:
    used = mill.submit(3)
    mill.queue.cancel(used)
    mill.clock.forward(1)
    assert mill.prune() == 3
    assert min(mill.submit(3)) > max(used)


def test_ids_are_not_used_again_after_a_restart(make_store: MakeStore, tmp_path: Path, clock: FakeClock) -> None:
    store = make_store(tmp_path, clock)
    mill = Mill(store, clock)
    used = mill.submit(3)
    mill.queue.cancel(used)
    clock.forward(1)
    mill.prune()
    store.close()
    assert min(Mill(make_store(tmp_path, clock), clock).submit(1)) > max(used)


def test_acknowledged_tasks_survive_a_restart(make_store: MakeStore, tmp_path: Path, clock: FakeClock) -> None:
    """I1, as far as a clean restart goes; and the store keeps its name."""
    store = make_store(tmp_path, clock)
    ids = Mill(store, clock).submit(20, data='{"n": 1}', priority=3)
    name = store.store_id
    store.close()
    again = make_store(tmp_path, clock)
    mill = Mill(again, clock)
    assert again.store_id == name
    assert sorted(task["task_id"] for task in mill.all_tasks()) == ids
    assert mill.counts() == {("default", "noop"): {"pending": 20, "ready": 20}}
    assert [task.task_id for task in mill.claim(max_tasks=20).tasks] == ids


@pytest.mark.parametrize(
    "data",
    [
        json.dumps({"n": 2**64 + 1, "m": -(10**4000)}),
        '{"text": "Grüße, 世界 \U0001f600 \\u0000 \\"quoted\\" \'; DROP TABLE tasks; --"}',
        '{"spaces" :  1.0, "e": 1E400, "kept": [ ]}',
        '{"deep": ' + "[" * 60 + "]" * 60 + "}",
        '{"big": "' + "x" * 1_000_000 + '"}',
    ],
    ids=["integers", "unicode", "spelling", "depth", "size"],
)
def test_data_comes_back_exactly(mill: Mill, data: str) -> None:
    task_id = mill.one(data=data)
    assert mill.queue.task(task_id)["data"] == data
    lease = mill.lease()
    assert lease.data == data
    mill.succeed(lease, result=data)
    assert mill.result(task_id) == data


def test_fields_come_back(mill: Mill) -> None:
    task_id = mill.one(queue="q", priority=-7, max_attempts=9, timeout_ms=1234, tags=("a", "b"))
    shown = mill.queue.task(task_id)
    assert (shown["queue"], shown["task_type"], shown["priority"]) == ("q", "noop", -7)
    assert (shown["max_attempts"], shown["timeout_ms"], json.loads(shown["tags"])) == (9, 1234, ["a", "b"])
    lease = mill.lease()
    assert (lease.lane.queue, lease.max_attempts, lease.timeout_ms, lease.attempt) == ("q", 9, 1234, 1)


def test_future_task_is_not_ready_until_the_scheduler_makes_it(mill: Mill) -> None:
    now = mill.clock.now().wall
    by_time, by_delay = mill.one(run_at=now + 5000), mill.one(delay_ms=5000)
    assert [mill.row(i).ready for i in (by_time, by_delay)] == [0, 0]
    assert mill.become_ready() == 0
    assert mill.claim(max_tasks=9).tasks == []
    mill.clock.forward(4.999)
    assert mill.become_ready() == 0
    mill.clock.forward(0.001)
    assert mill.become_ready() == 2
    assert [task.task_id for task in mill.claim(max_tasks=9).tasks] == [by_time, by_delay]


def test_past_run_at_is_ready_at_once(mill: Mill) -> None:
    task_id = mill.one(run_at=mill.clock.now().wall - DAY)
    assert mill.lease().task_id == task_id


def test_idle_scheduler_writes_nothing(mill: Mill, store: Store, kind: StoreKind) -> None:
    mill.one(delay_ms=5000)
    before = kind.written(store)
    mill.become_ready()
    assert kind.written(store) == before


def test_scheduler_makes_more_than_a_batch_ready(mill: Mill) -> None:
    mill.submit(1203, delay_ms=1)
    mill.clock.forward(1)
    assert mill.become_ready() == 1203
    assert mill.counts() == {("default", "noop"): {"pending": 1203, "ready": 1203}}


def test_failed_operation_leaves_nothing(mill: Mill, store: Store) -> None:
    def half(tx) -> None:
        tx.remember_keys([("left", 1, b"x")])
        tx.meet("i-left", "left")
        tx.lane("left", "left")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.write(half)
    assert store.write(lambda tx: tx.known_keys(["left"])) == {}
    assert store.write(lambda tx: tx.instance("i-left")) is None
    assert mill.state(mill.one()) == State.PENDING
