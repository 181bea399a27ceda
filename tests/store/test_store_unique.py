"""Unique tasks: a twin is found, also within one bulk, under races, and beside idempotency."""

import pytest
from store_kit import DAY, HOUR, ROUNDS, SECOND, Mill, race

from dispatcher.errors import KeyConflict
from dispatcher.model import State
from dispatcher.queue.submit import Submission, Submitted


def one(key: str | None = "k", **fields: object) -> Submission:
    return Submission("noop", "{}", unique_key=key, **fields)  # type: ignore[arg-type]


def submit(mill: Mill, *tasks: Submission) -> Submitted:
    return mill.queue.submitted(tasks)


def test_twin_is_the_answer_while_it_is_unfinished(mill: Mill) -> None:
    (first,), created = submit(mill, one())
    assert created == [True]
    assert submit(mill, one()) == ([first], [False])
    lease = mill.lease()
    assert submit(mill, one()) == ([first], [False])
    mill.succeed(lease)
    (second,), created = submit(mill, one())
    assert (second != first, created) == (True, [True])
    assert len(mill.all_tasks()) == 2


@pytest.mark.parametrize("end", [State.COMPLETED, State.FAILED, State.CANCELLED])
def test_every_end_frees_the_key(mill: Mill, end: State) -> None:
    (first,), _ = submit(mill, one(max_attempts=1))
    if end == State.CANCELLED:
        mill.queue.cancel([first])
    else:
        lease = mill.lease()
        mill.succeed(lease) if end == State.COMPLETED else mill.fail(lease)
    assert mill.state(first) == end
    assert submit(mill, one()).created == [True]


def test_a_retry_in_between_keeps_the_key(mill: Mill) -> None:
    (first,), _ = submit(mill, one())
    mill.fail(mill.lease())
    assert mill.state(first) == State.PENDING
    assert submit(mill, one()) == ([first], [False])


def test_period_counts_since_the_submit_whatever_became_of_the_twin(mill: Mill) -> None:
    (first,), _ = submit(mill, one(unique_for_ms=HOUR))
    mill.succeed(mill.lease())
    mill.clock.forward(3599)
    assert submit(mill, one(unique_for_ms=HOUR)) == ([first], [False])
    mill.clock.forward(1)
    (second,), created = submit(mill, one(unique_for_ms=HOUR))
    assert created == [True]
    mill.clock.forward(3599)
    assert submit(mill, one(unique_for_ms=HOUR)) == ([second], [False])


def test_who_submits_is_judged_by_its_own_terms(mill: Mill) -> None:
    (first,), _ = submit(mill, one())
    mill.clock.forward(10)
    (second,), created = submit(mill, one(unique_for_ms=5 * SECOND))
    assert (created, second != first) == ([True], True)
    assert submit(mill, one()) == ([second], [False])


def test_twins_within_one_bulk(mill: Mill) -> None:
    (old,), _ = submit(mill, one("old"))
    ids, created = submit(mill, one("a"), one("b"), one(None), one("a"), one("old"), one(None), one("a"))
    assert created == [True, True, True, False, False, True, False]
    assert ids[3] == ids[6] == ids[0]
    assert ids[4] == old
    assert len(set(ids)) == 5
    assert len(mill.all_tasks()) == 5


def test_a_thousand_twins_of_a_thousand(mill: Mill) -> None:
    tasks = [one(f"k{n}") for n in range(1000)]
    first = submit(mill, *tasks)
    assert submit(mill, *tasks[::-1]) == (first.ids[::-1], [False] * 1000)


def test_an_idempotent_repeat_is_not_a_duplicate(mill: Mill) -> None:
    named = Submission("noop", "{}", unique_key="k", key="first", digest=b"one")
    answer = submit(mill, named)
    assert submit(mill, named) == answer
    assert answer.created == [True]
    mill.succeed(mill.lease())
    assert submit(mill, named) == answer  # even when the key is free again


def test_the_repeat_of_a_duplicate_is_answered_like_it(mill: Mill) -> None:
    """Its answer was lost; the twin has ended meanwhile: asked again, it makes no task all the same."""
    (first,), _ = submit(mill, one())
    second = Submission("noop", "{}", unique_key="k", key="second", digest=b"two")
    assert submit(mill, second) == ([first], [False])
    mill.succeed(mill.lease())
    assert submit(mill, second) == ([first], [False])
    with pytest.raises(KeyConflict):
        submit(mill, second._replace(digest=b"other"))
    assert len(mill.all_tasks()) == 1


def test_key_goes_with_its_task(mill: Mill) -> None:
    submit(mill, one(unique_for_ms=10 * DAY))
    mill.succeed(mill.lease())
    mill.clock.forward(60)
    assert mill.prune() == 1
    assert submit(mill, one(unique_for_ms=10 * DAY)).created == [True]


def test_pruning_an_old_twin_leaves_the_key_to_the_new_one(mill: Mill) -> None:
    submit(mill, one())
    mill.succeed(mill.lease())
    (second,), _ = submit(mill, one())
    mill.clock.forward(60)
    assert mill.prune() == 1
    assert submit(mill, one()) == ([second], [False])


def test_a_submit_without_a_key_pays_nothing(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("an extra statement")

    ops = mill.store.write(type)
    for name in ("holders", "hold"):
        monkeypatch.setattr(ops, name, never)
    assert submit(mill, one(None), one(None)).created == [True, True]


# an operator's retry


def test_retry_is_refused_while_another_holds_the_key(mill: Mill) -> None:
    (first,), _ = submit(mill, one(max_attempts=1))
    mill.fail(mill.lease())
    (second,), _ = submit(mill, one())
    assert mill.queue.retry([first]) == {first: "not_unique"}
    assert mill.state(first) == State.FAILED
    mill.succeed(mill.lease())
    assert mill.queue.retry([first, second]) == {first: "retried", second: "not_unique"}
    assert submit(mill, one()) == ([first], [False])


def test_retried_task_holds_its_key_again(mill: Mill) -> None:
    (first,), _ = submit(mill, one())
    mill.succeed(mill.lease())
    assert mill.queue.retry([first]) == {first: "retried"}
    assert submit(mill, one()) == ([first], [False])


def test_retry_beside_tasks_without_a_key(mill: Mill) -> None:
    plain = mill.one()
    (named,), _ = submit(mill, one())
    for lease in mill.claim(max_tasks=2).tasks:
        mill.succeed(lease)
    assert mill.queue.retry([plain, named, 99]) == {plain: "retried", named: "retried", 99: "not_found"}


# races


def test_eight_submits_at_once_make_one_task(mill: Mill) -> None:
    for n in range(ROUNDS):
        answers = race(*[lambda n=n: submit(mill, one(f"k{n}")) for _ in range(8)])
        assert len({answer.ids[0] for answer in answers}) == 1
        assert sorted(answer.created[0] for answer in answers) == [False] * 7 + [True]
    assert len(mill.all_tasks()) == ROUNDS


def test_submit_against_the_end_of_its_twin(mill: Mill) -> None:
    """Either it came first and gets the twin, or the twin was over and it is new: never two unfinished ones."""
    submit(mill, one())
    for _ in range(ROUNDS):
        lease = mill.lease()
        answer, _ = race(lambda: submit(mill, one()), lambda lease=lease: mill.succeed(lease))
        assert (answer.ids[0] == lease.task_id) == (answer.created == [False])
        if answer.created == [False]:
            submit(mill, one())
        assert len([task for task in mill.all_tasks() if task["status"] == "pending"]) == 1


def test_submit_against_the_retry_of_a_former_twin(mill: Mill) -> None:
    (first,), _ = submit(mill, one())
    for _ in range(ROUNDS):
        for lease in mill.claim(max_tasks=5).tasks:
            mill.succeed(lease)
        answer, verdicts = race(lambda: submit(mill, one()), lambda: mill.queue.retry([first]))
        assert (verdicts[first] == "retried") == (answer == ([first], [False]))
        assert len([task for task in mill.all_tasks() if task["status"] == "pending"]) == 1
