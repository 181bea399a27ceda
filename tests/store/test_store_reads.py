"""What is shown: listings, counts, progress, workers, types, waiting for an end."""

import pytest
from store_kit import HOUR, SECOND, Later, Mill, name, until

from dispatcher.model import Progress, State, TaskFilter
from dispatcher.queue import Queue, queues, rare
from dispatcher.store import views


def listed(mill: Mill, limit: int = 100, after: int | None = None, **wanted: object) -> list[int]:
    return [task["task_id"] for task in mill.queue.tasks(TaskFilter(**wanted), after, limit)]


def test_listing_is_newest_first_and_pages(mill: Mill) -> None:
    ids = mill.submit(5)
    assert listed(mill, 2) == ids[:2:-1]
    assert listed(mill, 2, after=ids[3]) == [ids[2], ids[1]]
    assert listed(mill, 2, after=ids[0]) == []


def test_filters_narrow(mill: Mill) -> None:
    a = mill.one(queue="qa", task_type="ta", tags=("red", "big"))
    b = mill.one(queue="qb", task_type="tb", tags=("red",))
    mill.lease(queues=["qb"])
    assert listed(mill, queue="qa") == [a]
    assert listed(mill, task_type="tb") == [b]
    assert listed(mill, tag="red") == [b, a]
    assert listed(mill, 1, tag="red") == [b]
    assert listed(mill, tag="red", after=b) == [a]
    assert listed(mill, tag="red", after=a) == []
    assert listed(mill, tag="red", queue="qa", task_type="ta") == [a]
    assert listed(mill, tag="big", state=State.PENDING) == [a]
    assert listed(mill, state=State.IN_PROGRESS) == [b]
    assert listed(mill, ids=(a, b, 4711)) == [b, a]
    assert listed(mill, ids=()) == []
    assert listed(mill, queue="qa", task_type="tb") == []


@pytest.mark.parametrize("state", list(State))
def test_a_rare_state_is_listed_as_any_other(mill: Mill, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("ta", "tb"):
        mill.submit(4, kind, queue="qa")
        mill.submit(4, kind, max_attempts=1)
        mill.submit(2, kind, limit_key="one")
        mill.one(task_type=kind, run_at=mill.clock.now().wall + HOUR)
    leases = mill.claim(max_tasks=12).tasks
    for lease in leases[:8:2]:
        mill.fail(lease)
    for lease in leases[1:8:2]:
        mill.succeed(lease)
    mill.queue.cancel(mill.submit(2, "ta"))

    def everything() -> list[list[int]]:
        asked = [{}, {"queue": "qa"}, {"task_type": "tb"}, {"queue": "qa", "task_type": "ta"}, {"tag": "none"}]
        pages = [listed(mill, state=state, **wanted) for wanted in asked]
        return [*pages, *(listed(mill, 2, after, state=state) for after in pages[0])]

    quick = everything()
    monkeypatch.setattr(rare, "RARE", -1)
    assert quick == everything()
    assert bool(quick[0]) is (state != State.BLOCKED)


def test_a_rare_state_is_found_without_a_look_at_every_task(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = (mill.one(max_attempts=1), mill.lease())[1]
    mill.fail(lease)
    mill.submit(20)
    with mill.store.read() as reader:
        narrow = rare.narrowed(reader, TaskFilter(State.FAILED), None, 5)
        assert narrow.ids == (lease.task_id,)
        assert rare.narrowed(reader, TaskFilter(State.IN_PROGRESS), None, 5).ids == ()
        monkeypatch.setattr(rare, "RARE", 19)
        assert rare.narrowed(reader, TaskFilter(State.PENDING), None, 5).ids is None, "there are more"


def test_what_a_key_holds_is_listed_beside_many_that_are_ready_elsewhere(mill: Mill) -> None:
    queues.configure(mill.queue, "kept", {"key_running": 1})
    kept = mill.submit(3, queue="kept", limit_key="one")
    mill.submit(5)
    assert listed(mill, state=State.PENDING, queue="kept") == kept[::-1]


def test_blocked_tasks_are_not_looked_for_among_the_pending(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    mill.submit(3)
    with mill.store.read() as reader:
        assert rare.narrowed(reader, TaskFilter(State.BLOCKED), None, 5).ids == ()
        monkeypatch.setattr(reader, "counts", lambda: {("default", "noop"): {"blocked": 2}})
        assert rare.narrowed(reader, TaskFilter(State.BLOCKED), None, 5).ids is None, "no index holds them"


def test_progress_of_a_live_lease_is_kept_and_completed(mill: Mill) -> None:
    task_id = mill.one()
    lease = mill.lease()
    mill.beat("ann", lease, said=Progress(name(lease), 1.0, 4.0, "one", '{"at": 1}'))
    mill.beat("ann", lease, said=Progress(name(lease), 2.0, None, None, None))
    shown = mill.queue.task(task_id)
    assert (shown["done"], shown["total"], shown["note"]) == (2.0, 4.0, "one")
    mill.give_back(lease)
    assert mill.lease("bob").checkpoint == '{"at": 1}'


def test_progress_of_a_lost_lease_is_ignored(mill: Mill) -> None:
    task_id = mill.one()
    lost = mill.lease("ann")
    mill.expire()
    mill.lease("bob")
    mill.beat("ann", lost, said=Progress(name(lost), 9.0, 9.0, "ghost", "9"))
    mill.store.write(lambda tx: tx.progress([Progress(name(lost), 9.0, 9.0, "ghost", "9")]))
    assert mill.queue.task(task_id)["note"] is None


def test_the_oldest_of_a_queue_is_the_earliest_of_all_priorities_and_lanes(mill: Mill) -> None:
    now = mill.clock.now().wall

    def oldest() -> dict[str, int]:
        with mill.store.read() as reader:
            return reader.oldest_by_queue()

    assert oldest() == {}
    mill.one(priority=9, run_at=now - 10)
    mill.one(priority=-3, run_at=now - 500)
    mill.one(priority=5, run_at=now - 90, task_type="other")
    mill.one(delay_ms=HOUR)
    assert oldest() == {"default": now - 500}
    mill.claim(max_tasks=9)
    assert oldest() == {}


def test_next_due_is_the_earliest_that_is_not_ready(mill: Mill) -> None:
    now = mill.clock.now().wall
    assert mill.queue.next_due() is None
    mill.one()
    mill.one(run_at=now + 9000)
    mill.one(run_at=now + 7000, priority=-5)
    assert mill.queue.next_due() == now + 7000


def test_workers_are_those_seen_lately_and_those_that_hold_leases(mill: Mill) -> None:
    mill.one()
    lease = mill.lease("holder")
    mill.beat("gone")
    mill.clock.forward(HOUR / SECOND)
    mill.beat("fresh", host='{"cpus": 4}')
    with mill.store.read() as reader:
        shown = {w["worker_id"]: w["leases"] for w in reader.workers(mill.clock.now().wall - SECOND)}
    assert shown == {"holder": 1, "fresh": 0}
    mill.succeed(lease)
    with mill.store.read() as reader:
        assert [w["worker_id"] for w in reader.workers(mill.clock.now().wall - SECOND)] == ["fresh"]


def test_published_types_are_remembered(mill: Mill) -> None:
    mill.beat("ann", types={"noop": None, "prime": '{"type": "object"}'})
    mill.beat("bob", types={"prime": '{"type": "object", "required": ["n"]}'})
    with mill.store.read() as reader:
        known = reader.type_schemas()
    assert known == {"noop": None, "prime": '{"type": "object", "required": ["n"]}'}
    assert not Queue(mill.store).schemas.is_news(known)


def test_wait_for_an_end_is_woken_by_it(mill: Mill) -> None:
    task_id, other = mill.submit(2)
    first, second = mill.claim(max_tasks=2).tasks
    later = Later(lambda: mill.queue.wait_tasks([task_id], 20))
    until(lambda: task_id in mill.queue.watchers._waiting)
    mill.succeed(second)
    assert not later.done
    mill.succeed(first, '"woken"')
    ended, still_open = later.answer()
    assert ([task.result for task in ended], still_open) == (['"woken"'], 0)
    assert other not in {task.task_id for task in ended}


def test_wait_ends_with_a_drain_before_and_after_it_began(mill: Mill) -> None:
    task_id = mill.one()
    later = Later(lambda: mill.queue.wait_tasks([task_id], 20))
    until(lambda: task_id in mill.queue.watchers._waiting)
    mill.queue.drain()
    assert later.answer() == ([], 1)
    assert Later(lambda: mill.queue.wait_tasks([task_id], 20)).answer() == ([], 1)


def test_outcomes_fit_the_answer_but_are_never_none(mill: Mill) -> None:
    ids = mill.submit(3)
    for lease in mill.claim(max_tasks=3).tasks:
        mill.succeed(lease, '"' + "x" * 998 + '"')
    with mill.store.read() as reader:
        assert len(reader.outcomes(ids, 2500)) == 2
        assert len(reader.outcomes(ids, 1)) == 1
        assert reader.count_open(ids) == 0


def test_ended_leases_are_shown_in_order(mill: Mill) -> None:
    task_id = mill.one()
    mill.give_back(mill.lease("ann"))
    mill.lease("bob")
    mill.expire()
    mill.fail(mill.lease("carl"), "boom")
    shown = mill.queue.task(task_id)["ended"]
    assert [(e["how"], e["worker_id"], e["charged"]) for e in shown] == [
        ("released", "ann", 0), ("expired", "bob", 1), ("failed", "carl", 1),
    ]  # fmt: skip


def test_a_page_of_a_tag_begins_with_the_tag(mill: Mill) -> None:
    """Few may have it, and the tasks are many."""
    mill.submit(1000)
    mill.one(tags=("rare",))
    with mill.store.read() as reader:
        mark = reader.MARK  # type: ignore[attr-defined]
        sql, values = views.page(TaskFilter(tag="rare"), 10**6, mark)
        explain = "EXPLAIN QUERY PLAN" if mark == "?" else "EXPLAIN"
        plan = str(list(reader.db.execute(f"{explain} {sql}", [*values, 50])))  # type: ignore[attr-defined]
    assert plan.index(" g ") < plan.index(" t ")
