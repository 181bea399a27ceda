"""Schedules whose queue has no room (`max_waiting`): a due tick waits for room, or is left out and that is told."""

import pytest
from store_kit import HOUR
from test_store_recurring import DAILY, MINUTE, Bench, bench, wanted  # noqa: F401  a fixture

from dispatcher.queue import queues
from dispatcher.queue.recurring import GRACE_MS, LATE, WAITS
from dispatcher.queue.submit import Submission

FULL = "queue: default has no room for these tasks, at most 1 may wait in it"
OTHER = Submission("noop", "{}", "other")


@pytest.fixture
def full(bench: Bench) -> int:  # noqa: F811
    """The only task that may wait."""
    queues.configure(bench.mill.queue, "default", {"max_waiting": 1})
    return bench.mill.one()


def make_room(bench: Bench) -> None:  # noqa: F811
    bench.mill.succeed(bench.mill.lease())


def test_a_due_tick_waits_for_room_and_says_so(bench: Bench, full: int) -> None:  # noqa: F811
    due = bench.make().next_at
    assert bench.pass_(60) == 0
    assert (bench.get().next_at, bench.get().last_error) == (due, WAITS + FULL)
    bench.clock.forward(5)
    make_room(bench)
    assert bench.pass_() == 1
    told = bench.get()
    assert (told.last_at, told.last_error, told.skipped_from, told.next_at) == (due, None, None, (due or 0) + MINUTE)


def test_while_it_waits_nothing_is_written_and_it_does_not_spin(bench: Bench, full: int) -> None:  # noqa: F811
    bench.make()
    bench.pass_(60)
    known = bench.get()
    commits = bench.mill.store._writer.commits  # type: ignore[attr-defined]
    assert bench.pass_(1) == 0
    assert bench.mill.store._writer.commits - commits <= 2  # type: ignore[attr-defined]
    assert bench.get() == known
    assert bench.loop.pause() > 0.1


def test_it_holds_up_no_other_schedule(bench: Bench, full: int) -> None:  # noqa: F811
    for n in range(120):
        bench.make(f"a{n:03}")
    bench.clock.forward(1)
    bench.make("z", task=OTHER)
    assert bench.pass_(60) == 1
    assert bench.get("z").last_error is None
    assert bench.get("a119").last_error == WAITS + FULL


@pytest.mark.parametrize(("policy", "tasks"), [("skip", 0), ("once", 1), ("all", 1)])
def test_the_catch_up_policy_judges_what_found_no_room(bench: Bench, full: int, policy: str, tasks: int) -> None:  # noqa: F811
    bench.make(rule=DAILY, catch_up=policy)
    first = bench.get().next_at or 0
    bench.clock.wall = first
    bench.pass_()
    bench.clock.wall = first + GRACE_MS + 1
    if policy != "skip":
        bench.pass_()
        make_room(bench)
    assert bench.pass_() == tasks
    told = bench.get()
    assert told.next_at == first + 24 * HOUR
    if policy == "skip":
        assert (told.skipped_from, told.skipped_until, told.skipped_why) == (first, told.next_at, FULL)
        assert told.last_error == f"skipped: {FULL}"
    else:
        assert (told.skipped_from, told.last_error) == (None, None)


def test_what_was_skipped_stays_told_after_the_next_success(bench: Bench, full: int) -> None:  # noqa: F811
    first = bench.make().next_at or 0
    bench.pass_(60)
    for _ in range(5):
        bench.pass_(60)
    make_room(bench)
    assert bench.pass_() == 1
    told = bench.get()
    assert (told.last_at, told.last_error) == (first + 5 * MINUTE, None)
    assert (told.skipped_from, told.skipped_until, told.skipped_why) == (first, first + 5 * MINUTE, FULL)


def test_all_fires_as_many_as_there_is_room_for(bench: Bench) -> None:  # noqa: F811
    queues.configure(bench.mill.queue, "default", {"max_waiting": 3})
    bench.make(catch_up="all")
    assert [bench.pass_(300), bench.pass_()] == [3, 0]
    for _ in range(3):
        make_room(bench)
    assert bench.pass_() == 2
    assert bench.get().last_error is None


def test_a_tick_with_a_twin_needs_no_room(bench: Bench) -> None:  # noqa: F811
    queues.configure(bench.mill.queue, "default", {"max_waiting": 1})
    bench.make(task=Submission("noop", "{}", unique_key="only"))
    bench.pass_(60)
    first = bench.get().last_task_id
    bench.pass_(60)
    assert (bench.get().last_task_id, bench.get().last_error) == (first, None)


def test_two_schedules_and_one_place(bench: Bench) -> None:  # noqa: F811
    queues.configure(bench.mill.queue, "default", {"max_waiting": 1})
    for name in ("a", "b"):
        bench.make(name)
    assert bench.pass_(60) == 1
    make_room(bench)
    assert bench.pass_() == 1
    assert {bench.get(name).last_error for name in ("a", "b")} == {None}


def test_a_pause_or_another_rule_ends_the_wait(bench: Bench, full: int) -> None:  # noqa: F811
    for changes in ({"paused": True}, {"every_ms": HOUR}):
        bench.make()
        bench.pass_(60)
        assert bench.get().last_error == WAITS + FULL
        assert bench.schedules.change("s", changes).last_error is None
        bench.schedules.delete("s")


def test_ticks_left_out_after_a_downtime_are_told_too(bench: Bench) -> None:  # noqa: F811
    bench.make(rule=DAILY)
    first = bench.get().next_at or 0
    bench.clock.wall = first + HOUR
    assert bench.pass_() == 0
    told = bench.get()
    assert (told.skipped_from, told.skipped_until, told.skipped_why) == (first, told.next_at, LATE)
    assert told.last_error is None


def test_many_ticks_to_catch_up_are_many_short_steps(bench: Bench) -> None:  # noqa: F811
    for n in range(5):
        bench.make(f"s{n}", catch_up="all")
    commits = bench.mill.store._writer.commits  # type: ignore[attr-defined]
    assert bench.pass_(60 * 100) == 500
    assert bench.mill.store._writer.commits - commits >= 500 // 30  # type: ignore[attr-defined]
