"""Submit: once, all or none, in order, exact (DESIGN mechanism 4)."""

import json
import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from store_kit import DAY, HOUR, FakeClock, MakeStore, Mill, StoreKind

from dispatcher.errors import BacklogFull, KeyConflict
from dispatcher.model import State
from dispatcher.queue import queues
from dispatcher.queue.submit import RequestName, Submission, Submitted
from dispatcher.store.base import Store, Tx


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


REQUEST = RequestName("request", b"its sixteen char")
THREE = [Submission("noop", "{}") for _ in range(3)]


def test_a_named_request_stores_its_tasks_once(mill: Mill) -> None:
    first = mill.queue.submitted(THREE, REQUEST)
    between = mill.one()
    assert mill.queue.submitted(THREE, REQUEST) == first == Submitted(first.ids, [True] * 3)
    assert len({*first.ids, between}) == len(mill.all_tasks()) == 4
    assert mill.counts()["default", "noop"]["pending"] == 4


def test_a_named_request_of_one_is_stored_once(mill: Mill) -> None:
    assert mill.queue.submitted(THREE[:1], REQUEST) == mill.queue.submitted(THREE[:1], REQUEST)
    assert len(mill.all_tasks()) == 1


def test_the_name_of_a_request_costs_one_row(mill: Mill) -> None:
    ids = mill.queue.submitted(THREE, REQUEST).ids
    known = mill.store.write(lambda tx: tx.known_keys([REQUEST.key]))
    assert known == {REQUEST.key: (ids[-1], REQUEST.digest)}


@pytest.mark.parametrize("submissions", [THREE, THREE[:2], [keyed("own")]], ids=["same", "fewer", "keyed"])
def test_another_body_under_a_requests_name_conflicts(mill: Mill, submissions: list[Submission]) -> None:
    mill.queue.submitted(THREE, REQUEST)
    with pytest.raises(KeyConflict, match="'request'"):
        mill.queue.submitted(submissions, REQUEST._replace(digest=b"another of them."))
    assert len(mill.all_tasks()) == 3


def test_the_names_of_tasks_and_of_requests_do_not_mix(mill: Mill) -> None:
    mill.queue.submitted(THREE, REQUEST)
    mill.queue.submit([keyed("task")])
    with pytest.raises(KeyConflict):
        mill.queue.submit([keyed(REQUEST.key)])
    with pytest.raises(KeyConflict):
        mill.queue.submitted(THREE, RequestName("task", REQUEST.digest))
    assert len(mill.all_tasks()) == 4


def test_the_repeat_of_a_request_is_answered_like_it_whatever_became_of_twins(mill: Mill) -> None:
    """Its ids do not follow one another, and one of them is not new."""
    mill.queue.submit([keyed("old")])
    twin = mill.one(unique_key="u")
    mixed = [Submission("noop", "{}"), Submission("noop", "{}", unique_key="u"), keyed("old"), *THREE]
    first = mill.queue.submitted(mixed, REQUEST)
    assert (first.ids[1], first.created) == (twin, [True, False, True, True, True, True])
    mill.queue.cancel([twin])
    assert mill.queue.submitted(mixed, REQUEST) == first
    assert len(mill.all_tasks()) == 6


def test_a_request_named_like_one_of_its_tasks_conflicts(mill: Mill) -> None:
    with pytest.raises(KeyConflict, match="'request'"):
        mill.queue.submitted([*THREE, keyed(REQUEST.key)], REQUEST)
    assert mill.all_tasks() == []


def test_a_request_whose_newest_task_is_gone_is_repeated_all_the_same(mill: Mill) -> None:
    """Nothing but its name says that its twin was there then; and the name stays taken."""
    twin = mill.one(unique_key="u")
    mill.queue.submit([keyed("gone")])
    mill.queue.cancel([twin + 1])
    mill.queue.remove(twin + 1)
    wanted = [Submission("noop", "{}", unique_key="u"), keyed("gone")]
    first = mill.queue.submitted(wanted, REQUEST)
    assert first == Submitted([twin, twin + 1], [False, True])
    mill.queue.cancel([twin])
    assert mill.queue.submitted(wanted, REQUEST) == first
    with pytest.raises(KeyConflict):
        mill.queue.submitted(THREE, RequestName(REQUEST.key, b"another body's 1"))


def test_the_name_of_a_request_of_repeats_alone_goes_in_time(mill: Mill) -> None:
    mill.queue.submit([keyed("gone")])
    mill.succeed(mill.lease())
    mill.clock.forward(1)
    assert mill.prune() == 1
    first = mill.queue.submitted([keyed("gone")], REQUEST)
    assert mill.queue.submitted([keyed("gone")], REQUEST) == first == Submitted([1], [True])
    mill.clock.forward(2 * DAY / 1000)
    mill.prune()
    assert mill.store.write(lambda tx: tx.known_keys([REQUEST.key, "gone"])) == {}


def test_keys_of_any_letters_are_known_again(mill: Mill) -> None:
    keys = ["é😀7f", " 12", "7fé", "x" * 128]
    ids = mill.queue.submit([keyed(key) for key in keys])
    assert [mill.queue.submit([keyed(key)])[0] for key in keys] == ids
    assert len(mill.all_tasks()) == len(keys)


def test_a_requests_name_goes_with_its_newest_task_where_the_first_was_gone(mill: Mill) -> None:
    mill.queue.submit([keyed("gone")])
    mill.succeed(mill.lease())
    mill.clock.forward(1)
    assert mill.prune() == 1
    first = mill.queue.submitted([keyed("gone"), *THREE], REQUEST)
    assert mill.queue.submitted([keyed("gone"), *THREE], REQUEST) == first
    mill.queue.cancel(first.ids[1:])
    mill.clock.forward(2 * DAY / 1000)
    assert mill.prune() == 3
    mill.prune()
    assert mill.store.write(lambda tx: tx.known_keys([REQUEST.key, "gone"])) == {}


@pytest.mark.parametrize(("age", "known"), [(DAY - 1000, True), (DAY + 1000, False)])
def test_a_requests_name_outlives_its_pruned_tasks_to_24_hours(mill: Mill, age: int, known: bool) -> None:
    first = mill.queue.submitted(THREE, REQUEST)
    mill.queue.cancel(first.ids)
    mill.clock.forward(age / 1000)
    assert mill.prune() == 3
    assert (mill.queue.submitted(THREE, REQUEST) == first) is known


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


class Undone(Exception):
    """Takes an operation back; `args` are what it saw."""


def any_submission(rng: random.Random, now: int) -> Submission:
    fields: dict[str, Any] = {
        "queue": ["default", "mail"],
        "priority": [0, 1],
        "key": ["a", "b", "c"],
        "unique_key": ["u", "v"],
        "unique_for_ms": [1000],
        "limit_key": ["x", "y"],
        "delay_ms": [0, 1000],
        "run_at": [now - 1, now + 1],
        "requires": [("a", "b"), ("b", "a")],
        "max_attempts": [7],
        "timeout_ms": [5000],
        "tags": [("t",)],
    }
    chosen = {name: rng.choice(values) for name, values in fields.items() if rng.random() < 0.3}
    return Submission("noop", str(rng.randrange(100)), digest=rng.choice([b"1", b"1", b"1", b"2"]), **chosen)


def seen(mill: Mill, groups: Sequence[Sequence[Submission]]) -> tuple[Any, ...]:
    """What these are answered and what is stored, with their places for ids; then all of it is taken back."""

    def op(tx: Tx) -> None:
        told: list[Any] = []
        for group in groups:
            try:
                told += mill.queue._submit_each(tx, group)
            except (KeyConflict, BacklogFull) as error:
                told.append(str(error))
        ids = list(dict.fromkeys(made.ids[0] for made in told if not isinstance(made, str)))
        rows = tx.tasks(ids)
        stored = [(*rows[i]._replace(id=0, lane_id=0), *tx.lane_of(rows[i].lane_id)[1:]) for i in ids]
        raise Undone([t if isinstance(t, str) else (ids.index(t.ids[0]), t.created) for t in told], stored)

    with pytest.raises(Undone) as undone:
        mill.store.write(op)
    return undone.value.args


@pytest.mark.parametrize("seed", range(3))
def test_what_comes_together_is_answered_as_if_one_by_one(mill: Mill, seed: int) -> None:
    rng = random.Random(seed)
    queues.configure(mill.queue, "mail", {"max_waiting": 4, "key_running": 1})
    now = mill.clock.now().wall
    for _ in range(8):
        asked = [any_submission(rng, now) for _ in range(rng.randrange(2, 9))]
        by_one = seen(mill, [[one] for one in asked])
        at_once = seen(mill, [asked])
        refused = [told for told in by_one[0] if isinstance(told, str)]
        assert at_once == (by_one if not refused else ([at_once[0][0]], []))
        assert not refused or at_once[0][0] in refused
        for one in asked[:3]:  # what the next ones find
            with suppress(KeyConflict, BacklogFull):
                mill.queue.submit([one])
        mill.queue.cancel([task["task_id"] for task in mill.all_tasks() if rng.random() < 0.3])
