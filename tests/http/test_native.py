"""The native wire over HTTP, as docs/protocol.md has it: claims, reports, heartbeats, deaths, uploads, waiting."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import pairwise
from typing import Any

import pytest
from http_helpers import Api, Process, wait_until

MIB = 2**20
RUN = {"state": "run", "cancel": []}


@pytest.fixture
def live(make_api: Callable[..., Api]) -> Iterator[Api]:
    """For requests that wait: whatever a test does, none is left waiting."""
    api = make_api()
    yield api
    api.queue.drain()


def ref(data: bytes, media_type: str = "text/plain") -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "media_type": media_type}


def claim_body(number: int, instance: str = "i-1", **fields: Any) -> dict[str, Any]:
    return {"worker_id": "w-1", "instance_id": instance, "request_id": number, "max_tasks": 1, "protocol": 1, **fields}


def death_body(api: Api, dead: str, **fields: Any) -> dict[str, Any]:
    names = {"worker_id": "w-1", "instance_id": "i-heir", "dead_worker_id": "w-1", "dead_instance_id": dead}
    return {"store_id": api.store.store_id, **names, "outbox_leases": [], "started_leases": [], **fields}


# -- claims --


def test_a_claim_has_all_that_a_worker_needs(api: Api) -> None:
    task_id = api.submit("prime", task_data={"limit": 10**30}, timeout_seconds=1.5, max_attempts=5, queue="fast")
    data = api.post("/get-tasks", claim_body(7, orders=RUN)).data
    lease_id = data["tasks"][0]["lease_id"]
    assert lease_id.startswith(f"{task_id}-")
    assert data == {
        "store_id": api.store.store_id,
        "provisional": False,
        "orders": RUN,
        "tasks": [
            {
                "task_id": task_id,
                "task_type": "prime",
                "queue": "fast",
                "lease_id": lease_id,
                "attempt": 1,
                "max_attempts": 5,
                "lease_seconds": 120.0,
                "timeout_seconds": 1.5,
                "task_data": {"limit": 10**30},
            }
        ],
    }


def test_an_empty_claim_writes_nothing(api: Api) -> None:
    before = api.version()
    assert api.claim()["tasks"] == []
    assert api.version() == before


def test_a_claim_takes_what_it_is_eligible_for(api: Api) -> None:
    a, b, c = api.submit("a"), api.submit("b"), api.submit("a", queue="other")
    assert api.claim(task_types=[])["tasks"] == []
    assert api.claim(task_types=["b"], queues=["other"])["tasks"] == []
    assert [t["task_id"] for t in api.claim(task_types=["a"], queues=["other"], max_tasks=9)["tasks"]] == [c]
    assert [t["task_id"] for t in api.claim(task_types=["b", "x"], max_tasks=9)["tasks"]] == [b]
    assert [t["task_id"] for t in api.claim(task_types=None, queues=None, max_tasks=9)["tasks"]] == [a]


def test_a_repeated_number_gets_the_same_leases_and_never_new_ones(api: Api) -> None:
    for _ in range(3):
        api.submit()
    first = api.post("/get-tasks", claim_body(5, max_tasks=2)).data["tasks"]
    assert len(first) == 2
    assert api.post("/get-tasks", claim_body(5, max_tasks=9)).data["tasks"] == first
    assert api.post("/get-tasks", claim_body(4, max_tasks=9)).data["tasks"] == []
    assert api.verdicts(api.outcome(first[0]["lease_id"])) == ["accepted"]
    assert api.post("/get-tasks", claim_body(5, max_tasks=9)).data["tasks"] == first[1:]
    assert len(api.post("/get-tasks", claim_body(6, max_tasks=9)).data["tasks"]) == 1
    assert len({lease["lease_id"] for lease in first}) == 2


def test_another_protocol_is_refused(api: Api) -> None:
    reply = api.post("/get-tasks", claim_body(1, protocol=2))
    assert reply.status == 400
    assert reply.fault.startswith("protocol: ")


def test_unknown_fields_are_for_another_version_to_know(api: Api) -> None:
    api.submit()
    orders = {**RUN, "newer": 1}
    lease = api.post("/get-tasks", claim_body(1, newer={"a": [1]}, orders=orders)).data["tasks"][0]
    answers = api.beat(1, {"lease_id": lease["lease_id"], "newer": 1}, newer=2, register={"newer": 3})["leases"]
    assert answers == {lease["lease_id"]: "ok"}
    assert api.verdicts(api.outcome(lease["lease_id"], newer=1)) == ["accepted"]
    assert api.post("/report-death", death_body(api, "i-1", newer=1)).data["verdict"] == "recorded"


# -- waiting claims --


def test_a_waiting_claim_is_answered_by_a_submit(live: Api) -> None:
    waiting = live.later(live.post, "/get-tasks", claim_body(1, wait_seconds=25))
    wait_until(lambda: len(live.queue.waiting) == 1)
    task_id = live.submit()
    data = waiting.result(10).data
    assert data["provisional"] is True
    assert [(t["task_id"], t["lease_seconds"]) for t in data["tasks"]] == [(task_id, 10.0)]


def test_a_provisional_lease_that_nobody_confirms_comes_back_uncharged(live: Api) -> None:
    waiting = live.later(live.post, "/get-tasks", claim_body(1, wait_seconds=25))
    wait_until(lambda: len(live.queue.waiting) == 1)
    task_id = live.submit()
    lease_id = waiting.result(10).data["tasks"][0]["lease_id"]
    live.advance(11)
    assert (live.task(task_id)["status"], live.task(task_id)["attempts"]) == ("pending", 0)
    assert live.verdicts(live.outcome(lease_id)) == ["accepted_late"]


@pytest.mark.parametrize("confirm", ["heartbeat", "repeat"])
def test_a_provisional_lease_that_is_confirmed_lasts(live: Api, confirm: str) -> None:
    waiting = live.later(live.post, "/get-tasks", claim_body(1, wait_seconds=25))
    wait_until(lambda: len(live.queue.waiting) == 1)
    task_id = live.submit()
    lease = waiting.result(10).data["tasks"][0]
    if confirm == "heartbeat":
        assert live.beat(1, lease["lease_id"])["leases"] == {lease["lease_id"]: "ok"}
    else:
        repeated = live.post("/get-tasks", claim_body(1, wait_seconds=25)).data
        assert [t["lease_id"] for t in repeated["tasks"]] == [lease["lease_id"]]
    live.advance(55)
    assert live.task(task_id)["status"] == "in_progress"


def test_a_wait_ends_by_itself(live: Api) -> None:
    began = time.monotonic()
    data = live.claim(wait_seconds=0.05)
    assert data["tasks"] == []
    assert 0.04 < time.monotonic() - began < 5
    assert len(live.queue.waiting) == 0


def test_a_higher_number_ends_the_older_wait(live: Api) -> None:
    older = live.later(live.post, "/get-tasks", claim_body(1, wait_seconds=25))
    wait_until(lambda: len(live.queue.waiting) == 1)
    newer = live.later(live.post, "/get-tasks", claim_body(2, wait_seconds=25))
    assert older.result(10).data["tasks"] == []
    wait_until(lambda: len(live.queue.waiting) == 1)
    assert live.post("/get-tasks", claim_body(1, wait_seconds=25)).data["tasks"] == []
    live.submit()
    assert len(newer.result(10).data["tasks"]) == 1


def test_orders_end_a_wait(live: Api) -> None:
    lease = live.lease()
    waiting = live.later(live.post, "/get-tasks", claim_body(7, max_tasks=0, wait_seconds=25))
    wait_until(lambda: len(live.queue.waiting) == 1)
    live.submit()  # nothing for one who is full
    assert not waiting.done()
    live.post("/cancel-tasks", {"task_ids": [lease["task_id"]]})
    orders = {"state": "run", "cancel": [lease["lease_id"]]}
    assert waiting.result(10).data["orders"] == orders
    known = live.later(live.post, "/get-tasks", claim_body(8, max_tasks=0, wait_seconds=25, orders=orders))
    wait_until(lambda: len(live.queue.waiting) == 1)
    assert not known.done()
    # and who does not know them is told at once
    assert live.post("/get-tasks", claim_body(9, max_tasks=0, wait_seconds=25)).data["orders"] == orders
    assert known.result(10).data["tasks"] == []


def test_a_drain_answers_all_that_wait_and_lets_nobody_wait(live: Api) -> None:
    task_id = live.submit(delay_seconds=3600)
    waits = [live.later(live.post, "/get-tasks", claim_body(1, f"i-{n}", wait_seconds=25)) for n in range(3)]
    waits.append(live.later(live.get, f"/task/{task_id}?wait=25"))
    waits.append(live.later(live.post, "/wait-tasks", {"task_ids": [task_id], "wait_seconds": 25}))
    wait_until(lambda: len(live.queue.waiting) == 3)
    began = time.monotonic()
    live.queue.drain()
    answers = [wait.result(5).data for wait in waits]
    assert [answer["tasks"] for answer in answers[:3]] == [[]] * 3
    assert (answers[3]["status"], answers[4]["open"]) == ("pending", 1)
    assert live.claim("i-late", wait_seconds=25)["tasks"] == []
    assert live.post("/wait-tasks", {"task_ids": [task_id], "wait_seconds": 25}).data["open"] == 1
    assert time.monotonic() - began < 5


def test_writes_that_come_after_the_end_are_told_to_come_back(make_api: Callable[..., Api]) -> None:
    api = make_api()
    api.store._writer.close()
    for path, body in (("/submit-task", {"task_type": "noop"}), ("/get-tasks", claim_body(1, wait_seconds=25))):
        reply = api.post(path, body)
        assert (reply.status, reply.json["code"]) == (503, "unavailable")
        assert int(reply.headers["Retry-After"]) >= 1
        assert reply.fault


# -- reports --


def test_each_outcome_has_its_effect(api: Api) -> None:
    ids = [api.submit(max_attempts=1 if n == 1 else 3) for n in range(5)]
    leases = [task["lease_id"] for task in api.claim(max_tasks=5)["tasks"]]
    report = api.report(
        api.outcome(leases[0], result={"n": 2**65}, run_seconds=0.02, task_id=ids[0]),
        api.outcome(leases[1], "failed", error="ValueError: no\nTraceback"),
        api.outcome(leases[2], "released"),
        api.outcome(leases[3], "snoozed", snooze_seconds=90),
        api.outcome(leases[4], "cancelled"),
    )
    assert [(v["lease_id"], v["verdict"]) for v in report["verdicts"]] == [(lease, "accepted") for lease in leases]
    assert report["orders"] == RUN
    assert "claim" not in report
    tasks = [api.task(task_id) for task_id in ids]
    assert [t["status"] for t in tasks] == ["completed", "failed", "pending", "pending", "cancelled"]
    assert [t["attempts"] for t in tasks] == [1, 1, 0, 0, 1]
    assert (tasks[0]["result"], tasks[0]["n"], tasks[0]["run_seconds"]) == ({"n": 2**65}, 2**65, 0.02)
    assert tasks[1]["error"] == "ValueError: no\nTraceback"
    assert [t["task_id"] for t in api.claim(max_tasks=9)["tasks"]] == [ids[2]]  # the snoozed one sleeps
    api.advance(92)
    assert [t["task_id"] for t in api.claim("i-2", max_tasks=9)["tasks"]] == [ids[3]]


def test_every_repeat_is_a_duplicate(api: Api) -> None:
    for _ in range(5):
        api.submit()
    leases = [task["lease_id"] for task in api.claim(max_tasks=5)["tasks"]]
    words = ("completed", "failed", "released", "snoozed", "cancelled")
    outcomes = [api.outcome(lease, word) for lease, word in zip(leases, words, strict=True)]
    assert api.verdicts(*outcomes) == ["accepted"] * 5
    assert api.verdicts(*outcomes) == ["duplicate"] * 5


def test_good_outcomes_among_bad_ones_count(api: Api) -> None:
    lease_ids = [api.lease()["lease_id"] for _ in range(3)]
    deep: Any = 1
    for _ in range(65):
        deep = [deep]
    bad = [
        (7, "invalid", ""),
        (None, "invalid", ""),
        ([], "invalid", ""),
        ({}, "invalid", "store_id"),
        (api.outcome(lease_ids[1], "done"), "invalid", "status"),
        (api.outcome(lease_ids[1], run_seconds="1"), "invalid", "run_seconds"),
        (api.outcome(lease_ids[1], "snoozed", snooze_seconds=-1), "invalid", "snooze_seconds"),
        (api.outcome(lease_ids[1], "failed", error={"a": 1}), "invalid", "error"),
        (api.outcome(lease_ids[1], result=deep), "invalid", "result"),
        ({**api.outcome(lease_ids[1]), "lease_id": {"a": deep}}, "invalid", "lease_id"),
        (api.outcome(lease_ids[1], result_ref={"bytes": 1}), "invalid", "result_ref"),
        (api.outcome(lease_ids[1], result_ref=ref(b"never put")), "invalid", ""),
        (api.outcome("4711-0000000000000001"), "unknown", ""),
        (api.outcome("nonsense"), "unknown", ""),
        (api.outcome(""), "unknown", ""),
        (api.outcome(lease_ids[1], task_id=4711), "unknown", ""),
        ({**api.outcome(lease_ids[1]), "store_id": "another"}, "foreign", ""),
    ]
    for wrong, verdict, field in bad:
        told = api.report(wrong)["verdicts"]
        assert [one["verdict"] for one in told] == [verdict], wrong
        if verdict == "invalid" and field:
            assert told[0]["reason"].startswith(field), told
    mixed = [api.outcome(lease_ids[0]), *(wrong for wrong, _, _ in bad), api.outcome(lease_ids[2])]
    told = api.report(*mixed)["verdicts"]
    assert [one["verdict"] for one in told] == ["accepted", *(verdict for _, verdict, _ in bad), "accepted"]
    assert told[0]["lease_id"], told[-1]["lease_id"] == (lease_ids[0], lease_ids[2])
    assert [api.task(n)["status"] for n in (1, 2, 3)] == ["completed", "in_progress", "completed"]


def test_a_result_may_use_the_whole_depth_of_the_profile(api: Api) -> None:
    """What a child accepts must not be refused for the envelope around it."""
    deep: Any = 1
    for _ in range(64):
        deep = [deep]
    lease = api.lease(task_data={"a": deep[0]})
    assert lease["task_data"] == {"a": deep[0]}
    assert api.beat(1, {"lease_id": lease["lease_id"], "checkpoint": deep}, host={"a": deep[0]})["leases"]
    assert api.verdicts(api.outcome(lease["lease_id"], result=deep)) == ["accepted"]
    assert api.task(lease["task_id"])["result"] == deep
    assert api.get("/tasks").data["tasks"][0]["result"] == deep
    assert api.get("/stats").data["workers"][0]["metadata"] == {"a": deep[0]}


def test_losers_and_the_cancelled_are_told(api: Api) -> None:
    lost, cancelled = api.lease(), api.lease("i-1")
    api.advance(121)
    second = api.claim("i-2", max_tasks=2)["tasks"]
    assert api.verdicts(api.outcome(second[0]["lease_id"]), instance="i-2") == ["accepted"]
    assert api.verdicts(api.outcome(lost["lease_id"]), api.outcome(lost["lease_id"], "failed")) == ["superseded"] * 2
    api.post("/cancel-tasks", {"task_ids": [cancelled["task_id"]]})
    assert api.verdicts(api.outcome(second[1]["lease_id"], "released"), instance="i-2") == ["accepted"]
    assert api.task(cancelled["task_id"])["status"] == "cancelled"
    assert api.verdicts(api.outcome(cancelled["lease_id"])) == ["cancelled"]


def test_a_success_beats_the_wish_to_cancel(api: Api) -> None:
    lease = api.lease()
    told = api.post("/cancel-tasks", {"task_ids": [lease["task_id"]]}).data["tasks"]
    assert told == [{"task_id": lease["task_id"], "verdict": "cancel_requested"}]
    assert api.verdicts(api.outcome(lease["lease_id"])) == ["accepted"]
    assert api.task(lease["task_id"])["status"] == "completed"


def test_a_late_success_ends_the_present_lease(api: Api) -> None:
    first = api.lease()
    api.advance(121)
    (second,) = api.claim("i-2")["tasks"]
    assert api.verdicts(api.outcome(first["lease_id"], result={"n": 1})) == ["accepted_late"]
    assert api.beat(1, second["lease_id"], instance="i-2")["leases"] == {second["lease_id"]: "lost"}
    assert api.verdicts(api.outcome(second["lease_id"], result={"n": 2}), instance="i-2") == ["superseded"]
    assert api.task(first["task_id"])["result"] == {"n": 1}


def test_a_report_may_carry_the_next_claim(api: Api) -> None:
    lease = api.lease()
    follower = api.submit()
    asked = {"request_id": 50, "max_tasks": 3, "wait_seconds": 25}
    began = time.monotonic()
    data = api.report(api.outcome(lease["lease_id"]), claim=asked)
    assert [t["task_id"] for t in data["claim"]["tasks"]] == [follower]
    assert (data["claim"]["provisional"], data["claim"]["store_id"]) == (False, api.store.store_id)
    assert api.report(claim={**asked, "request_id": 51})["claim"]["tasks"] == []
    assert time.monotonic() - began < 5  # it never waits
    assert len(api.report(claim=asked)["claim"]["tasks"]) == 1  # a repeat


def test_ten_thousand_are_submitted_and_a_thousand_claimed_and_reported(api: Api) -> None:
    submitted = api.post("/submit-tasks", {"tasks": [{"task_type": "noop"}] * 10_000}).data
    assert submitted["count"] == 10_000
    assert all(b == a + 1 for a, b in pairwise(submitted["task_ids"]))
    leases = [task["lease_id"] for task in api.claim(max_tasks=1000)["tasks"]]
    assert len(set(leases)) == 1000
    assert set(api.verdicts(*map(api.outcome, leases))) == {"accepted"}
    assert api.get("/stats").data["completed_tasks"] == 1000


def test_a_submit_of_many_is_all_or_none(api: Api) -> None:
    before = api.version()
    tasks = [{"task_type": "noop"}] * 3 + [{"task_type": "no op"}]
    reply = api.post("/submit-tasks", {"tasks": tasks})
    assert reply.fault.startswith("tasks[3].task_type: ")
    keyed = [{"task_type": "a", "idempotency_key": "k"}, {"task_type": "b", "idempotency_key": "k"}]
    assert api.post("/submit-tasks", {"tasks": keyed}).status == 409
    assert api.rows()["tasks"] == 0
    assert api.version() == before


def test_an_idempotency_key_submits_once(api: Api) -> None:
    body = {"task_type": "a", "task_data": {"n": 1}, "idempotency_key": "k"}
    first = api.post("/submit-task", body)
    api.claim()
    assert api.post("/submit-task", body).data == first.data
    for change in ({"task_data": {"n": 2}}, {"priority": 1}, {"queue": "b"}, {"tags": ["t"]}, {"delay_seconds": 0}):
        reply = api.post("/submit-task", body | change)
        assert (reply.status, reply.json["code"]) == (409, "conflict")
        assert reply.fault.startswith("idempotency_key: ")
    assert api.post("/submit-tasks", {"tasks": [body, body]}).data["task_ids"] == [1, 1]
    assert api.rows()["tasks"] == 1


def test_a_request_of_many_with_a_key_submits_once(api: Api) -> None:
    body = {"tasks": [{"task_type": "a"}, {"task_type": "b", "priority": 1}], "idempotency_key": "k"}
    first = api.post("/submit-tasks", body)
    assert (first.status, first.data) == (201, {"task_ids": [1, 2], "count": 2})
    assert api.post("/submit-tasks", body).data == first.data
    for other in ({"tasks": body["tasks"][:1]}, {"tasks": [*body["tasks"], {"task_type": "c"}]}):
        reply = api.post("/submit-tasks", body | other)
        assert (reply.status, reply.json["code"]) == (409, "conflict")
        assert reply.fault.startswith("idempotency_key: ")
    assert api.rows()["tasks"] == 2


def test_a_request_of_plain_tasks_is_known_by_its_bytes(api: Api) -> None:
    body = {"tasks": [{"task_type": "a", "task_data": {"n": n}} for n in range(3)], "idempotency_key": "k"}
    first = api.post("/submit-tasks", body)
    assert (first.status, first.data) == (201, {"task_ids": [1, 2, 3], "count": 3})
    assert api.post("/submit-tasks", body).data == first.data
    assert api.post("/submit-tasks", {**body, "tasks": body["tasks"][::-1]}).status == 409
    assert api.rows()["tasks"] == 3


def test_a_request_says_again_which_tasks_were_new(api: Api) -> None:
    twins = [{"task_type": "a", "unique_key": "u"}] * 2
    first = api.post("/submit-tasks", {"tasks": twins, "idempotency_key": "k"})
    assert first.data == {"task_ids": [1, 1], "count": 2, "created": [True, False]}
    api.post("/cancel-tasks", {"task_ids": [1]})
    assert api.post("/submit-tasks", {"tasks": twins, "idempotency_key": "k"}).data == first.data


# -- heartbeats --


def test_progress_and_note_of_a_completed_task_are_no_longer_told(api: Api) -> None:
    """They are the last that a heartbeat brought, and the end came after it."""
    first, second = api.lease(), api.lease()
    news = {"progress": {"done": 5, "total": 6}, "note": "nearly"}
    api.beat(1, {"lease_id": first["lease_id"], **news}, {"lease_id": second["lease_id"], **news})
    failing = api.outcome(second["lease_id"], "failed", error="why", retry=False)
    api.report(api.outcome(first["lease_id"], result=1), failing)
    done, failed = api.task(first["task_id"]), api.task(second["task_id"])
    assert (done["progress"], done["note"]) == (None, None)
    assert (failed["progress"], failed["note"]) == ({"done": 5.0, "total": 6.0}, "nearly"), "how far it came"


def test_a_heartbeat_renews_and_brings_progress(api: Api) -> None:
    lease = api.lease(max_attempts=2)
    news = {"progress": {"done": 5, "total": 10}, "note": "half", "checkpoint": {"at": 5}}
    said = {"lease_id": lease["lease_id"], **news}
    answer = api.beat(1, said, host={"hostname": "lab"})
    assert answer == {
        "worker_id": "w-1",
        "status": "alive",
        "last_heartbeat": answer["last_heartbeat"],
        "store_id": api.store.store_id,
        "leases": {lease["lease_id"]: "ok"},
        "orders": RUN,
        "wait_seconds": 50,
        "death_seconds": 60,
    }
    api.beat(2, {"lease_id": lease["lease_id"], "progress": {"done": 6}})
    task = api.task(lease["task_id"])
    assert (task["progress"], task["note"]) == ({"done": 6.0, "total": 10.0}, "half")
    assert api.get("/stats").data["workers"][0]["metadata"] == {"hostname": "lab"}
    api.advance(61)
    (again,) = api.claim("i-2")["tasks"]
    assert (again["attempt"], again["checkpoint"]) == (1, {"at": 5}), "a loss after a checkpoint does not count"


def test_a_number_that_is_not_new_gets_orders_only(api: Api) -> None:
    lease = api.lease()
    api.post("/cancel-tasks", {"task_ids": [lease["task_id"]]})
    orders = {"state": "run", "cancel": [lease["lease_id"]]}
    assert api.beat(5, lease["lease_id"])["leases"] == {lease["lease_id"]: "cancel"}
    for seq in (5, 4, 1):
        answer = api.beat(seq, lease["lease_id"])
        assert (answer["leases"], answer["orders"]) == ({}, orders)


def test_leases_of_another_store_and_unknown_ones(api: Api) -> None:
    lease = api.lease()
    foreign = api.beat(1, lease["lease_id"], store_id="another")["leases"]
    assert foreign == {lease["lease_id"]: "foreign"}
    answers = api.beat(2, lease["lease_id"], "4711-0000000000000001", "nonsense")["leases"]
    assert answers == {lease["lease_id"]: "ok", "4711-0000000000000001": "lost", "nonsense": "lost"}
    assert api.beat(3, lease["lease_id"], store_id=None)["leases"] == {lease["lease_id"]: "ok"}


def test_a_lease_missing_from_two_heartbeats_ends_uncharged_and_is_taken_back(api: Api) -> None:
    lease = api.lease()
    api.beat(1, claims_in_flight=[1])
    api.beat(2, claims_in_flight=[1])
    assert api.task(1)["status"] == "in_progress"  # its claim was in flight
    api.beat(3)
    assert api.task(1)["status"] == "in_progress"
    api.beat(4)
    assert (api.task(1)["status"], api.task(1)["attempts"]) == ("pending", 0)
    assert api.beat(5, lease["lease_id"])["leases"] == {lease["lease_id"]: "ok"}
    assert (api.task(1)["status"], api.task(1)["attempts"]) == ("in_progress", 1)


def test_a_published_schema_holds_submits(api: Api) -> None:
    schema = {"type": "object", "required": ["limit"], "properties": {"limit": {"type": "integer", "maximum": 100}}}
    api.beat(1, register={"task_types": {"prime": schema, "noop": None}, "concurrency": 2, "version": "9"})
    assert api.submit("prime", task_data={"limit": 100})
    assert api.submit("noop", task_data={"limit": "x"})
    before = api.version()
    wrong = {"task_type": "prime", "task_data": {"limit": 101}}
    many = api.post("/submit-tasks", {"tasks": [{"task_type": "noop"}, wrong]})
    assert many.status == 400
    assert many.fault.startswith("tasks[1].task_data.limit: ")
    one = api.post("/submit-task", {"task_type": "prime", "task_data": {}})
    assert one.fault.startswith("task_data: ")
    assert "limit" in one.fault
    assert api.version() == before


# -- deaths --


def test_a_death_settles_the_leases_of_the_dead(api: Api) -> None:
    leases = [api.lease("i-dead", max_attempts=1)["lease_id"] for _ in range(4)]
    body = death_body(api, "i-dead", outbox_leases=leases[:1], started_leases=[*leases[:2], "nonsense"])
    assert api.post("/report-death", body).data == {"verdict": "recorded", "adopted": 1, "charged": 1, "released": 2}
    tasks = [api.task(n) for n in (1, 2, 3, 4)]
    assert [t["status"] for t in tasks] == ["in_progress", "failed", "pending", "pending"]
    assert [t["attempts"] for t in tasks] == [1, 1, 0, 0]
    assert "died" in tasks[1]["error"]
    assert api.beat(1, leases[0], instance="i-heir")["leases"] == {leases[0]: "ok"}
    assert api.verdicts(*map(api.outcome, leases[:2]), instance="i-heir") == ["accepted", "accepted_late"]
    assert api.post("/report-death", body).data["verdict"] == "recorded"  # a repeat


def test_the_dead_are_told_to_start_anew(api: Api) -> None:
    lease = api.lease("i-dead")
    api.post("/report-death", death_body(api, "i-dead"))
    beat = {"worker_id": "w-1", "instance_id": "i-dead", "seq": 9}
    for path, body in (
        ("/get-tasks", claim_body(9, "i-dead", wait_seconds=25)),
        ("/heartbeat", beat),
        ("/report-death", death_body(api, "i-other", instance_id="i-dead")),
    ):
        reply = api.post(path, body)
        assert (reply.status, reply.json["code"]) == (409, "instance_dead")
        assert reply.fault.startswith("instance_id: ")
    api.submit()
    report = api.report(api.outcome(lease["lease_id"]), instance="i-dead", claim={"request_id": 10, "max_tasks": 1})
    assert [v["verdict"] for v in report["verdicts"]] == ["accepted_late"]
    assert "claim" not in report


def test_a_death_never_heard_of_is_remembered(api: Api) -> None:
    assert api.post("/report-death", death_body(api, "i-unheard")).data["verdict"] == "recorded"
    assert api.post("/get-tasks", claim_body(1, "i-unheard")).status == 409


def test_a_death_ends_the_wait_of_the_dead(live: Api) -> None:
    live.lease("i-dead")
    waiting = live.later(live.post, "/get-tasks", claim_body(9, "i-dead", max_tasks=0, wait_seconds=25))
    wait_until(lambda: len(live.queue.waiting) == 1)
    live.post("/report-death", death_body(live, "i-dead"))
    assert waiting.result(10).status in (200, 409)


def test_a_death_at_another_store_is_foreign(api: Api) -> None:
    lease = api.lease("i-dead")
    before = api.version()
    told = api.post("/report-death", death_body(api, "i-dead", store_id="another", started_leases=[lease["lease_id"]]))
    assert told.data == {"verdict": "foreign"}
    assert api.version() == before


# -- large and binary results --


def test_an_uploaded_result_is_streamed_back(api: Api) -> None:
    lease = api.lease()
    data = bytes(range(256)) * 4096 * 2 + b"end"
    told = api.upload(lease["lease_id"], data, "image/png")
    assert told == {"lease_id": lease["lease_id"], "bytes": 2 * MIB + 3, "sha256": hashlib.sha256(data).hexdigest()}
    assert api.get(f"/task/{lease['task_id']}/result").status == 404  # not before its report
    assert api.verdicts(api.outcome(lease["lease_id"], result_ref=ref(data, "image/png"))) == ["accepted"]
    reply = api.get(f"/task/{lease['task_id']}/result")
    assert (reply.status, reply.body) == (200, data)
    assert reply.headers["Content-Type"] == "image/png"
    assert reply.headers["Content-Length"] == str(len(data))
    task = api.task(lease["task_id"])
    assert task["result_ref"] == ref(data, "image/png")
    assert "result" not in task


def test_a_repeated_upload_replaces_the_former_one(api: Api) -> None:
    lease = api.lease()
    for data in (b"a" * (MIB + 1), b"b" * (2 * MIB), b"short", b"", b"last"):
        api.upload(lease["lease_id"], data)
    assert api.verdicts(api.outcome(lease["lease_id"], result_ref=ref(b"short"))) == ["invalid"]
    assert api.verdicts(api.outcome(lease["lease_id"], result_ref=ref(b"last"))) == ["accepted"]
    assert api.get("/task/1/result").body == b"last"


def test_an_empty_upload_is_a_result(api: Api) -> None:
    lease = api.lease()
    api.upload(lease["lease_id"], b"something")
    api.upload(lease["lease_id"], b"")
    assert api.verdicts(api.outcome(lease["lease_id"], result_ref=ref(b""))) == ["accepted"]
    reply = api.get("/task/1/result")
    assert (reply.status, reply.body, reply.headers["Content-Length"]) == (200, b"", "0")


def test_an_accepted_result_stays_whatever_is_put_later(api: Api) -> None:
    """I4: a worker whose answer was lost puts again, perhaps not to the end."""
    lease = api.lease()
    api.upload(lease["lease_id"], b"x" * MIB + b"first")
    outcome = api.outcome(lease["lease_id"], result_ref=ref(b"x" * MIB + b"first"))
    assert api.verdicts(outcome) == ["accepted"]
    api.upload(lease["lease_id"], b"second")
    path = f"/result/{lease['lease_id']}?store_id={api.store.store_id}"
    cut = api.ask("PUT", path, environ_overrides=cut_short(b"x"))
    assert cut.status == 400
    assert api.get("/task/1/result").body == b"x" * MIB + b"first"
    assert api.verdicts(outcome) == ["duplicate"]


def cut_short(data: bytes) -> dict[str, Any]:
    """A body that ends before its declared length."""
    return {"wsgi.input": BytesIO(data), "CONTENT_LENGTH": str(len(data) + 9)}


def test_an_upload_that_was_cut_short_is_no_result(api: Api) -> None:
    lease = api.lease()
    path = f"/result/{lease['lease_id']}?store_id={api.store.store_id}"
    cut = api.ask("PUT", path, environ_overrides=cut_short(b"x" * 50))
    assert (cut.status, cut.json["code"]) == (400, "invalid")
    assert api.verdicts(api.outcome(lease["lease_id"], result_ref=ref(b"x" * 50))) == ["invalid"]
    assert api.task(1)["status"] == "in_progress"


def test_two_uploads_of_one_result_at_once_harm_nothing(api: Api) -> None:
    lease = api.lease()
    bodies = [b"a" * (3 * MIB), b"b" * (3 * MIB)]
    path = f"/result/{lease['lease_id']}?store_id={api.store.store_id}"
    both = [api.later(api.ask, "PUT", path, body, content_type="text/plain") for body in bodies * 3]
    assert {one.result(30).status for one in both} <= {200, 503}
    api.upload(lease["lease_id"], bodies[0])
    assert api.verdicts(api.outcome(lease["lease_id"], result_ref=ref(bodies[0]))) == ["accepted"]
    assert api.get("/task/1/result").body == bodies[0]


def test_uploads_that_belong_nowhere(api: Api) -> None:
    lease = api.lease()["lease_id"]
    store = api.store.store_id
    before = api.version()
    for path, status, code in (
        (f"/result/{lease}?store_id=another", 409, "foreign"),
        (f"/result/{lease}", 409, "foreign"),
        (f"/result/4711-0000000000000001?store_id={store}", 404, "not_found"),
        (f"/result/1-0000000000000001?store_id={store}", 404, "not_found"),
        (f"/result/nonsense?store_id={store}", 404, "not_found"),
        (f"/result/{lease}?store_id={store}&a=1", 400, "invalid"),
    ):
        reply = api.ask("PUT", path, b"data")
        assert (reply.status, reply.json["code"]) == (status, code)
        assert reply.fault
    assert api.version() == before


def test_a_result_over_its_limit_is_refused(make_api: Callable[..., Api]) -> None:
    api = make_api(result_max_bytes=MIB + 10)
    lease = api.lease()["lease_id"]
    path = f"/result/{lease}?store_id={api.store.store_id}"
    assert api.upload(lease, b"x" * (MIB + 10))["bytes"] == MIB + 10
    reply = api.ask("PUT", path, b"x" * (MIB + 11))
    assert (reply.status, reply.json["code"]) == (413, "too_large")
    assert f"{MIB + 11} bytes" in reply.fault
    assert f"limit is {MIB + 10}" in reply.fault
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    assert "Content-Length" in api.ask("PUT", path, b"x", environ_overrides=chunked).fault
    assert api.verdicts(api.outcome(lease, result_ref=ref(b"x" * (MIB + 11)))) == ["accepted"], "as a failed attempt"
    assert "the result is too large" in api.task(int(lease.partition("-")[0]))["error"]


def test_an_uploaded_page_stays_inert_in_a_browser(api: Api) -> None:
    lease = api.lease()
    page = b"<script>alert(1)</script>"
    api.upload(lease["lease_id"], page, "text/html")
    api.report(api.outcome(lease["lease_id"], result_ref=ref(page, "text/html")))
    headers = api.get("/task/1/result").headers
    assert headers["Content-Security-Policy"] == "sandbox"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_large_result_over_real_connections(run_warm: Callable[..., Process]) -> None:
    process = run_warm().ready()
    process.post("/submit-task", {"task_type": "noop"})
    claimed = process.post("/get-tasks", claim_body(1)).data
    lease_id, store = claimed["tasks"][0]["lease_id"], claimed["store_id"]
    data = b"0123456789abcdef" * (MIB // 2) + b"!"
    kind = {"Content-Type": "text/csv"}
    assert process.ask("PUT", f"/result/{lease_id}?store_id={store}", data, kind).data["bytes"] == len(data)
    outcome = {"store_id": store, "lease_id": lease_id, "status": "completed", "result_ref": ref(data, "text/csv")}
    report = {"worker_id": "w-1", "instance_id": "i-1", "outcomes": [outcome]}
    assert process.post("/submit-results", report).data["verdicts"][0]["verdict"] == "accepted"
    reply = process.ask("GET", "/task/1/result")
    assert reply.body == data
    assert reply.headers["Content-Length"] == str(len(data))


# -- looking, waiting, cancelling --


def test_a_json_result_as_it_was_reported(api: Api) -> None:
    lease = api.lease()
    path = f"/task/{lease['task_id']}/result"
    assert api.get(path).status == 404
    api.report(api.outcome(lease["lease_id"], result=[1, {"big": 10**400, "ü": "😀"}]))
    reply = api.get(path)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
    assert reply.json == [1, {"big": 10**400, "ü": "😀"}]
    assert api.get("/task/4711/result").status == 404


def test_the_end_of_a_task_is_waited_for(live: Api) -> None:
    lease = live.lease()
    waiting = live.later(live.get, f"/task/{lease['task_id']}?wait=25")
    wait_until(lambda: live.queue.watchers._waiting)
    live.report(live.outcome(lease["lease_id"], result={"n": 1}))
    assert waiting.result(10).data["result"] == {"n": 1}
    began = time.monotonic()
    assert live.get(f"/task/{lease['task_id']}?wait=25").data["status"] == "completed"
    assert live.get("/task/4711?wait=25").status == 404
    assert time.monotonic() - began < 5
    assert not live.queue.watchers._waiting


def test_the_first_of_several_ends_is_waited_for(live: Api) -> None:
    leases = [live.lease() for _ in range(3)]
    ids = [lease["task_id"] for lease in leases]
    assert live.post("/wait-tasks", {"task_ids": ids}).data == {"tasks": [], "open": 3}
    waiting = live.later(live.post, "/wait-tasks", {"task_ids": [*ids, 4711], "wait_seconds": 25})
    wait_until(lambda: live.queue.watchers._waiting)
    live.report(live.outcome(leases[1]["lease_id"], result={"n": 2}))
    data = waiting.result(10).data
    assert [(t["task_id"], t["result"]) for t in data["tasks"]] == [(ids[1], {"n": 2})]
    assert data["open"] == 2
    began = time.monotonic()
    assert live.post("/wait-tasks", {"task_ids": [4711], "wait_seconds": 25}).data == {"tasks": [], "open": 0}
    assert time.monotonic() - began < 5


def test_tasks_are_filtered(api: Api) -> None:
    a = api.submit("a", tags=["red", "x:1"])
    b = api.submit("b", queue="other", tags=["red"])
    c = api.submit("a", delay_seconds=60)
    api.claim(queues=["other"])

    def ids(query: str) -> list[int]:
        return [task["task_id"] for task in api.get(f"/tasks?{query}").data["tasks"]]

    assert ids("") == [c, b, a]
    assert ids("status=pending") == [c, a]
    assert ids("status=in_progress&tag=red") == [b]
    assert ids("queue=other") == [b]
    assert ids("task_type=a&queue=default") == [c, a]
    assert ids("tag=x:1") == [a]
    assert ids(f"ids={a},{c},4711") == [c, a]
    assert ids("tag=none") == ids("queue=none") == ids("ids=4711") == []
    assert api.get("/tasks?tag=x:1").data["tasks"][0]["tags"] == ["red", "x:1"]


def test_tasks_are_paged_by_a_cursor(api: Api) -> None:
    submitted = api.post("/submit-tasks", {"tasks": [{"task_type": "noop"}] * 25}).data["task_ids"]
    seen: list[int] = []
    query, pages = "limit=10", 0
    while query:
        data = api.get(f"/tasks?{query}").data
        seen += [task["task_id"] for task in data["tasks"]]
        query = f"limit=10&cursor={data['next_cursor']}" if data["next_cursor"] else ""
        pages += 1
        api.submit()  # newer ones do not disturb
    assert seen == submitted[::-1]
    assert pages == 3
    assert len(api.get("/tasks").data["tasks"]) == 28


def test_tasks_are_cancelled(api: Api) -> None:
    lease = api.lease()
    waiting, sleeping = api.submit(), api.submit(delay_seconds=60)
    ids = [waiting, sleeping, lease["task_id"], 4711, waiting]
    told = api.post("/cancel-tasks", {"task_ids": ids}).data["tasks"]
    verdicts = {one["task_id"]: one["verdict"] for one in told}
    assert verdicts == {waiting: "cancelled", sleeping: "cancelled", 1: "cancel_requested", 4711: "not_found"}
    assert api.task(lease["task_id"])["cancel_requested"] is True
    assert api.verdicts(api.outcome(lease["lease_id"], "failed")) == ["accepted"]
    again = api.post("/cancel-tasks", {"task_ids": ids[:3]}).data["tasks"]
    assert {one["verdict"] for one in again} == {"already_final"}
    assert api.claim(max_tasks=9)["tasks"] == []


def test_task_data_comes_back_exactly(api: Api) -> None:
    data = {
        "int": 10**400,
        "-": -(2**65),
        "float": 0.1,
        "tiny": 5e-324,
        "text": "é😀\u2028\x7f\\u0000x",
        "": [None, True],
    }
    task_id = api.submit(task_data=data)
    assert api.claim()["tasks"][0]["task_data"] == data
    assert api.task(task_id)["task_data"] == data
    assert json.dumps(api.get("/tasks").data["tasks"][0]["task_data"]) == json.dumps(data)
