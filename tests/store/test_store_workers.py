"""Orders to workers, what they register, and what their tasks show while they run."""

import json
from collections.abc import Callable

import pytest
from store_kit import ROUNDS, SECOND, FakeClock, Later, Mill, StoreKind, name, race, until, waiting

from common.handlers.loglines import BYTES, LINES
from dispatcher.errors import NotFound
from dispatcher.model import End, LogPart, Orders, Progress, State
from dispatcher.queue.output import lines_of
from dispatcher.queue.report import Outcome, Verdict

QUIET, STOP, STOP_NOW = Orders("quiet"), Orders("stop"), Orders("stop", now=True)


def test_a_quiet_worker_gets_nothing_new_and_finishes_what_it_has(mill: Mill) -> None:
    first, second = mill.submit(2)
    lease = mill.lease()
    assert mill.queue.order_worker("ann", "quiet") == 1
    answer = mill.claim(max_tasks=5)
    assert (list(answer.tasks), answer.orders) == ([], QUIET)
    assert mill.beat("ann", lease).orders == QUIET
    assert mill.succeed(lease) == Verdict.ACCEPTED
    assert mill.lease("bob").task_id == second, "others go on"
    mill.queue.order_worker("ann", "run")
    mill.one()
    assert mill.claim().orders == Orders()
    assert mill.state(first) == State.COMPLETED


def test_a_report_brings_a_quiet_worker_no_tasks(mill: Mill) -> None:
    mill.submit(2)
    lease = mill.lease()
    mill.queue.order_worker("ann", "quiet")
    _, orders, claimed = mill.queue.report([], "i-ann", mill.asking("ann", 5))
    assert claimed is not None
    assert (list(claimed.tasks), orders) == ([], QUIET)
    again = mill.claim("ann", number=1)
    assert [name(task) for task in again.tasks] == [name(lease)], "a repeat gets what it was granted before"


def test_a_quiet_classic_worker_gets_nothing(mill: Mill) -> None:
    mill.submit(2)
    assert mill.queue.claim_classic("old") is not None
    mill.queue.order_worker("old", "quiet")
    assert mill.queue.claim_classic("old") is None
    mill.queue.order_worker("old", "run")
    assert mill.queue.claim_classic("old") is not None


def test_quiet_is_remembered_by_name_and_stop_is_not(mill: Mill) -> None:
    mill.beat("ann")
    mill.queue.order_worker("ann", "quiet")
    mill.queue.order_worker("ann", "stop", now=True)
    assert mill.beat("ann").orders == STOP_NOW
    mill.die("ann")
    mill.one()
    asked = mill.asking("ann")
    anew = mill.queue.claim(type(asked)("ann", "i-ann-2", 1, 1))
    assert (list(anew.tasks), anew.orders) == ([], QUIET), "a later instance of that name is quiet, not stopped"
    mill.queue.order_worker("ann", "run")
    mill.queue.order_worker("ann", "stop")
    last = mill.queue.claim(type(asked)("ann", "i-ann-3", 1, 1))
    assert (len(last.tasks), last.orders) == (1, Orders()), "a stop is for the instances of that moment"


def test_sleep_is_remembered_by_name_and_its_now_is_not(mill: Mill) -> None:
    mill.beat("ann")
    waits = waiting(mill, "ann")
    mill.queue.order_worker("ann", "sleep", now=True)
    assert waits.answer().orders == Orders("sleep", now=True)
    mill.one()
    assert list(mill.claim().tasks) == []
    mill.die("ann")
    asked = mill.asking("ann")
    anew = mill.queue.claim(type(asked)("ann", "i-ann-2", 1, 1))
    assert (list(anew.tasks), anew.orders) == ([], Orders("sleep"))
    mill.queue.order_worker("ann", "run")
    assert len(mill.queue.claim(type(asked)("ann", "i-ann-2", 2, 1)).tasks) == 1


def test_orders_outlive_the_dispatcher(kind: StoreKind, tmp_path, clock: FakeClock) -> None:  # type: ignore[no-untyped-def]
    store = kind.make(tmp_path, clock)
    mill = Mill(store, clock)
    mill.beat("ann")
    mill.beat("bob")
    mill.queue.order_worker("ann", "quiet")
    mill.queue.order_worker("bob", "stop")
    store.close()
    store = kind.make(tmp_path, clock)
    again = Mill(store, clock)
    again.one()
    assert again.claim("ann").orders == QUIET
    assert again.claim("bob").orders == STOP
    store.close()


def test_an_order_to_nobody_is_refused_and_leaves_nothing(mill: Mill) -> None:
    with pytest.raises(NotFound, match="worker nobody"):
        mill.queue.order_worker("nobody", "quiet")
    mill.one()
    assert mill.claim("nobody").orders == Orders()


def test_an_order_ends_a_wait_at_once(mill: Mill) -> None:
    mill.beat("ann")
    for state, told in (("quiet", QUIET), ("stop", STOP), ("run", Orders())):
        known = mill.beat("ann").orders
        later = waiting(mill, "ann", orders=known)
        mill.queue.order_worker("ann", state)
        assert later.answer().orders == told


def test_an_order_ends_the_first_wait_of_an_instance_that_is_not_known_yet(mill: Mill) -> None:
    mill.beat("ann")
    asked = mill.asking("ann")
    first = type(asked)("ann", "i-ann-2", 1, 1, wait_ms=20 * SECOND)
    later = Later(lambda: mill.queue.claim(first))
    until(lambda: "i-ann-2" in mill.queue.waiting._parked)
    mill.queue.order_worker("ann", "quiet")
    answer = later.answer()
    assert list(answer.tasks) == []
    mill.one()
    assert mill.queue.claim(type(asked)("ann", "i-ann-2", 2, 1)).orders == QUIET


def test_a_worker_that_knows_its_order_waits_on(mill: Mill) -> None:
    mill.beat("ann")
    mill.queue.order_worker("ann", "quiet")
    later = waiting(mill, "ann", max_tasks=0, orders=QUIET)
    assert mill.queue.look_around() == 1
    assert not later.done
    mill.queue.drain()
    later.answer()


def test_quiet_against_claim(mill: Mill) -> None:
    """After the answer to the order nothing new comes, whatever was under way."""
    for n in range(ROUNDS):
        worker = f"w-{n}"
        mill.beat(worker)
        mill.submit(3)
        race(lambda w=worker: mill.claim(w, 1), lambda w=worker: mill.queue.order_worker(w, "quiet"))
        assert list(mill.claim(worker, 3).tasks) == []


def test_quiet_against_a_served_wait(mill: Mill) -> None:
    for n in range(ROUNDS):
        worker = f"w-{n}"
        mill.beat(worker)
        later = waiting(mill, worker)
        race(lambda: mill.submit(1), lambda w=worker: mill.queue.order_worker(w, "quiet"))
        later.answer()
        held = len(mill.claim("rest", 10).tasks)
        assert held in (0, 1)
        assert list(mill.claim(worker, 3).tasks) == []


def test_stop_against_report(mill: Mill) -> None:
    """The outcome of what ran counts, and the claim that rides on its report brings nothing after the stop."""
    for n in range(ROUNDS):
        worker = f"w-{n}"
        mill.submit(2)
        lease = mill.lease(worker)
        outcome = Outcome(name(lease), End.COMPLETED, "1", run_ms=1)
        then = mill.asking(worker, 1)
        (verdicts, _, _), _ = race(
            lambda o=outcome, w=worker, t=then: mill.queue.report([o], f"i-{w}", t),
            lambda w=worker: mill.queue.order_worker(w, "stop"),
        )
        assert verdicts == [Verdict.ACCEPTED]
        assert list(mill.claim(worker, 2).tasks) == []
        assert mill.beat(worker).orders.state == "stop"


def test_a_claim_that_finds_nothing_still_writes_nothing(mill: Mill, kind: StoreKind) -> None:
    mill.beat("ann")
    mill.queue.order_worker("ann", "quiet")
    mill.claim("ann")
    before = kind.written(mill.store)
    for _ in range(5):
        mill.claim("ann")
    assert kind.written(mill.store) == before


def test_a_registration_is_kept_until_the_next(mill: Mill) -> None:
    mill.beat("ann", about='{"concurrency":4}')
    mill.beat("ann")
    with mill.store.read() as reader:
        (row,) = reader.workers(0)
    assert (json.loads(row["about"]), row["ordered"]) == ({"concurrency": 4}, None)


def test_the_oldest_of_each_queue(mill: Mill) -> None:
    mill.one(queue="a")
    mill.clock.forward(10)
    mill.one(queue="b")
    mill.one(queue="a", priority=5)
    mill.one(queue="c", delay_ms=1000)
    with mill.store.read() as reader:
        found = reader.oldest_by_queue()
    assert {queue: (mill.clock.wall - at) / 1000 for queue, at in found.items()} == {"a": 10, "b": 0}


Say = Callable[..., None]


@pytest.fixture
def said(mill: Mill) -> Say:
    """Heartbeats of ann about one lease."""

    def say(lease, partial: str | None = None, start: int = 0, *lines: str, worker: str = "ann") -> None:  # type: ignore[no-untyped-def]
        log = LogPart(start, lines) if lines else None
        mill.beat(worker, lease, said=Progress(name(lease), None, None, None, None, partial, log))

    return say


def log_of(mill: Mill, task_id: int) -> list[str]:
    return lines_of(mill.queue.output(task_id))


def test_partial_results_and_logs_are_kept_while_the_task_runs(mill: Mill, said: Say) -> None:
    task_id = mill.one()
    assert mill.queue.output(task_id) is None
    lease = mill.lease()
    said(lease, '{"n":1}')
    said(lease, None, 0, "one", "two")
    said(lease, '{"n":2}', 2, "three")
    output = mill.queue.output(task_id)
    assert output is not None
    assert output.partial == '{"n":2}'
    assert log_of(mill, task_id) == ["one", "two", "three"]
    assert mill.succeed(lease) == Verdict.ACCEPTED
    assert log_of(mill, task_id) == ["one", "two", "three"]


def test_lines_that_are_sent_again_are_not_kept_twice(mill: Mill, said: Say) -> None:
    task_id = mill.one()
    lease = mill.lease()
    said(lease, None, 0, "a", "b")
    said(lease, None, 0, "a", "b", "c")
    said(lease, None, 1, "b", "c")
    said(lease, None, 7, "h")
    assert log_of(mill, task_id) == ["a", "b", "c", "h"]


def test_the_next_attempt_goes_on_in_the_same_log_and_a_lost_lease_is_not_heard(mill: Mill, said: Say) -> None:
    task_id = mill.one()
    first = mill.lease()
    said(first, None, 0, "first")
    mill.expire()
    second = mill.lease("bob")
    said(first, '"late"', 1, "late")
    said(second, None, 0, "second", worker="bob")
    output = mill.queue.output(task_id)
    assert output is not None
    assert output.partial is None
    assert log_of(mill, task_id) == ["first", "second"]


def test_a_log_is_bounded_in_lines_and_bytes(mill: Mill, said: Say) -> None:
    task_id = mill.one()
    lease = mill.lease()
    for start in range(0, 500, 100):
        said(lease, None, start, *(str(n) for n in range(start, start + 100)))
    assert log_of(mill, task_id) == [str(n) for n in range(500 - LINES, 500)]
    said(lease, None, 500, *("é" * 1000 for _ in range(100)))
    lines = log_of(mill, task_id)
    assert len(lines) == BYTES // 2000
    assert set(lines) == {"é" * 1000}


def test_what_a_task_showed_goes_with_its_generation_and_with_the_task(mill: Mill, said: Say) -> None:
    task_id, other = mill.one(), mill.one()
    for lease in (mill.lease(), mill.lease()):
        said(lease, "1", 0, "x")
        mill.succeed(lease)
    mill.queue.retry([task_id])
    assert mill.queue.output(task_id) is None
    mill.clock.forward(1)
    mill.prune()
    assert mill.queue.output(other) is None


def test_the_report_brings_the_lines_that_no_heartbeat_had_carried(mill: Mill, said: Say) -> None:
    task_id = mill.one()
    lease = mill.lease()
    said(lease, None, 0, "a")
    whole = LogPart(0, ("a", "b"))
    outcome = Outcome(name(lease), End.COMPLETED, "1", run_ms=1, log=whole)
    assert mill.report(outcome) == [Verdict.ACCEPTED]
    assert mill.report(outcome) == [Verdict.DUPLICATE]
    assert log_of(mill, task_id) == ["a", "b"]
