"""Schedules and unique tasks over HTTP."""

from typing import Any

import pytest
from http_helpers import Api

from dispatcher.maintenance.recurring import Recurring

GOOD = {"name": "nightly", "cron": "0 3 * * MON-FRI", "zone": "Europe/Berlin", "task": {"task_type": "noop"}}
BIG = 2**65


def make(api: Api, **fields: Any) -> Any:
    return api.post("/schedules", {**GOOD, **fields}).data


def every(api: Api, **fields: Any) -> Any:
    body = {"name": "often", "every": "15m", "task": {"task_type": "noop"}, **fields}
    return api.post("/schedules", body).data


def change(api: Api, body: Any, name: str = "nightly") -> Any:
    return api.ask("PATCH", f"/schedules/{name}", body)


def test_made_schedule_is_told_in_words(api: Api) -> None:
    reply = api.post("/schedules", GOOD)
    assert reply.status == 201
    told = reply.data
    assert told["in_words"] == "At 03:00 on Monday through Friday (Europe/Berlin)"
    assert (told["cron"], told["zone"], told["every"]) == ("0 3 * * MON-FRI", "Europe/Berlin", None)
    assert (told["catch_up"], told["paused"], told["last_at"]) == ("skip", False, None)
    assert told["task"] == {"task_type": "noop", "task_data": {}}
    assert len(told["next_ticks"]) == 5
    assert told["next_ticks"][0]["at"] == told["next_at"]
    assert all("03:00 CE" in tick["in_words"] for tick in told["next_ticks"])
    assert api.get("/schedules/nightly").data == told


def test_task_is_told_by_the_names_of_a_submit_and_exactly(api: Api) -> None:
    task = {
        "task_type": "noop", "task_data": {"n": BIG, "text": "ü"}, "queue": "q", "priority": 3, "tags": ["a"],
        "timeout_seconds": 1.5, "max_attempts": 2, "unique_key": "k", "unique_for": 60.0,
        "requires": ["gpu"], "key": "user:42",
    }  # fmt: skip
    assert make(api, task=task)["task"] == task
    again = change(api, {"task": {**task, "task_data": {"n": 1}}}).data
    assert again["task"] == {**task, "task_data": {"n": 1}}


def test_tick_submits_the_task(api: Api) -> None:
    every(api, task={"task_type": "noop", "task_data": {"n": BIG}})
    api.clock.advance(900)  # type: ignore[union-attr]
    assert Recurring(api.queue).run_once(api.store.now()) == 1
    told = api.get("/schedules/often").data
    assert api.task(told["last_task_id"])["task_data"] == {"n": BIG}


def test_same_again_is_no_conflict_and_another_is(api: Api) -> None:
    first = make(api)
    reply = api.post("/schedules", GOOD)
    assert (reply.status, reply.data) == (200, first)
    reply = api.post("/schedules", {**GOOD, "cron": "0 4 * * *"})
    assert (reply.status, reply.json["code"]) == (409, "conflict")
    assert "PATCH /schedules/nightly" in reply.fault


def test_dry_run_stores_nothing(api: Api) -> None:
    before = api.version()
    reply = api.post("/schedules", {**GOOD, "dry_run": True})
    assert (reply.status, len(reply.data["next_ticks"])) == (200, 5)
    assert api.version() == before
    assert api.get("/schedules/nightly").status == 404


def test_pages(api: Api) -> None:
    names = [every(api, name=name)["name"] for name in ("c", "a", "b")]
    page = api.get("/schedules?limit=2").data
    assert [one["name"] for one in page["schedules"]] == ["a", "b"]
    rest = api.get(f"/schedules?limit=2&after={page['next_after']}").data
    assert ([one["name"] for one in rest["schedules"]], rest["next_after"]) == (["c"], None)
    assert sorted(names) == [one["name"] for one in api.get("/schedules").data["schedules"]]


def test_pause_resume_delete_and_run(api: Api) -> None:
    make(api)
    paused = change(api, {"paused": True}).data
    assert (paused["next_at"], paused["next_ticks"]) == (None, [])
    run = api.post("/schedules/nightly/run", {"idempotency_key": "r"})
    assert (run.status, run.data["created"]) == (201, True)
    assert api.post("/schedules/nightly/run", {"idempotency_key": "r"}).data["task_id"] == run.data["task_id"]
    assert change(api, {"paused": False}).data["next_at"]
    assert api.ask("DELETE", "/schedules/nightly").data == {"name": "nightly", "deleted": True}
    for method, path in (("GET", ""), ("DELETE", ""), ("PATCH", ""), ("POST", "/run")):
        body = {"paused": True} if method == "PATCH" else {} if method == "POST" else None
        reply = api.ask(method, f"/schedules/nightly{path}", body)
        assert (reply.status, reply.fault) == (404, "schedule nightly not found")


def test_change_from_cron_to_every_and_back(api: Api) -> None:
    make(api)
    told = change(api, {"every": "1h30m"}).data
    assert (told["cron"], told["zone"], told["every"]) == (None, None, "1h30m")
    assert "zone" in change(api, {"zone": "Asia/Tokyo"}).fault
    told = change(api, {"cron": "5 4 * * *", "zone": "Asia/Tokyo", "catch_up": "all"}).data
    assert (told["cron"], told["every"], told["catch_up"]) == ("5 4 * * *", None, "all")
    assert change(api, {"zone": "UTC"}).data["in_words"].endswith("(UTC)")


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"cron": "61 3 * * *"}, "cron: bad minute"),
        ({"cron": "* * * * * *"}, "cron: must have five fields"),
        ({"cron": None}, "cron: say either"),
        ({"every": "15m"}, "cron: say either"),
        ({"zone": "Mars/Olympus"}, "zone: no time zone 'Mars/Olympus'"),
        ({"zone": ""}, "zone: no time zone"),
        ({"cron": None, "every": "15m"}, "zone: only together with cron"),
        ({"cron": None, "zone": None, "every": "15"}, "every: '15' is not a duration"),
        ({"cron": None, "zone": None, "every": "0.5s"}, "every: must be from 1s"),
        ({"cron": None, "zone": None, "every": 15}, "every: must be text with a unit"),
        ({"catch_up": "never"}, "catch_up: "),
        ({"name": ".."}, "name: must not be made of dots"),
        ({"name": "a b"}, "name: "),
        ({"task": {}}, "task.task_type: is required"),
        ({"task": {"task_type": "noop", "run_at": "2030-01-01T00:00:00Z"}}, "task.run_at: not in a schedule"),
        ({"task": {"task_type": "noop", "delay_seconds": 5}}, "task.delay_seconds: not in a schedule"),
        ({"task": {"task_type": "noop", "idempotency_key": "k"}}, "task.idempotency_key: not in a schedule"),
        ({"task": {"task_type": "noop", "odd": 1}}, "task.odd: unknown field"),
        ({"task": {"task_type": "noop", "unique_for": 5}}, "task.unique_for: only together with unique_key"),
        ({"color": "red"}, "color: unknown field"),
        ({"paused": "no"}, "paused: "),
    ],
)
def test_bad_schedules_are_refused_by_name(api: Api, fields: Any, fault: str) -> None:
    body = {name: value for name, value in {**GOOD, **fields}.items() if value is not None}
    reply = api.post("/schedules", body)
    assert reply.status == 400
    assert reply.fault.startswith(fault)


@pytest.mark.parametrize(
    ("body", "fault"),
    [({}, "the request changes nothing"), ({"cron": "x"}, "cron: "), ({"name": "n"}, "name: unknown field"),
     ({"cron": "0 3 * * *", "every": "5m"}, "cron: say either"), ({"next_at": 5}, "next_at: unknown field")],
)  # fmt: skip
def test_bad_changes_are_refused_by_name(api: Api, body: Any, fault: str) -> None:
    make(api)
    reply = change(api, body)
    assert reply.status == 400
    assert reply.fault.startswith(fault)


@pytest.mark.parametrize("path", ["/schedules?after=%00", "/schedules?limit=0", "/schedules?color=red"])
def test_bad_queries_are_refused(api: Api, path: str) -> None:
    assert api.get(path).status == 400


def test_odd_names_are_not_found(api: Api) -> None:
    for name in ("%00", "a%20b", "x" * 200, "."):
        assert api.get(f"/schedules/{name}").status == 404


# unique tasks


def test_duplicate_submit_is_200_with_the_existing_id(api: Api) -> None:
    first = api.post("/submit-task", {"task_type": "noop", "unique_key": "k"})
    assert (first.status, first.data["created"], first.data["status"]) == (201, True, "pending")
    second = api.post("/submit-task", {"task_type": "noop", "unique_key": "k"})
    assert (second.status, second.data["created"]) == (200, False)
    assert second.data["task_id"] == first.data["task_id"]


def test_repeat_under_an_idempotency_key_is_answered_alike(api: Api) -> None:
    body = {"task_type": "noop", "unique_key": "k", "idempotency_key": "i"}
    first, second = (api.post("/submit-task", body) for _ in range(2))
    assert (first.status, first.data) == (second.status, second.data)
    assert first.status == 201
    assert api.post("/submit-task", {**body, "unique_key": "other"}).status == 409


def test_bulk_says_what_is_new(api: Api) -> None:
    tasks = [{"task_type": "noop", "unique_key": key} if key else {"task_type": "noop"} for key in ("a", "", "a", "b")]
    told = api.post("/submit-tasks", {"tasks": tasks}).data
    assert (told["created"], told["count"]) == ([True, True, False, True], 4)
    assert told["task_ids"][0] == told["task_ids"][2]
    assert "created" not in api.post("/submit-tasks", {"tasks": [{"task_type": "noop"}]}).data


def test_period(api: Api) -> None:
    def submit() -> Any:
        return api.post("/submit-task", {"task_type": "noop", "unique_key": "k", "unique_for": 60}).data

    first = submit()
    lease = api.claim()["tasks"][0]
    assert api.verdicts(api.outcome(lease["lease_id"])) == ["accepted"]
    assert submit()["task_id"] == first["task_id"]
    api.advance(61)
    assert submit()["created"]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"unique_key": ""}, "unique_key: "),
        ({"unique_key": "x" * 129}, "unique_key: "),
        ({"unique_key": 5}, "unique_key: "),
        ({"unique_key": "k", "unique_for": 0}, "unique_for: must be"),
        ({"unique_key": "k", "unique_for": "1h"}, "unique_for: "),
        ({"unique_key": "k", "unique_for": True}, "unique_for: "),
        ({"unique_key": "k", "unique_for": None}, "unique_for: "),
        ({"unique_key": "k", "unique_for": 1e12}, "unique_for: must be at most"),
        ({"unique_for": 5}, "unique_for: only together with unique_key"),
    ],
)
def test_bad_unique_fields_are_refused_by_name(api: Api, fields: Any, fault: str) -> None:
    reply = api.post("/submit-task", {"task_type": "noop", **fields})
    assert reply.status == 400
    assert reply.fault.startswith(fault)
    bulk = api.post("/submit-tasks", {"tasks": [{"task_type": "noop"}, {"task_type": "noop", **fields}]})
    assert bulk.fault.startswith(f"tasks[1].{fault}")


def test_retry_beside_an_unfinished_twin_is_a_conflict(api: Api) -> None:
    first = api.submit(unique_key="k")
    api.post("/cancel-tasks", {"task_ids": [first]})
    api.submit(unique_key="k")
    reply = api.post(f"/task/{first}/retry", {})
    assert (reply.status, reply.json["code"]) == (409, "conflict")
    assert api.ask("PATCH", f"/task/{first}", {"unique_key": "other"}).fault.startswith("unique_key")
