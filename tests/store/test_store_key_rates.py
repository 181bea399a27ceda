"""Tasks that share a key: no key starts more of them in a stretch of time than the queue allows."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from store_kit import HOUR, SECOND, FakeClock, MakeStore, Mill, StoreKind, name, race, waiting

from dispatcher.model import End, Grant, Rate, State
from dispatcher.queue import queues
from dispatcher.queue.report import Verdict
from dispatcher.queue.turns import take, turns
from dispatcher.store.base import Store

ROUNDS = 8
MINUTE = 60 * SECOND


def rate(mill: Mill, count: int | None, ms: int | None = MINUTE, **more: Any) -> None:
    ms = None if count is None else ms
    queues.configure(mill.queue, "default", {"key_rate_count": count, "key_rate_ms": ms, **more})


def keyed(mill: Mill, n: int = 1, key: str = "user:42", **fields: Any) -> list[int]:
    return mill.submit(n, limit_key=key, **fields)


def started(mill: Mill, most: int = 50, worker: str = "ann") -> list[int]:
    """What a claim gets when the scheduler has just looked."""
    mill.become_ready()
    return [task.task_id for task in mill.claim(worker, most).tasks]


def rows(mill: Mill) -> int:
    with mill.store.read() as reader:
        return int(reader.db.execute("SELECT count(*) FROM key_rates").fetchone()[0])  # type: ignore[attr-defined]


def check(mill: Mill, most: int) -> None:
    """No key has more ready tasks than that, and the counts agree with the rows."""
    ready = Counter(t["limit_key"] for t in mill.all_tasks() if t["ready"])
    assert all(n <= most for key, n in ready.items() if key), ready
    assert ready.total() == sum(n.get("ready", 0) for n in mill.counts().values())


@pytest.mark.parametrize("of", [Rate(10, MINUTE), Rate(7, SECOND), Rate(1, HOUR), Rate(1_000_000, 100)])
def test_the_sums_of_a_bucket(of: Rate) -> None:
    now, n = 1_700_000_000_000, of.burst
    full_at = of.spent(0, now, n)
    assert (of.left(0, now), of.left(full_at, now)) == (n, 0)
    for wanted in {1, n}:
        moment = of.moment(full_at, wanted)
        assert of.left(full_at, moment) >= wanted
        assert moment <= now + 1 or of.left(full_at, moment - 1) < wanted
    assert of.moment(full_at, n) <= now + -(-n * of.ms // of.starts) + 1
    slow = of.within(now * 10**6, now)
    assert (of.left(slow, now), of.left(slow, now + of.ms), of.within(full_at, now)) == (0, n, full_at)


def test_the_rate_of_a_key(mill: Mill, clock: FakeClock) -> None:
    rate(mill, 10)
    mine, other, plain = keyed(mill, 4), keyed(mill, 2, "user:7"), mill.submit(3)
    assert sorted(started(mill)) == [mine[0], other[0], *plain]
    assert started(mill) == []
    assert mill.queue.next_due() == clock.wall + 6 * SECOND
    clock.forward(5.999)
    assert started(mill) == []
    clock.forward(0.001)
    assert sorted(started(mill)) == [mine[1], other[1]]
    check(mill, 1)


def test_a_burst_and_then_its_pace(mill: Mill, clock: FakeClock) -> None:
    """10 a second: five at once, which is half a second's worth, then one every tenth."""
    rate(mill, 10, SECOND)
    ids = keyed(mill, 30)
    assert started(mill) == ids[:5]
    for n in range(5, 9):
        clock.forward(0.1)
        assert started(mill) == [ids[n]]
    clock.forward(0.35)
    assert len(started(mill, 2)) == 2
    assert len(started(mill)) == 1
    check(mill, 5)


def test_what_nobody_takes_does_not_pile_up(mill: Mill, clock: FakeClock) -> None:
    rate(mill, 10, SECOND)
    keyed(mill, 30)
    for _ in range(10):
        clock.forward(60)
        mill.become_ready()
        check(mill, 5)
    assert mill.queue.next_due() is None  # the next start decides
    assert len(started(mill)) == 5
    clock.forward(0.1)
    assert len(started(mill)) == 1


def test_a_rate_is_never_passed_over_its_period(mill: Mill, clock: FakeClock) -> None:
    rate(mill, 20, SECOND)
    keyed(mill, 120)
    moments: list[int] = []
    for n in range(100):
        got = started(mill, 7)
        moments += [clock.steady] * len(got)
        if got and n % 3 == 0:
            mill.queue.cancel(got)
        clock.forward(0.013)
    for begin in moments:
        assert sum(begin <= at < begin + SECOND for at in moments) <= 20 + 10
    assert len(moments) >= 20 * 100 * 0.013 - 1


def test_a_task_that_is_given_back_is_first_at_the_next_moment(mill: Mill, clock: FakeClock) -> None:
    rate(mill, 10)
    first, second = keyed(mill, 2)
    mill.give_back(mill.lease())
    assert mill.row(first).held
    assert started(mill) == []
    clock.forward(6)
    assert started(mill) == [first]
    clock.forward(6)
    assert started(mill) == [second]


def test_every_way_back_keeps_to_the_rate(mill: Mill, clock: FakeClock) -> None:
    rate(mill, 10)
    ids = keyed(mill, 2)
    mill.fail(mill.lease())
    clock.forward(6)
    mill.become_ready()
    mill.give_back(mill.lease(), End.SNOOZED, snooze_ms=SECOND)
    assert mill.edit(ids[0], {"priority": 3})
    clock.forward(5)
    assert started(mill) == []
    clock.forward(1)
    (got,) = started(mill)
    mill.queue.cancel([got])
    clock.forward(6)
    mill.become_ready()
    lease = mill.lease()
    mill.succeed(lease)
    assert mill.queue.retry([lease.task_id])[lease.task_id] == "retried"
    assert started(mill) == []
    check(mill, 1)
    clock.forward(6)
    assert len(started(mill)) == 1


def test_a_lease_that_is_taken_back_is_no_start(mill: Mill, clock: FakeClock) -> None:
    rate(mill, 1, HOUR)
    keyed(mill)
    lease = mill.lease()
    mill.expire()
    assert mill.row(lease.task_id).held
    assert mill.told("ann", lease) == "ok"
    assert not mill.row(lease.task_id).held
    assert mill.succeed(lease) == Verdict.ACCEPTED


def test_who_waits_is_served_at_the_moment(mill: Mill, clock: FakeClock) -> None:
    rate(mill, 10)
    ids = keyed(mill, 3)
    mill.lease()
    later = waiting(mill, "bob", 5)
    assert mill.become_ready() == 0
    clock.forward(6)
    assert mill.become_ready() == 1
    assert [task.task_id for task in later.answer().tasks] == [ids[1]]


def test_scheduler_knows_the_next_moment_and_rests(mill: Mill, clock: FakeClock, kind: StoreKind, store: Store) -> None:
    rate(mill, 10)
    keyed(mill, 2)
    mill.lease()
    before = kind.written(store)
    assert mill.become_ready() == 0
    assert mill.scheduler.pause() == 0.25
    assert kind.written(store) == before
    clock.forward(5.9)
    assert mill.become_ready() == 0
    assert mill.scheduler.pause() == pytest.approx(0.1)
    clock.forward(0.1)
    assert len(started(mill)) == 1
    assert mill.queue.next_due() is None


def test_both_limits_of_a_key(mill: Mill, clock: FakeClock) -> None:
    rate(mill, 10, SECOND, key_running=2)
    keyed(mill, 20)
    first = mill.claim(max_tasks=9).tasks
    assert len(first) == 2
    clock.forward(10)
    assert started(mill) == []
    assert mill.queue.next_due() is None  # an end decides
    got = []
    for lease in [*first, *[None] * 9]:
        for task in [lease] if lease else mill.claim("bob", 9).tasks:
            got.append(task)
            mill.succeed(task)
    assert len(got) == 2 + 5
    clock.forward(0.1)
    assert len(started(mill)) == 1


def test_a_rate_that_comes_later_changes_and_goes(mill: Mill, clock: FakeClock) -> None:
    keyed(mill, 520)
    keyed(mill, 6, "user:7")
    rate(mill, 1, HOUR)
    check(mill, 1)
    assert len(started(mill)) == 2
    rate(mill, 10)  # it waits no longer than the new stretch
    assert started(mill) == []
    clock.forward(60)
    assert len(started(mill)) == 2
    check(mill, 1)
    rate(mill, None)
    assert len(started(mill, 600)) == 522
    clock.forward(60)
    mill.become_ready()
    assert mill.queue.next_due() is None
    assert rows(mill) == 0


def test_setting_the_same_rate_again_gives_nothing(mill: Mill) -> None:
    rate(mill, 10)
    keyed(mill, 3)
    assert len(started(mill)) == 1
    rate(mill, 10)
    assert started(mill) == []


def test_a_bucket_outlasts_its_tasks_and_the_dispatcher(
    mill: Mill, make_store: MakeStore, tmp_path: Path, clock: FakeClock
) -> None:
    rate(mill, 1, 2 * HOUR)
    keyed(mill)
    mill.succeed(mill.lease())
    clock.forward(3600)
    assert mill.prune() == 1
    keyed(mill, 2)
    assert started(mill) == []
    mill.store.close()
    again = Mill(make_store(tmp_path, clock), clock)
    assert started(again, worker="eve") == []
    clock.forward(3600)
    assert len(started(again, worker="eve")) == 1


def test_full_buckets_are_pruned(mill: Mill, clock: FakeClock) -> None:
    rate(mill, 10)
    for n in range(20):
        keyed(mill, 1, f"user:{n}")
    assert len(started(mill)) == 20
    assert rows(mill) == 20
    mill.prune()
    assert rows(mill) == 20
    clock.forward(6)
    mill.prune()
    assert rows(mill) == 0


def test_what_fails_is_not_charged(mill: Mill, store: Store) -> None:
    rate(mill, 10)
    (task_id,) = keyed(mill)
    taken: list[int] = []

    def claim_and_fail(tx: Any) -> None:
        asked = mill.asking("ann")
        instance = tx.meet(asked.instance_id, "ann")
        lanes = {"default": [lane.id for lane in tx.ready_lanes()]}
        taken.extend(t.task_id for t in take(tx, turns(tx, lanes), 1, grant_of(instance.id), 10**6))
        tx.settle_keys()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.write(claim_and_fail)
    assert set(taken) == {task_id}
    assert rows(mill) == 0
    assert started(mill) == [task_id]


def test_race_of_claims_at_the_rate(mill: Mill, clock: FakeClock) -> None:
    rate(mill, 10, SECOND)
    keyed(mill, 200)
    for n in range(ROUNDS):
        mill.become_ready()
        answers = race(*[lambda w=w: mill.claim(f"w{w}", 3).tasks for w in range(6)])
        assert sum(map(len, answers)) == 5, n
        clock.forward(0.5)


def test_race_of_claims_ends_and_the_scheduler(mill: Mill, clock: FakeClock) -> None:
    """Tasks that come back, new ones and freed ones: all together are no more than the rate allows."""
    rate(mill, 10, SECOND)
    keyed(mill, 60)
    held: list[Any] = []
    total = 0
    for n in range(ROUNDS):
        ends: list[Callable[[], Any]] = [lambda lease=lease: mill.give_back(lease) for lease in held[:2]]
        ends += [lambda lease=lease: mill.succeed(lease) for lease in held[2:]]
        claims: list[Callable[[], Any]] = [lambda w=w: mill.claim(f"w{w}", 3).tasks for w in range(4)]
        answers = race(*ends, *claims, mill.become_ready, lambda: keyed(mill, 2))
        held = [task for tasks in answers[len(ends) : len(ends) + 4] for task in tasks]
        mill.become_ready()
        held += mill.claim("rest", 9).tasks
        assert len({name(task) for task in held}) == (5 if n == 0 else 2), n
        total += len(held)
        clock.forward(0.2)
    assert total == 5 + 2 * (ROUNDS - 1)
    check(mill, 5)


def test_ten_thousand_tasks_of_one_key_do_not_slow_a_claim(
    make_store: MakeStore, tmp_path: Path, clock: FakeClock
) -> None:
    """Counted in steps of the engine, or rows that it reads: at the limit, where a task starts, and for others."""
    efforts = []
    for crowd in (20, 10_000):
        (tmp_path / str(crowd)).mkdir()
        mill = Mill(make_store(tmp_path / str(crowd), clock), clock)
        rate(mill, 10)
        keyed(mill, crowd, priority=9)
        mill.submit(5)
        start, other = (mill.store.write(lambda tx, mill=mill: effort(tx, mill, 1)) for _ in range(2))
        nothing = mill.store.write(lambda tx, mill=mill: effort(tx, mill, 1, "mail"))
        efforts.append((*start, *other, *nothing))
        assert sum(mill.row(t).state == State.IN_PROGRESS for t in range(1, 21)) == 1
    few, many = efforts
    assert [few[n] for n in (0, 2, 4)] == [many[n] for n in (0, 2, 4)] == [1, 1, 0]
    assert all(many[n] <= few[n] * 1.2 + 5 for n in (1, 3, 5)), efforts


def effort(tx: Any, mill: Mill, most: int, queue: str = "default") -> tuple[int, int]:
    """How many tasks a claim took, and what it cost with all that settles it."""
    asked = mill.asking("ann", most)
    instance = tx.meet(asked.instance_id, "ann")
    lanes = {queue: [lane.id for lane in tx.ready_lanes() if lane.queue == queue]}
    counted = Counter[str]()
    if hasattr(tx.db, "set_progress_handler"):
        tx.db.set_progress_handler(lambda: bool(counted.update(["step"])), 1)
    before = _rows_read(tx)
    taken = take(tx, turns(tx, lanes), most, grant_of(instance.id), 10**6)
    tx.settle_keys()
    cost = counted["step"] + _rows_read(tx) - before
    if hasattr(tx.db, "set_progress_handler"):
        tx.db.set_progress_handler(None)
    return len(taken), cost


def _rows_read(tx: Any) -> int:
    if hasattr(tx.db, "set_progress_handler"):
        return 0
    sql = "SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0) FROM pg_stat_xact_user_tables"
    return int(tx.ask(sql)[0][0])


def grant_of(instance: int) -> Grant:
    return Grant(instance, 1, MINUTE, False)
