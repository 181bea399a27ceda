"""Plain tasks pass a small model (routes/plain.py), and become what the large one makes of them."""

from typing import Any

import pytest
from http_helpers import Api

from dispatcher.routes import plain

DEEP: Any = []
for _ in range(70):
    DEEP = [DEEP]


def test_what_is_plain_takes_the_short_way() -> None:
    for key in ({}, {"idempotency_key": "k"}):
        named = {"tasks": [{"task_type": "t", "task_data": {}, **key}] * 3, **key}
        assert plain.BULK.validate_python(named) == named


def test_a_submit_is_the_same_by_itself_and_in_a_batch(api: Api) -> None:
    tasks = [{"task_type": "noop", "task_data": {"n": n}, "idempotency_key": f"k-{n}"} for n in range(3)]
    ids = api.post("/submit-tasks", {"tasks": tasks}).data["task_ids"]
    assert [api.submit(**task) for task in tasks] == ids
    assert [api.submit(**task, priority=0) for task in tasks] == ids  # to say a default is to say nothing
    other = api.post("/submit-task", {**tasks[0], "task_data": {}})
    assert other.status == 409


@pytest.mark.parametrize("task", [
    {"task_type": "no op", "task_data": {}, "idempotency_key": "k"},
    {"task_type": "noop", "task_data": [], "idempotency_key": "k"},
    {"task_type": "noop", "task_data": {}, "idempotency_key": ""},
    {"task_type": "noop", "task_data": {}, "idempotency_key": "k", "unknown": 1},
    {"task_type": "noop", "task_data": {"deep": DEEP}, "idempotency_key": "k"},
])  # fmt: skip
def test_what_is_wrong_in_a_batch_is_named_by_its_place(api: Api, task: dict[str, Any]) -> None:
    good = {"task_type": "noop", "task_data": {}, "idempotency_key": "good"}
    reply = api.post("/submit-tasks", {"tasks": [good, task]})
    assert reply.status == 400
    assert "tasks[1]" in reply.fault or "nested deeper" in reply.fault
    assert api.get("/tasks").data["tasks"] == []
