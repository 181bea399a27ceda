"""Plain tasks and outcomes pass small models (routes/plain.py), and become what the large ones make of them."""

from typing import Any

import pytest
from http_helpers import Api
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.routes import plain, work

STORE = "0123456789abcdef"
OUTCOME = {"store_id": STORE, "lease_id": "7-00000000000000ff", "task_id": 7, "status": "completed", "result": {},
           "run_seconds": 0.25}  # fmt: skip
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-1, 10), st.floats(-9, 9), st.text(max_size=3),
    st.sampled_from([STORE, "completed", "failed", "7-00000000000000ff", "7-x", 7]), st.just({}), st.just([{}]),
)  # fmt: skip
DEEP: Any = []
for _ in range(70):
    DEEP = [DEEP]


@given(st.dictionaries(st.sampled_from([*OUTCOME, "log", "error", "result_ref", "more"]), VALUES, max_size=3))
def test_an_outcome_is_the_same_whatever_model_it_passed(changes: dict[str, Any]) -> None:
    value = OUTCOME | changes
    assert work._outcomes([value], STORE) == [work._one_outcome(value, STORE)]


def test_one_that_is_not_plain_harms_no_other() -> None:
    odd = [
        {**OUTCOME, "status": "failed", "error": "x"},
        {**OUTCOME, "result": DEEP},
        {**OUTCOME, "run_seconds": -1},
        5,
    ]
    told = work._outcomes([OUTCOME, *odd], STORE)
    assert told == [work._one_outcome(value, STORE) for value in (OUTCOME, *odd)]
    assert [reason or "good" for _, reason, _ in told] == ["good", "good", "invalid", "invalid", "invalid"]


def test_what_is_plain_takes_the_short_way() -> None:
    assert len(plain.OUTCOMES.validate_python([OUTCOME] * 3)) == 3
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
