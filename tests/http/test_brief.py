"""Brief claims and reports: arrays that mean what the objects of the protocol mean."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from http_helpers import Api
from hypothesis import example, given
from hypothesis import strategies as st

from client.client import _ended_task
from dispatcher.routes import outcomes
from worker.claims import _tasks

STORE = "0123456789abcdef"
LEASE = "7-00000000000000ff"
GOOD = [STORE, 7, LEASE, 250, {}]
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-1, 10), st.floats(-9, 9), st.text(max_size=3), st.just(10**40),
    st.sampled_from([STORE, LEASE, "7-x", 7]), st.just({}), st.just([{}]),
)  # fmt: skip
DEEP: Any = []
for _ in range(70):
    DEEP = [DEEP]


def named(brief: list[Any]) -> dict[str, Any]:
    parts = dict(zip(outcomes.PARTS, brief, strict=True))
    return {**parts, "status": "completed", "run_seconds": parts.pop("run_ms") / 1000}


def arrays(api: Api, *tasks: Any) -> list[Any]:
    """Brief outcomes for tasks of a brief claim."""
    return [[api.store.store_id, task_id, lease_id, 12, {"n": task_id}] for task_id, lease_id, *_ in tasks]


@example({1: 7.0})
@example({1: True})
@given(st.dictionaries(st.integers(0, 4), VALUES, max_size=3))
def test_an_array_means_what_its_object_means(changes: dict[int, Any]) -> None:
    value = [changes.get(place, part) for place, part in enumerate(GOOD)]
    [told] = outcomes.check([value], STORE)
    if type(value[3]) is int and type(value[1]) is int and 0 <= value[3] < 10**10 and 0 < value[1] < 2**53:
        [same] = outcomes.check([named(value)], STORE)
        assert told[:2] == same[:2]
    else:
        assert told[1] in ("invalid", "unknown", "foreign")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([], "an array has these parts: store_id, task_id, lease_id, run_ms, result"),
        (GOOD[:4], "an array has these parts: store_id, task_id, lease_id, run_ms, result"),
        ([*GOOD, 1], "an array has these parts: store_id, task_id, lease_id, run_ms, result"),
        ([STORE, 7, 7, 250, {}], "store_id, lease_id: must be text"),
        ([None, 7, LEASE, 250, {}], "store_id, lease_id: must be text"),
        ([STORE, True, LEASE, 250, {}], "task_id, run_ms: must be whole numbers, and run_ms at most ten years"),
        ([STORE, 7.0, LEASE, 250, {}], "task_id, run_ms: must be whole numbers, and run_ms at most ten years"),
        ([STORE, 7, LEASE, -1, {}], "task_id, run_ms: must be whole numbers, and run_ms at most ten years"),
        ([STORE, 7, LEASE, True, {}], "task_id, run_ms: must be whole numbers, and run_ms at most ten years"),
        ([STORE, 7, LEASE, 0.5, {}], "task_id, run_ms: must be whole numbers, and run_ms at most ten years"),
        ([STORE, 7, LEASE, 10**12, {}], "task_id, run_ms: must be whole numbers, and run_ms at most ten years"),
        ([STORE, 7, LEASE, 250, DEEP], "result: nested deeper than 64 levels"),
    ],
)
def test_what_is_wrong_with_an_array_harms_no_other(api: Api, value: list[Any], reason: str) -> None:
    value = [api.store.store_id if part == STORE else part for part in value]
    api.submit_many(2)
    good = arrays(api, *api.claim(max_tasks=2, brief=True)["tasks"])
    told = api.report(good[0], value, good[1], brief=True)["verdicts"]
    lease_id = value[2] if len(value) > 2 and isinstance(value[2], str) else None
    assert told == [
        {"lease_id": good[0][2], "verdict": "accepted"},
        {"lease_id": lease_id, "verdict": "invalid", "reason": reason},
        {"lease_id": good[1][2], "verdict": "accepted"},
    ]


def test_a_brief_claim_says_once_what_tasks_have_in_common(api: Api) -> None:
    ids = [api.submit(task_data={"n": 1}), api.submit(), api.submit(timeout_seconds=5), api.submit(memory_mb=64)]
    answer = api.claim(max_tasks=4, brief=True)
    terms = {"task_type": "noop", "queue": "default", "attempt": 1, "max_attempts": 3, "lease_seconds": 120.0}
    assert answer["terms"] == [{**terms, "timeout_seconds": None}, {**terms, "timeout_seconds": 5.0}]
    first, second, third, fourth = answer["tasks"]
    assert [[task_id, place, data] for task_id, _, place, data in (first, second, third)] == [
        [ids[0], 0, {"n": 1}], [ids[1], 0, {}], [ids[2], 1, {}]
    ]  # fmt: skip
    assert (fourth["task_id"], fourth["options"]) == (ids[3], {"memory_mb": 64})
    assert api.verdicts(*arrays(api, first, second, third)) == ["accepted"] * 3


def test_our_worker_reads_the_same_tasks_from_both_forms(api: Api) -> None:
    api.submit(task_data={"n": 1}, timeout_seconds=5)
    api.submit(memory_mb=64)
    api.submit_many(2)
    brief, whole = (api.claim(max_tasks=4, request_id=7, brief=brief) for brief in (True, False))
    assert len({type(one) for one in brief["tasks"]}) == 2
    assert _tasks(brief) == _tasks(whole), "the repeat of a claim is answered with what is still held"


def test_a_claim_without_work_is_brief_too(api: Api) -> None:
    answer = api.claim(brief=True)
    assert (answer["tasks"], answer["terms"]) == ([], [])


def test_a_task_with_a_checkpoint_comes_as_an_object(api: Api) -> None:
    lease = api.lease()
    api.beat(1, {"lease_id": lease["lease_id"], "checkpoint": {"at": 5}})
    api.report(api.outcome(lease["lease_id"], "released"))
    [task] = api.claim(brief=True)["tasks"]
    assert (task["checkpoint"], task["attempt"]) == ({"at": 5}, 1)


def test_one_word_when_all_are_accepted_and_each_verdict_when_not(api: Api) -> None:
    ids = api.submit_many(4)
    tasks = api.claim(max_tasks=4, brief=True)["tasks"]
    sent = arrays(api, *tasks)
    assert api.report(*sent[:2], brief=True)["verdicts"] == "accepted"
    assert [(api.task(one)["result"], api.task(one)["run_seconds"]) for one in ids[:2]] == [
        ({"n": ids[0]}, 0.012),
        ({"n": ids[1]}, 0.012),
    ]
    told = api.report(*sent[1:3], brief=True)["verdicts"]
    assert [(one["lease_id"], one["verdict"]) for one in told] == [
        (sent[1][2], "duplicate"), (sent[2][2], "accepted")
    ]  # fmt: skip
    assert api.verdicts(sent[3]) == ["accepted"], "who did not ask for one word gets each"


def test_of_nothing_there_is_nothing_to_say(api: Api) -> None:
    assert api.report(brief=True)["verdicts"] == []


def test_arrays_and_objects_stand_in_one_report(api: Api) -> None:
    api.submit_many(3)
    tasks = api.claim(max_tasks=3, brief=True)["tasks"]
    first, _, third = arrays(api, *tasks)
    failed = api.outcome(tasks[1][1], "failed", error="no")
    assert api.report(first, failed, third, brief=True)["verdicts"] == "accepted"
    assert [api.task(task_id)["status"] for task_id, *_ in tasks] == ["completed", "pending", "completed"]


def test_an_array_is_held_to_its_store_and_its_task(api: Api) -> None:
    api.submit()
    [good] = arrays(api, *api.claim(brief=True)["tasks"])
    odd = ["other", *good[1:]], [good[0], good[1] + 1, *good[2:]], [*good[:2], "no lease", *good[3:]]
    assert api.verdicts(*odd) == ["foreign", "unknown", "unknown"]
    assert api.verdicts(good) == ["accepted"]


def test_a_report_may_carry_a_brief_claim(api: Api) -> None:
    ids = api.submit_many(2)
    sent = arrays(api, *api.claim(brief=True)["tasks"])
    claim = {"request_id": 50, "max_tasks": 5, "brief": True}
    answer = api.report(*sent, brief=True, claim=claim)
    assert answer["verdicts"] == "accepted"
    assert [task_id for task_id, *_ in answer["claim"]["tasks"]] == ids[1:]
    assert len(answer["claim"]["terms"]) == 1


def test_a_result_over_the_limit_fails_its_attempt_in_an_array_too(make_api: Callable[..., Api]) -> None:
    small = make_api(result_max_bytes=1000)
    small.submit()
    [[store_id, task_id, lease_id, *_]] = arrays(small, *small.claim(brief=True)["tasks"])
    small.report([store_id, task_id, lease_id, 1, "x" * 5000], brief=True)
    assert "too large" in small.task(task_id)["error"]


def test_a_brief_wait_tells_the_same_of_each_task(api: Api) -> None:
    ids = [api.submit(task_data={"n": 1}), *api.submit_many(4), api.submit(max_attempts=1)]
    tasks = api.claim(max_tasks=6, brief=True)["tasks"]
    api.upload(tasks[3][1], b"raw")
    ref = {"bytes": 3, "sha256": hashlib.sha256(b"raw").hexdigest(), "media_type": "text/plain"}
    api.report(
        *arrays(api, *tasks[:3]),
        api.outcome(tasks[3][1], result_ref=ref),
        api.outcome(tasks[4][1], result=None),  # as who does not say how long it ran
        api.outcome(tasks[5][1], "failed", error="no", run_seconds=1),
    )
    asked = {"task_ids": ids, "wait_seconds": 0}
    brief, whole = (api.post("/wait-tasks", {**asked, "brief": brief}).data for brief in (True, False))
    assert [type(one) for one in brief["tasks"]] == [list] * 3 + [dict] * 3
    assert len(brief["terms"]) == 1
    read = [_ended_task(brief["terms"], *one) if isinstance(one, list) else one for one in brief["tasks"]]
    assert read == whole["tasks"], "as our client reads them"
    assert brief["open"] == whole["open"] == 0
