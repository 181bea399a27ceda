"""Where several things happen at once: a delete with an end, take-backs together, many tasks in small steps."""

from typing import Any

from store_kit import Mill, name
from test_store_keys import check, keyed, limit

from dispatcher.model import End, Outcome
from dispatcher.queue import control
from dispatcher.queue.terms import Terms
from dispatcher.store.keys import STEP


def changed_most(mill: Mill, change: Any) -> int:
    """The most tasks that became ready or held in one write while something is done."""
    most = 0
    write = mill.store.write

    def counting(op: Any) -> Any:
        nonlocal most
        before = ready(mill)
        answer = write(op)
        most = max(most, abs(ready(mill) - before))
        return answer

    mill.store.write = counting  # type: ignore[method-assign]
    try:
        change()
    finally:
        mill.store.write = write  # type: ignore[method-assign]
    return most


def ready(mill: Mill) -> int:
    return sum(n.get("ready", 0) for n in mill.counts().values())


def test_a_task_cancelled_and_deleted_at_once_lets_the_next_one_in(mill: Mill) -> None:
    limit(mill, 1)
    first, second = keyed(mill, 2)
    assert mill.queue.remove(first, force=True) == "deleted"
    assert mill.row(second).ready
    check(mill, 1)


def test_a_task_deleted_in_the_transaction_of_its_end_lets_the_next_one_in(mill: Mill) -> None:
    """As when the report and the delete of two clients meet in one group commit."""
    limit(mill, 1)
    first, second = keyed(mill, 2)
    lease = mill.lease()

    def end_and_delete(tx: Any) -> None:
        tx.complete([Outcome(name(lease), End.COMPLETED, "1")])
        assert control.delete(tx, [first], Terms()) == {first: "deleted"}

    mill.store.write(end_and_delete)
    assert mill.row(second).ready
    check(mill, 1)


def test_leases_taken_back_together_keep_to_the_limit(mill: Mill) -> None:
    limit(mill, 2)
    keyed(mill, 2, max_attempts=1)
    leases = mill.claim(max_tasks=2).tasks
    mill.expire()
    keyed(mill, 1)
    mill.lease("bob")
    assert sorted(mill.beat("ann", *leases).leases.values()) == ["lost", "ok"]
    check(mill, 2)


def test_a_limit_that_changes_goes_through_many_tasks_in_small_steps(mill: Mill) -> None:
    for n in range(25):
        keyed(mill, 20, key=f"user:{n}")
    for most, expected in ((1, 25), (3, 75), (None, 500), (2, 50)):
        assert changed_most(mill, lambda most=most: limit(mill, most)) <= 2 * STEP
        assert ready(mill) == expected
    check(mill, 2)


def test_many_silent_leases_end_in_small_steps_in_one_pass(mill: Mill) -> None:
    mill.submit(250)
    mill.claim(max_tasks=250)
    mill.reaper.run_once(mill.clock.now())
    mill.clock.forward(1)
    mill.reaper.run_once(mill.clock.now())
    while mill.counts()[("default", "noop")].get("in_progress"):
        mill.clock.forward(2)
        commits = mill.store._writer.commits  # type: ignore[attr-defined]
        ended = mill.reaper.run_once(mill.clock.now())
    assert ended == 250
    assert mill.store._writer.commits - commits >= 3  # type: ignore[attr-defined]
