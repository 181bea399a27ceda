"""Queues over HTTP: settings, pause and resume, backlog, labels, keys, and why a task waits."""

from typing import Any

import pytest
from http_helpers import Api, wait_until

FRESH = {
    "queue": "mail", "paused": False, "pending": 0, "ready": 0, "running": 0, "blocked": 0, "max_running": None,
    "rate": None, "weight": 1, "max_waiting": None, "key_running": None, "key_rate": None,
}  # fmt: skip


def change(api: Api, name: str = "mail", **fields: Any) -> Any:
    return api.ask("PATCH", f"/queues/{name}", fields).data


def test_a_queue_with_its_settings(api: Api) -> None:
    assert api.get("/queues").data == {"queues": []}
    assert api.get("/queues/mail").status == 404
    limits = {"max_running": 2, "rate": {"count": 100, "period_seconds": 60.0}, "weight": 3, "max_waiting": 9}
    limits |= {"key_running": 1, "key_rate": {"count": 10, "period_seconds": 0.5}}
    expected = {**FRESH, **limits}
    assert change(api, **limits) == expected
    assert api.get("/queues/mail").data == expected
    assert change(api, rate=None, weight=None) == {**expected, "rate": None, "weight": 1}
    api.submit(queue="other")
    api.submit(queue="other", delay_seconds=60)
    api.claim()
    names = {queue["queue"]: queue for queue in api.get("/queues").data["queues"]}
    assert names.keys() == {"mail", "other"}
    assert names["other"] == {**FRESH, "queue": "other", "pending": 1, "running": 1}


def test_pause_and_resume(api: Api) -> None:
    api.submit(queue="mail")
    assert api.post("/queues/mail/pause").data["paused"] is True
    assert api.claim()["tasks"] == []
    later = api.later(api.claim, "i-2", wait_seconds=10)
    wait_until(lambda: len(api.queue.waiting))
    assert api.post("/queues/mail/resume", {}).data["paused"] is False
    assert len(later.result()["tasks"]) == 1


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"odd": 1}, "odd"),
        ({"max_running": -1}, "max_running"),
        ({"max_running": "1"}, "max_running"),
        ({"rate": {"count": 0, "period_seconds": 1}}, "rate.count"),
        ({"rate": {"count": 1}}, "rate.period_seconds"),
        ({"rate": {"count": 1, "period_seconds": 0.01}}, "rate.period_seconds"),
        ({"rate": {"count": 1, "period_seconds": 1, "burst": 1}}, "rate.burst"),
        ({"weight": 0}, "weight"),
        ({"max_waiting": 2**54}, "max_waiting"),
        ({"key_running": 0}, "key_running"),
        ({"key_rate": "10/1m"}, "key_rate"),
        ({"key_rate": {"count": 1.5, "period_seconds": 1}}, "key_rate.count"),
        ({"key_rate": {"count": 1, "period_seconds": 1e9}}, "key_rate.period_seconds"),
        ({"paused": 1}, "paused"),
    ],
)
def test_bad_settings_name_their_field(api: Api, fields: Any, named: str) -> None:
    before = api.version()
    reply = api.ask("PATCH", "/queues/mail", fields)
    assert reply.status == 400
    assert reply.fault.startswith(f"{named}: ")
    assert api.version() == before


def test_bad_names_and_bodies(api: Api) -> None:
    for path in ("/queues/a%20b/pause", f"/queues/{'q' * 129}/resume"):
        reply = api.post(path)
        assert (reply.status, reply.fault.split(":")[0]) == (400, "queue")
    assert api.post("/queues/mail/pause", {"until": 1}).fault.startswith("until: ")
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}
    assert api.post("/queues/mail/pause", {"until": 1}, environ_overrides=chunked).fault.startswith("until: ")
    assert api.get("/queues?odd=1").status == 400
    assert api.rows()["queues"] == 0


def test_backlog_is_429_and_all_or_none(api: Api) -> None:
    change(api, max_waiting=2)
    api.submit(queue="mail")
    tasks = [{"task_type": "noop", "queue": queue} for queue in ("mail", "mail", "other")]
    reply = api.post("/submit-tasks", {"tasks": tasks})
    assert (reply.status, reply.json["code"], reply.headers["Retry-After"]) == (429, "backlog_full", "5")
    assert api.rows()["tasks"] == 1
    api.submit(queue="mail")


def test_labels_and_keys_are_shown_and_kept(api: Api) -> None:
    change(api, "default", key_running=1)
    ids = [api.submit(requires=["gpu", "a", "gpu"], key="user:42") for _ in range(2)]
    assert api.claim()["tasks"] == []
    (lease,) = api.claim(labels=["gpu", "a"], max_tasks=5)["tasks"]
    assert lease["task_id"] == ids[0]
    task = api.task(ids[1])
    assert (task["requires"], task["key"], task["status"]) == (["a", "gpu"], "user:42", "pending")
    assert task["waiting_because"] == "key limit: 1 of 1 tasks with key user:42 run or stand before it"
    api.report(api.outcome(lease["lease_id"], result=1))
    assert api.task(ids[0])["waiting_because"] is None
    assert "noop" in api.task(ids[1])["task_type"]
    assert len(api.claim(labels=["gpu", "a"])["tasks"]) == 1


def test_rate_of_each_key(api: Api) -> None:
    change(api, "default", key_rate={"count": 10, "period_seconds": 60})
    ids = [api.submit(key=key) for key in ("user:42", "user:42", "user:7")]
    assert [task["task_id"] for task in api.claim(max_tasks=9)["tasks"]] == [ids[0], ids[2]]
    reason = api.task(ids[1])["waiting_because"]
    assert reason.startswith("limit of the key user:42: 10 a minute, the next in ")
    later = api.later(api.claim, "i-2", wait_seconds=10)
    wait_until(lambda: len(api.queue.waiting))
    change(api, "default", key_rate=None)
    assert [task["task_id"] for task in later.result()["tasks"]] == [ids[1]]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"requires": "gpu"}, "requires"),
        ({"requires": ["a b"]}, "requires[0]"),
        ({"requires": ["#key"]}, "requires[0]"),
        ({"requires": ["a"] * 17}, "requires"),
        ({"key": ""}, "key"),
        ({"key": 42}, "key"),
        ({"key": "k" * 129}, "key"),
    ],
)
def test_bad_labels_and_keys(api: Api, fields: Any, named: str) -> None:
    reply = api.post("/submit-task", {"task_type": "noop", **fields})
    assert reply.status == 400
    assert reply.fault.startswith(f"{named}: ")


def test_the_same_submit_under_another_key_is_another_body(api: Api) -> None:
    api.submit(idempotency_key="k", key="a")
    reply = api.post("/submit-task", {"task_type": "noop", "idempotency_key": "k", "key": "b"})
    assert reply.status == 409


def test_why_a_task_waits(api: Api) -> None:
    task_id = api.submit(queue="mail")
    assert api.task(task_id)["waiting_because"] == "no live worker"
    api.post("/queues/mail/pause")
    api.claim(max_tasks=0)
    assert api.task(task_id)["waiting_because"] == "queue mail is paused"
