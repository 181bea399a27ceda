"""Several dispatchers on one database: every race between two actors, each at a dispatcher of its own (I2 to I6)."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from postgres_server import Schemas
from store_kit import (
    DAY,
    LEASE_S,
    ROUNDS,
    SECOND,
    SILENCE_S,
    FakeClock,
    Later,
    Mill,
    name,
    race,
    until,
    waiting,
)
from test_store_races import IDS, PAIRS, Pair, check, die, expire, over, recount

from dispatcher.errors import InstanceDead, Invalid
from dispatcher.maintenance.loop import Loop
from dispatcher.maintenance.waker import Waker
from dispatcher.model import State
from dispatcher.queue.report import Verdict
from dispatcher.queue.submit import RequestName, Submission
from dispatcher.store.postgres import PostgresStore
from dispatcher.store.postgres import session as session_module
from dispatcher.store.postgres.connecting import parameters
from dispatcher.store.postgres.hints import Hints
from dispatcher.store.postgres.tx import PostgresTx

HINTED_S, UNHINTED_S = 0.05, 1.0


@pytest.mark.parametrize("p", PAIRS, ids=IDS)
def test_i3_one_after_the_other_at_two_dispatchers(mills: list[Mill], p: Pair) -> None:
    for acts in ((p.first, p.second), (p.second, p.first)):
        lease = over(mills[0])
        for act, mill in zip(acts, mills, strict=True):
            try:
                act(mill, lease)
            except InstanceDead:
                assert die in acts
        check(mills[0], lease, p.allowed)
        if die in acts:
            return
        mills[0].queue.cancel([lease.task_id])
        mills[0].fail(lease)
    recount(mills[1])


@pytest.mark.parametrize("p", [p for p in PAIRS if die not in (p.first, p.second)],
                         ids=[i for i in IDS if "die" not in i])  # fmt: skip
def test_i3_at_once_at_two_dispatchers(mills: list[Mill], p: Pair) -> None:
    one, other = mills
    for _ in range(ROUNDS // 2):
        lease = over(one)
        race(lambda lease=lease: p.first(one, lease), lambda lease=lease: p.second(other, lease))
        if p.second is expire:
            other.reap()  # a pass leaves alone what another dispatcher has in hand: the next one ends it
        check(other, lease, p.allowed)
        one.queue.cancel([lease.task_id])
        one.fail(lease)
    recount(one)


def test_i2_claims_at_once_never_share_a_task(mills: list[Mill]) -> None:
    mills[0].submit(300)
    mills[1].submit(300, task_type="sleep")
    calls = [lambda w=f"w{n}", m=mills[n % 2]: m.claim(w, max_tasks=75).tasks for n in range(8)]
    ids = [task.task_id for tasks in race(*calls) for task in tasks]
    ids += [task.task_id for tasks in (mills[0].claim("rest", 600).tasks,) for task in tasks]
    assert len(ids) == len(set(ids)) == 600


def test_same_claim_at_once_at_both_gets_the_same_leases(mills: list[Mill]) -> None:
    """A worker that got no answer in time asks the other one, while the first is still at it."""
    mills[0].submit(200)
    for _ in range(ROUNDS):
        asked = mills[0].asking("ann", 3)
        granted = race(*[lambda m=m, asked=asked: m.queue.claim(asked).tasks for m in mills])
        again = {name(task) for task in mills[0].queue.claim(asked).tasks}
        assert len(again) == 3
        for tasks in granted:
            assert {name(task) for task in tasks} == again, "a number gets its leases wherever it is asked"
        for task in mills[1].queue.claim(asked).tasks:
            mills[1].succeed(task)


def test_i4_two_successes_at_once_leave_the_first(mills: list[Mill]) -> None:
    one, other = mills
    for _ in range(ROUNDS):
        first = over(one)
        one.reap()
        second = one.lease("bob")
        verdicts = race(lambda a=first: one.succeed(a, '"first"'), lambda b=second: other.succeed(b, '"second"'))
        winner = '"first"' if verdicts[0] == Verdict.ACCEPTED_LATE else '"second"'
        assert set(verdicts) in (
            {Verdict.ACCEPTED_LATE, Verdict.SUPERSEDED}, {Verdict.SUPERSEDED, Verdict.ACCEPTED},
        )  # fmt: skip
        assert other.result(first.task_id) == winner


def test_i5_the_same_report_at_once_counts_once(mills: list[Mill]) -> None:
    for _ in range(ROUNDS):
        mills[0].one()
        lease = mills[1].lease()
        verdicts = race(*[lambda n=n, lease=lease: mills[n % 2].succeed(lease, str(n)) for n in range(4)])
        assert sorted(verdicts) == [Verdict.ACCEPTED] + [Verdict.DUPLICATE] * 3
        assert mills[0].result(lease.task_id) == str(verdicts.index(Verdict.ACCEPTED))


def test_submits_of_a_key_at_once_make_one_task(mills: list[Mill]) -> None:
    for n in range(ROUNDS):
        tasks = [Submission("noop", "{}", key=f"k{n}", digest=b"b"), Submission("noop", "{}", key=f"m{n}", digest=b"b")]
        answers = race(*[lambda m=m, t=t: m.queue.submit(t) for m, t in zip(mills, [tasks, tasks[::-1]], strict=True)])
        assert len({tuple(sorted(ids)) for ids in answers}) == 1
    assert len(mills[0].all_tasks()) == 2 * ROUNDS
    recount(mills[0])


def test_repeats_of_a_request_at_once_get_the_same_tasks(mills: list[Mill]) -> None:
    tasks = [Submission("noop", "{}")] * 20
    for request in [RequestName(f"request {n}", b"digest") for n in range(20)]:
        one, other = race(*[lambda m=m, request=request: m.queue.submitted(tasks, request) for m in mills])
        assert one == other
    assert len(mills[0].all_tasks()) == 400


def test_a_request_whose_ids_do_not_follow_one_another_is_answered_again(mills: list[Mill], url_of_mills: str) -> None:
    """As when another dispatcher takes some between them."""
    tasks, request = [Submission("noop", "{}")] * 50, RequestName("mixed", b"digest")
    step = "ALTER TABLE tasks ALTER COLUMN id SET INCREMENT BY {}"
    with psycopg.connect(url_of_mills, autocommit=True) as other:
        other.execute(step.format(3))
        try:
            first = mills[0].queue.submitted(tasks, request)
        finally:
            other.execute(step.format(1))
    assert first.ids[-1] - first.ids[0] == 3 * 49
    assert mills[1].queue.submitted(tasks, request) == first
    assert len(mills[0].all_tasks()) == 50


def test_new_lanes_at_once_are_one_lane(mills: list[Mill]) -> None:
    for n in range(ROUNDS):
        race(*[lambda m=m, n=n: m.one(task_type=f"type-{n}") for m in mills])
        assert len(mills[0].claim("ann", 5, task_types=[f"type-{n}"]).tasks) == 2


def test_dead_instance_gets_nothing_at_another_dispatcher(mills: list[Mill]) -> None:
    """A death report at one, a claim at the other: the lease is settled with the death, or never granted."""
    one, other = mills
    for n in range(ROUNDS):
        worker = f"w{n}"
        one.one()
        one.beat(worker)
        tasks, _ = race(lambda w=worker: _claimed(other, w), lambda w=worker: one.die(w))
        one.reap()
        assert not [row for row in one.store.write(lambda tx: tx.leases(_instance(tx, worker)))]  # noqa: B023
        for task in tasks:
            assert one.state(task.task_id) == State.PENDING
        for lease in other.claim("tidy", 5).tasks:
            other.succeed(lease)


def _claimed(mill: Mill, worker: str) -> Any:
    try:
        return mill.claim(worker).tasks
    except InstanceDead:
        return ()


def _instance(tx: Any, worker: str) -> int:
    instance = tx.instance(f"i-{worker}")
    assert instance is not None
    return int(instance.id)


def test_heartbeats_at_once_are_taken_once(mills: list[Mill]) -> None:
    mills[0].one()
    lease = mills[0].lease("ann")
    for seq in range(1, ROUNDS):
        answers = race(*[lambda m=m, seq=seq: m.beat("ann", lease, seq=seq) for m in mills])
        assert sorted(answer.taken for answer in answers) == [False, True]


def test_reapers_at_once_end_each_lease_once(mills: list[Mill], clock: FakeClock) -> None:
    mills[0].submit(200, max_attempts=1)
    leases = mills[0].claim("ann", 200).tasks
    for mill in mills:
        mill.queue.reap(None)
    clock.forward(LEASE_S)
    last = clock.now().steady
    mills[0].store.write(lambda tx: tx.touch(last))
    for _ in range(4):
        race(*[lambda m=m: m.queue.reap(last) for m in mills])
    assert {mills[1].state(lease.task_id) for lease in leases} == {State.FAILED}
    assert all(mills[0].ended(lease) for lease in leases)
    recount(mills[1])


def test_pass_at_another_dispatcher_is_no_gap(mills: list[Mill], clock: FakeClock) -> None:
    """A dispatcher that was away, or is new, ends leases in time: the others were there."""
    one, other = mills
    one.one()
    one.lease("ann")
    one.reaper.run_once(clock.now())
    for _ in range(LEASE_S - 1):
        clock.forward(1)
        one.reaper.run_once(clock.now())
    clock.forward(1)
    assert other.reaper.run_once(clock.now()) == 1


def test_gap_of_all_dispatchers_is_a_gap(mills: list[Mill], clock: FakeClock) -> None:
    one, other = mills
    one.one()
    lease = one.lease("ann")
    for mill in mills:
        mill.reaper.run_once(clock.now())
    clock.forward(10 * LEASE_S)
    assert [mill.reaper.run_once(clock.now()) for mill in (other, one)] == [0, 0]
    assert one.told("ann", lease) == "ok"
    assert one.row(lease.task_id).lease_expires == clock.now().steady + SILENCE_S * SECOND


def test_schedulers_and_pruners_at_once(mills: list[Mill], clock: FakeClock) -> None:
    mills[0].submit(300, delay_ms=SECOND)
    clock.forward(2)
    assert sum(race(*[mill.become_ready for mill in mills])) == 300
    for lease in mills[0].claim("ann", 300).tasks:
        mills[0].succeed(lease)
    clock.wall += 2 * DAY
    assert sum(race(*[mill.prune for mill in mills])) == 300
    assert not mills[0].all_tasks()
    assert not mills[1].counts()


def test_priority_submitted_elsewhere_comes_first_within_a_second(mills: list[Mill], clock: FakeClock) -> None:
    """A claim starts where the last one ended, and looks back once a second."""
    mills[0].submit(50)
    mills[0].claim("ann", 10)
    urgent = mills[1].one(priority=9)
    clock.forward(1)
    assert mills[0].lease("ann").task_id == urgent


def test_what_was_given_back_before_the_place_of_the_last_claim_is_found(mills: list[Mill]) -> None:
    first = mills[0].submit(20)
    leases = mills[0].claim("ann", 10).tasks
    mills[1].give_back(leases[0])
    assert {task.task_id for task in mills[0].claim("bob", 20).tasks} == {first[0], *first[10:]}


@pytest.fixture
def awake(schemas: Schemas) -> Iterator[Callable[[bool], list[Mill]]]:
    """Two dispatchers with their wakers, with or without hints, on the database's clock."""
    with ExitStack() as stack:

        def make(notify: bool) -> list[Mill]:
            url = schemas.lend()
            mills = []
            for _ in range(2):
                store = PostgresStore(url, notify=notify)
                stack.callback(store.close)
                mills.append(Mill(store, FakeClock()))
                waker = Loop(Waker(mills[-1].queue), 0.5, store.now)
                store.on_news(waker.hurry)
                waker.start()
                stack.callback(waker.stop)
            return mills

        yield make
    schemas.give_back()


def wait_and_submit(mills: list[Mill]) -> float:
    """Seconds from a submit at one dispatcher to the answer of a claim that waits at the other."""
    asked = mills[0].asking("ann", wait_ms=20_000)
    later = Later(lambda: mills[0].queue.claim(asked))
    until(lambda: len(mills[0].queue.waiting) == 1)
    submitted = until(lambda: mills[1].submit(1))
    began = mills[1].store.now().wall
    (task,) = later.answer().tasks
    assert task.task_id == submitted[0]
    took = (mills[0].store.now().wall - began) / 1000
    mills[0].succeed(task)
    return took


def test_waiting_claim_is_woken_by_a_submit_elsewhere(awake: Callable[[bool], list[Mill]]) -> None:
    mills = awake(True)
    wait_and_submit(mills)  # both have their connections for hints now
    took = sorted(wait_and_submit(mills) for _ in range(15))
    assert took[len(took) // 2] <= HINTED_S, took


def test_waiting_claim_is_woken_without_hints_too(awake: Callable[[bool], list[Mill]]) -> None:
    mills = awake(False)
    took = [wait_and_submit(mills) for _ in range(4)]
    assert max(took) <= UNHINTED_S, took


class RungAtLast(threading.Event):
    """News that is being cleared away while the store closes."""

    def __init__(self, stopped: threading.Event) -> None:
        super().__init__()
        self._stopped_by_close = stopped

    def clear(self) -> None:
        self._stopped_by_close.set()
        self.set()
        super().clear()


def test_hints_end_even_when_the_last_bell_is_missed(postgres_url: str) -> None:
    hints = Hints(parameters(postgres_url))
    hints._rung, first = RungAtLast(hints._stopped), hints._rung
    first.set()  # the thread goes on to the other
    hints.ring()
    hints._threads[0].join(5)
    assert not hints._threads[0].is_alive()


def test_waiting_claim_hears_of_a_cancellation_elsewhere(awake: Callable[[bool], list[Mill]]) -> None:
    mills = awake(False)
    mills[1].one()
    lease = mills[0].lease("ann")
    asked = mills[0].asking("ann", wait_ms=20_000)
    later = Later(lambda: mills[0].queue.claim(asked))
    until(lambda: len(mills[0].queue.waiting) == 1)
    mills[1].queue.cancel([lease.task_id])
    assert later.answer().orders.cancel == (str(name(lease)),)


def test_waiting_client_hears_of_an_end_elsewhere(awake: Callable[[bool], list[Mill]]) -> None:
    mills = awake(False)
    task_id = mills[0].one()
    later = Later(lambda: mills[0].queue.wait_tasks([task_id], 20))
    mills[1].succeed(mills[1].lease("ann"))
    ended, still_open = later.answer()
    assert [task.task_id for task in ended] == [task_id]
    assert not still_open


def interrupted(
    mill: Mill,
    method: str,
    then: Callable[[], object],
    monkeypatch: pytest.MonkeyPatch,
    start: Callable[[Callable[[], object]], object] = Later,
) -> None:
    """Something happens at the other dispatcher right after this one has read."""
    original = getattr(PostgresTx, method)
    done: list[object] = []

    def read(tx: PostgresTx, *args: Any, **named: Any) -> Any:
        answer = original(tx, *args, **named)
        if not done and tx.db is mill.store._writer._session._db:  # type: ignore[attr-defined]
            done.append(start(then))
        return answer

    monkeypatch.setattr(PostgresTx, method, read)


def test_cancellation_that_meets_a_death_elsewhere_is_not_lost(
    mills: list[Mill], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = mills
    task_id = one.one()
    lease = one.lease("ann")
    interrupted(one, "leases", lambda: other.queue.cancel([task_id]), monkeypatch)
    one.die("ann", started=[lease])
    until(lambda: one.state(task_id) == State.CANCELLED)


def test_cancellation_that_meets_an_unlisted_lease_elsewhere_is_not_lost(
    mills: list[Mill], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = mills
    task_id = one.one()
    one.lease("ann")
    one.beat("ann")
    interrupted(one, "leases", lambda: other.queue.cancel([task_id]), monkeypatch)
    one.beat("ann")
    until(lambda: one.state(task_id) == State.CANCELLED)


@pytest.mark.parametrize("change", ["delete", "succeed"])
def test_lease_is_not_taken_back_from_what_came_between_elsewhere(
    mills: list[Mill], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    one, other = mills
    lease = over(one)
    assert one.reap()
    changes = {"delete": lambda: other.queue.remove(lease.task_id, force=True), "succeed": lambda: other.succeed(lease)}
    interrupted(one, "ended", changes[change], monkeypatch, start=lambda then: then())
    assert one.told("ann", lease) == "lost"
    recount(other)


def test_lease_of_a_dispatcher_that_stood_still_begins_when_it_was_taken(
    mills: list[Mill], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops in the middle of a claim; meanwhile the other one leases the same task and ends that lease."""
    one, other = mills
    one.one()

    def meanwhile() -> None:
        other.lease("bob")
        other.expire()

    interrupted(one, "queue_settings", meanwhile, monkeypatch, start=lambda then: then())
    lease = one.lease("ann")
    row = other.row(lease.task_id)
    assert (lease.attempt, row.started_at) == (2, clock.now().wall)
    assert not other.reap()


def test_claim_is_not_repeated_with_a_lease_that_has_just_ended(
    mills: list[Mill], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = mills
    one.one()
    asked = one.asking("ann")
    (lease,) = one.queue.claim(asked).tasks
    original = PostgresTx.held

    def held(tx: PostgresTx, *args: Any) -> Any:
        found = original(tx, *args)
        if tx.db is one.store._writer._session._db:  # type: ignore[attr-defined]
            other.give_back(lease)
        return found

    monkeypatch.setattr(PostgresTx, "held", held)
    assert not one.queue.claim(asked).tasks


def test_schema_that_came_to_one_is_held_to_by_the_other(mills: list[Mill], clock: FakeClock) -> None:
    one, other = mills
    one.beat("ann", types={"noop": '{"required": ["n"]}'})
    clock.forward(3)
    other.queue.look_around()
    with pytest.raises(Invalid):
        other.queue.schemas.check("noop", {}, "task_data")


def test_spells_of_two_dispatchers_rise(mills: list[Mill], monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims of one find what the other submits, through many new spells of both."""
    monkeypatch.setattr(session_module, "COMMITS_OF_A_SPELL", 3)
    for n in range(60):
        mills[n % 2].one()
        assert len(mills[(n + 1) % 2].claim(f"w{n}").tasks) == 1
    recount(mills[0])


def test_waiter_whose_instance_is_in_other_hands_holds_nobody_up(mills: list[Mill], url_of_mills: str) -> None:
    one, _ = mills
    stuck, free = waiting(one, "stuck"), waiting(one, "free")
    one.beat("stuck")
    with psycopg.connect(url_of_mills) as stranger:
        stranger.execute("SELECT 1 FROM instances WHERE worker_id = 'stuck' FOR UPDATE")
        one.one()
        assert free.answer().tasks
    one.queue.drain()
    stuck.answer()
