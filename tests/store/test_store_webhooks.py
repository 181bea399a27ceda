"""Webhooks: an end is told once it is stored and only then, tried until it gets through, by one at a time."""

import json
from pathlib import Path
from typing import Any

import pytest
from store_kit import ROUNDS, FakeClock, MakeStore, Mill, StoreKind, failing_commits, race

from dispatcher.errors import Unavailable
from dispatcher.queue.options import Options
from dispatcher.queue.terms import Terms
from dispatcher.queue.webhooks import HOLD_MS, WAITS_S, Hook

ALL, OWN = "https://hooks.example/all", "https://own.example/x?y=1"
HOLD_S = HOLD_MS / 1000


@pytest.fixture
def telling(mill: Mill) -> Mill:
    """Tells of every end."""
    return on(mill)


def on(mill: Mill, url: str = ALL) -> Mill:
    mill.queue.terms = Terms(webhooks=True, webhook_url=url)
    return mill


def taken(mill: Mill, limit: int = 100) -> list[Hook]:
    return mill.queue.take_hooks(limit)


def said(hook: Hook) -> tuple[str, int, str]:
    told = json.loads(hook.body)
    assert told["type"] == f"task.{told['data']['status']}"
    assert told["data"]["task_id"] == hook.task_id
    return told["data"]["status"], hook.task_id, hook.url


def end_one(mill: Mill, **fields: Any) -> int:
    task = mill.one(**fields)
    mill.succeed(mill.lease())
    return task


def test_a_task_that_is_cancelled_and_deleted_at_once_is_told_of(telling: Mill) -> None:
    task_id, other = telling.submit(2)
    telling.queue.cancel([other])
    assert telling.queue.remove(task_id, force=True) == "deleted"
    assert {said(hook)[:2] for hook in taken(telling)} == {("cancelled", other), ("cancelled", task_id)}
    assert telling.queue.remove(other) == "deleted", "that was told already"
    assert taken(telling) == []


def test_each_final_state_is_told(telling: Mill) -> None:
    done = end_one(telling)
    failed = telling.one(max_attempts=1)
    telling.fail(telling.lease())
    cancelled = telling.one()
    telling.queue.cancel([cancelled])
    expected = {("completed", done, ALL), ("failed", failed, ALL), ("cancelled", cancelled, ALL)}
    hooks = taken(telling)
    assert {said(hook) for hook in hooks} == expected
    assert len({hook.delivery for hook in hooks}) == 3
    data = json.loads(hooks[0].body)["data"]
    assert data.keys() == {"task_id", "task_type", "queue", "status", "attempts", "generation"}
    assert (data["task_type"], data["queue"]) == ("noop", "default")


def test_what_goes_on_is_not_told(telling: Mill) -> None:
    telling.one()
    lease = telling.lease()
    telling.fail(lease)  # it is tried again
    telling.one()
    telling.give_back(telling.lease("bob"))
    assert taken(telling) == []


def test_off_nothing_is_stored(mill: Mill) -> None:
    end_one(mill, options=Options(webhook=OWN).dump())
    assert taken(mill) == []
    assert mill.queue.open_hooks() == 0


def test_a_task_names_its_own(mill: Mill) -> None:
    on(mill, "")
    end_one(mill)
    task = end_one(mill, options=Options(webhook=OWN).dump())
    assert [said(hook) for hook in taken(mill)] == [("completed", task, OWN)]
    on(mill)
    task = end_one(mill, options=Options(webhook=OWN).dump())
    assert [said(hook) for hook in taken(mill)] == [("completed", task, OWN)]


def test_a_retry_is_told_anew(telling: Mill) -> None:
    task = end_one(telling)
    (first,) = taken(telling)
    telling.queue.retry([task])
    telling.succeed(telling.lease())
    (second,) = taken(telling)
    assert second.delivery != first.delivery
    before, after = (json.loads(hook.body)["data"]["generation"] for hook in (first, second))
    assert after == before + 1


def test_many_ends_of_one_transaction(telling: Mill) -> None:
    ids = telling.submit(20)
    telling.queue.cancel(ids)
    assert sorted(hook.task_id for hook in taken(telling)) == ids


def test_an_end_that_is_undone_is_not_told(telling: Mill) -> None:
    task = telling.one()

    def fails(tx: Any) -> None:
        tx.close_waiting([task])
        raise ValueError("undo it")

    with pytest.raises(ValueError, match="undo it"):
        telling.store.write(fails)
    with failing_commits(telling.store), pytest.raises(Unavailable):
        telling.queue.cancel([task])
    assert taken(telling) == []
    telling.queue.cancel([task])
    assert len(taken(telling)) == 1


def test_nobody_else_gets_one_that_is_tried_and_it_is_due_again_when_nothing_comes_of_it(
    telling: Mill, clock: FakeClock
) -> None:
    end_one(telling)
    (first,) = taken(telling)
    assert first.tries == 1
    clock.forward(HOLD_S - 1)
    assert taken(telling) == []
    clock.forward(1)
    (second,) = taken(telling)
    assert (second.delivery, second.body, second.tries) == (first.delivery, first.body, 2)
    assert telling.queue.settle_hook(first, True) == "overtaken"
    assert telling.queue.settle_hook(first, False) == "overtaken"
    assert telling.queue.settle_hook(second, True) == "delivered"
    assert telling.queue.open_hooks() == 0


def test_a_try_that_failed_waits_longer_each_time_until_it_is_given_up(telling: Mill, clock: FakeClock) -> None:
    end_one(telling)
    for tries, wait in enumerate(WAITS_S, 1):
        (hook,) = taken(telling)
        assert hook.tries == tries
        assert telling.queue.settle_hook(hook, False) == "put_off"
        clock.forward(wait * 0.75)
        assert taken(telling) == []
        clock.forward(wait * 0.5)
    (last,) = taken(telling)
    assert telling.queue.settle_hook(last, False) == "given_up"
    assert telling.queue.open_hooks() == 0
    assert telling.queue.hooks.read() == {("put_off",): len(WAITS_S), ("given_up",): 1}


def test_no_more_are_taken_than_were_asked_for_the_oldest_first(telling: Mill, clock: FakeClock) -> None:
    tasks = []
    for _ in range(3):
        tasks.append(end_one(telling))
        clock.forward(1)
    assert sorted(hook.task_id for hook in taken(telling, 2)) == tasks[:2]
    assert [hook.task_id for hook in taken(telling, 2)] == tasks[2:]


def test_hosts_can_be_spared(telling: Mill, clock: FakeClock) -> None:
    first, own = end_one(telling), end_one(telling, options=Options(webhook=OWN).dump())
    assert telling.queue.take_hooks(9, {"hooks.example", "own.example"}) == []
    assert [hook.host for hook in telling.queue.take_hooks(9, {"hooks.example"})] == ["own.example"]
    since = telling.store.now().wall + 1
    clock.forward(1)
    last = end_one(telling)
    assert [hook.task_id for hook in telling.queue.take_hooks(9, (), since)] == [last]
    assert [hook.task_id for hook in taken(telling)] == [first]
    assert own not in (first, last)


def test_deliveries_survive_a_restart_and_their_task(make_store: MakeStore, tmp_path: Path, clock: FakeClock) -> None:
    store = make_store(tmp_path, clock)
    mill = on(Mill(store, clock))
    task = end_one(mill)
    (before,) = taken(mill)
    mill.queue.remove(task)
    mill.queue.drain()
    store.close()
    clock.forward(HOLD_S)
    again = on(Mill(make_store(tmp_path, clock), clock))
    (after,) = taken(again)
    assert (after.delivery, after.task_id, after.body) == (before.delivery, task, before.body)


def test_i10_looking_for_nothing_writes_nothing(telling: Mill, kind: StoreKind, clock: FakeClock) -> None:
    end_one(telling)
    assert len(taken(telling)) == 1
    before = kind.written(telling.store)
    assert taken(telling) == []
    assert kind.written(telling.store) == before


def test_two_dispatchers_never_try_one_delivery_at_a_time(mills: list[Mill]) -> None:
    first, second = (on(mill) for mill in mills)
    for _ in range(ROUNDS // 3):
        ids = first.submit(6)
        first.queue.cancel(ids)
        got = race(lambda: taken(first, 4), lambda: taken(second, 4))
        got += [taken(first), taken(second)]
        assert sorted(hook.task_id for hooks in got for hook in hooks) == ids
        for hooks in got:
            assert all(second.queue.settle_hook(hook, True) == "delivered" for hook in hooks)
    assert first.queue.open_hooks() == 0
