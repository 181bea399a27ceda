"""Death, known for certain: what becomes of the leases of a dead instance (DESIGN section 3)."""

import pytest
from store_kit import Mill, name

from dispatcher.errors import InstanceDead
from dispatcher.model import End, Granted, State
from dispatcher.queue.claim import Claim
from dispatcher.queue.death import Death, Recorded
from dispatcher.queue.report import Verdict


def three(mill: Mill, **fields: object) -> list[Granted]:
    mill.submit(3, **fields)
    return list(mill.claim("ann", max_tasks=3).tasks)


def test_leases_are_adopted_charged_or_released(mill: Mill) -> None:
    in_outbox, started, prefetched = three(mill)
    recorded = mill.die("ann", outbox=[in_outbox], started=[in_outbox, started])
    assert recorded == Recorded(adopted=1, charged=1, released=1)
    assert mill.state(in_outbox.task_id) == State.IN_PROGRESS
    assert (mill.state(started.task_id), mill.row(started.task_id).attempts) == (State.PENDING, 1)
    assert (mill.state(prefetched.task_id), mill.row(prefetched.task_id).attempts) == (State.PENDING, 0)


def test_adopter_lists_and_reports_what_it_adopted(mill: Mill) -> None:
    lease, *_ = three(mill)
    mill.die("ann", outbox=[lease])
    assert mill.told("heir", lease) == "ok"
    assert mill.succeed(lease) == Verdict.ACCEPTED


def test_adopted_lease_that_is_not_listed_ends(mill: Mill) -> None:
    lease, *_ = three(mill)
    mill.die("ann", outbox=[lease])
    mill.beat("heir")
    mill.beat("heir")
    assert mill.state(lease.task_id) == State.PENDING


def test_adopted_lease_is_no_answer_to_a_claim_of_the_adopter(mill: Mill) -> None:
    lease, *_ = three(mill)
    mill.submit(1)
    own = mill.lease("heir", number=1)
    mill.die("ann", outbox=[lease])
    assert [name(task) for task in mill.claim("heir", number=1).tasks] == [name(own)]


def test_i6_charged_last_attempt_fails_and_an_uncharged_one_does_not(mill: Mill) -> None:
    started, prefetched, _ = three(mill, max_attempts=1)
    mill.die("ann", started=[started])
    assert mill.state(started.task_id) == State.FAILED
    assert mill.queue.task(started.task_id)["error"]
    assert mill.state(prefetched.task_id) == State.PENDING


def test_repeated_report_changes_nothing(mill: Mill) -> None:
    first, second, third = three(mill)
    mill.die("ann", outbox=[first], started=[second])
    before = [mill.row(lease.task_id) for lease in (first, second, third)]
    assert mill.die("ann", outbox=[first], started=[second]) == Recorded(0, 0, 0)
    assert mill.die("ann", reporter="other") == Recorded(0, 0, 0)
    assert [mill.row(lease.task_id) for lease in (first, second, third)] == before


def test_death_of_an_instance_never_heard_of_is_recorded(mill: Mill) -> None:
    assert mill.die("ghost") == Recorded(0, 0, 0)
    mill.one()
    with pytest.raises(InstanceDead):
        mill.claim("ghost")
    with pytest.raises(InstanceDead):
        mill.beat("ghost")


def test_dead_instance_may_not_report_deaths(mill: Mill) -> None:
    mill.die("ann")
    with pytest.raises(InstanceDead):
        mill.die("bob", reporter="ann")


def test_foreign_store_settles_nothing(mill: Mill) -> None:
    lease, *_ = three(mill)
    assert mill.queue.report_death("another", Death("heir", "i-heir", "ann", "i-ann", (), ())) is None
    assert mill.told("ann", lease) == "ok"


def test_report_touches_no_leases_of_others(mill: Mill) -> None:
    mill.submit(2)
    mill.lease("ann")
    other = mill.lease("bob")
    assert mill.die("ann", outbox=[other], started=[other]) == Recorded(0, 0, 1)
    assert mill.told("bob", other) == "ok"


def test_success_of_a_dead_instances_lease_counts_late(mill: Mill) -> None:
    lease, *_ = three(mill)
    mill.die("ann", started=[lease])
    assert mill.succeed(lease) == Verdict.ACCEPTED_LATE


def test_dead_instance_may_still_report(mill: Mill) -> None:
    """A report settles by lease, whoever brings it."""
    lease, *_ = three(mill)
    mill.die("ann", outbox=[lease])
    verdicts, _, claimed = mill.queue.report([], "i-ann", mill.asking("ann"))
    assert (verdicts, claimed) == ([], None)


def test_lease_to_be_cancelled_is_cancelled_by_the_death(mill: Mill) -> None:
    lease, *_ = three(mill)
    mill.queue.cancel([lease.task_id])
    mill.die("ann", started=[lease])
    assert mill.state(lease.task_id) == State.CANCELLED


def test_adopted_lease_to_be_cancelled_is_ordered_from_the_adopter(mill: Mill) -> None:
    lease, *_ = three(mill)
    mill.queue.cancel([lease.task_id])
    mill.die("ann", outbox=[lease])
    assert mill.told("heir", lease) == "cancel"


def test_nonsense_in_the_lists_is_left_out(mill: Mill) -> None:
    lease, *_ = three(mill)
    death = Death("heir", "i-heir", "ann", "i-ann", ("nonsense", "1-zz"), ("nonsense", str(name(lease))))
    assert mill.queue.report_death(mill.store.store_id, death) == Recorded(0, 1, 2)
    ended = mill.ended(lease)
    assert ended is not None
    assert ended.how == End.DIED


def test_fresh_instance_of_the_same_worker_gets_work(mill: Mill) -> None:
    mill.one()
    mill.lease("ann")
    mill.die("ann")
    assert mill.queue.claim(Claim("ann", "i-ann-2", 1, 1)).tasks
