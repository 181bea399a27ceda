"""`/workers`, orders over the wire, partial results and logs, what an autoscaler asks."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from http_helpers import Api, Reply, wait_until

REGISTER = {
    "task_types": {"noop": None, "prime": {"type": "object"}},
    "concurrency": 4,
    "queues": None,
    "labels": ["gpu"],
    "version": "0.1.0",
    "python": "3.12.1",
    "slots": {"prime": 2},
}


def order(api: Api, worker_id: str, **body: Any) -> Reply:
    return api.ask("PATCH", f"/workers/{worker_id}", body)


def test_a_registered_worker_is_shown_with_all_it_said(api: Api) -> None:
    api.beat(1, register=REGISTER, host={"hostname": "lab"})
    (worker,) = api.get("/workers").data["workers"]
    assert worker == {
        **{name: said for name, said in REGISTER.items() if said is not None},
        "worker_id": "w-1",
        "status": "alive",
        "state": "run",
        "task_types": ["noop", "prime"],
        "metadata": {"hostname": "lab"},
        "leases": 0,
        "classic": False,
        "last_heartbeat": worker["last_heartbeat"],
        "blamed_for": [],
    }
    assert api.get("/stats").data["workers"] == [worker]


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ({"outbox": 2}, {"outbox": 2}),
        (None, {"outbox": 1}),
        ("lab", {"outbox": 1}),
        ([1], {"outbox": 1}),
        ({"much": "x" * 70_000}, {"outbox": 1}),
        ({"deep": json.loads("[" * 100 + "]" * 100)}, {"outbox": 1}),
    ],
)
def test_a_claim_that_waits_says_of_its_host_what_a_heartbeat_would(api: Api, host: Any, shown: dict[str, int]) -> None:
    api.beat(1, register=REGISTER, host={"outbox": 1})
    waiting = api.later(api.claim, wait_seconds=50, host=host)
    wait_until(lambda: len(api.queue.waiting) == 1)
    assert api.queue.note_waiting() == 1
    (worker,) = api.get("/workers").data["workers"]
    assert worker["metadata"] == shown
    api.queue.drain()
    assert waiting.result(10)["tasks"] == []


def test_a_heartbeat_hears_how_long_a_claim_may_stand_for_it(make_api: Callable[..., Api]) -> None:
    assert make_api().beat(1)["wait_seconds"] == 50
    assert make_api(worker_death_timeout=3).beat(1)["wait_seconds"] == 2.5


def test_orders_over_the_wire(api: Api) -> None:
    api.beat(1, register=REGISTER)
    for n, (body, told) in enumerate(
        (
            ({"state": "quiet"}, {"state": "quiet", "cancel": []}),
            ({"state": "sleep"}, {"state": "sleep", "cancel": []}),
            ({"state": "sleep", "when": "now"}, {"state": "sleep", "now": True, "cancel": []}),
            ({"state": "stop"}, {"state": "stop", "cancel": []}),
            ({"state": "stop", "when": "after"}, {"state": "stop", "cancel": []}),
            ({"state": "stop", "when": "now"}, {"state": "stop", "now": True, "cancel": []}),
            ({"state": "run"}, {"state": "run", "cancel": []}),
        )
    ):
        answer = order(api, "w-1", **body).data
        assert answer == {"worker_id": "w-1", "state": body["state"], "instances": 1}
        assert api.beat(n + 2)["orders"] == told
        assert api.claim()["orders"] == told
        assert api.get("/workers").data["workers"][0]["state"] == body["state"]


def test_a_claim_that_knows_its_orders_is_not_told_them_again_before_its_time(api: Api) -> None:
    api.beat(1)
    order(api, "w-1", state="stop", when="now")
    known = {"state": "stop", "now": True, "cancel": []}
    waits = api.later(api.claim, wait_seconds=20, orders=known, max_tasks=0)
    wait_until(lambda: len(api.queue.waiting) or waits.done())
    assert not waits.done()
    order(api, "w-1", state="run")
    assert waits.result(10)["orders"] == {"state": "run", "cancel": []}


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({}, "state: is required"),
        ({"state": "asleep"}, "state: "),
        ({"state": "quiet", "when": "now"}, "when: goes with the states sleep and stop alone"),
        ({"state": "stop", "when": "later"}, "when: "),
        ({"state": "run", "force": True}, "force: unknown field"),
    ],
)
def test_bad_orders_name_the_field(api: Api, body: dict[str, Any], fault: str) -> None:
    api.beat(1)
    reply = order(api, "w-1", **body)
    assert reply.status == 400
    assert reply.fault.startswith(fault)


def test_an_order_to_a_stranger_is_404(api: Api) -> None:
    assert order(api, "nobody", state="quiet").status == 404
    assert api.get("/workers?x=1").status == 400


def test_partial_results_and_logs_can_be_read_while_the_task_runs(api: Api) -> None:
    lease = api.lease()
    task_id, lease_id = lease["task_id"], lease["lease_id"]
    path = f"/task/{task_id}/log"
    told = {"task_id": task_id, "status": "in_progress", "attempts": 1, "lines": [], "cursor": ""}
    assert api.get(path).data == told
    assert "partial" not in api.task(task_id)
    api.beat(1, {"lease_id": lease_id, "partial": {"best": 2**70}, "log": {"from": 0, "lines": ["one", "two"]}})
    assert api.task(task_id)["partial"] == {"best": 2**70}
    assert api.get(path).data["lines"] == ["one", "two"]
    outcome = api.outcome(lease_id, result={"partial": 1}, log={"from": 0, "lines": ["one", "two", "three"]})
    assert api.verdicts(outcome) == ["accepted"]
    assert api.get(path).data["lines"] == ["one", "two", "three"]
    assert api.task(task_id)["partial"] == {"best": 2**70}, "a field of the result does not hide it"
    assert api.get("/task/4711/log").status == 404
    assert api.get(f"{path}?lines=3").status == 400


def test_a_log_is_read_on_from_where_it_was(api: Api) -> None:
    task_id = api.submit()

    def log(*lines: str, start: int = 0) -> None:
        api.beat(start + 1, {"lease_id": lease["lease_id"], "log": {"from": start, "lines": list(lines)}})

    def new(cursor: str) -> tuple[list[str], str]:
        told = api.get(f"/task/{task_id}/log?after={cursor}").data
        return told["lines"], told["cursor"]

    lease = api.lease()
    log("one", "two")
    lines, cursor = new("")
    assert lines == ["one", "two"]
    assert lease["lease_id"].partition("-")[2] not in cursor, "it betrays no lease"
    assert new(cursor) == ([], cursor)
    log("three", start=2)
    lines, later = new(cursor)
    assert lines == ["three"]
    for nonsense in ("x", f"{later.partition('-')[0]}-x", f"{later.partition('-')[0]}-99999"):
        assert set(new(nonsense)[0]) <= {"one", "two", "three"}


def test_a_partial_result_that_is_too_large_costs_no_lease(api: Api) -> None:
    lease = api.lease()
    said = {"lease_id": lease["lease_id"], "partial": "x" * 70_000, "note": "big"}
    assert api.beat(1, said)["leases"] == {lease["lease_id"]: "ok"}
    task = api.task(lease["task_id"])
    assert (task.get("partial"), task["note"]) == (None, "big")


def test_memory_mb_goes_with_the_task_to_its_worker(api: Api) -> None:
    assert api.lease(memory_mb=512)["options"] == {"memory_mb": 512}
    assert "options" not in api.lease()
    for value in (0, 15, 1.5, "1G", 2**24 + 1):
        reply = api.post("/submit-task", {"task_type": "noop", "memory_mb": value})
        assert reply.status == 400
        assert reply.fault.startswith("memory_mb: ")


def test_what_an_autoscaler_asks_of_each_queue(api: Api) -> None:
    api.beat(1, register=REGISTER)
    api.beat(1, instance="i-2", worker_id="w-2", register={**REGISTER, "queues": ["b"], "concurrency": 3})
    api.submit(queue="a")
    api.clock.advance(5)
    api.submit(queue="a")
    api.submit(queue="b", task_type="prime")
    api.submit(queue="c", task_type="other")
    api.claim(queues=["a"])
    load = {said.pop("queue"): said for said in api.get("/stats").data["load"]}
    assert load == {
        "a": {"backlog": 1, "oldest_waiting_seconds": 0.0, "running": 1, "capacity": 4},
        "b": {"backlog": 1, "oldest_waiting_seconds": 0.0, "running": 0, "capacity": 7},
        "c": {"backlog": 1, "oldest_waiting_seconds": 0.0, "running": 0, "capacity": 0},
    }
    order(api, "w-1", state="quiet")
    assert [said["capacity"] for said in api.get("/stats").data["load"]] == [0, 3, 0]


def test_an_instance_that_leaves_is_gone_at_once_and_gets_nothing_more(api: Api) -> None:
    api.beat(1, register=REGISTER)
    api.submit("noop")
    api.beat(2, leaving=False)
    assert [worker["status"] for worker in api.get("/workers").data["workers"]] == ["alive"]
    answer = api.beat(3, leaving=True)
    assert (answer["leases"], answer["status"]) == ({}, "alive")
    assert [worker["status"] for worker in api.get("/workers").data["workers"]] == ["dead"]
    assert api.get("/stats").data["load"][0]["capacity"] == 0
    late = {"worker_id": "w-1", "instance_id": "i-1", "request_id": 9, "max_tasks": 1}
    assert api.post("/get-tasks", late).json["code"] == "instance_dead"


def test_who_holds_a_lease_or_repeats_an_old_heartbeat_does_not_leave(api: Api) -> None:
    api.submit("noop")
    (lease,) = api.claim()["tasks"]
    api.beat(1, lease["lease_id"], leaving=True)
    api.beat(2, lease["lease_id"])
    api.beat(2, leaving=True)
    assert [worker["status"] for worker in api.get("/workers").data["workers"]] == ["alive"]
    assert api.task(lease["task_id"])["status"] == "in_progress"


def test_leaving_is_said_with_a_bool(api: Api) -> None:
    asked = {"worker_id": "w-1", "instance_id": "i-1", "seq": 1, "leaving": "yes"}
    reply = api.post("/heartbeat", asked)
    assert (reply.status, reply.fault.partition(":")[0]) == (400, "leaving")


def test_a_worker_that_no_worker_can_be_is_not_found(api: Api) -> None:
    for name in ("%00", "a%20b", "x" * 129):
        assert api.ask("PATCH", f"/workers/{name}", {"state": "run"}).status == 404
