"""The Client: what it sends, how it retries, how it waits."""

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from client_fakes import FakeTime, FakeTransport, client, ended, in_turn
from scripted_server import HANG_UP, Server, reply, success

from client import bodies
from client.client import Client
from client.errors import (
    BadReply,
    Refused,
    Rejected,
    TransportError,
    Unreachable,
)
from client.retry import Retry
from common.json_profile import JsonError

GONE = Unreachable("http://fake:5000", "connection refused")
STOPPING = Refused(503, "unavailable", "stopping", 3.0)


def stored(path: str, fields: Any) -> Any:
    """The answer to a submit of one or many."""
    if path == "/submit-task":
        return {"task_id": 1, "task_type": fields["task_type"], "status": "pending", "max_attempts": 3}
    ids = [task["task_data"].get("n", 0) for task in bodies.spelt_out(fields["tasks"])]
    return {"task_ids": ids, "count": len(ids)}


# --- submit


def test_a_submit_sends_what_was_said_and_a_key() -> None:
    transport = FakeTransport(submit_task=stored)
    assert client(transport).submit("noop", {"n": 2**65}, tags=["a"], delay_seconds=1.5) == 1
    (sent,) = transport.bodies("/submit-task")
    key = sent.pop("idempotency_key")
    assert re.fullmatch(r"[\w-]{16}", key)
    assert sent == {
        "task_type": "noop", "task_data": {"n": 2**65}, "queue": "default", "priority": 0, "tags": ["a"],
        "delay_seconds": 1.5,
    }  # fmt: skip


def test_every_submit_has_a_key_of_its_own() -> None:
    transport = FakeTransport(submit_task=stored)
    made = client(transport)
    for _ in range(3):
        made.submit("noop")
    assert len({sent["idempotency_key"] for sent in transport.bodies("/submit-task")}) == 3


def test_the_key_stays_the_same_over_retries() -> None:
    transport = FakeTransport(submit_task=in_turn(GONE, STOPPING, {"task_id": 4}))
    assert client(transport).submit("noop") == 4
    sent = transport.bodies("/submit-task")
    assert len(sent) == 3
    assert sent[0] == sent[1] == sent[2]


def test_a_users_key_is_kept() -> None:
    transport = FakeTransport(submit_task=stored)
    client(transport).submit("noop", idempotency_key="order-7")
    assert transport.bodies("/submit-task")[0]["idempotency_key"] == "order-7"


def test_run_at_goes_in_utc() -> None:
    transport = FakeTransport(submit_task=stored)
    moment = datetime(2030, 1, 1, 8, tzinfo=timezone(timedelta(hours=2)))
    client(transport).submit("noop", run_at=moment)
    client(transport).submit("noop", run_at="2030-01-01T06:00:00Z")
    assert [sent["run_at"] for sent in transport.bodies("/submit-task")] == ["2030-01-01T06:00:00Z"] * 2


def test_a_time_without_zone_is_refused_before_anything_is_sent() -> None:
    transport = FakeTransport(submit_task=stored)
    with pytest.raises(ValueError, match="no time zone"):
        client(transport).submit("noop", run_at=datetime(2030, 1, 1))  # noqa: DTZ001 -- the point
    assert not transport.calls


def test_data_that_is_not_json_is_refused_with_its_path() -> None:
    with pytest.raises(JsonError, match=r"task_data\.x\[1\]: nan is not JSON"):
        client(FakeTransport()).submit("noop", {"x": [1, float("nan")]})


# --- many


def test_many_are_split_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_TASKS", 10)
    transport = FakeTransport(submit_tasks=stored)
    tasks = ({"task_type": "noop", "task_data": {"n": n}} for n in range(25))
    assert client(transport).submit_many(tasks) == list(range(25))
    sent = transport.bodies("/submit-tasks")
    assert [len(list(bodies.spelt_out(body["tasks"]))) for body in sent] == [10, 10, 5]
    assert len({body["idempotency_key"] for body in sent}) == 3
    assert next(bodies.spelt_out(sent[0]["tasks"])) == {"task_type": "noop", "task_data": {"n": 0}}


def test_many_without_data_have_none() -> None:
    transport = FakeTransport(submit_tasks=stored)
    client(transport).submit_many([{"task_type": "noop", "priority": None}])
    assert transport.bodies("/submit-tasks")[0]["tasks"] == [{"task_type": "noop", "task_data": {}}]


def test_a_users_key_names_each_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that another call may cut its requests elsewhere, and have more at its end."""
    monkeypatch.setattr(bodies, "MAX_TASKS", 2)
    transport = FakeTransport(submit_tasks=stored)
    client(transport).submit_many([{"task_type": "noop"}] * 3, idempotency_key="order")
    sent = transport.bodies("/submit-tasks")
    assert [task["idempotency_key"] for body in sent for task in body["tasks"]] == ["order-0", "order-1", "order-2"]
    assert all(body.keys() == {"tasks"} for body in sent)


def test_of_many_that_differ_in_their_data_alone_the_rest_is_said_once() -> None:
    """In their order; a task with a name of its own, and one that is alone, stand as ever."""
    prime, noop = {"task_type": "prime", "queue": "q", "tags": ["a"]}, {"task_type": "noop"}
    tasks = [{**prime, "task_data": {"n": 1}}, {**prime, "task_data": {"n": 2}}, {**noop, "task_data": None}, noop,
             prime, {**noop, "unique_key": "u"}, {**noop, "unique_key": "u"}]  # fmt: skip
    (body,) = bodies.bulk_bodies(tasks, None)
    assert json.loads(body)["tasks"] == [
        {**prime, "each": [{"n": 1}, {"n": 2}]},
        {**noop, "each": [{}, {}]},
        {**prime, "task_data": {}},
        {**noop, "unique_key": "u", "task_data": {}},
        {**noop, "unique_key": "u", "task_data": {}},
    ]


def test_what_the_caller_changes_meanwhile_is_as_it_was_when_its_task_came() -> None:
    def growing() -> Iterator[dict[str, Any]]:
        tags: list[str] = []
        for n in range(3):
            tags[:] = [f"t{n}"]
            yield {"task_type": "noop", "tags": tags}

    (body,) = bodies.bulk_bodies(growing(), None)
    assert [task["tags"] for task in json.loads(body)["tasks"]] == [["t0"], ["t1"], ["t2"]]


def test_one_and_true_are_not_alike() -> None:
    (body,) = bodies.bulk_bodies([{"task_type": "noop", "priority": 1}, {"task_type": "noop", "priority": True}], None)
    assert [task["priority"] for task in json.loads(body)["tasks"]] == [1, True]
    assert [type(task["priority"]) for task in json.loads(body)["tasks"]] == [int, bool]


def test_each_of_a_users_own_is_refused_by_the_dispatcher() -> None:
    (body,) = bodies.bulk_bodies([{"task_type": "noop", "each": [{}]}] * 2, None)
    assert all(
        task.keys() == {"task_type", "each", "task_data"} for task in bodies.spelt_out(json.loads(body)["tasks"])
    )


@pytest.mark.parametrize("data", [{"deep": [1, float("nan")]}, {1: 2}])
def test_data_that_is_no_json_is_named_by_its_path(data: Any) -> None:
    with pytest.raises(JsonError, match=r"^\$\.task_data[.:]"):
        list(bodies.bulk_bodies([{"task_type": "noop"}, {"task_type": "noop", "task_data": data}], None))


def test_a_request_is_full_with_tasks_that_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_TASKS", 2)
    sent = [json.loads(body)["tasks"] for body in bodies.bulk_bodies([{"task_type": "noop"}] * 5, None)]
    assert sent == [[{"task_type": "noop", "each": [{}, {}]}]] * 2 + [[{"task_type": "noop", "task_data": {}}]]


def test_many_are_split_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_BYTES", 1000)
    tasks = [{"task_type": "noop", "task_data": {"text": "é" * size}} for size in (100, 100, 100, 3000, 1)]
    sent = list(bodies.bulk_bodies(tasks, "k"))
    assert [len(json.loads(body)["tasks"]) for body in sent] == [3, 1, 1]
    assert max(len(sent[0]), len(sent[2])) <= 1000 + len('{"tasks":[]}')


def test_the_default_limits_hold() -> None:
    sent = list(bodies.bulk_bodies(({"task_type": "noop"} for _ in range(4_001)), "k"))
    assert [len(json.loads(body)["tasks"]) for body in sent] == [2_000, 2_000, 1]
    large = {"task_type": "noop", "task_data": {"text": "x" * 1_000_000}}
    assert all(len(body) < 8.1 * 2**20 for body in bodies.bulk_bodies([large] * 20, "k"))


def test_nothing_to_submit_sends_nothing() -> None:
    transport = FakeTransport()
    assert client(transport).submit_many([]) == []
    assert not transport.calls


def test_a_task_in_a_batch_may_have_its_own_key() -> None:
    body = next(bodies.bulk_bodies([{"task_type": "noop", "idempotency_key": "mine"}, {"task_type": "noop"}], "k"))
    assert [task["idempotency_key"] for task in json.loads(body)["tasks"]] == ["mine", "k-1"]


def test_what_was_accepted_before_a_refusal_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_TASKS", 2)
    refusal = Refused(400, "invalid", "tasks[0].queue: too long")
    transport = FakeTransport(submit_tasks=in_turn({"task_ids": [1, 2]}, refusal))
    batches = client(transport).submit_batches({"task_type": "noop"} for _ in range(4))
    assert next(batches) == [1, 2]
    with pytest.raises(Rejected, match=r"tasks\[0\]\.queue: too long"):
        next(batches)


# --- retries


def test_backoff_doubles_with_full_jitter_up_to_a_longest_step() -> None:
    time = FakeTime()
    transport = FakeTransport(stats=in_turn(*[GONE] * 9, {}))
    client(transport, time, retry_seconds=600).stats()
    assert time.jitters == [(0, step) for step in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0)]
    assert time.slept == [high for _, high in time.jitters]


def test_retries_end_with_the_time_given() -> None:
    time = FakeTime()
    with pytest.raises(Unreachable):
        client(FakeTransport(stats=in_turn(GONE)), time, retry_seconds=5).stats()
    assert sum(time.slept) == pytest.approx(5)


def test_zero_seconds_are_one_try() -> None:
    time, transport = FakeTime(), FakeTransport(stats=in_turn(GONE))
    with pytest.raises(Unreachable):
        client(transport, time, retry_seconds=0).stats()
    assert len(transport.calls) == 1
    assert not time.slept


@pytest.mark.parametrize("status", [500, 502, 503, 507])
def test_a_5xx_is_tried_again(status: int) -> None:
    transport = FakeTransport(stats=in_turn(Refused(status, "x", "y"), {"pending_tasks": 1}))
    assert client(transport).stats() == {"pending_tasks": 1}


@pytest.mark.parametrize("status", [503, 507])
def test_retry_after_is_waited_for(status: int) -> None:
    time = FakeTime()
    client(FakeTransport(stats=in_turn(Refused(status, "x", "y", 7.0), {})), time).stats()
    assert time.slept == [7.1]


def test_a_retry_after_beyond_the_time_given_is_not_waited_for() -> None:
    time = FakeTime()
    with pytest.raises(Refused, match="stopping"):
        client(FakeTransport(stats=in_turn(STOPPING)), time, retry_seconds=2).stats()
    assert not time.slept


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 429])
def test_a_4xx_is_raised_at_once_with_its_reason(status: int) -> None:
    transport = FakeTransport(submit_task=in_turn(Refused(status, "invalid", "priority: not a whole number")))
    with pytest.raises(Rejected, match="priority: not a whole number") as caught:
        client(transport).submit("noop")
    assert (caught.value.status, caught.value.code) == (status, "invalid")
    assert len(transport.calls) == 1


def test_a_stranger_is_not_asked_again() -> None:
    transport = FakeTransport(stats=in_turn(BadReply("http://fake:5000", "not JSON")))
    with pytest.raises(BadReply):
        client(transport).stats()
    assert len(transport.calls) == 1


def test_each_failure_that_will_be_tried_again_is_noticed() -> None:
    heard: list[TransportError] = []
    time = FakeTime()
    retry = Retry(60, time.timing, heard.append)
    transport: Any = FakeTransport(stats=in_turn(GONE, STOPPING, {}))
    Client(transport=transport, timing=time.timing, retry=retry).stats()
    assert heard == [GONE, STOPPING]


# --- reading


def test_a_task_and_the_lack_of_one() -> None:
    made = client(FakeTransport(task=in_turn(ended(5, "pending"), Refused(404, "not_found", "no task 6"))))
    assert made.task(5)["status"] == "pending"
    with pytest.raises(Rejected, match="no task 6"):
        made.task(6)


def test_tasks_come_page_by_page() -> None:
    pages = in_turn({"tasks": [ended(1)], "next_cursor": "a b"}, {"tasks": [ended(2)], "next_cursor": None})
    transport = FakeTransport(tasks=pages)
    assert [task["task_id"] for task in client(transport).tasks(status="failed", queue="q")] == [1, 2]
    assert [path for _, path, _ in transport.calls] == [
        "/tasks?status=failed&queue=q&limit=500",
        "/tasks?status=failed&queue=q&limit=500&cursor=a+b",
    ]


def test_many_ids_are_asked_in_several_requests() -> None:
    transport = FakeTransport(tasks=in_turn({"tasks": [], "next_cursor": None}))
    assert list(client(transport).tasks(ids=range(450))) == []
    assert len(transport.calls) == 3
    assert list(client(transport).tasks(ids=[])) == []
    assert len(transport.calls) == 3


def test_cancel_gives_a_verdict_for_each_id() -> None:
    def verdicts(_: str, fields: Any) -> Any:
        return {"tasks": [{"task_id": task_id, "verdict": "cancelled"} for task_id in fields["task_ids"]]}

    transport = FakeTransport(cancel_tasks=verdicts)
    assert client(transport).cancel(range(1, 1502)) == dict.fromkeys(range(1, 1502), "cancelled")
    assert [len(body["task_ids"]) for body in transport.bodies("/cancel-tasks")] == [1000, 501]


def test_health_and_closing() -> None:
    transport = FakeTransport(health=in_turn({"status": "healthy"}))
    with client(transport) as made:
        assert made.health()["status"] == "healthy"
    assert transport.closed


# --- over real sockets


def test_an_outage_is_bridged_over_real_sockets(server: Server, given: dict[str, str]) -> None:
    given.update(DISPATCHER_URL=server.url, DISPATCHER_TOKEN="s3cret")
    server.answer(HANG_UP, reply(b"", "503 SERVICE UNAVAILABLE", Retry_After="1"), success({"task_id": 8}))
    time = FakeTime()
    with Client(timing=time.timing) as made:
        assert made.submit("noop") == 8
    assert len({seen.body for seen in server.seen}) == 1
    assert {seen.headers["authorization"] for seen in server.seen} == {"Bearer s3cret"}
    assert time.slept == [0.1, 1.2]
