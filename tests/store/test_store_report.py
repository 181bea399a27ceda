"""Report: verdicts, fencing, late success, and that a repeat is a duplicate (mechanism 3; I3, I4, I5)."""

from collections.abc import Callable

import pytest
from store_kit import DAY, HOUR, LEASE_S, SECOND, Mill, name

from dispatcher.model import End, Granted, LeaseEnd, LeaseName, Outcome, State
from dispatcher.queue.report import Verdict
from dispatcher.store.base import Store


def outcome(lease: Granted, status: End, result: str | None = None) -> Outcome:
    return Outcome(name(lease), status, result if status == End.COMPLETED else None, error="why")


def test_success_completes(mill: Mill) -> None:
    task_id = mill.one()
    assert mill.succeed(mill.lease(), '{"n": 1}') == Verdict.ACCEPTED
    shown = mill.queue.task(task_id)
    assert (shown["status"], shown["result"], shown["attempts"], shown["run_ms"]) == ("completed", '{"n": 1}', 1, 5)
    assert shown["assigned_to"] == "ann"
    assert shown["finished_at"] == mill.clock.now().wall


def test_failure_is_tried_again_later(mill: Mill) -> None:
    task_id = mill.one(max_attempts=2)
    assert mill.fail(mill.lease(), "boom") == Verdict.ACCEPTED
    row = mill.row(task_id)
    assert (row.state, row.ready, row.attempts) == (State.PENDING, 0, 1)
    assert row.run_at > mill.clock.now().wall
    assert mill.queue.task(task_id)["error"] == "boom"
    mill.clock.forward(HOUR / SECOND)
    mill.become_ready()
    assert mill.lease().attempt == 2


def test_last_failure_fails_with_its_reason(mill: Mill) -> None:
    task_id = mill.one(max_attempts=1)
    mill.fail(mill.lease(), "boom")
    shown = mill.queue.task(task_id)
    assert (shown["status"], shown["error"], shown["attempts"]) == ("failed", "boom", 1)


@pytest.mark.parametrize("status", [End.RELEASED, End.SNOOZED])
def test_i6_released_and_snoozed_attempts_are_given_back(mill: Mill, status: End) -> None:
    task_id = mill.one(max_attempts=1)
    for _ in range(5):
        assert mill.give_back(mill.lease(), status) == Verdict.ACCEPTED
        row = mill.row(task_id)
        assert (row.state, row.attempts) == (State.PENDING, 0)


def test_released_task_is_ready_at_once_and_a_snoozed_one_later(mill: Mill) -> None:
    task_id = mill.one()
    mill.give_back(mill.lease())
    assert mill.row(task_id).ready == 1
    mill.give_back(mill.lease(), End.SNOOZED, snooze_ms=30_000)
    row = mill.row(task_id)
    assert (row.ready, row.run_at) == (0, mill.clock.now().wall + 30_000)


def test_cancelled_outcome_cancels(mill: Mill) -> None:
    task_id = mill.one()
    mill.report(outcome(mill.lease(), End.CANCELLED))
    assert mill.state(task_id) == State.CANCELLED


ENDS = [End.COMPLETED, End.FAILED, End.RELEASED, End.SNOOZED, End.CANCELLED]


@pytest.mark.parametrize("status", ENDS)
def test_i5_repeated_report_is_a_duplicate(mill: Mill, status: End) -> None:
    task_id = mill.one(max_attempts=1)
    lease = mill.lease()
    assert mill.report(outcome(lease, status, '"first"')) == [Verdict.ACCEPTED]
    before = mill.queue.task(task_id)
    for _ in range(2):
        assert mill.report(outcome(lease, status, '"second"')) == [Verdict.DUPLICATE]
    assert mill.queue.task(task_id) == before


@pytest.mark.parametrize("status", ENDS)
def test_i5_report_is_a_duplicate_also_after_the_next_lease(mill: Mill, status: End) -> None:
    mill.one()
    lease = mill.lease()
    mill.report(outcome(lease, status, "1"))
    mill.clock.forward(DAY / SECOND)
    mill.become_ready()
    mill.claim("bob")
    assert mill.report(outcome(lease, status, "1")) == [Verdict.DUPLICATE]


@pytest.mark.parametrize("status", ENDS)
def test_i5_same_lease_twice_in_one_report(mill: Mill, status: End) -> None:
    task_id = mill.one(max_attempts=1)
    lease = mill.lease()
    verdicts = mill.report(outcome(lease, status, '"first"'), outcome(lease, status, '"second"'))
    assert verdicts == [Verdict.ACCEPTED, Verdict.DUPLICATE]
    assert mill.result(task_id) == ('"first"' if status == End.COMPLETED else None)


def test_complete_keeps_the_first_result_of_a_lease(mill: Mill, store: Store) -> None:
    task_id = mill.one()
    lease = mill.lease()
    twice = [Outcome(name(lease), End.COMPLETED, told) for told in ('"first"', '"second"')]
    assert store.write(lambda tx: tx.complete(twice)) == {name(lease)}
    assert mill.result(task_id) == '"first"'


def test_verdicts_stand_in_the_order_of_the_outcomes(mill: Mill) -> None:
    mill.submit(4)
    a, b, c, d = mill.claim(max_tasks=4).tasks
    mill.succeed(b)
    stranger = Outcome(LeaseName(a.task_id, a.token ^ 1), End.COMPLETED, "1")
    verdicts = mill.report(
        outcome(a, End.FAILED), outcome(b, End.COMPLETED, "2"), stranger, outcome(c, End.COMPLETED, "3"),
        outcome(d, End.RELEASED),
    )  # fmt: skip
    assert verdicts == ["accepted", "duplicate", "unknown", "accepted", "accepted"]


@pytest.mark.parametrize("status", ENDS)
def test_unknown_lease_touches_nothing(mill: Mill, status: End) -> None:
    task_id = mill.one()
    lease = mill.lease()
    before = mill.row(task_id)
    for other in (LeaseName(task_id, lease.token ^ 1), LeaseName(task_id + 99, lease.token)):
        assert mill.report(Outcome(other, status, "1")) == [Verdict.UNKNOWN]
    assert mill.row(task_id) == before


# --- late success, in every case of mechanism 3: how a first lease lost its task


def now_pending(mill: Mill, lease: Granted) -> None:
    mill.expire()


def now_leased_to_another(mill: Mill, lease: Granted) -> None:
    mill.expire()
    mill.lease("bob")


def now_failed_by_losses(mill: Mill, lease: Granted) -> None:
    for _ in range(2):
        mill.expire()
        mill.lease("bob")
    mill.expire()
    assert mill.state(lease.task_id) == State.FAILED


def now_failed_by_a_failure(mill: Mill, lease: Granted) -> None:
    mill.expire()
    mill.lease("bob")
    mill.expire()
    mill.fail(mill.lease("bob"))
    assert mill.state(lease.task_id) == State.FAILED


def now_pending_after_a_failure(mill: Mill, lease: Granted) -> None:
    mill.expire()
    mill.fail(mill.lease("bob"))
    assert mill.row(lease.task_id).ready == 0


def now_dead(mill: Mill, lease: Granted) -> None:
    mill.die("ann", started=[lease])


def now_unlisted(mill: Mill, lease: Granted) -> None:
    mill.beat("ann")
    mill.beat("ann")
    assert mill.state(lease.task_id) == State.PENDING


LOSSES = [
    now_pending, now_leased_to_another, now_failed_by_losses, now_failed_by_a_failure, now_pending_after_a_failure,
    now_dead, now_unlisted,
]  # fmt: skip


@pytest.mark.parametrize("lose", LOSSES)
def test_late_success_counts(mill: Mill, lose: Callable[[Mill, Granted], None]) -> None:
    """I4: the first success wins, whatever came between; I5: its repeat is a duplicate."""
    task_id = mill.one(max_attempts=3)
    lease = mill.lease("ann")
    lose(mill, lease)
    assert mill.succeed(lease, '"late"') == Verdict.ACCEPTED_LATE
    shown = mill.queue.task(task_id)
    assert (shown["status"], shown["result"], shown["assigned_to"]) == ("completed", '"late"', "ann")
    assert mill.succeed(lease, '"again"') == Verdict.DUPLICATE
    assert mill.result(task_id) == '"late"'
    assert mill.counts() == {("default", "noop"): {"completed": 1}}
    assert mill.claim("carl").tasks == []


def test_lease_beaten_by_a_late_success_is_superseded_and_told_lost(mill: Mill) -> None:
    task_id = mill.one()
    first = mill.lease("ann")
    mill.expire()
    second = mill.lease("bob")
    mill.succeed(first, '"first"')
    ended = mill.ended(second)
    assert ended is not None
    assert ended.how == End.SUPERSEDED
    assert mill.told("bob", second) == "lost"
    assert mill.succeed(second, '"second"') == Verdict.SUPERSEDED
    assert mill.fail(second) == Verdict.SUPERSEDED
    assert mill.result(task_id) == '"first"'


def test_i4_first_success_stands_against_every_later_word(mill: Mill) -> None:
    task_id = mill.one()
    first = mill.lease("ann")
    mill.expire()
    second = mill.lease("bob")
    assert mill.succeed(second, '"second"') == Verdict.ACCEPTED
    for status in ENDS:
        assert mill.report(outcome(first, status, '"first"')) == [Verdict.SUPERSEDED]
    assert mill.told("ann", first) == "lost"
    assert mill.queue.cancel([task_id]) == {task_id: "already_final"}
    assert mill.die("bob", started=[second]).charged == 0
    mill.clock.forward(LEASE_S)
    mill.reap()
    assert (mill.state(task_id), mill.result(task_id)) == (State.COMPLETED, '"second"')


def test_late_success_of_a_cancelled_task_does_not_count(mill: Mill) -> None:
    task_id = mill.one()
    lease = mill.lease()
    mill.expire()
    mill.queue.cancel([task_id])
    assert mill.succeed(lease) == Verdict.CANCELLED
    assert mill.fail(lease) == Verdict.CANCELLED
    assert (mill.state(task_id), mill.result(task_id)) == (State.CANCELLED, None)


def test_late_success_wins_over_a_lease_that_is_to_be_cancelled(mill: Mill) -> None:
    task_id = mill.one()
    first = mill.lease("ann")
    mill.expire()
    second = mill.lease("bob")
    mill.queue.cancel([task_id])
    assert mill.succeed(first) == Verdict.ACCEPTED_LATE
    assert mill.told("bob", second) == "lost"
    assert mill.state(task_id) == State.COMPLETED


def raised_by_retry(mill: Mill, task_id: int) -> None:
    mill.queue.cancel([task_id])
    mill.queue.retry([task_id])


def raised_by_edit(mill: Mill, task_id: int) -> None:
    assert mill.edit(task_id, {"priority": 1})


@pytest.mark.parametrize("raise_generation", [raised_by_retry, raised_by_edit])
@pytest.mark.parametrize("then_leased", [False, True])
def test_leases_of_older_generations_count_for_nothing(
    mill: Mill, raise_generation: Callable[[Mill, int], None], then_leased: bool
) -> None:
    task_id = mill.one()
    old = mill.lease("ann")
    mill.expire()
    raise_generation(mill, task_id)
    new = mill.lease("bob") if then_leased else None
    before = mill.row(task_id)
    for status in ENDS:
        assert mill.report(outcome(old, status, "1")) == [Verdict.SUPERSEDED]
    assert mill.told("ann", old) == "lost"
    assert mill.row(task_id) == before
    if new:
        assert mill.succeed(new) == Verdict.ACCEPTED


@pytest.mark.parametrize("status", [End.FAILED, End.RELEASED, End.SNOOZED, End.CANCELLED])
@pytest.mark.parametrize("lose", LOSSES)
def test_i3_late_end_other_than_success_is_ignored(
    mill: Mill, lose: Callable[[Mill, Granted], None], status: End
) -> None:
    task_id = mill.one(max_attempts=3)
    lease = mill.lease("ann")
    lose(mill, lease)
    before = mill.row(task_id)
    assert mill.report(outcome(lease, status)) == [Verdict.SUPERSEDED]
    assert mill.row(task_id) == before


def test_success_after_a_release_of_the_same_lease_counts(mill: Mill) -> None:
    mill.one()
    lease = mill.lease()
    mill.give_back(lease)
    assert mill.succeed(lease) == Verdict.ACCEPTED_LATE


def test_winner_stays_a_duplicate_after_a_retry(mill: Mill) -> None:
    task_id = mill.one()
    lease = mill.lease()
    mill.succeed(lease)
    mill.queue.retry([task_id])
    assert mill.succeed(lease) == Verdict.DUPLICATE
    mill.lease("bob")
    assert mill.succeed(lease) == Verdict.DUPLICATE
    assert mill.state(task_id) == State.IN_PROGRESS


def test_late_winner_stays_a_duplicate_after_a_retry(mill: Mill) -> None:
    task_id = mill.one()
    lease = mill.lease()
    mill.expire()
    mill.succeed(lease)
    mill.queue.retry([task_id])
    assert mill.succeed(lease) == Verdict.DUPLICATE
    assert mill.state(task_id) == State.PENDING


def test_i3_contract_fences_every_end_by_lease_and_state(mill: Mill, store: Store) -> None:
    """The contract's sentence: touching nothing is an ordinary answer."""
    task_id = mill.one()
    lease = mill.lease()
    wrong = LeaseName(task_id, lease.token ^ 1)
    before = mill.row(task_id)
    assert store.write(lambda tx: tx.complete([Outcome(wrong, End.COMPLETED, "1")])) == set()
    assert store.write(lambda tx: tx.end([LeaseEnd(wrong, End.EXPIRED, None, True, State.PENDING)])) == set()
    assert store.write(lambda tx: tx.renew([wrong], 1)) == set()
    assert store.write(lambda tx: tx.adopt([wrong], 1, 1)) == set()
    store.write(lambda tx: tx.miss([wrong]))
    assert mill.row(task_id) == before
    mill.succeed(lease)
    done = mill.row(task_id)
    assert store.write(lambda tx: tx.end([LeaseEnd(name(lease), End.EXPIRED, None, True, State.PENDING)])) == set()
    assert store.write(lambda tx: tx.renew([name(lease)], 1)) == set()
    assert mill.row(task_id) == done
