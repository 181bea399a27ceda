"""Waiting claims: parked with the writer, served inside its transactions (mechanism 5)."""

import threading

import pytest
from store_kit import (
    PROVISIONAL_S,
    ROUNDS,
    SECOND,
    Later,
    Mill,
    failing_commits,
    held_up,
    name,
    race,
    until,
    waiting,
)

from dispatcher.errors import InstanceDead, Unavailable
from dispatcher.model import End, Orders, State
from dispatcher.queue import waiting as waiting_rules
from dispatcher.queue.claim import Claimed
from dispatcher.queue.report import Outcome
from dispatcher.store.base import Store


def ids(claimed: Claimed) -> list[int]:
    return [task.task_id for task in claimed.tasks]


def test_submit_wakes_a_waiting_claim(mill: Mill) -> None:
    later = waiting(mill)
    task_id = mill.one()
    answer = later.answer()
    assert ids(answer) == [task_id]
    assert answer.provisional


def test_release_wakes_a_waiting_claim(mill: Mill) -> None:
    task_id = mill.one()
    lease = mill.lease("ann")
    later = waiting(mill, "bob")
    mill.give_back(lease)
    assert ids(later.answer()) == [task_id]


def test_expiry_wakes_a_waiting_claim(mill: Mill) -> None:
    task_id = mill.one()
    mill.lease("ann")
    later = waiting(mill, "bob")
    mill.expire()
    assert ids(later.answer()) == [task_id]


def test_scheduler_wakes_a_waiting_claim(mill: Mill) -> None:
    task_id = mill.one(delay_ms=5000)
    later = waiting(mill)
    mill.clock.forward(5)
    mill.become_ready()
    assert ids(later.answer()) == [task_id]


@pytest.mark.parametrize("act", ["retry", "edit"])
def test_control_wakes_a_waiting_claim(mill: Mill, act: str) -> None:
    task_id = mill.one(delay_ms=5000)
    if act == "retry":
        mill.queue.cancel([task_id])
    later = waiting(mill)
    if act == "retry":
        mill.queue.retry([task_id])
    else:
        mill.edit(task_id, {"run_at": mill.clock.now().wall})
    assert ids(later.answer()) == [task_id]


def test_work_that_is_there_is_answered_at_once_and_is_not_provisional(mill: Mill) -> None:
    mill.one()
    assert mill.claim(wait_ms=60_000).provisional is False


def test_wait_ends_empty_when_its_time_is_over(mill: Mill) -> None:
    answer = mill.claim(wait_ms=20)
    assert not answer.tasks
    assert len(mill.queue.waiting) == 0


def test_only_those_that_got_something_wake(mill: Mill) -> None:
    idle = [waiting(mill, f"idle-{n}", task_types=["other"]) for n in range(3)]
    full = waiting(mill, "full", max_tasks=0)
    first, second = waiting(mill, "first"), waiting(mill, "second")
    mill.one()
    assert ids(first.answer())
    assert not any(later.done for later in [*idle, full, second])
    assert len(mill.queue.waiting) == 5


def test_the_longest_waiting_is_served_first_and_all_are_served(mill: Mill) -> None:
    first, second, third = (waiting(mill, worker, max_tasks=2) for worker in ("a", "b", "c"))
    got = mill.submit(3)
    assert ids(first.answer()) == got[:2]
    assert ids(second.answer()) == got[2:]
    assert not third.done


def test_eligibility_holds_for_waiting_claims(mill: Mill) -> None:
    left = waiting(mill, "left", queues=["left"])
    typed = waiting(mill, "typed", task_types=["rare"])
    rare = mill.one(task_type="rare", queue="right")
    assert ids(typed.answer()) == [rare]
    assert not left.done
    wanted = mill.one(queue="left")
    assert ids(left.answer()) == [wanted]


def test_lease_of_a_waiting_claim_is_provisional_for_10_s(mill: Mill) -> None:
    later = waiting(mill, "ann")
    task_id = mill.one(max_attempts=1)
    (lease,) = later.answer().tasks
    assert lease.length == PROVISIONAL_S * SECOND
    mill.clock.forward(PROVISIONAL_S - 0.001)
    assert mill.reap() == 0
    mill.clock.forward(0.001)
    assert mill.reap() == 1
    row = mill.row(task_id)
    assert (row.state, row.attempts) == (State.PENDING, 0), "never executed: the attempt is given back"


@pytest.mark.parametrize("confirm", ["heartbeat", "repeat"])
def test_heartbeat_or_repeat_confirms_a_provisional_lease(mill: Mill, confirm: str) -> None:
    later = waiting(mill, "ann", number=4)
    mill.one()
    (lease,) = later.answer().tasks
    if confirm == "heartbeat":
        assert mill.told("ann", lease) == "ok"
    else:
        assert [name(task) for task in mill.claim("ann", number=4).tasks] == [name(lease)]
    mill.clock.forward(PROVISIONAL_S + 1)
    assert mill.reap() == 0
    assert mill.state(lease.task_id) == State.IN_PROGRESS


def test_a_heartbeat_without_the_lease_does_not_confirm_it(mill: Mill) -> None:
    later = waiting(mill, "ann")
    mill.one()
    (lease,) = later.answer().tasks
    mill.beat("ann", in_flight=[1])
    mill.clock.forward(PROVISIONAL_S)
    assert mill.reap() == 1
    assert mill.row(lease.task_id).attempts == 0


def test_higher_number_ends_the_older_wait(mill: Mill) -> None:
    older = waiting(mill, "ann", number=1)
    newer = waiting(mill, "ann", number=2)
    assert not older.answer().tasks
    task_id = mill.one()
    assert ids(newer.answer()) == [task_id]


def test_claim_that_finds_work_ends_the_older_wait(mill: Mill) -> None:
    older = waiting(mill, "ann", number=1, task_types=["other"])
    mill.one()
    assert mill.claim("ann", number=2).tasks
    assert not older.answer().tasks


def test_claim_with_a_report_ends_the_older_wait(mill: Mill) -> None:
    older = waiting(mill, "ann", number=1)
    mill.queue.report([], "i-ann", mill.asking("ann", number=2))
    assert not older.answer().tasks


def test_repeat_of_a_waiting_number_replaces_it(mill: Mill) -> None:
    older = waiting(mill, "ann", number=3)
    newer = waiting(mill, "ann", number=3)
    assert not older.answer().tasks
    task_id = mill.one()
    assert ids(newer.answer()) == [task_id]


def test_lower_number_that_comes_late_does_not_end_the_newer_wait(mill: Mill) -> None:
    newer = waiting(mill, "ann", number=5)
    assert not mill.claim("ann", number=4, wait_ms=60_000).tasks
    assert not newer.done
    task_id = mill.one()
    assert ids(newer.answer()) == [task_id]


def test_lower_number_overtaken_on_its_way_to_the_writer_does_not_end_the_newer_wait(mill: Mill, store: Store) -> None:
    """The older request had passed the first check when the newer one came, and parks after it."""
    older = mill.asking("ann", number=1, wait_ms=60_000)
    with held_up(store):
        late = Later(lambda: mill.queue.claim(older))
        until(lambda: mill.queue.waiting._highest.get("i-ann") == 1)
        mill.queue.waiting.outdated(mill.asking("ann", number=2))
    assert not late.answer().tasks


def test_cancel_order_ends_a_wait(mill: Mill) -> None:
    task_id = mill.one()
    lease = mill.lease("ann")
    later = waiting(mill, "ann")
    bystander = waiting(mill, "bob")
    mill.queue.cancel([task_id])
    answer = later.answer()
    assert not answer.tasks
    assert answer.orders == Orders(cancel=(str(name(lease)),))
    assert not bystander.done


def test_known_orders_do_not_end_a_wait_in_whatever_order(mill: Mill) -> None:
    cancelled = mill.submit(2)
    leases = [str(name(task)) for task in mill.claim("ann", max_tasks=2).tasks]
    mill.queue.cancel(cancelled)
    for known in (tuple(leases), tuple(reversed(leases))):
        later = waiting(mill, "ann", orders=Orders(cancel=known))
        assert not later.done
    task_id = mill.one()
    assert ids(later.answer()) == [task_id]


def test_unknown_orders_are_answered_at_once(mill: Mill) -> None:
    task_id = mill.one()
    lease = mill.lease("ann")
    mill.queue.cancel([task_id])
    assert mill.claim("ann", wait_ms=60_000).orders.cancel == (str(name(lease)),)


def test_served_claim_carries_the_orders_that_stand(mill: Mill) -> None:
    task_id = mill.one()
    known = Orders(cancel=(str(name(mill.lease("ann"))),))
    mill.queue.cancel([task_id])
    later = waiting(mill, "ann", orders=known)
    mill.one()
    answer = later.answer()
    assert answer.tasks
    assert answer.orders == known


def test_drain_ends_waits_and_none_begins(mill: Mill) -> None:
    waits = [waiting(mill, worker) for worker in ("a", "b")]
    mill.queue.drain()
    assert not any(later.answer().tasks for later in waits)
    assert not mill.claim("c", wait_ms=60_000).tasks


def test_death_ends_the_wait(mill: Mill) -> None:
    later = waiting(mill, "ann")
    mill.die("ann")
    assert not later.answer().tasks


def test_dead_instance_is_not_served_what_its_death_gave_back(mill: Mill) -> None:
    """A dead instance gets no leases: its last claim may still be waiting when its own leases come free."""
    task_id = mill.one()
    mill.lease("ann")
    later = waiting(mill, "ann")
    mill.die("ann")
    assert not later.answer().tasks
    assert mill.state(task_id) == State.PENDING
    with pytest.raises(InstanceDead):
        mill.claim("ann")


def test_failing_commit_reaches_the_waiter_and_nothing_is_leased(mill: Mill) -> None:
    task_id = mill.one(delay_ms=5000)
    later = waiting(mill, "ann")
    mill.clock.forward(5)
    with failing_commits(mill.store), pytest.raises(Unavailable):
        mill.become_ready()
    with pytest.raises(Unavailable, match="the disk is away"):
        later.answer()
    row = mill.row(task_id)
    assert (row.state, row.ready, row.attempts) == (State.PENDING, 0, 0)
    assert mill.become_ready() == 1
    assert mill.lease("ann").task_id == task_id


def test_claim_whose_parking_failed_leaves_no_ghost(mill: Mill) -> None:
    with failing_commits(mill.store), pytest.raises(Unavailable):
        mill.claim("ann", wait_ms=60_000)
    assert len(mill.queue.waiting) == 0
    assert mill.state(mill.one()) == State.PENDING


def test_failing_to_serve_answers_those_that_were_granted(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while serving undoes the serving, not the submit, and leaves nobody hanging."""
    original = waiting_rules.grant

    def grant(tx, asked, *args, **kwargs):
        if asked.worker_id == "bad":
            raise ZeroDivisionError
        return original(tx, asked, *args, **kwargs)

    monkeypatch.setattr(waiting_rules, "grant", grant)
    good, bad = waiting(mill, "good"), waiting(mill, "bad")
    task_ids = mill.submit(2)
    with pytest.raises(Unavailable):
        good.answer()
    assert [mill.state(i) for i in task_ids] == [State.PENDING] * 2
    assert not bad.done
    mill.queue.drain()
    assert not bad.answer().tasks


def test_time_out_racing_with_serving_loses_no_lease(mill: Mill) -> None:
    """Two actors: the wait runs out while a submit serves it. A lease is delivered, or there is none."""
    for _ in range(ROUNDS):
        asked = mill.asking("ann", wait_ms=2)
        claimed, task_ids = race(lambda asked=asked: mill.queue.claim(asked), lambda: mill.submit(1))
        row = mill.row(task_ids[0])
        assert (row.state == State.IN_PROGRESS) == (ids(claimed) == task_ids)
        for lease in claimed.tasks or mill.claim("ann").tasks:
            mill.succeed(lease)
    assert len(mill.queue.waiting) == 0


def test_time_out_in_the_middle_of_serving_waits_for_the_outcome(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    serving, go = threading.Event(), threading.Event()
    original = waiting_rules.grant

    def slow(*args, **kwargs):
        serving.set()
        assert go.wait(20)
        return original(*args, **kwargs)

    monkeypatch.setattr(waiting_rules, "grant", slow)
    later = waiting(mill, "ann", wait_ms=50)
    submitted = Later(lambda: mill.one())
    assert serving.wait(20)
    parked = mill.queue.waiting._parked["i-ann"]
    until(lambda: parked.leaving)
    go.set()
    assert ids(later.answer()) == [submitted.answer()]


def test_newer_claim_racing_with_serving_loses_no_lease(mill: Mill) -> None:
    """Two actors: a higher number arrives while a submit serves the older wait."""
    for _ in range(ROUNDS):
        older = waiting(mill, "ann")
        number = mill.next_number("ann")
        newer, task_ids = race(lambda number=number: mill.claim("ann", number=number), lambda: mill.submit(1))
        delivered = [*older.answer().tasks, *newer.tasks] or mill.claim("ann").tasks
        assert [lease.task_id for lease in delivered] == task_ids
        mill.succeed(delivered[0])


def test_many_waiters_and_many_submitters_share_out_everything_once(mill: Mill) -> None:
    """I2 under threads: every task goes to exactly one of the waiting claims."""
    got: list[int] = []

    def work(worker: str) -> None:
        while len(got) < 120:
            for lease in mill.claim(worker, max_tasks=5, wait_ms=50).tasks:
                got.append(lease.task_id)
                assert mill.report(Outcome(name(lease), End.COMPLETED, "1"), worker=worker)[0].value == "accepted"

    workers = [Later(lambda w=f"w{n}": work(w)) for n in range(6)]
    submitters = [Later(lambda: [mill.one() for _ in range(30)]) for _ in range(4)]
    submitted = [i for later in submitters for i in later.answer()]
    for later in workers:
        later.answer()
    assert sorted(got) == sorted(submitted)
