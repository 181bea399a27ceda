"""The classic form: one task, a lease known by worker_id, heartbeats that name nothing (DESIGN section 5)."""

from contextlib import closing

import pytest
from store_kit import LEASE_S, SILENCE_S, Mill, name

from dispatcher.errors import NotFound
from dispatcher.model import End, Granted, LeaseName, State
from dispatcher.queue.report import Outcome, Verdict


def take(mill: Mill, worker: str = "old") -> Granted:
    granted = mill.queue.claim_classic(worker)
    assert granted is not None
    return granted


def tell(mill: Mill, worker: str, task_id: int, status: End = End.COMPLETED, lease: LeaseName | None = None) -> Verdict:
    body = '"done"' if status == End.COMPLETED else None
    return mill.queue.report_classic(worker, task_id, Outcome(LeaseName(0, 0), status, body, error="why"), lease)


def test_claim_and_report_without_a_lease_id(mill: Mill) -> None:
    task_id = mill.one()
    assert take(mill).task_id == task_id
    assert mill.queue.claim_classic("old") is None
    assert tell(mill, "old", task_id) == Verdict.ACCEPTED
    assert mill.result(task_id) == '"done"'
    assert tell(mill, "old", task_id) == Verdict.DUPLICATE


def test_it_is_measured_and_told_like_the_native_form(mill: Mill) -> None:
    task_id, rates, events = mill.one(max_attempts=2), mill.queue.rates, mill.queue.events
    with closing(events.listen(task_id, None)):
        events.changed()
        take(mill)
        assert (events.changed(), rates.take().waits) == ([task_id], [0.0])
        mill.queue.report_classic("old", task_id, Outcome(LeaseName(0, 0), End.FAILED, error="why", run_ms=250), None)
        assert events.changed() == [task_id]
    sample = rates.take()
    assert (sample.tried, sample.failed, sample.runs) == (1, 1, [0.25])
    with pytest.raises(NotFound):
        tell(mill, "old", 999)
    assert rates.take().tried == 0, "nothing was reported"


def test_only_named_types_are_taken(mill: Mill) -> None:
    mill.one(task_type="other")
    assert mill.queue.claim_classic("old", frozenset({"noop"})) is None


def test_report_without_a_lease_id_is_fenced_by_the_worker(mill: Mill) -> None:
    task_id = mill.one()
    take(mill)
    assert tell(mill, "stranger", task_id) == Verdict.UNKNOWN
    assert mill.state(task_id) == State.IN_PROGRESS


def test_report_without_a_lease_id_does_not_reach_native_leases(mill: Mill) -> None:
    task_id = mill.one()
    mill.lease("old")
    assert tell(mill, "old", task_id) == Verdict.UNKNOWN
    assert mill.state(task_id) == State.IN_PROGRESS


def test_report_counts_for_the_workers_newest_lease(mill: Mill) -> None:
    task_id = mill.one()
    first = take(mill)
    mill.expire()
    second = take(mill)
    assert tell(mill, "old", task_id, End.FAILED) == Verdict.ACCEPTED
    assert mill.ended(second).how == End.FAILED
    assert mill.ended(first).how == End.EXPIRED


@pytest.mark.parametrize("jump", [-86_400_000, 86_400_000])
def test_newest_lease_is_told_by_order_not_by_the_wall_clock(mill: Mill, jump: int) -> None:
    task_id = mill.one()
    take(mill)
    mill.expire()
    mill.clock.wall += jump
    second = take(mill)
    mill.expire()
    newest = mill.store.write(lambda tx: tx.newest_of(tx.classic("old").id, task_id))
    assert newest == name(second)


def test_late_success_counts_and_late_failure_does_not(mill: Mill) -> None:
    task_id = mill.one()
    take(mill)
    mill.expire()
    take(mill, "other")
    assert tell(mill, "old", task_id, End.FAILED) == Verdict.SUPERSEDED
    assert tell(mill, "old", task_id) == Verdict.ACCEPTED_LATE
    assert tell(mill, "other", task_id) == Verdict.SUPERSEDED


def test_lease_id_reaches_an_exact_generation(mill: Mill) -> None:
    task_id = mill.one()
    first = take(mill)
    mill.expire()
    take(mill)
    assert tell(mill, "old", task_id, lease=name(first)) == Verdict.ACCEPTED_LATE


def test_lease_id_of_another_task_is_unknown(mill: Mill) -> None:
    first, second = mill.submit(2)
    lease = take(mill)
    assert lease.task_id == first
    assert tell(mill, "old", second, lease=name(lease)) == Verdict.UNKNOWN


def test_task_that_never_was_is_not_found(mill: Mill) -> None:
    with pytest.raises(NotFound):
        tell(mill, "old", 4711)


def test_heartbeat_renews_the_newest_lease_only(mill: Mill) -> None:
    mill.submit(2)
    older = take(mill)
    mill.clock.forward(1)
    newer = take(mill)
    mill.clock.forward(LEASE_S - 2)
    mill.queue.heartbeat_classic("old", None)
    mill.clock.forward(SILENCE_S - 1)
    assert mill.reap() == 1
    assert mill.state(older.task_id) == State.PENDING
    assert mill.state(newer.task_id) == State.IN_PROGRESS
    mill.clock.forward(1)
    assert mill.reap() == 1


def test_heartbeat_of_an_unknown_worker_is_welcome(mill: Mill) -> None:
    assert mill.queue.heartbeat_classic("new", '{"cpus": 2}') == mill.clock.now().wall
    with mill.store.read() as reader:
        (worker,) = reader.workers(0)
    assert (worker["worker_id"], worker["classic"], worker["host"], worker["leases"]) == ("new", 1, '{"cpus": 2}', 0)


def test_native_heartbeat_does_not_miss_classic_leases(mill: Mill) -> None:
    task_id = mill.one()
    take(mill, "ann")
    mill.beat("ann")
    mill.beat("ann")
    assert mill.state(task_id) == State.IN_PROGRESS


def test_lease_of_a_worker_that_never_heartbeats_ends_in_time(mill: Mill) -> None:
    """I6."""
    task_id = mill.one()
    take(mill)
    mill.expire()
    assert mill.state(task_id) == State.PENDING
