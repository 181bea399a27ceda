"""The seven classic endpoints in their exact shapes, and the faults of the classic program, which are not here."""

import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
from http_helpers import Api, Process

PRIME = {"limit": 100000, "method": "sieve"}
FOUND = {
    "primes": [2, 3, 5, 7],
    "computation_time": 0.25,
    "method": "sieve",
    "was_resumed": False,
    "checkpoint_time": 0.0,
    "resume_time": 0.0,
}


def take(api: Api, worker: str = "worker-1") -> Any:
    return api.post("/get-task", {"worker_id": worker}).json


def tell(api: Api, task_id: int, worker: str = "worker-1", status: str = "completed", **fields: Any) -> Any:
    """The data of a report that was answered for good."""
    reply = api.post("/submit-result", {"task_id": task_id, "worker_id": worker, "status": status, **fields})
    assert reply.status == 200
    assert reply.json["status"] == "success"
    assert reply.json["message"]
    assert {"task_id", "status", "saved", "timestamp"} <= reply.data.keys()
    return reply.data


def alive(api: Api, worker: str = "worker-1", **metadata: Any) -> Any:
    return api.post("/heartbeat", {"worker_id": worker, "status": "alive", "metadata": metadata})


def is_a_moment(text: str) -> bool:
    return text.endswith("Z") and datetime.fromisoformat(text[:-1] + "+00:00").tzinfo == timezone.utc


# -- shapes --


def test_submit_task(api: Api) -> None:
    reply = api.post("/submit-task", {"task_type": "prime", "task_data": PRIME})
    assert reply.status == 201
    assert reply.json == {
        "status": "success",
        "message": "Task submitted successfully",
        "data": {"task_id": 1, "task_type": "prime", "status": "pending", "max_attempts": 3},
    }


@pytest.mark.parametrize("body", [None, b"", {}, {"task_data": PRIME}, {"task_type": ""}, {"task_type": None}])
def test_submit_task_without_a_type(api: Api, body: Any) -> None:
    reply = api.post("/submit-task", body)
    assert reply.status == 400
    assert reply.json["error"]
    assert api.rows()["tasks"] == 0


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", "text/plain", ""])
def test_the_content_type_does_not_matter(api: Api, kind: str) -> None:
    assert api.post("/submit-task", {"task_type": "prime", "task_data": PRIME}, content_type=kind).status == 201
    assert json.loads(take(api)["payload"]) == PRIME


def test_get_task(api: Api) -> None:
    task_id = api.submit("prime", task_data=PRIME)
    reply = api.post("/get-task", {"worker_id": "worker-1"})
    assert reply.status == 200
    told = reply.json
    assert (told["task_id"], told["task_type"]) == (task_id, "prime")
    assert isinstance(told["payload"], str)
    assert json.loads(told["payload"]) == PRIME
    assert api.task(task_id)["assigned_to"] == "worker-1"


def test_get_task_when_there_is_none(api: Api) -> None:
    before = api.version()
    reply = api.post("/get-task", {"worker_id": "worker-1"})
    assert (reply.status, reply.json) == (200, {"task": None})
    assert api.version() == before  # I10: an empty poll writes nothing


@pytest.mark.parametrize("body", [None, {}, {"worker_id": ""}, {"worker_id": None}, {"worker_id": 1}])
def test_get_task_without_a_worker(api: Api, body: Any) -> None:
    api.submit()
    reply = api.post("/get-task", body)
    assert reply.status == 400
    assert reply.json["error"]
    assert api.task(1)["status"] == "pending"


def test_heartbeat(api: Api) -> None:
    reply = alive(api, hostname="lab", pid=7)
    assert reply.status == 200
    assert reply.json.keys() == {"status", "message", "data"}
    assert reply.data.keys() == {"worker_id", "status", "last_heartbeat"}
    assert (reply.data["worker_id"], reply.data["status"]) == ("worker-1", "alive")
    assert is_a_moment(reply.data["last_heartbeat"])


def test_submit_result(api: Api) -> None:
    task_id = api.submit("prime", task_data=PRIME)
    take(api)
    data = tell(api, task_id, **FOUND)
    assert (data["task_id"], data["status"], data["saved"]) == (task_id, "completed", True)
    assert is_a_moment(data["timestamp"])


@pytest.mark.parametrize("status", ["done", "COMPLETED", "cancelled", "released", "", None, 1, ["completed"]])
def test_submit_result_with_another_status(api: Api, status: Any) -> None:
    task_id = api.submit()
    take(api)
    reply = api.post("/submit-result", {"task_id": task_id, "worker_id": "worker-1", "status": status})
    assert reply.status == 400
    assert reply.json["error"].startswith("status: ")
    assert api.task(task_id)["status"] == "in_progress"


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_submit_result_of_a_task_that_never_was(api: Api, status: str) -> None:
    reply = api.post("/submit-result", {"task_id": 4711, "worker_id": "worker-1", "status": status})
    assert reply.status == 404
    assert reply.json["error"] == "task 4711 not found"


def test_task(api: Api) -> None:
    task_id = api.submit("prime", task_data=PRIME)
    waiting = api.task(task_id)
    assert {"task_id", "task_type", "status", "attempts", "max_attempts", "assigned_to"} <= waiting.keys()
    assert (waiting["status"], waiting["attempts"], waiting["assigned_to"]) == ("pending", 0, None)
    take(api)
    tell(api, task_id, **FOUND)
    ended = api.task(task_id)
    assert (ended["status"], ended["attempts"], ended["assigned_to"]) == ("completed", 1, "worker-1")
    assert {name: ended[name] for name in FOUND} == FOUND
    assert ended["result"] == FOUND
    assert ended["run_seconds"] == 0.25


def test_task_that_never_was(api: Api) -> None:
    reply = api.get("/task/4711")
    assert reply.status == 404
    assert reply.json["status"] == "error"
    assert reply.json["message"] == "task 4711 not found"


def test_stats(api: Api) -> None:
    alive(api, hostname="lab")
    for _ in range(5):
        api.submit()
    take(api)
    tell(api, take(api)["task_id"])
    api.post("/cancel-tasks", {"task_ids": [5]})
    data = api.get("/stats").data
    states = ("pending", "in_progress", "blocked", "completed", "failed", "cancelled")
    assert [data[f"{state}_tasks"] for state in states] == [2, 1, 0, 1, 0, 1]
    assert data["active_workers"] == 1
    assert (data["farm"]["word"], data["farm"]["able_workers"]) == ("active", 1)
    (worker,) = data["workers"]
    assert {"worker_id", "last_heartbeat", "status", "metadata"} <= worker.keys()
    assert (worker["worker_id"], worker["status"]) == ("worker-1", "alive")
    assert worker["metadata"] == {"hostname": "lab"}
    assert is_a_moment(worker["last_heartbeat"])
    api.advance(61)
    later = api.get("/stats").data
    assert (later["active_workers"], later["farm"]["able_workers"]) == (0, 0)


def test_health(api: Api) -> None:
    reply = api.get("/health")
    assert reply.status == 200
    assert reply.json | {"status": "healthy", "service": "dispatcher"} == reply.json


# -- reports that count, and reports that do not: both are answered for good --


def test_a_repeated_result_is_answered_and_not_saved_again(api: Api) -> None:
    task_id = api.submit()
    take(api)
    assert tell(api, task_id, primes=[2])["saved"] is True
    again = tell(api, task_id, primes=[3])
    assert again["saved"] is False
    assert again["reason"]
    assert api.task(task_id)["primes"] == [2]


def test_a_stale_failure_does_not_touch_the_present_holder(api: Api) -> None:
    task_id = api.submit()
    take(api, "worker-1")
    api.advance(121)
    assert take(api, "worker-2")["task_id"] == task_id
    assert tell(api, task_id, "worker-1", "failed", error="boom")["saved"] is False
    assert (api.task(task_id)["status"], api.task(task_id)["assigned_to"]) == ("in_progress", "worker-2")
    assert tell(api, task_id, "worker-2")["saved"] is True
    assert tell(api, task_id, "worker-1", "failed", error="boom")["saved"] is False
    assert api.task(task_id)["status"] == "completed"


def test_a_late_success_counts_even_hours_later(api: Api) -> None:
    task_id = api.submit()
    take(api, "worker-1")
    api.advance(121)
    assert take(api, "worker-2")["task_id"] == task_id
    api.advance(121)
    api.clock.advance(5 * 3600)  # type: ignore[union-attr]
    assert tell(api, task_id, "worker-1", primes=[2])["saved"] is True
    assert tell(api, task_id, "worker-2", primes=[3])["saved"] is False
    assert (api.task(task_id)["status"], api.task(task_id)["primes"]) == ("completed", [2])


def test_the_death_of_the_last_attempt_fails_the_task(api: Api) -> None:
    task_id = api.submit(max_attempts=2)
    for attempt in (1, 2):
        take(api)
        assert api.task(task_id)["attempts"] == attempt
        api.advance(121)
    task = api.task(task_id)
    assert (task["status"], task["attempts"]) == ("failed", 2)
    assert "expired" in task["error"]
    assert take(api) == {"task": None}


def test_the_result_of_a_cancelled_task_is_not_saved(api: Api) -> None:
    task_id = api.submit()
    take(api)
    api.post("/cancel-tasks", {"task_ids": [task_id]})
    assert tell(api, task_id, status="failed")["saved"] is True
    assert api.task(task_id)["status"] == "cancelled"
    told = tell(api, task_id)
    assert told["saved"] is False
    assert "cancelled" in told["reason"]


def test_who_never_held_the_task_cannot_report_it(api: Api) -> None:
    task_id = api.submit()
    take(api, "worker-1")
    for status in ("completed", "failed"):
        assert tell(api, task_id, "worker-2", status)["saved"] is False
    assert api.task(task_id)["status"] == "in_progress"


def test_a_classic_report_does_not_reach_a_native_lease_of_the_same_worker(api: Api) -> None:
    lease = api.lease()
    assert tell(api, lease["task_id"], "w-1")["saved"] is False
    assert api.task(lease["task_id"])["status"] == "in_progress"


def test_a_report_counts_for_the_workers_newest_lease_of_the_task(api: Api) -> None:
    task_id = api.submit()
    take(api)
    api.advance(121)
    assert take(api)["attempt"] == 2
    assert tell(api, task_id, status="failed", error="second")["saved"] is True
    outcomes = [(one["attempt"], one["outcome"]) for one in api.task(task_id)["attempts_log"]]
    assert outcomes == [(1, "expired"), (2, "failed")]


def test_a_lease_id_names_the_attempt_exactly(api: Api) -> None:
    task_id, other = api.submit(), api.submit()
    first = take(api)["lease_id"]
    take(api)
    api.advance(121)
    assert take(api)["lease_id"] != first
    assert tell(api, task_id, status="failed", lease_id=first)["saved"] is False
    assert tell(api, other, lease_id=first)["saved"] is False
    assert tell(api, task_id, lease_id=first)["saved"] is True
    reply = api.post(
        "/submit-result", {"task_id": 1, "worker_id": "worker-1", "status": "completed", "lease_id": "1-xyz"}
    )
    assert reply.status == 400
    assert reply.fault.startswith("lease_id: ")


def test_a_failure_is_tried_again_until_the_attempts_are_used(api: Api) -> None:
    task_id = api.submit(max_attempts=2)
    take(api)
    assert tell(api, task_id, status="failed", error="ValueError: no")["saved"] is True
    task = api.task(task_id)
    assert (task["status"], task["error"]) == ("pending", "ValueError: no")
    assert take(api) == {"task": None}  # not at once
    api.advance(4)
    assert take(api)["attempt"] == 2
    assert tell(api, task_id, status="failed", error="ValueError: still not")["saved"] is True
    assert (api.task(task_id)["status"], api.task(task_id)["error"]) == ("failed", "ValueError: still not")


def test_result_fields_never_override_the_tasks_own(api: Api) -> None:
    task_id = api.submit(task_data={"a": 1})
    take(api)
    claims = {
        "attempts": 99,
        "task_type": "x",
        "assigned_to": "x",
        "task_data": 0,
        "result_ref": {},
        "result": 5,
        "memory_mb": 7,
        "webhook": "http://x",
    }
    tell(api, task_id, **claims, generation=7, queue="x", created_at=0, primes=[2])
    task = api.task(task_id)
    assert (task["attempts"], task["task_type"], task["assigned_to"]) == (1, "noop", "worker-1")
    assert (task["task_data"], task["generation"], task["queue"], task["primes"]) == ({"a": 1}, 1, "default", [2])
    assert "result_ref" not in task
    assert not {"memory_mb", "webhook"} & task.keys()
    assert task["result"]["attempts"] == 99


# -- leases of classic workers --


def test_without_a_heartbeat_a_lease_lasts_its_full_length(api: Api) -> None:
    task_id = api.submit()
    take(api)
    api.advance(119)
    assert api.task(task_id)["status"] == "in_progress"
    api.advance(2)
    assert api.task(task_id)["status"] == "pending"


def test_a_heartbeat_extends_the_lease_for_as_long_as_heartbeats_come(api: Api) -> None:
    task_id = api.submit()
    take(api)
    for _ in range(10):
        api.advance(30)
        alive(api)
    assert api.task(task_id)["status"] == "in_progress"
    api.advance(61)
    assert api.task(task_id)["status"] == "pending"


def test_a_heartbeat_renews_only_the_newest_classic_lease(api: Api) -> None:
    older, newer, native = api.submit(), api.submit(), api.submit("native")
    take(api)
    api.advance(1)
    take(api)
    api.claim(worker_id="worker-1")
    api.advance(100)
    alive(api)
    api.advance(40)
    states = [api.task(task_id)["status"] for task_id in (older, newer, native)]
    assert states == ["pending", "in_progress", "pending"]


# -- the real thing --


def test_a_classic_life_on_a_real_connection(run_warm: Callable[..., Process]) -> None:
    """What curl and the classic worker send, byte for byte as the README shows it."""
    process = run_warm().ready()
    body = '{"task_type": "prime", "task_data": {"limit": 100000, "method": "sieve"}}'
    submitted = process.post("/submit-task", body)
    assert (submitted.status, submitted.data["task_id"]) == (201, 1)
    assert submitted.headers["Content-Type"] == "application/json"
    task = process.post("/get-task", '{"worker_id": "worker-1"}').json
    assert json.loads(task["payload"]) == PRIME
    assert process.post("/get-task", '{"worker_id": "worker-2"}').json == {"task": None}
    beat = {"worker_id": "worker-1", "status": "alive", "metadata": {"pid": 1}}
    assert process.post("/heartbeat", beat).data["status"] == "alive"
    report = {"task_id": 1, "worker_id": "worker-1", "status": "completed", **FOUND}
    assert process.post("/submit-result", report).data["saved"] is True
    assert process.post("/submit-result", report).data["saved"] is False
    assert process.ask("GET", "/task/1").data["primes"] == [2, 3, 5, 7]
    assert process.ask("GET", "/stats").data["completed_tasks"] == 1
    assert process.ask("GET", "/health").json["status"] == "healthy"
    assert process.ask("GET", "/task/2").status == 404
    assert process.stop() == 0
