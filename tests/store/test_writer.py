"""The writer by itself, over a session that is only a list: group commit, isolation, failure, end (I1)."""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from store_kit import PATIENCE, Later, until

from dispatcher.errors import StorageFull, Unavailable
from dispatcher.store.writer import MAX_GROUP, PAUSES_S, GroupFailed, RunAgain, Writer


class ListSession:
    """Keeps what operations append; `gate` holds a COMMIT up, `failing` lets it fail."""

    def __init__(self) -> None:
        self.durable: list[Any] = []
        self.groups: list[int] = []
        self.pending: list[Any] = []
        self.gate = threading.Event()
        self.gate.set()
        self.committing = threading.Event()
        self.failing: Exception | None = None
        self.chances = 0  # how many commits fail by chance
        self.ended: list[int] = []
        self.rolled_back = 0
        self.closed = False

    def begin(self) -> None:
        self.pending = []
        self.ended = []

    def attempt(self, op: Callable[[Any], Any]) -> Any:
        mark = len(self.pending)
        try:
            return op(self.pending)
        except BaseException:
            del self.pending[mark:]
            raise

    def commit(self) -> None:
        self.committing.set()
        assert self.gate.wait(PATIENCE)
        if self.chances:
            self.chances -= 1
            raise RunAgain(Unavailable("by chance"))
        if self.failing:
            raise GroupFailed(self.failing)
        self.durable += self.pending
        self.groups.append(len(self.pending))

    def rollback(self) -> None:
        self.rolled_back += 1

    def finished(self) -> list[int]:
        return self.ended

    def ends(self) -> dict[str, int]:
        return {"completed": len(self.ended)} if self.ended else {}

    def close(self) -> None:
        self.closed = True


class Promise:
    """What a hook promised to those who wait."""

    def __init__(self) -> None:
        self.settled: list[object] = []
        self.undone = 0

    def settle(self, failure: object) -> None:
        self.settled.append(failure)

    def undo(self) -> None:
        self.undone += 1


@pytest.fixture
def session() -> ListSession:
    return ListSession()


@pytest.fixture
def writer(session: ListSession) -> Iterator[Writer[Any]]:
    made: Writer[Any] = Writer(session)
    yield made
    session.gate.set()
    made.close()


def adding(writer: Writer[Any], *values: Any) -> list[Later]:
    return [Later(lambda v=v: writer.run(lambda tx: (tx.append(v), v)[1])) for v in values]


def queued(writer: Writer[Any], n: int) -> None:
    until(lambda: writer._calls.qsize() == n)


def test_i1_nobody_is_answered_before_the_commit(writer: Writer[Any], session: ListSession) -> None:
    session.gate.clear()
    (later,) = adding(writer, "a")
    assert session.committing.wait(PATIENCE)
    assert not later.done
    assert session.durable == []
    session.gate.set()
    assert later.answer() == "a"
    assert session.durable == ["a"]


def test_what_gathers_during_a_commit_shares_the_next(writer: Writer[Any], session: ListSession) -> None:
    session.gate.clear()
    (first,) = adding(writer, "first")
    assert session.committing.wait(PATIENCE)
    rest = adding(writer, *range(20))
    queued(writer, 20)
    session.gate.set()
    assert first.answer() == "first"
    assert sorted(later.answer() for later in rest) == list(range(20))
    assert session.groups == [1, 20]
    assert writer.commits == 2


def test_a_group_has_its_limit(writer: Writer[Any], session: ListSession) -> None:
    session.gate.clear()
    adding(writer, "first")
    assert session.committing.wait(PATIENCE)
    rest = adding(writer, *range(MAX_GROUP + 3))
    queued(writer, MAX_GROUP + 3)
    session.gate.set()
    for later in rest:
        later.answer()
    assert session.groups == [1, MAX_GROUP, 3]


def test_operation_that_raises_harms_nobody_in_its_group(writer: Writer[Any], session: ListSession) -> None:
    def bad(tx: Any) -> None:
        tx.append("half")
        raise KeyError("mine")

    session.gate.clear()
    adding(writer, "first")
    assert session.committing.wait(PATIENCE)
    good = adding(writer, 1, 2)
    queued(writer, 2)
    failing = Later(lambda: writer.run(bad))
    queued(writer, 3)
    more = adding(writer, 3)
    queued(writer, 4)
    session.gate.set()
    assert [later.answer() for later in (*good, *more)] == [1, 2, 3]
    with pytest.raises(KeyError, match="mine"):
        failing.answer()
    assert sorted(session.durable[1:]) == [1, 2, 3]


def doubled(tx: Any, asked: Sequence[int]) -> list[int]:
    """Appends one list for all that are asked together; refuses 13."""
    tx.append(list(asked))
    if 13 in asked:
        raise ValueError("unlucky")
    return [2 * value for value in asked]


def together(writer: Writer[Any], values: Sequence[int]) -> list[Later]:
    return [Later(lambda v=v: writer.run_together(doubled, v)) for v in values]


def test_what_may_be_done_together_is_and_each_has_its_answer(writer: Writer[Any], session: ListSession) -> None:
    session.gate.clear()
    adding(writer, "first")
    assert session.committing.wait(PATIENCE)
    asked = [5, 6, 7]
    laters = together(writer, asked)
    queued(writer, 3)
    adding(writer, "else")
    queued(writer, 4)
    session.gate.set()
    assert [later.answer() for later in laters] == [10, 12, 14]
    first, alone, at_once = session.durable
    assert [first, alone] == ["first", "else"]
    assert sorted(at_once) == asked
    assert session.groups == [1, 2]


def test_of_those_together_one_that_raises_harms_no_other(writer: Writer[Any], session: ListSession) -> None:
    session.gate.clear()
    adding(writer, "first")
    assert session.committing.wait(PATIENCE)
    good, bad = together(writer, [1, 2]), together(writer, [13])
    queued(writer, 3)
    session.gate.set()
    assert [later.answer() for later in good] == [2, 4]
    with pytest.raises(ValueError, match="unlucky"):
        bad[0].answer()
    assert sorted(session.durable[1:]) == [[1], [2]]


def test_those_together_are_asked_anew_when_the_group_runs_again(writer: Writer[Any], session: ListSession) -> None:
    session.gate.clear()
    session.chances = 1
    laters = together(writer, [1])
    assert session.committing.wait(PATIENCE)
    laters += together(writer, [2, 3])
    queued(writer, 2)
    session.gate.set()
    assert [later.answer() for later in laters] == [2, 4, 6]
    assert session.rolled_back == 1
    assert session.durable[0] == [1]
    assert sorted(session.durable[1]) == [2, 3]


def test_failed_commit_reaches_all_and_the_next_works(writer: Writer[Any], session: ListSession) -> None:
    session.gate.clear()
    session.failing = StorageFull()
    adding(writer, "first")
    assert session.committing.wait(PATIENCE)
    rest = adding(writer, 1, 2, 3)
    queued(writer, 3)
    session.gate.set()
    for later in rest:
        with pytest.raises(StorageFull):
            later.answer()
    assert session.durable == []
    assert session.rolled_back == 2
    session.failing = None
    assert adding(writer, "next")[0].answer() == "next"
    assert session.durable == ["next"]


def test_group_that_cannot_begin_fails_whole(
    writer: Writer[Any], session: ListSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise GroupFailed(Unavailable("away"))

    with monkeypatch.context() as patch:
        patch.setattr(session, "begin", refuse)
        with pytest.raises(Unavailable, match="away"):
            writer.run(lambda tx: None)
    assert writer.run(lambda tx: 7) == 7


def test_hook_runs_inside_the_transaction_and_is_settled_after_it(writer: Writer[Any], session: ListSession) -> None:
    promise = Promise()
    settled = promise.settled

    def serve(tx: Any) -> Promise:
        tx.append("served")
        return promise

    writer.before_commit = serve
    writer.run(lambda tx: tx.append("op"))
    until(lambda: settled == [None])
    assert session.durable == ["op", "served"]
    session.failing = StorageFull()
    with pytest.raises(StorageFull):
        writer.run(lambda tx: tx.append("lost"))
    until(lambda: settled == [None, session.failing])


def test_group_that_failed_by_chance_runs_again_and_nobody_hears_of_it(
    writer: Writer[Any], session: ListSession
) -> None:
    promises: list[Promise] = []
    writer.before_commit = lambda tx: promises.append(Promise()) or promises[-1]
    session.chances = 3
    assert writer.run(lambda tx: (tx.append("op"), "answer")[1]) == "answer"
    assert session.durable == ["op"]
    assert session.rolled_back == 3
    until(lambda: promises[-1].settled)
    assert [(promise.settled, promise.undone) for promise in promises] == [([], 1)] * 3 + [([None], 0)]
    assert writer.healthy


def test_chance_has_an_end(writer: Writer[Any], session: ListSession) -> None:
    session.chances = len(PAUSES_S) + 1
    with pytest.raises(Unavailable, match="by chance"):
        writer.run(lambda tx: tx.append("op"))
    assert not writer.healthy
    writer.run(lambda tx: tx.append("next"))
    assert session.durable == ["next"]


def test_error_of_an_earlier_run_is_forgotten(writer: Writer[Any], session: ListSession) -> None:
    session.chances = 1
    calls: list[int] = []

    def op(tx: Any) -> int:
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError
        return 7

    assert writer.run(op) == 7


def test_ends_are_told_after_a_commit_only(writer: Writer[Any], session: ListSession) -> None:
    told: list[list[int]] = []
    writer.after_commit = told.append
    writer.run(lambda tx: session.ended.append(7))
    until(lambda: told == [[7]])
    session.failing = StorageFull()
    with pytest.raises(StorageFull):
        writer.run(lambda tx: session.ended.append(8))
    session.failing = None
    writer.run(lambda tx: None)
    assert told == [[7]]


@pytest.mark.parametrize("hook", ["before_commit", "after_commit", "settle"])
def test_hook_that_raises_harms_nobody(writer: Writer[Any], session: ListSession, hook: str) -> None:
    def broken(*_: object) -> Any:
        raise ZeroDivisionError

    if hook == "settle":
        promise = Promise()
        promise.settle = broken  # type: ignore[method-assign]
        writer.before_commit = lambda tx: promise
    else:
        setattr(writer, hook, broken)
    for n in range(3):
        assert writer.run(lambda tx, n=n: (session.ended.append(n), n)[1]) == n
    assert writer.commits == 3


def test_close_finishes_what_was_accepted_and_refuses_the_rest(session: ListSession) -> None:
    writer: Writer[Any] = Writer(session)
    session.gate.clear()
    accepted = adding(writer, 1)
    assert session.committing.wait(PATIENCE)
    accepted += adding(writer, 2, 3)
    queued(writer, 2)
    closing = Later(writer.close)
    until(lambda: writer._stopped)
    with pytest.raises(Unavailable, match="stopping"):
        writer.run(lambda tx: None)
    session.gate.set()
    closing.answer()
    assert sorted(later.answer() for later in accepted) == [1, 2, 3]
    assert session.closed
    writer.close()


def test_close_under_fire_leaves_nobody_hanging() -> None:
    for _ in range(20):
        session = ListSession()
        writer: Writer[Any] = Writer(session)

        def hammer(writer: Writer[Any] = writer) -> int:
            for done in itertools.count():
                try:
                    writer.run(lambda tx: tx.append(1))
                except Unavailable:
                    return done
            raise AssertionError

        hammers = [Later(hammer) for _ in range(4)]
        until(lambda session=session: session.durable)
        writer.close()
        assert sum(later.answer() for later in hammers) == len(session.durable)
