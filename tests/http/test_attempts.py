"""Attempts over HTTP: what a submit may say, what reports and registrations bring, blame and forgiving."""

from typing import Any

import pytest
from http_helpers import Api

from dispatcher.maintenance.attempts import Attempts
from dispatcher.queue.blame import IN_A_ROW

BACKOFF = {"first_seconds": 5, "factor": 2, "max_seconds": 60, "jitter": 0}


def failed(api: Api, task_id: int, instance: str = "i-1", **fields: Any) -> Any:
    (lease,) = api.claim(instance)["tasks"]
    assert lease["task_id"] == task_id
    api.report(api.outcome(lease["lease_id"], "failed", error="it broke", **fields), instance=instance)
    return api.task(task_id)


def test_a_submit_says_how_it_is_tried_and_how_long(api: Api) -> None:
    task_id = api.submit(backoff=BACKOFF, wait_seconds=60, total_seconds=600.5)
    told = api.task(task_id)
    assert (told["backoff"], told["wait_seconds"], told["total_seconds"]) == (BACKOFF, 60, 600.5)
    assert failed(api, task_id)["status"] == "pending"
    api.advance(4)
    assert api.claim()["tasks"] == []
    api.advance(1)
    assert api.claim()["tasks"][0]["task_id"] == task_id
    part = api.task(api.submit(backoff={"first_seconds": 1}))
    assert part["backoff"] == {"first_seconds": 1, "factor": 4, "max_seconds": 3600, "jitter": 0.2}


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [
        ("backoff", {"first_seconds": -1}, "backoff.first_seconds"),
        ("backoff", {"factor": 0.5}, "backoff.factor"),
        ("backoff", {"jitter": 1.5}, "backoff.jitter"),
        ("backoff", {"max": 5}, "backoff.max"),
        ("backoff", 5, "backoff"),
        ("wait_seconds", 0, "wait_seconds"),
        ("total_seconds", -1, "total_seconds"),
        ("total_seconds", "90s", "total_seconds"),
    ],
)
def test_what_is_wrong_is_named(api: Api, field: str, value: object, where: str) -> None:
    reply = api.post("/submit-task", {"task_type": "noop", field: value})
    assert reply.status == 400
    assert reply.fault.startswith(f"{where}: ")


def test_nobody_took_it(api: Api) -> None:
    task_id = api.submit(wait_seconds=60)
    api.advance(60)
    Attempts(api.queue).run_once(api.queue.now())
    told = api.task(task_id)
    assert (told["status"], told["error"]) == ("failed", "nobody took it within 60 s (wait_seconds)")


def test_a_final_failure_and_a_log_of_attempts(api: Api) -> None:
    task_id = api.submit(max_attempts=9)
    told = failed(api, task_id, retry=False)
    assert told["status"] == "failed"
    (attempt,) = told["attempts_log"]
    assert attempt["error"] == "it broke"
    assert (attempt["worker_id"], attempt["outcome"], attempt["counted"]) == ("w-1", "failed", True)
    assert attempt["started_at"] is not None
    assert attempt["ended_at"] is not None


def test_three_crashes_are_poison(api: Api) -> None:
    task_id = api.submit(max_attempts=9, backoff={"first_seconds": 0})
    for _ in range(3):
        told = failed(api, task_id, crashed=True)
    assert told["status"] == "failed"
    assert told["error"].startswith("poison: ")


def test_a_registration_brings_what_types_want(api: Api) -> None:
    wants = {"noop": {"max_attempts": 5, "timeout_seconds": 2, "later": 1}, "other": {"max_attempts": "no"}}
    api.beat(1, register={"task_types": {"noop": None, "other": None}, "defaults": wants})
    reply = api.post("/submit-task", {"task_type": "noop"}).data
    assert reply["max_attempts"] == 5
    told = api.task(reply["task_id"])
    assert (told["max_attempts"], told["timeout_seconds"]) == (5, 2)
    assert api.task(api.submit("other"))["max_attempts"] == 3, "what is wrong is left out"
    assert api.task(api.submit(max_attempts=1))["max_attempts"] == 1


def test_a_limit_below_a_millisecond_is_one(api: Api) -> None:
    """As 0 it would be none."""
    task_id = api.submit(timeout_seconds=0.0004)
    assert api.task(task_id)["timeout_seconds"] == 0.001
    api.ask("PATCH", f"/task/{task_id}", {"timeout_seconds": 0.0002})
    (lease,) = api.claim()["tasks"]
    assert lease["timeout_seconds"] == 0.001


def blame(api: Api) -> None:
    for _ in range(IN_A_ROW):
        failed(api, api.submit(max_attempts=1))
        api.submit()
        good = api.post("/get-task", {"worker_id": "good"}).json
        api.post("/submit-result", {"task_id": good["task_id"], "worker_id": "good", "status": "completed"})


def test_blame_is_shown_and_taken_back(api: Api) -> None:
    blame(api)
    (found,) = api.get("/blames").data["blames"]
    assert (found["worker_id"], found["task_type"]) == ("w-1", "noop")
    assert found["blamed_at"].endswith("Z")
    workers = {worker["worker_id"]: worker["blamed_for"] for worker in api.get("/stats").data["workers"]}
    assert workers == {"w-1": ["noop"], "good": []}
    api.submit()
    assert api.claim()["tasks"] == []
    assert api.post("/forgive", {"worker_id": "w-1", "task_type": "noop"}).data == {"worker_id": "w-1", "forgiven": 1}
    assert len(api.claim()["tasks"]) == 1
    assert api.post("/forgive", {"worker_id": "w-1"}).status == 404


@pytest.mark.parametrize(
    ("body", "where"),
    [({}, "worker_id"), ({"worker_id": "a b"}, "worker_id"), ({"worker_id": "a", "type": "noop"}, "type")],
)
def test_forgiving_is_strict(api: Api, body: dict[str, Any], where: str) -> None:
    reply = api.post("/forgive", body)
    assert reply.status == 400
    assert reply.fault.startswith(f"{where}: ")
