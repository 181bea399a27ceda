"""Attempts with two dispatchers on one database: limits end once, blame is heard of, what types want is shared."""

from store_kit import ROUNDS, Mill, name, race
from test_store_attempts import poisoned, wants
from test_store_blame import fail_here_alone
from test_store_deadlines import NOBODY, OVER, enforce, kept, running, told
from test_store_races import recount

from dispatcher.model import End, State
from dispatcher.queue.report import Outcome, Verdict


def test_two_dispatchers_end_the_same_limits_once(mills: list[Mill]) -> None:
    one, other = mills
    for _ in range(ROUNDS):
        ids = one.submit(10, options=wants(wait_seconds=60))
        one.clock.forward(60)
        seen = race(lambda: enforce(one), lambda: enforce(other))
        assert sum(seen) == 10
        for task_id in ids:
            assert told(other, task_id) == (State.FAILED, NOBODY)
            assert len(one.queue.task(task_id)["ended"]) == 1
    recount(one)


def test_total_limit_here_against_success_there(mills: list[Mill]) -> None:
    one, other = mills
    for _ in range(ROUNDS):
        lease = running(one)
        _, verdict, _ = race(
            lambda: enforce(one), lambda lease=lease: other.succeed(lease), lambda: enforce(other)
        )  # fmt: skip
        assert verdict == Verdict.ACCEPTED
        assert one.state(lease.task_id) == State.COMPLETED
    recount(one)


def test_total_limit_here_against_failure_there(mills: list[Mill]) -> None:
    one, other = mills
    for _ in range(ROUNDS):
        lease = running(one, max_attempts=9)
        race(lambda: enforce(one), lambda lease=lease: other.fail(lease))
        enforce(one)  # a failure that came first left the task waiting
        state, error = told(one, lease.task_id)
        assert state == State.FAILED
        assert (error or "").startswith(OVER)
    one.clock.forward(60)
    enforce(other)
    assert kept(one) == 0
    recount(one)


def test_wait_limit_here_against_claim_there(mills: list[Mill]) -> None:
    one, other = mills
    for _ in range(ROUNDS):
        task_id = one.one(options=wants(wait_seconds=60))
        one.clock.forward(60)
        _, claimed = race(lambda: enforce(one), lambda: other.claim().tasks)
        enforce(other)
        assert told(one, task_id) == ((State.IN_PROGRESS, None) if claimed else (State.FAILED, NOBODY))
        for lease in claimed:
            other.succeed(lease)
    recount(one)


def test_poison_here_against_a_late_success_there(mills: list[Mill]) -> None:
    one, other = mills
    for _ in range(10):
        silent, last = poisoned(one)
        race(
            lambda last=last: one.report(Outcome(name(last), End.FAILED, crashed=True)),
            lambda silent=silent: other.succeed(silent, '"late"'),
        )
        assert one.state(silent.task_id) == State.COMPLETED
    recount(one)


def test_blame_at_one_is_heard_of_at_the_other(mills: list[Mill]) -> None:
    one, other = mills
    fail_here_alone(one)
    enforce(other)
    other.submit(1)
    assert other.claim("bad").tasks == []
    other.queue.forgive("bad", None)
    enforce(one)
    assert len(one.claim("bad").tasks) == 1


def test_what_types_want_is_known_at_the_other(mills: list[Mill]) -> None:
    one, other = mills
    one.beat("ann", types={"noop": None}, defaults={"noop": '{"max_attempts": 7}'})
    enforce(other)
    assert other.row(other.one()).max_attempts == 7
