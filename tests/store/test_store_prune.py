"""The pruner: retention, batches, nothing left behind."""

from store_kit import DAY, HOUR, SECOND, Mill, name

from dispatcher.model import Progress, State, TaskFilter
from dispatcher.queue.retention import Due, prune


def finish_three(mill: Mill) -> tuple[int, int, int]:
    done, failed, cancelled = mill.submit(3, max_attempts=1, tags=("t",))
    first, second = mill.claim(max_tasks=2).tasks
    mill.succeed(first)
    mill.fail(second)
    mill.queue.cancel([cancelled])
    return done, failed, cancelled


def ids(mill: Mill) -> set[int]:
    return {task["task_id"] for task in mill.all_tasks()}


def test_each_end_has_its_retention(mill: Mill) -> None:
    done, failed, cancelled = finish_three(mill)
    mill.clock.forward(HOUR / SECOND)
    assert mill.prune(completed_ms=HOUR, failed_ms=2 * HOUR) == 0
    mill.clock.forward(1)
    assert mill.prune(completed_ms=HOUR, failed_ms=2 * HOUR) == 1
    assert ids(mill) == {failed, cancelled}
    mill.clock.forward(HOUR / SECOND)
    assert mill.prune(completed_ms=HOUR, failed_ms=2 * HOUR) == 2
    assert done not in ids(mill)
    assert mill.counts() == {}


def test_what_has_not_ended_stays(mill: Mill) -> None:
    waits, runs, later = mill.one(), mill.one(priority=1), mill.one(delay_ms=HOUR)
    mill.lease()
    mill.clock.forward(365 * DAY / SECOND)
    assert mill.prune() == 0
    assert ids(mill) == {waits, runs, later}
    assert mill.state(runs) == State.IN_PROGRESS


def test_more_than_a_batch_goes(mill: Mill) -> None:
    gone = mill.submit(450)
    kept = mill.submit(3)
    mill.queue.cancel(gone)
    mill.clock.forward(1)
    assert mill.prune() == 450
    assert ids(mill) == set(kept)
    assert mill.counts() == {("default", "noop"): {"pending": 3, "ready": 3}}


def test_a_batch_is_no_more_than_its_limit(mill: Mill) -> None:
    mill.queue.cancel(mill.submit(5))
    mill.clock.forward(1)
    lane = mill.store.write(lambda tx: tx.lane("default", "noop"))
    due = Due(State.CANCELLED, lane, mill.clock.now().wall)
    assert [mill.store.write(lambda tx: prune(tx, due, 3)) for _ in range(3)] == [3, 2, 0]


def test_everything_of_a_task_goes(mill: Mill) -> None:
    task_id = mill.one(tags=("t",), data='{"x": 1}')
    lease = mill.lease()
    mill.beat("ann", lease, said=Progress(name(lease), 1.0, 2.0, "half", "7"))
    mill.expire()
    mill.succeed(mill.lease())
    mill.clock.forward(1)
    assert mill.prune() == 1
    assert mill.queue.tasks(TaskFilter(tag="t"), None, 10) == []
    assert mill.queue.tasks(TaskFilter(ids=(task_id,)), None, 10) == []
    assert mill.ended(lease) is None
    assert mill.store.write(lambda tx: tx.last_end(task_id)) is None
    assert mill.succeed(lease) == "unknown"


def test_retried_task_is_not_pruned(mill: Mill) -> None:
    task_id = mill.one()
    mill.queue.cancel([task_id])
    mill.queue.retry([task_id])
    mill.clock.forward(DAY / SECOND)
    assert mill.prune() == 0
    assert mill.state(task_id) == State.PENDING
