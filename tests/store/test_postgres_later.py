"""Schedules and unique tasks at two dispatchers on one database: a tick is fired once, a key has one holder."""

from typing import Any

import pytest
from store_kit import ROUNDS, FakeClock, Mill, race
from test_store_races import recount

from dispatcher.queue import recurring as rules
from dispatcher.queue.recurring import Schedules, Wanted, kept
from dispatcher.queue.submit import Submission
from dispatcher.queue.ticks import Rule

EVERY_MINUTE = Rule(None, "UTC", 60_000)


@pytest.fixture
def both(mills: list[Mill]) -> list[Schedules]:
    return [Schedules(mill.queue) for mill in mills]


def make(schedules: Schedules, name: str = "s", **fields: Any) -> None:
    schedules.create(Wanted(name, EVERY_MINUTE, Submission("noop", "{}"), **fields))


def fire_until_done(schedules: Schedules) -> int:
    fired = 0
    while (one := schedules.fire()).schedules:
        fired += one.tasks
    return fired


def test_two_schedulers_on_one_tick(mills: list[Mill], both: list[Schedules], clock: FakeClock) -> None:
    for n in range(20):
        make(both[n % 2], f"s{n}")
    for n in range(1, ROUNDS + 1):
        clock.forward(60)
        fired = race(*[lambda s=s: fire_until_done(s) for s in both])
        assert sum(fired) + fire_until_done(both[0]) == 20
        assert len(mills[0].all_tasks()) == 20 * n
    recount(mills[1])


def test_all_missed_ticks_are_caught_up_once(mills: list[Mill], both: list[Schedules], clock: FakeClock) -> None:
    make(both[0], catch_up="all")
    clock.forward(60 * 1000)
    fired = race(*[lambda s=s: fire_until_done(s) for s in both])
    assert sum(fired) + fire_until_done(both[1]) == 1000
    assert len(mills[0].all_tasks()) == 1000


def test_pause_at_one_against_fire_at_the_other(mills: list[Mill], both: list[Schedules], clock: FakeClock) -> None:
    make(both[0])
    fired = 0
    for _ in range(ROUNDS):
        clock.forward(60)
        one, _ = race(both[0].fire, lambda: both[1].change("s", {"paused": True}))
        fired += one.tasks
        assert both[0].get("s").next_at is None
        assert [schedules.fire().tasks for schedules in both] == [0, 0]
        both[0].change("s", {"paused": False})
    assert len(mills[0].all_tasks()) == fired


def test_edit_at_one_against_fire_at_the_other(mills: list[Mill], both: list[Schedules], clock: FakeClock) -> None:
    make(both[0])
    for n in range(ROUNDS):
        clock.forward(60)
        task = Submission(f"type-{n}", "{}")
        changes = {"task": kept(task), "data": task.data}
        one, _ = race(both[0].fire, lambda changes=changes: both[1].change("s", changes))
        assert one.tasks + both[1].fire().tasks == 1
        assert both[1].get("s").task == kept(task)
        assert rules.rule_of(both[0].get("s")) == EVERY_MINUTE
        assert both[0].get("s").next_at == clock.wall + 60_000
    assert len(mills[0].all_tasks()) == ROUNDS


def test_edit_of_the_rule_against_fire(both: list[Schedules], mills: list[Mill], clock: FakeClock) -> None:
    """The tick of the old rule was fired before the edit, or never; the next one is the new rule's."""
    make(both[0])
    fired = 0
    for n in range(ROUNDS):
        clock.wall = both[0].get("s").next_at or 0
        every = 60_000 * (2 + n % 2)
        one, _ = race(both[0].fire, lambda every=every: both[1].change("s", {"every_ms": every}))
        fired += one.tasks + both[1].fire().tasks
        assert both[1].get("s").next_at == clock.wall + every
    assert len(mills[0].all_tasks()) == fired


def test_create_and_delete_at_once(both: list[Schedules]) -> None:
    for n in range(ROUNDS):
        wanted = Wanted(f"s{n}", EVERY_MINUTE, Submission("noop", "{}"))
        made = race(*[lambda s=s, wanted=wanted: s.create(wanted) for s in both])
        assert sorted(new for _, new in made) == [False, True]


# unique tasks


def one(key: str = "k", **fields: Any) -> Submission:
    return Submission("noop", "{}", unique_key=key, **fields)


def pending(mill: Mill) -> list[int]:
    return [task["task_id"] for task in mill.all_tasks() if task["status"] == "pending"]


def test_eight_unique_submits_at_two_dispatchers(mills: list[Mill]) -> None:
    for n in range(ROUNDS):
        calls = [lambda m=mills[i % 2], n=n: m.queue.submitted([one(f"k{n}")]) for i in range(8)]
        answers = race(*calls)
        assert len({answer.ids[0] for answer in answers}) == 1
        assert sorted(answer.created[0] for answer in answers) == [False] * 7 + [True]
    assert len(mills[0].all_tasks()) == ROUNDS
    recount(mills[1])


def test_bulks_of_the_same_keys_in_two_orders(mills: list[Mill]) -> None:
    for n in range(ROUNDS):
        tasks = [one(f"{n}-{i}") for i in range(10)]
        first, second = race(
            lambda tasks=tasks: mills[0].queue.submitted(tasks),
            lambda tasks=tasks: mills[1].queue.submitted(tasks[::-1]),
        )
        assert first.ids == second.ids[::-1]
        assert [a != b for a, b in zip(first.created, second.created[::-1], strict=True)] == [True] * 10
    assert len(mills[0].all_tasks()) == 10 * ROUNDS


def test_submit_at_one_against_the_end_of_the_twin_at_the_other(mills: list[Mill]) -> None:
    mills[0].queue.submitted([one()])
    for _ in range(ROUNDS):
        lease = mills[1].lease()
        answer, _ = race(lambda: mills[0].queue.submitted([one()]), lambda lease=lease: mills[1].succeed(lease))
        assert (answer.ids[0] == lease.task_id) == (answer.created == [False])
        mills[0].queue.submitted([one()])
        assert len(pending(mills[1])) == 1


def test_submit_at_one_against_the_retry_at_the_other(mills: list[Mill]) -> None:
    (first,), _ = mills[0].queue.submitted([one()])
    for _ in range(ROUNDS):
        for lease in mills[0].claim(max_tasks=5).tasks:
            mills[0].succeed(lease)
        answer, verdicts = race(
            lambda: mills[0].queue.submitted([one()]), lambda: mills[1].queue.retry([first])
        )  # fmt: skip
        assert (verdicts[first] == "retried") == (answer == ([first], [False]))
        assert len(pending(mills[1])) == 1


def test_retries_of_two_former_twins_at_once(mills: list[Mill]) -> None:
    ids = []
    for _ in range(2):
        ids += mills[0].queue.submitted([one()]).ids
        mills[0].succeed(mills[0].lease())
    for _ in range(ROUNDS):
        answers = race(*[lambda m=m, i=i: m.queue.retry([i]) for m, i in zip(mills, ids, strict=True)])
        assert sorted(verdict for answer in answers for verdict in answer.values()) == ["not_unique", "retried"]
        mills[0].succeed(mills[0].lease())


def test_submit_against_the_pruning_of_the_holder(mills: list[Mill], clock: FakeClock) -> None:
    for _ in range(ROUNDS):
        mills[0].queue.submitted([one()])
        mills[0].succeed(mills[0].lease())
        clock.forward(60)
        race(lambda: mills[0].queue.submitted([one()]), mills[1].prune)
        assert mills[1].queue.submitted([one()]).created == [False]
        mills[0].succeed(mills[0].lease())
        clock.forward(60)
        mills[1].prune()
