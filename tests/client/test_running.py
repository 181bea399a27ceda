"""`run_task` and `InlineClient` say what a real dispatcher with a real worker says."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client.client import Client
from client.errors import Rejected, StillOpen, TaskFailed
from client.testing import InlineClient, LocalCluster, run_task
from common.handlers.loading import HandlerError
from tasks import compute_task, sleep_task
from tasks.context import Context, Fail, Snooze

TESTS = Path(__file__).resolve().parent.parent
HANDLERS = os.pathsep.join(str(TESTS / part / "handlers") for part in ("client", "worker"))
CASES: list[tuple[str, dict[str, Any]]] = [
    ("mirror", {"a": [1, 2.5, None, "é"]}),
    ("context", {"updates": 3}),
    ("payload", {"limit": 5}),
    ("says", {"retry": False}),
    ("says", {"snooze": 3600}),
    ("says", {"snooze": "1h"}),
    ("says", {"snooze": -1}),
    *(("result", {"value": value}) for value in ("nan", "huge integer", "surrogate", "set", "deep", "bytes", "failed")),
    ("prime", {"limit": 100}),
    ("compute", {"type": "monte_carlo_pi", "samples": 1000, "seed": 7}),
]
SEVERAL = [{"task_type": "mirror", "task_data": {"n": n}, "tags": ["several"]} for n in range(3)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(concurrency=1, settings={"TASKS_PATH": HANDLERS, "DEFAULT_MAX_ATTEMPTS": "1"}) as running:
        yield running


@pytest.fixture
def handlers(given: dict[str, str]) -> None:
    given["TASKS_PATH"] = HANDLERS


@pytest.fixture(params=["inline", "real"])
def client(request: pytest.FixtureRequest, handlers: None) -> Client:
    if request.param == "inline":
        return InlineClient()
    found: LocalCluster = request.getfixturevalue("cluster")
    return found.client


def test_a_run_is_what_a_worker_makes_of_it(cluster: LocalCluster, handlers: None) -> None:
    ids = cluster.client.submit_many(
        {"task_type": task_type, "task_data": data, "max_attempts": 1} for task_type, data in CASES
    )
    for task_id, (task_type, data) in zip(ids, CASES, strict=True):
        run = run_task(task_type, data, task_id=task_id)
        if run.status == "snoozed":
            cluster.until(lambda one=task_id: cluster.client.task(one)["attempts_log"] != [], "it is snoozed")
            task = cluster.client.task(task_id)
            assert (task["status"], task["attempts_log"][0]["outcome"]) == ("pending", "snoozed")
            continue
        task = cluster.client.wait(task_id, timeout=30)
        assert (task_type, data, run.status) == (task_type, data, task["status"])
        assert _first(run.error) == _first(task["error"])
        if run.status == "completed":
            assert _lasting(cluster.client.result_of(task)) == _lasting(run.result)


def _lasting(result: Any) -> Any:
    """Without what is measured anew each time."""
    return (
        {name: result[name] for name in result if not name.endswith(("time", "seconds"))}
        if isinstance(result, dict)
        else result
    )


def _first(error: str | None) -> str:
    return (error or "").partition("\n")[0]


def test_both_clients_end_tasks_alike(client: Client) -> None:
    assert client.result(client.submit("payload", {"limit": 5}), timeout=30) == {"type": "Payload", "limit": 5}
    assert client.result(client.submit("result", {"value": "bytes"}), timeout=30) == b"\x00\xffraw"
    with pytest.raises(TaskFailed, match="no such customer") as failed:
        client.result(client.submit("says", {"retry": False}), timeout=30)
    assert (failed.value.task["attempts"], failed.value.task["max_attempts"]) == (1, 7)
    ids = client.submit_many(SEVERAL)
    assert {task["task_id"]: task["result"] for task in client.results(ids, timeout=30)} == {
        task_id: SEVERAL[n]["task_data"] for n, task_id in enumerate(ids)
    }
    assert [task["task_id"] for task in client.tasks(tag="several", status="completed")] == ids[::-1]
    assert [task["task_id"] for task in client.tasks(ids=ids[:2])] == ids[1::-1]


def test_both_clients_take_the_same_keys(client: Client) -> None:
    first = client.submit("noop", {"n": 1}, idempotency_key="once")
    assert client.submit("noop", {"n": 1}, idempotency_key="once") == first
    with pytest.raises(Rejected, match="idempotency") as other:
        client.submit("noop", {"n": 2}, idempotency_key="once")
    assert other.value.code == "conflict"
    held = client.submit_unique("says", {"snooze": 3600}, unique_key="k")
    assert client.submit_unique("says", {"snooze": 1}, unique_key="k") == (held.task_id, False)
    ended = client.submit_unique("noop", unique_key="ended")
    client.wait(ended.task_id, timeout=30)
    assert client.submit_unique("noop", unique_key="ended", unique_for=3600) == (ended.task_id, False)
    assert client.submit_unique("noop", unique_key="ended").created


def test_both_clients_refuse_alike(client: Client) -> None:
    for task in ({"task_type": "noop", "colour": "red"}, {"task_type": "noop", "task_data": [1]}):
        with pytest.raises(Rejected) as refused:
            client.submit_many([task])
        assert refused.value.code == "invalid"
        assert ("colour" in refused.value.message) == ("colour" in task)
    with pytest.raises(Rejected) as unknown:
        client.task(10**9)
    assert unknown.value.code == "not_found"
    with pytest.raises(StillOpen):
        client.wait(client.submit("says", {"snooze": 3600}), timeout=0)


def test_an_inline_task_looks_like_a_real_one(cluster: LocalCluster, handlers: None) -> None:
    inline, names = InlineClient(), []
    for client in (inline, cluster.client):
        task_id = client.submit("mirror", {"n": 1}, queue="q", priority=3, tags=["t"], requires=[])
        task = client.wait(task_id, timeout=30)
        assert (task["queue"], task["priority"], task["tags"], task["n"]) == ("q", 3, ["t"], 1)
        names.append(task.keys())
    assert names[0] <= names[1]


def test_an_inline_task_is_tried_again_with_its_checkpoint() -> None:
    seen: list[Any] = []

    def execute(payload: dict[str, Any], context: Context) -> dict[str, Any]:
        seen.append(context.checkpoint_state)
        context.checkpoint({"at": len(seen)})
        context.progress(len(seen), 3, "going on")
        if len(seen) < payload["good"]:
            raise RuntimeError("not yet")
        return {"tries": len(seen)}

    client = InlineClient({"shaky": execute})
    assert client.result(client.submit("shaky", {"good": 3})) == {"tries": 3}
    assert seen == [None, {"at": 1}, {"at": 2}]
    task = client.task(1)
    assert (task["attempts"], task["progress"], task["note"]) == (3, {"done": 3, "total": 3}, "going on")
    assert [run.status for run in client.runs[1]] == ["failed", "failed", "completed"]
    seen.clear()
    with pytest.raises(TaskFailed, match="not yet"):
        client.result(client.submit("shaky", {"good": 9}, max_attempts=2))
    assert len(seen) == 2


def test_a_payload_that_breaks_its_model_fails_as_in_a_child(handlers: None) -> None:
    run = run_task("payload", {"limit": "five"})
    assert (run.status, type(run.exception).__name__) == ("failed", "ValidationError")
    assert "limit" in (run.error or "")


def test_what_only_a_dispatcher_can_do_is_refused_by_name() -> None:
    client = InlineClient()
    with pytest.raises(Rejected, match="GET /stats: an inline client has no dispatcher") as refused:
        client.stats()
    assert refused.value.code == "unsupported"
    with pytest.raises(Rejected, match="GET /events"):
        next(client.events())
    with pytest.raises(Rejected, match="task_type: no handler for task type 'nobody'"):
        client.submit("nobody")
    assert list(client.tasks()) == []


def test_a_run_records_what_its_handler_tells() -> None:
    def execute(payload: dict[str, Any], context: Context) -> Any:
        context.log("one\ntwo")
        context.partial({"so far": (1, 2)})
        context.progress(1, 2)
        context.checkpoint((1, "é"))
        return {"from": context.checkpoint_state, "rounds": (payload["n"],)}

    run = run_task(execute, {"n": 1}, checkpoint={"at": 5})
    assert (run.status, run.result) == ("completed", {"from": {"at": 5}, "rounds": [1]})
    assert (run.log, run.partials, run.progress, run.checkpoint) == (
        ["one", "two"], [{"so far": [1, 2]}], [(1, 2)], [1, "é"],
    )  # fmt: skip
    assert run.exception is None


def test_a_run_shows_fail_snooze_and_cancel() -> None:
    def execute(payload: dict[str, Any], context: Context) -> None:
        raise Fail("never", retry=False) if payload["fail"] else Snooze("90s")

    failed, snoozed = run_task(execute, {"fail": True}), run_task(execute, {"fail": False})
    assert (failed.status, failed.retry, _first(failed.error)) == ("failed", False, "never")
    assert isinstance(failed.exception, Fail)
    assert "execute" in (failed.error or "")
    assert "/client/running.py" not in (failed.error or "")  # the traceback begins with the handler
    assert (snoozed.status, snoozed.snooze_seconds, snoozed.error) == ("snoozed", 90.0, None)
    assert run_task(sleep_task, {"seconds": 60}, cancel_after=0).status == "cancelled"


@pytest.mark.parametrize("value", [math.nan, {1, 2}, {"a": "\0"}])
def test_a_context_refuses_what_a_child_refuses(value: Any) -> None:
    def execute(payload: dict[str, Any], context: Context) -> None:
        context.checkpoint(value)

    assert run_task(execute).status == "failed"


def test_a_handler_is_given_by_type_file_module_or_function() -> None:
    data = {"type": "monte_carlo_pi", "samples": 100, "seed": 1}
    forms = ("compute", Path(compute_task.__file__), compute_task, compute_task.execute)
    results = [run_task(form, data).result for form in forms]
    assert all(_lasting(one) == _lasting(results[0]) for one in results)
    with pytest.raises(HandlerError, match="no handler for task type 'nobody'"):
        run_task("nobody")
    with pytest.raises(HandlerError, match="must be"):
        run_task(lambda wrong: None)


def test_data_that_no_dispatcher_would_take_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match="nan is not JSON"):
        run_task("noop", {"x": math.nan})
    with pytest.raises(ValueError, match="must be an object"):
        run_task("noop", [1])  # type: ignore[arg-type]


def test_what_pytest_raises_in_a_handler_reaches_pytest() -> None:
    def execute(payload: dict[str, Any], context: Context) -> None:
        pytest.fail("from inside")

    with pytest.raises(pytest.fail.Exception, match="from inside"):
        run_task(execute)
