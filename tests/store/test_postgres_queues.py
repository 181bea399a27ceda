"""Limits of queues and keys with several dispatchers on one database."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from store_kit import PATIENCE, SECOND, FakeClock, Later, Mill, race, until, waiting
from test_store_attempts import wants

from dispatcher.errors import BacklogFull
from dispatcher.queue import queues
from dispatcher.queue.report import Verdict

ROUNDS = 12


def configure(mill: Mill, **changes: Any) -> None:
    queues.configure(mill.queue, "default", changes)


@contextmanager
def holding(mill: Mill, ids: list[int]) -> Iterator[None]:
    """A transaction of this dispatcher has locked tasks, and changes nothing."""
    reached, go = threading.Event(), threading.Event()

    def stand(tx: Any) -> None:
        tx.tasks(ids)
        reached.set()
        assert go.wait(PATIENCE)

    looker = Later(lambda: mill.store.write(stand))
    assert reached.wait(PATIENCE)
    try:
        yield
    finally:
        go.set()
        looker.answer()


def running(mill: Mill) -> int:
    return sum(n.get("in_progress", 0) for n in mill.counts().values())


def test_race_of_pause_and_claims_elsewhere(mills: list[Mill], clock: FakeClock) -> None:
    """After the pause's answer no claim gets a task, whatever another dispatcher remembers of the settings."""
    one, other = mills
    one.submit(600)
    for n in range(ROUNDS):
        paused: list[int] = []

        def pause(paused: list[int] = paused) -> None:
            configure(one, paused=True)
            paused.append(running(one))

        calls = [lambda w=w, n=n: [other.claim(f"w{w}-{n}-{i}", 2) for i in range(5)] for w in range(4)]
        race(pause, *calls)
        assert paused == [running(one)]
        configure(one, paused=False)
        clock.forward(1)  # a resume is seen within a second


def test_a_dispatcher_that_knows_old_settings_cannot_commit(mills: list[Mill]) -> None:
    """On a clock that stands still nothing is looked at anew by time."""
    one, other = mills
    one.submit(20)
    assert len(other.claim("ann", 1).tasks) == 1
    configure(one, paused=True)
    assert not other.claim("ann", 5).tasks
    other.submit(1)
    assert running(one) == 1


def test_limit_under_eight_claimers_at_two(mills: list[Mill], clock: FakeClock) -> None:
    mills[0].submit(200)
    configure(mills[0], max_running=5)
    leases: list[Any] = []
    for n in range(ROUNDS):
        answers = race(*[lambda w=w: mills[w % 2].claim(f"w{w}", 2).tasks for w in range(8)])
        leases += [task for tasks in answers for task in tasks]
        assert running(mills[0]) == len(leases) == 5, n
        calls = [lambda lease=lease, m=m: m.succeed(lease) for lease, m in zip(leases[:4], mills * 2, strict=True)]
        race(*calls)
        del leases[:4]


def test_rate_under_two_dispatchers(mills: list[Mill], clock: FakeClock) -> None:
    mills[0].submit(300)
    configure(mills[0], rate_count=10, rate_ms=SECOND)
    for _ in range(ROUNDS):
        answers = race(*[lambda w=w: mills[w % 2].claim(f"w{w}", 3).tasks for w in range(6)])
        assert sum(map(len, answers)) == 5
        clock.forward(0.5)


def test_key_limit_with_ends_and_claims_at_two(mills: list[Mill], clock: FakeClock) -> None:
    one, other = mills
    configure(one, key_running=2)
    clock.forward(1)
    one.submit(40, limit_key="user:42")
    other.submit(40, limit_key="user:42")
    held = list(one.claim("first", 5).tasks)
    for n in range(ROUNDS):
        ends = [lambda lease=lease, m=m: m.succeed(lease) for lease, m in zip(held, mills, strict=True)]
        claims = [lambda w=w: mills[w % 2].claim(f"w{w}", 3).tasks for w in range(4)]
        answers = race(*ends, *claims)
        held = [task for tasks in answers for task in (() if isinstance(tasks, Verdict) else tasks)]
        held += other.claim("rest", 5).tasks
        assert len(held) == running(one) == 2, n


def test_rate_of_a_key_with_claims_ends_and_schedulers_at_two(mills: list[Mill], clock: FakeClock) -> None:
    """Whoever lets in, starts, or gives back: both together start what the rate allows, no more and no less."""
    one, other = mills
    configure(one, key_rate_count=10, key_rate_ms=SECOND)
    clock.forward(1)
    for mill in mills:
        mill.submit(30, limit_key="user:42")
    held: list[Any] = []
    for n in range(ROUNDS):
        ends = [lambda lease=lease, m=m: m.give_back(lease) for lease, m in zip(held, mills * 3, strict=False)]
        claims = [lambda w=w: mills[w % 2].claim(f"w{w}", 3).tasks for w in range(4)]
        answers = race(*claims, *ends, *[mill.become_ready for mill in mills])
        held = [task for tasks in answers[:4] for task in tasks]
        one.become_ready()
        other.queue.look_around()
        held += other.claim("rest", 9).tasks
        assert len(held) == running(one) == (5 if n == 0 else 2), n
        clock.forward(0.2)


def test_a_rate_of_keys_holds_at_once_elsewhere(mills: list[Mill], clock: FakeClock) -> None:
    """On a clock that stands still nothing is looked at anew by time."""
    one, other = mills
    other.submit(20, limit_key="user:42")
    assert len(other.claim("ann", 2).tasks) == 2
    configure(one, key_rate_count=10, key_rate_ms=60 * SECOND)
    assert len(other.claim("ann", 9).tasks) == 1
    other.submit(3, limit_key="user:42")
    assert not one.claim("bob", 9).tasks
    clock.forward(6)
    assert [mill.become_ready() for mill in mills] == [1, 0]
    assert len(race(*[lambda m=m: m.claim("eve", 5).tasks for m in mills])[0]) <= 1
    assert running(one) == 4


def test_different_keys_at_two_dispatchers_do_not_stop_each_other(mills: list[Mill], clock: FakeClock) -> None:
    configure(mills[0], key_running=1)
    clock.forward(1)
    for _ in range(ROUNDS):
        race(*[lambda m=m: m.submit(5, limit_key="a") + m.submit(5, limit_key="b") for m in mills])
    done = 0
    while tasks := mills[0].claim("ann", 9).tasks:
        assert len(tasks) == 2
        race(*[lambda t=t, m=m: m.succeed(t) for t, m in zip(tasks, mills, strict=True)])
        done += 2
    assert done == 2 * 2 * 5 * ROUNDS


def test_backlog_limit_at_two(mills: list[Mill]) -> None:
    configure(mills[0], max_waiting=20)

    def submit(mill: Mill) -> int:
        try:
            return len(mill.submit(3))
        except BacklogFull:
            return 0

    assert sum(race(*[lambda m=mills[n % 2]: submit(m) for n in range(10)])) == 18


def test_a_resume_and_a_free_slot_elsewhere_are_found_by_a_look_around(mills: list[Mill]) -> None:
    one, other = mills
    one.submit(2)
    configure(one, paused=True)
    later = waiting(other, "bob")
    configure(one, paused=False, max_running=1)
    other.queue.look_around()
    (lease,) = later.answer().tasks
    later = waiting(one, "ann")
    other.succeed(lease)
    one.queue.look_around()
    assert len(later.answer().tasks) == 1


def test_a_held_task_that_another_dispatcher_only_looks_at_is_let_in(
    mills: list[Mill], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passed over, it would be held for ever: who looks at it settles nothing."""
    one, other = mills
    configure(one, key_running=1)
    clock.forward(1)
    _, second = one.submit(2, limit_key="user:42")
    lease = one.lease()
    session, begun = one.store._writer._session, []  # type: ignore[attr-defined]
    begin = session.begin
    monkeypatch.setattr(session, "begin", lambda: (begun.append(1), begin()))
    with holding(other, [second]):
        ended = Later(lambda: one.succeed(lease))
        until(lambda: len(begun) > 1 or ended.done)
    assert ended.answer() == Verdict.ACCEPTED
    assert one.row(second).ready


def test_limits_of_time_and_edits_do_not_wait_for_each_other(mills: list[Mill], clock: FakeClock) -> None:
    """An edit locks the task and then comes for its limit: whoever judges limits must not do it the other way round."""
    one, other = mills
    (task_id,) = one.submit(1, options=wants(wait_seconds=60))
    clock.forward(60)
    with holding(other, [task_id]):
        assert one.queue.enforce_deadlines(25) == 0
    assert one.queue.enforce_deadlines(25) == 1
