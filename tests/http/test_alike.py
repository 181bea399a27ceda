"""A bulk submit that says once what its tasks have in common: `each` in place of `task_data`."""

from typing import Any

import pytest
from http_helpers import Api

TERMS = {"task_type": "noop", "queue": "q", "priority": 3, "tags": ["a"], "max_attempts": 7, "timeout_seconds": 5,
         "requires": ["gpu"], "key": "user:1", "wait_seconds": 60, "memory_mb": 64}  # fmt: skip
VOLATILE = ("task_id", "task_data", "created_at", "run_at", "n")


def bulk(api: Api, *tasks: Any, **fields: Any) -> list[int]:
    return list(api.post("/submit-tasks", {"tasks": tasks, **fields}).data["task_ids"])


def shown(api: Api, task_id: int) -> dict[str, Any]:
    return {name: value for name, value in api.task(task_id).items() if name not in VOLATILE}


def test_each_is_a_task_in_its_order(api: Api) -> None:
    ids = bulk(api, {"task_type": "noop", "each": [{"n": 1}, {"n": 2}]}, {"task_type": "sleep", "task_data": {"n": 3}},
               {"task_type": "noop", "each": [{"n": 4}]})  # fmt: skip
    assert [api.task(one)["task_data"]["n"] for one in ids] == [1, 2, 3, 4]
    assert [api.task(one)["task_type"] for one in ids] == ["noop", "noop", "sleep", "noop"]


def test_a_task_of_each_is_what_it_is_alone(api: Api) -> None:
    alone, *together = bulk(api, {**TERMS, "task_data": {"n": 0}}, {**TERMS, "each": [{"n": 1}, {"n": 2}]})
    assert [shown(api, one) for one in together] == [shown(api, alone)] * 2


def test_a_request_with_each_is_repeated_without_harm(api: Api) -> None:
    tasks = {"task_type": "noop", "each": [{"n": 1}, {"n": 2}]}
    ids = bulk(api, tasks, idempotency_key="k")
    assert bulk(api, tasks, idempotency_key="k") == ids
    assert len(api.get("/tasks").data["tasks"]) == 2


@pytest.mark.parametrize(
    ("task", "fault"),
    [
        ({"each": [{}], "task_data": {}}, "tasks[0].task_data: not together with each"),
        ({"each": [{}], "idempotency_key": "k"}, "tasks[0].idempotency_key: not together with each"),
        ({"each": [{}], "unique_key": "k"}, "tasks[0].unique_key: not together with each"),
        ({"each": []}, "tasks[0].each: "),
        ({"each": {}}, "tasks[0].each: "),
        ({"each": [{}, 5]}, "tasks[0].each[1]: "),
        ({"each": [{}, {"limit": []}]}, "tasks[0].each[1].limit: "),
        ({"each": [{"limit": 1}], "delay_seconds": 1, "run_at": "2030-01-01T00:00:00Z"}, "tasks[0].delay_seconds: "),
        ({"each": [{"limit": 1}] * 9_999}, "tasks: must be at most 10,000 tasks, not 10,001"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_stored(api: Api, task: dict[str, Any], fault: str) -> None:
    schema = {"type": "object", "properties": {"limit": {"type": "integer"}}}
    api.beat(1, register={"task_types": {"picky": schema}, "concurrency": 1, "queues": None, "labels": [],
                          "version": "0", "python": "3"})  # fmt: skip
    others = [{"task_type": "noop"}] * (2 if len(task["each"]) > 9_000 else 0)
    reply = api.post("/submit-tasks", {"tasks": [{"task_type": "picky", **task}, *others]})
    assert (reply.status, reply.fault[: len(fault)]) == (400, fault)
    assert api.get("/tasks").data["tasks"] == []


def test_a_name_that_is_null_is_none(api: Api) -> None:
    assert len(bulk(api, {"task_type": "noop", "each": [{}, {}], "unique_key": None, "idempotency_key": None})) == 2


def test_a_single_submit_knows_no_each(api: Api) -> None:
    reply = api.post("/submit-task", {"task_type": "noop", "each": [{}]})
    assert (reply.status, reply.fault) == (400, "each: unknown field")
