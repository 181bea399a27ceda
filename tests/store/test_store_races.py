"""Two actors on one lease, in every order: what holds one after the other and with threads at once (I2, I3, I4, I6).

Every pair is run in both orders and then many times at once; whoever was first, the end is one of the allowed ones.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from store_kit import LEASE_S, ROUNDS, Later, Mill, held_up, name, race, until

from dispatcher.errors import KeyConflict
from dispatcher.model import End, Granted, State
from dispatcher.queue.report import Outcome, Verdict
from dispatcher.queue.submit import RequestName, Submission

Act = Callable[[Mill, Granted], object]


def complete(mill: Mill, lease: Granted) -> object:
    return mill.succeed(lease, '"result"')


def fail(mill: Mill, lease: Granted) -> object:
    return mill.fail(lease)


def release(mill: Mill, lease: Granted) -> object:
    return mill.give_back(lease)


def expire(mill: Mill, lease: Granted) -> object:
    return mill.reap()


def heartbeat(mill: Mill, lease: Granted) -> object:
    return mill.told("ann", lease)


def cancel(mill: Mill, lease: Granted) -> object:
    return mill.queue.cancel([lease.task_id])


def repeat_claim(mill: Mill, lease: Granted) -> object:
    number = mill._numbers["ann"]
    return [name(task) for task in mill.claim("ann", number=number).tasks]


def die(mill: Mill, lease: Granted) -> object:
    return mill.die("ann", started=[lease])


def claim_by_another(mill: Mill, lease: Granted) -> object:
    return mill.claim("bob").tasks


@dataclass(frozen=True)
class Pair:
    """Two acts on a lease whose time is over, and the states that may come of it."""

    first: Act
    second: Act
    allowed: frozenset[State]


def pair(first: Act, second: Act, *allowed: State) -> Pair:
    return Pair(first, second, frozenset(allowed))


PAIRS = [
    pair(complete, expire, State.COMPLETED),
    pair(complete, cancel, State.COMPLETED),
    pair(complete, die, State.COMPLETED),
    pair(complete, heartbeat, State.COMPLETED),
    pair(complete, repeat_claim, State.COMPLETED),
    pair(fail, expire, State.PENDING),
    pair(fail, cancel, State.CANCELLED),
    pair(fail, heartbeat, State.PENDING),
    pair(fail, die, State.PENDING),
    pair(release, expire, State.PENDING),
    pair(release, cancel, State.CANCELLED),
    pair(release, heartbeat, State.PENDING),
    pair(release, die, State.PENDING),
    pair(heartbeat, expire, State.IN_PROGRESS),
    pair(cancel, expire, State.CANCELLED),
    pair(repeat_claim, expire, State.IN_PROGRESS, State.PENDING),
    pair(die, expire, State.PENDING),
    pair(claim_by_another, expire, State.IN_PROGRESS, State.PENDING),
]
IDS = [f"{p.first.__name__}-{p.second.__name__}" for p in PAIRS]


def over(mill: Mill, **fields: object) -> Granted:
    """A lease that no reaper has ended yet although its time is over."""
    task_id = mill.one(priority=1, **fields)
    lease = mill.lease("ann")
    assert lease.task_id == task_id
    mill.clock.forward(LEASE_S)
    return lease


def check(mill: Mill, lease: Granted, allowed: frozenset[State]) -> None:
    row = mill.row(lease.task_id)
    assert row.state in allowed
    assert (row.state == State.IN_PROGRESS) == (row.lease_expires is not None), "I6: what is leased has an end"
    assert 0 <= row.attempts <= row.max_attempts
    ended = mill.ended(lease)
    live = row.state in (State.IN_PROGRESS, State.COMPLETED) and row.lease == lease.token
    assert live or ended is not None, "the lease left no trace"
    assert not (live and row.state == State.IN_PROGRESS and ended is not None), "a lease ends once"
    if row.state == State.COMPLETED:
        assert mill.result(lease.task_id) == '"result"'


@pytest.mark.parametrize("max_attempts", [3, 1])
@pytest.mark.parametrize("swapped", [False, True], ids=["as-named", "swapped"])
@pytest.mark.parametrize("p", PAIRS, ids=IDS)
def test_i3_one_after_the_other(mill: Mill, p: Pair, swapped: bool, max_attempts: int) -> None:
    lease = over(mill, max_attempts=max_attempts)
    for act in (p.second, p.first) if swapped else (p.first, p.second):
        if mill.store.write(lambda tx: tx.instance("i-ann").died_at) and act in (heartbeat, repeat_claim):
            continue
        act(mill, lease)
    may_fail = max_attempts == 1 and (
        State.PENDING in p.allowed or (p.second if swapped else p.first) in (fail, expire)
    )
    check(mill, lease, p.allowed | ({State.FAILED} if may_fail else set()))
    recount(mill)


@pytest.mark.parametrize("p", [p for p in PAIRS if die not in (p.first, p.second)],
                         ids=[i for i in IDS if "die" not in i])  # fmt: skip
def test_i3_at_once(mill: Mill, p: Pair) -> None:
    for _ in range(ROUNDS):
        lease = over(mill)
        race(lambda lease=lease: p.first(mill, lease), lambda lease=lease: p.second(mill, lease))
        check(mill, lease, p.allowed)
        mill.queue.cancel([lease.task_id])
        mill.fail(lease)
    recount(mill)


def recount(mill: Mill) -> None:
    states: dict[str, int] = {}
    for task in mill.all_tasks():
        states[task["status"]] = states.get(task["status"], 0) + 1
    kept = dict(mill.counts().get(("default", "noop"), {}))
    kept.pop("ready", None)
    assert kept == states


def test_cancel_then_expire_is_never_pending(mill: Mill) -> None:
    lease = over(mill)
    cancel(mill, lease)
    expire(mill, lease)
    assert mill.state(lease.task_id) == State.CANCELLED
    assert heartbeat(mill, lease) == "lost"
    assert complete(mill, lease) == Verdict.CANCELLED


def test_heartbeat_before_expiry_keeps_and_after_it_takes_back(mill: Mill) -> None:
    for first, second in ((heartbeat, expire), (expire, heartbeat)):
        lease = over(mill)
        first(mill, lease)
        second(mill, lease)
        row = mill.row(lease.task_id)
        assert (row.state, row.lease, row.attempts) == (State.IN_PROGRESS, lease.token, 1)
        mill.succeed(lease)


def test_i4_two_successes_at_once_leave_the_first(mill: Mill) -> None:
    """The late success of a lost lease against the success of the lease that followed."""
    for _ in range(ROUNDS):
        first = over(mill)
        mill.reap()
        second = mill.lease("bob")
        verdicts = race(lambda a=first: mill.succeed(a, '"first"'), lambda b=second: mill.succeed(b, '"second"'))
        winner = '"first"' if verdicts[0] == Verdict.ACCEPTED_LATE else '"second"'
        assert set(verdicts) in (
            {Verdict.ACCEPTED_LATE, Verdict.SUPERSEDED}, {Verdict.SUPERSEDED, Verdict.ACCEPTED},
        )  # fmt: skip
        assert mill.result(first.task_id) == winner


def test_i5_the_same_report_at_once_counts_once(mill: Mill) -> None:
    mill.one()
    lease = mill.lease()
    verdicts = race(*[lambda n=n: mill.succeed(lease, str(n)) for n in range(8)])
    assert sorted(verdicts) == [Verdict.ACCEPTED] + [Verdict.DUPLICATE] * 7
    assert mill.result(lease.task_id) == str(verdicts.index(Verdict.ACCEPTED))


def test_i2_claims_at_once_never_share_a_task(mill: Mill) -> None:
    mill.submit(200)
    answers = race(*[lambda w=f"w{n}": mill.claim(w, max_tasks=40).tasks for n in range(8)])
    ids = [task.task_id for tasks in answers for task in tasks]
    assert len(ids) == len(set(ids)) == 200


def test_repeats_of_a_claim_at_once_get_the_same_leases(mill: Mill) -> None:
    mill.submit(50)
    asked = mill.asking("ann", 5)
    answers = race(*[lambda: [name(task) for task in mill.queue.claim(asked).tasks] for _ in range(8)])
    assert all(sorted(answer) == sorted(answers[0]) for answer in answers)
    assert mill.counts()["default", "noop"]["in_progress"] == 5


def test_submits_of_a_key_at_once_make_one_task(mill: Mill) -> None:
    answers = race(*[lambda: mill.queue.submit([Submission("noop", "{}", key="k", digest=b"b")]) for _ in range(8)])
    assert len({ids[0] for ids in answers}) == 1
    assert len(mill.all_tasks()) == 1


def test_repeats_of_a_request_at_once_get_the_same_tasks(mill: Mill) -> None:
    tasks = [Submission("noop", "{}")] * 20
    answers = race(*[lambda: mill.queue.submitted(tasks, RequestName("request", b"digest")) for _ in range(8)])
    assert all(answer == answers[0] for answer in answers)
    assert len(mill.all_tasks()) == 20


def test_submits_that_share_a_transaction_are_each_answered_for_themselves(mill: Mill) -> None:
    keyed = [Submission("noop", "{}", key="k", digest=b"b")] * 2
    twins = [Submission("noop", "{}", unique_key="u")] * 3
    plain = [Submission("other", f"[{n}]", priority=n) for n in range(4)]
    queued = mill.store._writer._calls.qsize  # type: ignore[attr-defined]
    with held_up(mill.store):
        laters = [Later(lambda s=s: mill.queue.submitted([s])) for s in (*keyed, *twins, *plain)]
        until(lambda: queued() == len(laters))
    ids = [later.answer().ids[0] for later in laters]
    assert len(set(ids)) == 6
    assert ids[0] == ids[1]
    assert ids[2] == ids[3] == ids[4]
    assert sorted(later.answer().created[0] for later in laters[2:5]) == [False, False, True]
    assert {task["task_id"]: task["data"] for task in mill.all_tasks() if task["task_type"] == "other"} == {
        task_id: s.data for task_id, s in zip(ids[5:], plain, strict=True)
    }
    assert mill.counts()["default", "other"] == {"pending": 4, "ready": 4}


def test_a_conflict_among_submits_that_share_a_transaction_is_its_senders_alone(mill: Mill) -> None:
    digests = [b"one", b"other"]
    queued = mill.store._writer._calls.qsize  # type: ignore[attr-defined]
    with held_up(mill.store):
        at_odds = [Later(lambda d=d: mill.queue.submit([Submission("noop", "{}", key="k", digest=d)])) for d in digests]
        others = [Later(mill.one) for _ in range(3)]
        until(lambda: queued() == 5)
    assert len({later.answer() for later in others}) == 3
    until(lambda: all(later.done for later in at_odds))
    assert [type(later.error) for later in at_odds if later.error] == [KeyConflict]
    assert len(mill.all_tasks()) == 4


def test_retry_racing_with_a_late_success_is_one_or_the_other(mill: Mill) -> None:
    for _ in range(ROUNDS):
        lease = over(mill, max_attempts=1)
        mill.reap()
        verdict, retried = race(
            lambda lease=lease: mill.succeed(lease), lambda lease=lease: mill.queue.retry([lease.task_id])
        )
        assert retried == {lease.task_id: "retried"}
        assert verdict in (Verdict.ACCEPTED_LATE, Verdict.SUPERSEDED)
        assert mill.state(lease.task_id) == State.PENDING
        mill.queue.cancel([lease.task_id])


def test_edit_racing_with_a_claim(mill: Mill) -> None:
    for _ in range(ROUNDS):
        task_id = mill.one(data='"old"')
        edited, claimed = race(lambda i=task_id: mill.edit(i, {"data": '"new"'}), lambda: mill.claim("ann").tasks)
        (lease,) = claimed
        assert lease.data == ('"new"' if edited else '"old"')
        assert mill.report(Outcome(name(lease), End.COMPLETED, "1")) == [Verdict.ACCEPTED]
