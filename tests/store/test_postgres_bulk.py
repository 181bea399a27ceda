"""Two dispatchers on one database meet over bulk actions, edits, deletes and pruning."""

from typing import Any

import pytest
from store_kit import ROUNDS, Mill, race
from test_store_bulk import RACES, act, recounted

from dispatcher.model import State


@pytest.mark.parametrize("meet", RACES)
def test_races_at_two_dispatchers(mills: list[Mill], meet: Any) -> None:
    for _ in range(ROUNDS // 2):
        meet(*mills)
    assert mills[1].counts() == recounted(mills[0])


@pytest.mark.parametrize("action", ["cancel", "delete"])
def test_the_same_action_at_both_changes_each_task_once(mills: list[Mill], action: str) -> None:
    ids = mills[0].submit(300)
    if action == "delete":
        mills[0].queue.cancel(ids)
    told = race(*[lambda m=m: act(m, action, queue="default") for m in mills])
    assert sum(done.changed for done in told) == 300
    assert act(mills[0], "retry", state=State.CANCELLED).changed == (300 if action == "cancel" else 0)
    assert mills[0].counts() == recounted(mills[1])
