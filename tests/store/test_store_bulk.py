"""Bulk control: by ids and by filter, dry runs, resumed; edit and delete of one task; who meets whom on the way."""

import hashlib
from collections.abc import Iterable
from typing import Any

import pytest
from store_kit import HOUR, ROUNDS, SECOND, Mill, name, race

from dispatcher.errors import Invalid, NotFound, NotWaiting
from dispatcher.model import State, TaskFilter
from dispatcher.queue import bulk
from dispatcher.queue.bulk import Action, Done, Order
from dispatcher.queue.control import Edit
from dispatcher.queue.pace import STEP_BYTES, Pace
from dispatcher.queue.report import Verdict


def act(mill: Mill, action: str, dry_run: bool = False, after: int = 0, patience: float = 60.0, **wanted: Any) -> Done:
    return bulk.run(mill.queue, Order(Action(action), TaskFilter(**wanted), dry_run, after), patience)


def states(mill: Mill, ids: Iterable[int]) -> list[State]:
    return [mill.state(task_id) for task_id in ids]


def test_cancel_by_filter_takes_what_has_not_ended(mill: Mill) -> None:
    done = mill.submit(2)
    for lease in mill.claim(max_tasks=2).tasks:
        mill.succeed(lease)
    running = mill.one()
    lease = mill.lease()
    waits, later, other = mill.one(), mill.one(delay_ms=HOUR), mill.one(queue="other")
    told = act(mill, "cancel", queue="default")
    assert (told.matched, told.changed, told.cursor) == (3, 3, None)
    assert told.verdicts == {"cancelled": 2, "cancel_requested": 1}
    assert sorted(told.sample) == [running, waits, later]
    assert states(mill, [waits, later]) == [State.CANCELLED] * 2
    assert states(mill, [*done, other]) == [State.COMPLETED] * 2 + [State.PENDING]
    assert mill.beat("ann", lease).leases[str(name(lease))] == "cancel"


def test_retry_by_filter_leaves_alone_what_has_completed(mill: Mill) -> None:
    done, failed, cancelled = mill.submit(1), mill.submit(2, "bad", max_attempts=1), mill.submit(1, "never")
    mill.queue.cancel(cancelled)
    for lease in mill.claim(max_tasks=10).tasks:
        mill.fail(lease) if lease.task_id in failed else mill.succeed(lease)
    told = act(mill, "retry", queue="default")
    assert (told.matched, told.changed) == (3, 3)
    assert states(mill, [*failed, *cancelled]) == [State.PENDING] * 3
    assert states(mill, done) == [State.COMPLETED]
    assert act(mill, "retry", state=State.COMPLETED).verdicts == {"retried": 1}
    assert mill.counts()[("default", "noop")] == {"pending": 1, "ready": 1}


def test_delete_by_filter(mill: Mill) -> None:
    gone, kept = mill.submit(3, "old", tags=("t",), key=None), mill.one()
    mill.queue.cancel(gone[:2])
    told = act(mill, "delete", task_type="old")
    assert told.verdicts == {"deleted": 2}
    assert {task["task_id"] for task in mill.all_tasks()} == {gone[2], kept}
    assert mill.queue.tasks(TaskFilter(tag="t", ids=tuple(gone[:2])), None, 10) == []
    assert mill.counts() == {
        ("default", "old"): {"pending": 1, "ready": 1}, ("default", "noop"): {"pending": 1, "ready": 1},
    }  # fmt: skip


@pytest.mark.parametrize(("wanted", "found"), [
    ({"tag": "red"}, [0, 1]), ({"task_type": "b"}, [1, 3]), ({"queue": "q"}, [2, 3]),
    ({"tag": "red", "task_type": "b"}, [1]), ({"tag": "none"}, []), ({"state": State.PENDING}, [0, 1, 2, 3]),
])  # fmt: skip
def test_filters_and_dry_run(mill: Mill, wanted: dict[str, Any], found: list[int]) -> None:
    ids = [mill.one(tags=("red",)), mill.one(task_type="b", tags=("red", "blue"))]
    ids += [mill.one(queue="q"), mill.one(queue="q", task_type="b")]
    told = act(mill, "cancel", dry_run=True, **wanted)
    assert (told.matched, told.changed, told.sample) == (len(found), 0, [ids[n] for n in found])
    assert states(mill, ids) == [State.PENDING] * 4, "a dry run changes nothing"
    assert act(mill, "cancel", **wanted).changed == len(found)
    assert [n for n, task_id in enumerate(ids) if mill.state(task_id) == State.CANCELLED] == found


def test_ages_count_from_the_end_or_else_from_the_submit(mill: Mill) -> None:
    old, ended = mill.one(delay_ms=9 * HOUR), mill.one()
    mill.clock.forward(2 * HOUR / SECOND)
    mill.queue.cancel([ended])
    young = mill.one()
    wall = mill.clock.now().wall
    assert act(mill, "cancel", dry_run=True, before=wall - HOUR).sample == [old]
    assert act(mill, "cancel", dry_run=True, since=wall - HOUR).sample == [young]
    assert act(mill, "delete", before=wall - HOUR).matched == 0
    assert act(mill, "delete", since=wall - HOUR).verdicts == {"deleted": 1}


@pytest.mark.parametrize(("action", "state"), [
    ("cancel", State.COMPLETED), ("retry", State.PENDING), ("delete", State.IN_PROGRESS),
])  # fmt: skip
def test_a_status_that_cannot_be_changed_is_refused(mill: Mill, action: str, state: State) -> None:
    with pytest.raises(Invalid, match=r"filter\.status"):
        act(mill, action, state=state)


def test_by_ids_every_one_gets_its_verdict(mill: Mill) -> None:
    waits, done = mill.submit(2)
    mill.queue.cancel([done])
    assert act(mill, "retry", ids=(waits, done, 4711)).each == {
        waits: "not_final", done: "retried", 4711: "not_found",
    }  # fmt: skip
    mill.queue.cancel([done])
    told = act(mill, "delete", ids=(waits, done, 4711))
    assert told.each == {waits: "not_final", done: "deleted", 4711: "not_found"}
    assert (told.matched, told.changed) == (2, 1)
    assert act(mill, "cancel", dry_run=True, ids=(waits, 4711)).sample == [waits]


def test_an_action_is_taken_up_where_it_was_broken_off(mill: Mill) -> None:
    ids = mill.submit(500)
    first = act(mill, "cancel", queue="default", patience=-1.0)
    assert 0 < first.changed < 500
    assert first.cursor == max(i for i in ids if mill.state(i) == State.CANCELLED)
    rest = act(mill, "cancel", queue="default", after=first.cursor)
    assert (first.changed + rest.changed, rest.cursor) == (500, None)
    assert act(mill, "cancel", queue="default").matched == 0, "or asked for once more"


def test_one_write_touches_no_more_than_a_step(mill: Mill) -> None:
    """Two hundred tasks may carry two hundred mebibytes: the batch stops before."""
    text = '{"x": "%s"}' % ("y" * (STEP_BYTES // 4))
    ids = [mill.one(data=text) for _ in range(9)]
    mill.queue.cancel(ids)
    seen: list[int] = []
    delete = mill.queue.store.write

    def counted(op: Any) -> Any:
        answer = delete(op)
        seen.append(len(answer.verdicts)) if isinstance(answer, bulk.Batch) else None
        return answer

    mill.store.write = counted  # type: ignore[method-assign]
    assert act(mill, "delete", ids=tuple(ids)).verdicts == {"deleted": 9}
    assert seen == [3, 3, 3]


def test_writes_grow_while_they_are_short_and_leave_a_pause(mill: Mill) -> None:
    pauses: list[float] = []
    pace = Pace(mill.store, pauses.append)
    for _ in range(3):
        pace.write(lambda tx: None)
    assert pace.size == 200
    assert len(pauses) == 3


# one task


def test_edit_changes_what_it_names(mill: Mill) -> None:
    task_id = mill.one(tags=("a", "b"), options='{"memory_mb": 7}', data='{"old": 1}')
    wanted = Edit({"priority": 5, "data": '{"new": 2}'}, queue="q2", delay_ms=HOUR, tags=("c",))
    row = mill.queue.change(task_id, wanted)
    assert (row.generation, row.priority, row.ready) == (2, 5, 0)
    shown = mill.queue.task(task_id)
    assert (shown["queue"], shown["data"], shown["tags"]) == ("q2", '{"new": 2}', '["c"]')
    assert shown["run_at"] == mill.clock.now().wall + HOUR
    assert mill.counts() == {("q2", "noop"): {"pending": 1}}
    found = [mill.queue.tasks(TaskFilter(tag=tag), None, 5) for tag in ("a", "c")]
    assert [len(page) for page in found] == [0, 1]


def test_edit_of_options_keeps_the_others_and_takes_away_what_is_null(mill: Mill) -> None:
    task_id = mill.one()
    mill.queue.change(task_id, Edit(options={"memory_mb": 64}))
    assert mill.store.write(lambda tx: tx.options([task_id])) == {task_id: '{"memory_mb": 64}'}
    mill.queue.change(task_id, Edit(options={"memory_mb": None}))
    assert mill.store.write(lambda tx: tx.options([task_id])) == {}


def test_edit_of_what_does_not_wait(mill: Mill) -> None:
    running = mill.one()
    mill.lease()
    with pytest.raises(NotWaiting, match="in_progress"):
        mill.queue.change(running, Edit({"priority": 1}))
    with pytest.raises(NotFound):
        mill.queue.change(4711, Edit({"priority": 1}))


def test_delete_of_one_task(mill: Mill) -> None:
    task_id = mill.one()
    assert mill.queue.remove(task_id) == "not_final"
    mill.queue.cancel([task_id])
    assert mill.queue.remove(task_id) == "deleted"
    with pytest.raises(NotFound):
        mill.queue.remove(task_id)
    assert mill.counts() == {}


def test_forced_delete_cancels_first(mill: Mill) -> None:
    waits = mill.one()
    assert mill.queue.remove(waits, force=True) == "deleted"
    running = mill.one()
    lease = mill.lease()
    assert mill.queue.remove(running, force=True) == "not_final"
    assert mill.told("ann", lease) == "cancel"
    mill.fail(lease)
    assert mill.queue.remove(running, force=True) == "deleted"
    assert mill.fail(lease) == Verdict.UNKNOWN


def test_a_deleted_tasks_upload_goes_piece_by_piece(mill: Mill) -> None:
    mill.one()
    lease = mill.lease()
    parts = [bytes([n]) * 1000 for n in range(20)]
    digest = hashlib.sha256(b"".join(parts))
    upload = mill.queue.upload(name(lease), mill.store.store_id, "image/png", iter(parts), digest)
    mill.succeed(lease, upload=upload)
    assert mill.queue.remove(lease.task_id) == "deleted"
    assert [mill.store.write(lambda tx: tx.sweep(8)) for _ in range(5)] == [8, 8, 4, 0, 0]


# races: each at one dispatcher here, at two in test_postgres_bulk.py


def cancel_and_complete(one: Mill, other: Mill) -> None:
    task_id = one.one()
    lease = one.lease()
    cancelled, verdict = race(lambda: act(one, "cancel", queue="default"), lambda: other.succeed(lease))
    assert verdict == Verdict.ACCEPTED, "the success that arrives first wins"
    assert cancelled.verdicts.get("cancelled", 0) == 0
    assert one.state(task_id) == State.COMPLETED


def retry_and_late_success(one: Mill, other: Mill) -> None:
    task_id = one.one(max_attempts=1)
    lease = one.lease()
    one.expire()
    assert one.state(task_id) == State.FAILED
    told, verdict = race(lambda: act(one, "retry", state=State.FAILED), lambda: other.succeed(lease))
    if verdict == Verdict.ACCEPTED_LATE:
        assert one.state(task_id) == State.COMPLETED
        assert told.changed == 0, "what has completed is not run again by a retry of the failed"
    else:
        assert verdict == Verdict.SUPERSEDED
        assert (one.state(task_id), told.changed) == (State.PENDING, 1)
    one.queue.cancel([task_id])


def edit_and_claim(one: Mill, other: Mill) -> None:
    task_id = one.one(data='{"n": 1}')

    def edit() -> bool:
        try:
            return bool(one.queue.change(task_id, Edit({"data": '{"n": 2}'})))
        except NotWaiting:
            return False

    edited, tasks = race(edit, lambda: other.claim("bob").tasks)
    for lease in tasks or one.claim("bob", number=one.next_number("bob")).tasks:
        assert lease.data == ('{"n": 2}' if edited else '{"n": 1}')
        assert other.succeed(lease) == Verdict.ACCEPTED
    assert one.state(task_id) == State.COMPLETED


def delete_and_retry(one: Mill, other: Mill) -> None:
    task_id = one.one()
    one.queue.cancel([task_id])
    deleted, retried = race(lambda: act(one, "delete", ids=(task_id,)), lambda: act(other, "retry", ids=(task_id,)))
    if retried.each[task_id] == "retried":
        assert deleted.each[task_id] == "not_final"
        assert one.queue.cancel([task_id]) == {task_id: "cancelled"}
    else:
        assert (deleted.each[task_id], retried.each[task_id]) == ("deleted", "not_found")


def prune_and_bulk_retry(one: Mill, other: Mill) -> None:
    ids = one.submit(20)
    one.queue.cancel(ids)
    one.clock.forward(1)
    pruned, retried = race(one.prune, lambda: act(other, "retry", state=State.CANCELLED))
    assert pruned + retried.changed == 20, "each task once"
    assert act(one, "cancel", queue="default").changed == retried.changed
    act(one, "delete", queue="default")


RACES = [cancel_and_complete, retry_and_late_success, edit_and_claim, delete_and_retry, prune_and_bulk_retry]


def recounted(mill: Mill) -> dict[tuple[str, str], dict[str, int]]:
    """What the kept counts should say."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    for task in mill.all_tasks():
        lane = found.setdefault((task["queue"], task["task_type"]), {})
        lane[task["status"]] = lane.get(task["status"], 0) + 1
        if task["status"] == "pending" and mill.row(task["task_id"]).ready:
            lane["ready"] = lane.get("ready", 0) + 1
    return found


@pytest.mark.parametrize("meet", RACES)
def test_races_at_one_dispatcher(mill: Mill, meet: Any) -> None:
    for _ in range(ROUNDS):
        meet(mill, mill)
    assert mill.counts() == recounted(mill)
