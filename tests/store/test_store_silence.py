"""Silence: expiry, unlisted leases, take-back (mechanisms 1 and 3; I3, I6)."""

import pytest
from store_kit import LEASE_S, PROVISIONAL_S, SECOND, SILENCE_S, Mill, name, waiting

from dispatcher.errors import InstanceDead
from dispatcher.model import End, Granted, State
from dispatcher.queue.heartbeat import Heartbeat
from dispatcher.queue.report import Verdict


def provisional_lease(mill: Mill, worker: str = "ann", **fields: object) -> Granted:
    later = waiting(mill, worker)
    mill.one(**fields)
    (lease,) = later.answer().tasks
    return lease


# --- expiry


def test_lease_ends_120_s_after_its_claim(mill: Mill) -> None:
    task_id = mill.one()
    mill.lease()
    mill.clock.forward(LEASE_S - 0.001)
    assert mill.reap() == 0
    mill.clock.forward(0.001)
    assert mill.reap() == 1
    row = mill.row(task_id)
    assert (row.state, row.ready, row.attempts) == (State.PENDING, 1, 1)


def test_after_a_heartbeat_a_lease_ends_60_s_after_the_last_one(mill: Mill) -> None:
    mill.one()
    lease = mill.lease()
    for _ in range(5):
        mill.clock.forward(SILENCE_S - 1)
        assert mill.told("ann", lease) == "ok"
        assert mill.reap() == 0
    mill.clock.forward(SILENCE_S - 0.001)
    assert mill.reap() == 0
    mill.clock.forward(0.001)
    assert mill.reap() == 1


@pytest.mark.parametrize("status", ["expired", "died"])
def test_i6_charged_last_loss_fails_with_a_reason(mill: Mill, status: str) -> None:
    task_id = mill.one(max_attempts=1)
    lease = mill.lease("ann")
    if status == "expired":
        mill.expire()
    else:
        mill.die("ann", started=[lease])
    shown = mill.queue.task(task_id)
    assert shown["status"] == "failed"
    assert shown["error"]
    assert [(e["how"], e["charged"]) for e in shown["ended"]] == [(status, 1)]


def test_i6_every_expiry_leads_somewhere_until_attempts_are_used(mill: Mill) -> None:
    task_id = mill.one(max_attempts=3)
    for attempt in (1, 2, 3):
        assert mill.lease().attempt == attempt
        mill.expire()
    assert mill.state(task_id) == State.FAILED
    assert mill.claim().tasks == []


def test_reaper_ends_the_oldest_first_and_at_most_its_batch(mill: Mill) -> None:
    mill.submit(3)
    first = mill.lease()
    mill.clock.forward(1)
    second = mill.lease()
    mill.clock.forward(LEASE_S)
    rows = mill.store.write(lambda tx: tx.expired(1))
    assert [row.id for row in rows] == [first.task_id]
    rows = mill.store.write(lambda tx: tx.expired(9))
    assert [row.id for row in rows] == [first.task_id, second.task_id]


# --- unlisted


def test_lease_missing_from_two_heartbeats_ends_and_gives_its_attempt_back(mill: Mill) -> None:
    task_id = mill.one(max_attempts=1)
    lease = mill.lease()
    mill.beat()
    assert mill.state(task_id) == State.IN_PROGRESS
    mill.beat()
    row = mill.row(task_id)
    assert (row.state, row.ready, row.attempts) == (State.PENDING, 1, 0)
    ended = mill.ended(lease)
    assert ended is not None
    assert (ended.how, ended.charged) == (End.UNLISTED, 0)


def test_two_misses_must_be_successive(mill: Mill) -> None:
    task_id = mill.one()
    lease = mill.lease()
    for _ in range(3):
        mill.beat()
        assert mill.told("ann", lease) == "ok"
    assert mill.state(task_id) == State.IN_PROGRESS


def test_claim_in_flight_protects_its_leases(mill: Mill) -> None:
    task_id = mill.one()
    mill.lease(number=4)
    for _ in range(4):
        mill.beat(in_flight=[4])
    assert mill.state(task_id) == State.IN_PROGRESS
    mill.beat(in_flight=[5])
    mill.beat(in_flight=[5])
    assert mill.state(task_id) == State.PENDING


def test_repeated_heartbeat_counts_one_miss(mill: Mill) -> None:
    task_id = mill.one()
    mill.lease()
    for _ in range(3):
        mill.beat(seq=1)
    assert mill.state(task_id) == State.IN_PROGRESS


def test_unlisted_lease_of_a_task_to_be_cancelled_is_cancelled(mill: Mill) -> None:
    task_id = mill.one()
    mill.lease()
    mill.queue.cancel([task_id])
    mill.beat()
    mill.beat()
    assert mill.state(task_id) == State.CANCELLED


def test_heartbeat_of_one_says_nothing_of_anothers_leases(mill: Mill) -> None:
    task_id = mill.one()
    mill.lease("ann")
    mill.beat("bob")
    mill.beat("bob")
    assert mill.state(task_id) == State.IN_PROGRESS


# --- order and store of heartbeats


@pytest.mark.parametrize("seq", [3, 2])
def test_older_or_equal_heartbeat_is_answered_with_orders_only(mill: Mill, seq: int) -> None:
    mill.one()
    lease = mill.lease()
    mill.queue.cancel([lease.task_id])
    mill.beat("ann", lease, seq=3)
    expires = mill.row(lease.task_id).lease_expires
    mill.clock.forward(1)
    answer = mill.beat("ann", lease, seq=seq)
    assert answer.leases == {}
    assert answer.orders.cancel == (str(name(lease)),)
    assert mill.row(lease.task_id).lease_expires == expires


def test_foreign_store_stops_nothing_and_settles_nothing(mill: Mill) -> None:
    mill.one()
    lease = mill.lease()
    before = mill.row(lease.task_id)
    for _ in range(3):
        answer = mill.beat("ann", lease, store_id="another")
        assert set(answer.leases.values()) == {"foreign"}
    mill.beat("ann", store_id="another")
    assert mill.row(lease.task_id) == before
    assert mill.told("ann", lease) == "ok"


def test_own_store_is_named_without_harm(mill: Mill) -> None:
    mill.one()
    lease = mill.lease()
    assert mill.beat("ann", lease, store_id=mill.store.store_id).leases == {str(name(lease)): "ok"}


def test_nonsense_is_lost(mill: Mill) -> None:
    answer = mill.queue.heartbeat(Heartbeat("ann", "i-ann", 1, {"nonsense": None, "1-0123456789abcdef": None}))
    assert set(answer.leases.values()) == {"lost"}


def test_cancel_order_comes_with_the_heartbeat(mill: Mill) -> None:
    mill.submit(2)
    first, second = mill.claim(max_tasks=2).tasks
    mill.queue.cancel([first.task_id])
    answer = mill.beat("ann", first, second)
    assert answer.leases == {str(name(first)): "cancel", str(name(second)): "ok"}
    assert answer.orders.cancel == (str(name(first)),)


# --- take-back


def test_take_back_while_the_task_is_pending(mill: Mill) -> None:
    task_id = mill.one()
    lease = mill.lease("ann")
    mill.expire()
    assert mill.told("ann", lease) == "ok"
    row = mill.row(task_id)
    assert (row.state, row.lease, row.attempts) == (State.IN_PROGRESS, lease.token, 1)
    assert row.lease_expires == mill.clock.now().steady + SILENCE_S * SECOND
    assert mill.claim("bob").tasks == []
    assert mill.succeed(lease) == Verdict.ACCEPTED
    assert mill.counts() == {("default", "noop"): {"completed": 1}}


def test_taken_back_lease_can_expire_and_come_back_again(mill: Mill) -> None:
    task_id = mill.one(max_attempts=1)
    lease = mill.lease("ann")
    for _ in range(3):
        mill.expire()
        assert mill.state(task_id) == State.FAILED
        assert mill.told("ann", lease) == "ok"
        assert mill.row(task_id).attempts == 1
    assert mill.succeed(lease) == Verdict.ACCEPTED


def test_take_back_of_an_unlisted_lease_counts_its_attempt_again(mill: Mill) -> None:
    task_id = mill.one(max_attempts=1)
    lease = mill.lease("ann")
    mill.beat("ann")
    mill.beat("ann")
    assert mill.row(task_id).attempts == 0
    assert mill.told("ann", lease) == "ok"
    assert mill.row(task_id).attempts == 1


def test_take_back_of_a_provisional_lease_counts_its_attempt_again(mill: Mill) -> None:
    lease = provisional_lease(mill, max_attempts=2)
    mill.clock.forward(PROVISIONAL_S)
    mill.reap()
    assert mill.row(lease.task_id).attempts == 0
    assert mill.told("ann", lease) == "ok"
    row = mill.row(lease.task_id)
    assert (row.attempts, row.lease_provisional) == (1, 0)


def test_i6_take_back_never_counts_beyond_max_attempts(mill: Mill) -> None:
    lease = provisional_lease(mill, max_attempts=1)
    mill.clock.forward(PROVISIONAL_S)
    mill.reap()
    mill.lease("bob")
    mill.expire()
    assert mill.state(lease.task_id) == State.FAILED
    assert mill.told("ann", lease) == "ok"
    row = mill.row(lease.task_id)
    assert (row.state, row.attempts) == (State.IN_PROGRESS, 1)


def test_no_take_back_after_a_genuine_failure(mill: Mill) -> None:
    task_id = mill.one(max_attempts=2)
    lease = mill.lease("ann")
    mill.expire()
    mill.fail(mill.lease("bob"))
    assert mill.state(task_id) == State.FAILED
    assert mill.told("ann", lease) == "lost"
    assert mill.state(task_id) == State.FAILED


@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_genuine_failure_is_remembered_as_the_last_word_whatever_the_wall_clock_does(mill: Mill, jump: int) -> None:
    task_id = mill.one(max_attempts=2)
    lease = mill.lease("ann")
    mill.expire()
    mill.clock.wall += jump * SECOND
    mill.fail(mill.lease("bob"), "boom")
    assert mill.told("ann", lease) == "lost"
    assert mill.queue.task(task_id)["error"] == "boom"


@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_task_failed_by_losses_is_taken_back_whatever_the_wall_clock_does(mill: Mill, jump: int) -> None:
    mill.one(max_attempts=2)
    failing = mill.lease("ann")
    mill.fail(failing)
    mill.clock.wall += jump * SECOND
    mill.clock.forward(10)
    mill.edit(failing.task_id, {"run_at": mill.clock.now().wall, "max_attempts": 1})
    lease = mill.lease("ann")
    mill.expire()
    assert mill.told("ann", lease) == "ok"


def test_no_take_back_while_another_holds_the_task(mill: Mill) -> None:
    task_id = mill.one()
    lease = mill.lease("ann")
    mill.expire()
    other = mill.lease("bob")
    assert mill.told("ann", lease) == "lost"
    assert mill.told("bob", other) == "ok"
    assert mill.row(task_id).lease == other.token


@pytest.mark.parametrize("end", [End.RELEASED, End.SNOOZED, End.FAILED])
def test_no_take_back_of_a_lease_that_its_holder_ended(mill: Mill, end: End) -> None:
    mill.one()
    lease = mill.lease("ann")
    mill.fail(lease) if end == End.FAILED else mill.give_back(lease, end)
    assert mill.told("ann", lease) == "lost"


def test_no_take_back_by_another_instance(mill: Mill) -> None:
    task_id = mill.one()
    lease = mill.lease("ann")
    mill.expire()
    assert mill.told("bob", lease) == "lost"
    assert mill.state(task_id) == State.PENDING


def test_no_take_back_for_a_dead_instance(mill: Mill) -> None:
    task_id = mill.one()
    lease = mill.lease("ann")
    mill.expire()
    mill.die("ann", started=[lease])
    with pytest.raises(InstanceDead):
        mill.told("ann", lease)
    assert mill.state(task_id) == State.PENDING


@pytest.mark.parametrize("end", ["cancelled", "completed"])
def test_no_take_back_of_an_ended_task(mill: Mill, end: str) -> None:
    task_id = mill.one()
    lease = mill.lease("ann")
    mill.expire()
    if end == "cancelled":
        mill.queue.cancel([task_id])
    else:
        mill.succeed(mill.lease("bob"))
    assert mill.told("ann", lease) == "lost"
    assert mill.state(task_id).value == end


def test_i2_of_two_silent_leases_of_a_task_one_comes_back(mill: Mill) -> None:
    mill.one()
    first = mill.lease("ann")
    mill.expire()
    second = mill.lease("ann")
    mill.expire()
    answers = mill.beat("ann", first, second).leases
    assert sorted(answers.values()) == ["lost", "ok"]


def test_take_back_of_a_pruned_task_is_lost(mill: Mill) -> None:
    task_id = mill.one()
    lease = mill.lease("ann")
    mill.expire()
    mill.queue.cancel([task_id])
    mill.clock.forward(1)
    mill.prune()
    assert mill.told("ann", lease) == "lost"
