"""Control over tasks through HTTP: one task, many by ids and by filter, retention, results over their limit."""

from collections.abc import Callable
from typing import Any

import pytest
from http_helpers import Api


def cancelled(api: Api, **fields: Any) -> int:
    task_id = api.submit(**fields)
    api.post("/cancel-tasks", {"task_ids": [task_id]})
    return task_id


def test_cancel_and_retry_one(api: Api) -> None:
    task_id = api.submit()
    assert api.post(f"/task/{task_id}/cancel").data == {"task_id": task_id, "verdict": "cancelled"}
    assert api.post(f"/task/{task_id}/cancel", {}).data["verdict"] == "already_final"
    assert api.post(f"/task/{task_id}/retry").data["verdict"] == "retried"
    refused = api.post(f"/task/{task_id}/retry")
    assert (refused.status, refused.json["code"]) == (409, "not_final")
    for path in ("/task/4711/cancel", "/task/4711/retry", f"/task/{2**60}/cancel"):
        assert api.post(path).status == 404
    assert api.post(f"/task/{task_id}/cancel", {"why": 1}).fault == "why: unknown field"


def test_edit(api: Api) -> None:
    task_id = api.submit(task_data={"n": 1}, tags=["a"])
    changes = {"task_data": {"n": 2}, "priority": -3, "delay_seconds": 60, "max_attempts": 9, "timeout_seconds": 1.5,
               "queue": "q", "tags": ["b", "c"]}  # fmt: skip
    told = api.ask("PATCH", f"/task/{task_id}", changes).data
    assert told == {"task_id": task_id, "status": "pending", "generation": 2}
    shown = api.task(task_id)
    for field in ("task_data", "priority", "max_attempts", "timeout_seconds", "queue", "tags"):
        assert shown[field] == changes[field]
    assert api.claim()["tasks"] == []
    api.ask("PATCH", f"/task/{task_id}", {"timeout_seconds": None, "run_at": "2020-01-01T00:00:00Z"})
    (lease,) = api.claim()["tasks"]
    assert (lease["timeout_seconds"], lease["task_data"], lease["max_attempts"]) == (None, {"n": 2}, 9)
    refused = api.ask("PATCH", f"/task/{task_id}", {"priority": 1})
    assert (refused.status, refused.json["code"]) == (409, "not_waiting")
    assert api.ask("PATCH", "/task/4711", {"priority": 1}).status == 404


@pytest.mark.parametrize(("changes", "fault"), [
    ({}, "name at least one field"), ({"prio": 1}, "prio: unknown field"), ({"task_type": "x"}, "task_type: unknown"),
    ({"idempotency_key": "x"}, "idempotency_key: unknown"), ({"priority": "high"}, "priority: "),
    ({"priority": 2**40}, "priority: "), ({"queue": "no spaces"}, "queue: "), ({"max_attempts": 0}, "max_attempts: "),
    ({"task_data": [1]}, "task_data: "), ({"tags": ["a"] * 33}, "tags: "),
    ({"timeout_seconds": 0}, "timeout_seconds: "),
    ({"run_at": "2030-01-01T00:00:00Z", "delay_seconds": 1}, "delay_seconds: not together"),
])  # fmt: skip
def test_bad_edits_name_field_and_reason(api: Api, changes: dict[str, Any], fault: str) -> None:
    task_id = api.submit()
    refused = api.ask("PATCH", f"/task/{task_id}", changes)
    assert refused.status == 400
    assert refused.fault.startswith(fault)
    assert api.task(task_id)["generation"] == 1


def test_edited_data_is_held_to_the_types_schema(api: Api) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}
    api.beat(1, register={"task_types": {"counted": schema}})
    task_id = api.submit("counted", task_data={"n": 1})
    assert api.ask("PATCH", f"/task/{task_id}", {"task_data": {"n": "x"}}).status == 400
    assert api.ask("PATCH", f"/task/{task_id}", {"task_data": {"n": 2}}).status == 200


def test_delete(api: Api) -> None:
    task_id = cancelled(api)
    assert api.ask("DELETE", f"/task/{task_id}").data == {"task_id": task_id, "verdict": "deleted"}
    assert api.ask("DELETE", f"/task/{task_id}").status == 404
    waits = api.submit()
    refused = api.ask("DELETE", f"/task/{waits}")
    assert (refused.status, refused.json["code"]) == (409, "not_final")
    assert api.ask("DELETE", f"/task/{waits}?force=1").data["verdict"] == "deleted"
    assert "force" in api.ask("DELETE", f"/task/{waits}?force=x").fault
    running = api.lease()
    refused = api.ask("DELETE", f"/task/{running['task_id']}?force=1")
    assert (refused.status, refused.json["code"]) == (409, "not_final")
    assert api.claim(max_tasks=0)["orders"]["cancel"] == [running["lease_id"]]


def test_bulk_by_filter(api: Api) -> None:
    ids = [api.submit(queue="q", tags=["t"]) for _ in range(3)]
    other = api.submit()
    asked = {"filter": {"queue": "q", "tag": "t", "newer_than_seconds": 60}}
    told = api.post("/tasks/cancel", {**asked, "dry_run": True}).data
    nothing = {"changed": 0, "verdicts": {}, "next_cursor": None}
    assert told == {"dry_run": True, "matched": 3, "sample_ids": ids, **nothing}
    told = api.post("/tasks/cancel", asked).data
    assert (told["matched"], told["changed"], told["verdicts"]) == (3, 3, {"cancelled": 3})
    assert api.task(other)["status"] == "pending"
    assert api.post("/tasks/retry", {"filter": {"status": "cancelled"}}).data["changed"] == 3
    api.post("/tasks/cancel", asked)
    assert api.post("/tasks/delete", {"filter": {"queue": "q"}}).data["verdicts"] == {"deleted": 3}


def test_bulk_by_ids(api: Api) -> None:
    waits, done = api.submit(), cancelled(api)
    told = api.post("/tasks/retry", {"task_ids": [waits, done, 4711, done]}).data
    assert told["tasks"] == [
        {"task_id": waits, "verdict": "not_final"}, {"task_id": done, "verdict": "retried"},
        {"task_id": 4711, "verdict": "not_found"},
    ]  # fmt: skip


@pytest.mark.parametrize(("body", "fault"), [
    ({}, "filter: give either"), ({"filter": {"queue": "q"}, "task_ids": [1]}, "filter: give either"),
    ({"filter": {}}, "filter: must say something"), ({"filter": {"color": "red"}}, "filter.color: unknown field"),
    ({"filter": {"status": "done"}}, "filter.status: "), ({"filter": {"status": "completed"}}, "filter.status: "),
    ({"filter": {"queue": ""}}, "filter.queue: "),
    ({"filter": {"older_than_seconds": -1}}, "filter.older_than_seconds: "),
    ({"task_ids": []}, "task_ids: "), ({"task_ids": ["1"]}, "task_ids[0]: "),
    ({"task_ids": [1], "dry_run": 1}, "dry_run: "),
    ({"filter": {"queue": "q"}, "force": True}, "force: unknown field"),
])  # fmt: skip
def test_bad_bulk_actions_name_field_and_reason(api: Api, body: Any, fault: str) -> None:
    refused = api.post("/tasks/cancel", body)
    assert refused.status == 400
    assert refused.fault.startswith(fault)


def test_no_such_action(api: Api) -> None:
    assert api.post("/tasks/destroy", {"filter": {"queue": "q"}}).status == 404


def test_retention(make_api: Callable[..., Api]) -> None:
    api = make_api(retention_completed=60.0, retention_failed=120.0, retention_cancelled=180.0)
    default = {"completed_seconds": 60, "failed_seconds": 120, "cancelled_seconds": 180}
    assert api.get("/retention").data == {"default": default, "queues": {}}
    told = api.post("/retention", {"queue": "q", "failed_seconds": 7}).data
    assert told == {"default": default, "queues": {"q": {"failed_seconds": 7}}}
    assert api.post("/retention", {"completed_seconds": 5}).data["default"] == {**default, "completed_seconds": 5}
    assert api.post("/retention", {"completed_seconds": None}).data["default"] == default
    assert api.post("/retention", {"queue": "q", "failed_seconds": None}).data["queues"] == {}
    assert api.post("/retention", {"queue": "q"}).fault.startswith("name at least one")
    assert api.post("/retention", {"queue": "q", "failed_seconds": -1}).fault.startswith("failed_seconds: ")
    assert api.post("/retention", {"pending_seconds": 1}).fault == "pending_seconds: unknown field"


# results over their limit


def test_an_inline_result_over_the_limit_fails_the_attempt(make_api: Callable[..., Api]) -> None:
    api = make_api(result_max_bytes=2000)
    lease = api.lease(max_attempts=1)
    outcome = api.outcome(lease["lease_id"], result="é" * 1000)
    assert api.verdicts(outcome) == ["accepted"]
    task = api.task(lease["task_id"])
    assert task["status"] == "failed"
    assert task["error"] == "the result is too large: 2002 bytes, the limit is 2000 (RESULT_MAX_BYTES)"
    assert api.verdicts(outcome) == ["duplicate"]
    fits = api.lease()
    assert api.verdicts(api.outcome(fits["lease_id"], result="é" * 999)) == ["accepted"]
    assert api.task(fits["task_id"])["status"] == "completed"


def test_an_upload_over_the_limit_fails_the_attempt_when_it_is_reported(make_api: Callable[..., Api]) -> None:
    api = make_api(result_max_bytes=2000)
    lease = api.lease(max_attempts=1)
    path = f"/result/{lease['lease_id']}?store_id={api.store.store_id}"
    assert api.ask("PUT", path, b"x" * 2001).status == 413
    ref = {"bytes": 2001, "sha256": "0" * 64, "media_type": "text/plain"}
    assert api.verdicts(api.outcome(lease["lease_id"], result_ref=ref)) == ["accepted"]
    task = api.task(lease["task_id"])
    assert (task["status"], "2001 bytes" in task["error"]) == ("failed", True)


def test_a_classic_result_over_the_limit_fails_the_attempt(make_api: Callable[..., Api]) -> None:
    api = make_api(result_max_bytes=2000)
    task_id = api.submit(max_attempts=1)
    api.post("/get-task", {"worker_id": "simple"})
    report = {"task_id": task_id, "worker_id": "simple", "status": "completed", "text": "x" * 2000}
    assert api.post("/submit-result", report).data["saved"] is True
    assert "RESULT_MAX_BYTES" in api.task(task_id)["error"]


def test_a_large_result_comes_back_as_it_was(api: Api) -> None:
    lease = api.lease()
    result = {"rows": list(range(30_000)), "ö": "ü" * 5000}
    assert api.verdicts(api.outcome(lease["lease_id"], result=result)) == ["accepted"]
    assert api.task(lease["task_id"])["result"] == result
    assert api.get(f"/task/{lease['task_id']}/result").json == result
    uploaded = api.lease()
    data = b"many words " * 200_000
    ref = {key: value for key, value in api.upload(uploaded["lease_id"], data).items() if key != "lease_id"}
    assert ref["bytes"] == len(data)
    outcome = api.outcome(uploaded["lease_id"], result_ref={**ref, "media_type": "text/plain"})
    assert api.verdicts(outcome) == ["accepted"]
    reply = api.get(f"/task/{uploaded['task_id']}/result")
    assert (reply.body, reply.headers["Content-Length"]) == (data, str(len(data)))
