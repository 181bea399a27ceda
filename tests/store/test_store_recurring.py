"""Recurring schedules: each tick once, catch-up after downtime, edit, pause, run now."""

from pathlib import Path
from typing import Any

import pytest
from store_kit import DAY, HOUR, ROUNDS, SECOND, FakeClock, MakeStore, Mill, StoreKind, failing_commits, race

from dispatcher.errors import Invalid, NotFound, ScheduleExists, Unavailable
from dispatcher.maintenance.recurring import Recurring
from dispatcher.model import Schedule
from dispatcher.queue import recurring as rules
from dispatcher.queue.recurring import Fired, Schedules, Wanted, kept
from dispatcher.queue.submit import Submission
from dispatcher.queue.ticks import Rule
from dispatcher.store.base import Store

MINUTE = 60 * SECOND
EVERY_MINUTE, DAILY = Rule(None, "UTC", MINUTE), Rule("0 3 * * *", "Europe/Berlin", None)


def wanted(name: str = "s", rule: Rule = EVERY_MINUTE, task: Submission | None = None, **fields: Any) -> Wanted:
    return Wanted(name, rule, task or Submission("noop", '{"n":1}'), **fields)


class Bench:
    """A mill with its schedules."""

    def __init__(self, mill: Mill) -> None:
        self.mill, self.clock = mill, mill.clock
        self.schedules, self.loop = Schedules(mill.queue), Recurring(mill.queue)

    def make(self, *args: Any, **fields: Any) -> Schedule:
        return self.schedules.create(wanted(*args, **fields))[0]

    def pass_(self, seconds: float = 0) -> int:
        """A pass of the loop so much later; how many tasks."""
        self.clock.forward(seconds)
        return self.loop.run_once(self.clock.now())

    def get(self, name: str = "s") -> Schedule:
        return self.schedules.get(name)


@pytest.fixture
def bench(mill: Mill) -> Bench:
    return Bench(mill)


def test_fires_at_its_ticks_and_not_between(bench: Bench) -> None:
    made = bench.make()
    start = bench.clock.wall
    assert (made.next_at, made.last_at) == (start + MINUTE, None)
    assert [bench.pass_(seconds) for seconds in (0, 59.9, 0.1, 0, 60, 30)] == [0, 0, 1, 0, 1, 0]
    told = bench.get()
    assert (told.next_at, told.last_at) == (start + 3 * MINUTE, start + 2 * MINUTE)
    tasks = bench.mill.all_tasks()
    assert tasks[0]["task_id"] == told.last_task_id
    assert {task["data"] for task in tasks} == {'{"n":1}'}


def test_task_is_submitted_with_all_that_was_said(bench: Bench) -> None:
    task = Submission("prime", '{"limit":5}', "slow", 7, None, None, 2, 9000, ("a", "b"), options='{"memory_mb": 64}')
    bench.make(task=task)
    bench.pass_(60)
    (made,) = bench.mill.all_tasks()
    said = {"task_type": "prime", "queue": "slow", "priority": 7, "max_attempts": 2, "timeout_ms": 9000}
    assert said.items() <= made.items()
    assert (made["data"], made["tags"], made["options"]) == ('{"limit":5}', '["a", "b"]', '{"memory_mb": 64}')
    assert made["run_at"] == bench.clock.wall


def test_cron_in_its_zone(bench: Bench) -> None:
    bench.clock.wall = 1_774_650_000_000  # 2026-03-27T22:20Z; on the 29th Berlin's clocks go forward
    bench.make(rule=DAILY)
    ticks = rules.next_ticks(bench.get(), 3)
    assert [(tick - bench.clock.wall) // MINUTE for tick in ticks] == [220, 220 + 23 * 60, 220 + 47 * 60]
    assert bench.pass_(220 * 60) == 1
    assert bench.get().next_at == ticks[1]


def test_i10_a_pass_with_nothing_due_writes_nothing(bench: Bench, kind: StoreKind) -> None:
    for make in (lambda: None, bench.make):
        make()
        before = kind.written(bench.mill.store)
        for _ in range(5):
            assert bench.pass_(1) == 0
        assert kind.written(bench.mill.store) == before


def test_a_thousand_schedules_at_one_tick(bench: Bench) -> None:
    for n in range(0, 1000, 250):
        bench.mill.store.write(
            lambda tx, n=n: [rules._create(tx, wanted(f"s{i}")) for i in range(n, n + 250)]  # type: ignore[misc]
        )
    assert bench.pass_(60) == 1000
    assert bench.pass_(59) == 0
    assert len(bench.mill.all_tasks()) == 1000


@pytest.mark.parametrize("rule", [EVERY_MINUTE, Rule("* * * * *", "UTC", None)])
@pytest.mark.parametrize("restart", [False, True])
def test_schedules_come_in_time_again_when_the_clock_goes_back(bench: Bench, rule: Rule, restart: bool) -> None:
    bench.make(rule=rule)
    assert bench.pass_(60) == 1
    bench.clock.wall += DAY
    bench.pass_()
    assert (bench.get().next_at or 0) > bench.clock.wall
    bench.clock.wall -= DAY
    if restart:
        bench.loop = Recurring(bench.mill.queue)
    bench.pass_()
    assert 0 < (bench.get().next_at or 0) - bench.clock.wall <= MINUTE
    before = len(bench.mill.all_tasks())
    assert [bench.pass_(60) for _ in range(3)] == [1, 1, 1]
    assert len(bench.mill.all_tasks()) == before + 3


def test_schedules_come_back_although_the_first_try_fails(bench: Bench) -> None:
    bench.make()
    bench.clock.wall += DAY
    bench.pass_()
    bench.clock.wall -= DAY
    with failing_commits(bench.mill.store), pytest.raises(Unavailable):
        bench.pass_()
    bench.pass_()
    assert 0 < (bench.get().next_at or 0) - bench.clock.wall <= MINUTE


def test_a_tick_that_was_fired_before_the_clock_went_back_is_not_fired_again(bench: Bench) -> None:
    bench.make()
    for _ in range(3):
        bench.pass_(60)
    ids = [task["task_id"] for task in bench.mill.all_tasks()]
    bench.clock.wall -= 2 * MINUTE
    bench.pass_()
    bench.pass_(60)
    bench.pass_(60)
    assert [task["task_id"] for task in bench.mill.all_tasks()] == ids
    bench.pass_(60)
    assert len(bench.mill.all_tasks()) == len(ids) + 1


# catch-up


@pytest.mark.parametrize(("policy", "tasks"), [("skip", 0), ("once", 1), ("all", 3)])
def test_ticks_missed_in_a_downtime(bench: Bench, policy: str, tasks: int) -> None:
    bench.make(rule=DAILY, catch_up=policy)
    first = bench.get().next_at
    assert first is not None
    bench.clock.wall = first + 2 * DAY + HOUR
    assert bench.pass_() == tasks
    assert bench.get().next_at == first + 3 * DAY
    assert bench.pass_() == 0


@pytest.mark.parametrize("policy", ["skip", "once", "all"])
def test_a_tick_that_is_a_little_late_is_fired(bench: Bench, policy: str) -> None:
    bench.make(rule=DAILY, catch_up=policy)
    bench.clock.wall = (bench.get().next_at or 0) + rules.GRACE_MS
    assert bench.pass_() == 1


def test_skip_fires_the_newest_tick_that_is_not_late(bench: Bench) -> None:
    """Of ticks each second, after a stop of ten, one; after a stop of an hour, one."""
    bench.make(rule=Rule(None, "UTC", SECOND))
    assert bench.pass_(10) == 1
    assert bench.get().last_at == bench.clock.wall
    assert bench.pass_(3600.5) == 1
    assert bench.get().last_at == bench.clock.wall - 500
    assert bench.get().next_at == bench.clock.wall + 500


def test_all_catches_up_in_many_transactions(bench: Bench) -> None:
    bench.make(catch_up="all")
    start = bench.clock.wall
    assert bench.pass_(60 * 350) == 350
    assert (bench.get().last_at, bench.get().next_at) == (start + 350 * MINUTE, start + 351 * MINUTE)


def test_ticks_of_a_pause_are_never_caught_up(bench: Bench) -> None:
    bench.make(catch_up="all")
    bench.schedules.change("s", {"paused": True})
    assert bench.pass_(600) == 0
    resumed = bench.schedules.change("s", {"paused": False})
    assert resumed.next_at == bench.clock.wall + MINUTE
    assert bench.pass_(60) == 1


# what an owner does


def test_create_again_is_the_same_and_another_is_refused(bench: Bench) -> None:
    made, new = bench.schedules.create(wanted())
    assert new
    bench.clock.forward(5)
    assert bench.schedules.create(wanted()) == (made, False)
    with pytest.raises(ScheduleExists, match="'s'"):
        bench.schedules.create(wanted(rule=DAILY))
    assert bench.get() == made


def test_preview_stores_nothing(bench: Bench) -> None:
    assert bench.schedules.preview(wanted()).next_at == bench.clock.wall + MINUTE
    with pytest.raises(NotFound):
        bench.get()


def test_changed_task_keeps_the_ticks_and_changed_rule_begins_anew(bench: Bench) -> None:
    first = bench.make().next_at
    bench.clock.forward(20)
    task = Submission("sleep", "{}")
    assert bench.schedules.change("s", {"task": kept(task), "data": task.data}).next_at == first
    changed = bench.schedules.change("s", {"every_ms": HOUR})
    assert changed.next_at == bench.clock.wall + HOUR
    assert changed.updated_at == bench.clock.wall
    assert bench.pass_(3600) == 1
    assert bench.mill.all_tasks()[0]["task_type"] == "sleep"


def test_zone_belongs_to_cron(bench: Bench) -> None:
    bench.make()
    with pytest.raises(Invalid, match="zone"):
        bench.schedules.change("s", {"zone": "Europe/Berlin"})
    berlin = bench.schedules.change("s", DAILY._asdict())
    tokyo = bench.schedules.change("s", {"zone": "Asia/Tokyo"})
    assert berlin.next_at != tokyo.next_at


def test_deleted_schedule_fires_no_more_and_its_tasks_stay(bench: Bench) -> None:
    bench.make()
    bench.pass_(60)
    bench.schedules.delete("s")
    assert bench.pass_(120) == 0
    assert len(bench.mill.all_tasks()) == 1
    for call in (bench.get, lambda: bench.schedules.delete("s"), lambda: bench.schedules.run("s", None)):
        with pytest.raises(NotFound, match="schedule s"):
            call()


def test_schedule_made_again_under_its_name_fires_anew(bench: Bench) -> None:
    for _ in range(2):
        bench.make()
        assert bench.pass_(60) == 1
        bench.schedules.delete("s")
    assert len(bench.mill.all_tasks()) == 2


def test_run_now_is_beside_the_ticks_paused_or_not(bench: Bench) -> None:
    due = bench.make().next_at
    task_id, created = bench.schedules.run("s", None)
    assert created
    assert (bench.get().next_at, bench.get().last_task_id) == (due, task_id)
    bench.schedules.change("s", {"paused": True})
    assert bench.schedules.run("s", None)[0] != task_id


def test_run_now_under_one_key_is_one_task(bench: Bench) -> None:
    bench.make()
    first = bench.schedules.run("s", "key")
    assert bench.schedules.run("s", "key") == first
    assert bench.schedules.run("s", "other") != first


def test_unique_task_of_a_schedule_waits_for_its_twin(bench: Bench) -> None:
    """So a schedule never overlaps itself."""
    bench.make(task=Submission("noop", "{}", unique_key="only"))
    bench.pass_(60)
    first = bench.get().last_task_id
    bench.pass_(60)
    assert bench.get().last_task_id == first
    bench.mill.succeed(bench.mill.lease())
    bench.pass_(60)
    assert bench.get().last_task_id != first


def test_pages_by_name(bench: Bench) -> None:
    for name in ("b", "a", "C", "a.b", "a:1"):
        bench.make(name)
    assert [s.name for s in bench.schedules.page("", 3)] == ["C", "a", "a.b"]
    assert [s.name for s in bench.schedules.page("a.b", 3)] == ["a:1", "b"]


# what goes wrong


def test_refused_task_harms_no_other_schedule_and_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "bad", "c"):
        bench.make(name, task=Submission(name, "{}"))
    submit = rules.submit

    def picky(tx: Any, submissions: Any, *rest: Any) -> Any:
        if any(s.task_type == "bad" for s in submissions):
            raise Invalid("task_type", "not today")
        return submit(tx, submissions, *rest)

    monkeypatch.setattr(rules, "submit", picky)
    assert bench.pass_(60) == 2
    assert {task["task_type"] for task in bench.mill.all_tasks()} == {"a", "c"}
    assert bench.get("bad").last_error == "task_type: not today"
    assert bench.get("bad").next_at == bench.clock.wall + MINUTE
    monkeypatch.undo()
    assert bench.pass_(60) == 3
    assert bench.get("bad").last_error is None


def test_zone_that_is_gone_stops_that_schedule_alone(bench: Bench) -> None:
    bench.make("good")
    bench.make("lost", rule=DAILY)
    lost = bench.get("lost")._replace(zone="Mars/Olympus", next_at=bench.clock.wall)
    bench.mill.store.write(lambda tx: tx.put_schedules([lost]))
    assert bench.pass_(60) == 1
    assert "Mars/Olympus" in (bench.get("lost").last_error or "")
    assert bench.get("lost").next_at is None


def test_tick_whose_commit_failed_is_fired_later_and_once(bench: Bench) -> None:
    bench.make()
    bench.clock.forward(60)
    with failing_commits(bench.mill.store), pytest.raises(Unavailable):
        bench.pass_()
    assert not bench.mill.all_tasks()
    assert bench.pass_() == 1
    assert bench.pass_() == 0


def test_survives_a_restart(bench: Bench, make_store: MakeStore, tmp_path: Path, clock: FakeClock) -> None:
    made = bench.make(rule=DAILY, catch_up="once")
    bench.mill.store.close()
    again = Bench(Mill(make_store(tmp_path, clock), clock))
    assert again.get() == made
    clock.wall = (made.next_at or 0) + DAY
    assert again.pass_() == 1


def test_the_same_tick_is_one_task_even_when_its_row_is_set_back(bench: Bench) -> None:
    """As after a restore of an old backup of this table alone: the key of the tick is known."""
    bench.make()
    before = bench.get()
    bench.pass_(60)
    bench.mill.store.write(lambda tx: tx.put_schedules([before]))
    bench.pass_()
    assert len(bench.mill.all_tasks()) == 1


# races


def test_fires_at_once_fire_once(bench: Bench) -> None:
    bench.make()
    for n in range(ROUNDS):
        bench.clock.forward(60)
        fired: list[Fired] = race(*[bench.schedules.fire] * 4)
        assert sum(one.tasks for one in fired) == 1
        assert len(bench.mill.all_tasks()) == n + 1


def test_pause_against_fire(bench: Bench) -> None:
    """Fired before the pause, or not at all; and then no more."""
    bench.make()
    fired = 0
    for _ in range(ROUNDS):
        bench.clock.forward(60)
        one, _ = race(bench.schedules.fire, lambda: bench.schedules.change("s", {"paused": True}))
        fired += one.tasks
        assert bench.get().next_at is None
        assert bench.schedules.fire() == Fired(0, 0)
        bench.schedules.change("s", {"paused": False})
    assert len(bench.mill.all_tasks()) == fired


def test_edit_against_fire(bench: Bench) -> None:
    """A tick is fired whole, with the old task or the new one; and what the edit said stays."""
    bench.make()
    for n in range(ROUNDS):
        bench.clock.forward(60)
        task = Submission(f"type-{n}", "{}")
        changes = {"task": kept(task), "data": task.data}
        one, changed = race(bench.schedules.fire, lambda changes=changes: bench.schedules.change("s", changes))
        one = one.tasks or bench.schedules.fire().tasks  # one that found the row locked comes again
        assert one == 1
        assert bench.get().task == changed.task == kept(task)
        assert bench.get().next_at == bench.clock.wall + MINUTE
        assert bench.mill.all_tasks()[0]["task_type"] in (f"type-{n}", f"type-{n - 1}" if n else "noop")
    assert len(bench.mill.all_tasks()) == ROUNDS


def test_delete_against_fire(bench: Bench) -> None:
    for _ in range(ROUNDS):
        bench.make()
        bench.clock.forward(60)
        race(bench.schedules.fire, lambda: bench.schedules.delete("s"))
        assert bench.schedules.fire() == Fired(0, 0)


def test_create_at_once_is_one(bench: Bench) -> None:
    for n in range(ROUNDS):
        made = race(*[lambda n=n: bench.schedules.create(wanted(f"s{n}"))] * 3)
        assert sorted(new for _, new in made) == [False, False, True]


def test_impossible_rows_are_refused(store: Store, clock: FakeClock) -> None:
    good = rules._new(wanted(), clock.wall)
    for bad in (
        good._replace(cron="* * * * *"), good._replace(every_ms=None), good._replace(paused=True),
        good._replace(catch_up="never"), good._replace(every_ms=0),
    ):  # fmt: skip
        with pytest.raises(Exception, match=r"CHECK|check constraint"):
            store.write(lambda tx, bad=bad: tx.add_schedule(bad))  # type: ignore[misc]
