"""The Client: how it waits, and what results it brings."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from client_fakes import FakeTime, FakeTransport, client, ended, in_turn

from client.errors import (
    BadReply,
    Rejected,
    StillOpen,
    TaskCancelled,
    TaskFailed,
)


def test_wait_asks_until_the_end() -> None:
    time = FakeTime()
    transport = FakeTransport(task=in_turn(ended(1, "pending"), ended(1, "in_progress"), ended(1)))
    assert client(transport, time).wait(1)["status"] == "completed"
    assert transport.calls[0][1] == "/task/1?wait=25"
    assert transport.timeouts[0] > 25
    assert time.slept == [1.0, 1.0], "answers that came too early are not asked for again at once"


def test_wait_gives_up_after_its_timeout() -> None:
    time, transport = FakeTime(), FakeTransport(task=in_turn(ended(1, "pending")))
    with pytest.raises(StillOpen, match=r"after 2\.5 s: 1 task\(s\): 1"):
        client(transport, time).wait(1, timeout=2.5)
    assert time.now == pytest.approx(1002.5)
    assert [path for _, path, _ in transport.calls] == ["/task/1?wait=2", "/task/1?wait=1", "/task/1?wait=0"]


def test_no_time_to_wait_is_one_question() -> None:
    time, transport = FakeTime(), FakeTransport(task=in_turn(ended(1, "pending")))
    with pytest.raises(StillOpen):
        client(transport, time).wait(1, timeout=0)
    assert len(transport.calls) == 1


def waits(ending: Callable[[list[int]], list[int]]) -> Callable[[str, Any], Any]:
    def answer(_: str, fields: Any) -> Any:
        done = ending(fields["task_ids"])
        return {"tasks": [ended(task_id) for task_id in done], "open": len(fields["task_ids"]) - len(done)}

    return answer


def test_results_come_as_tasks_end_each_once() -> None:
    transport = FakeTransport(wait_tasks=waits(lambda asked: asked[-2:]))
    assert [task["task_id"] for task in client(transport).results([1, 2, 3, 4, 5, 5])] == [4, 5, 2, 3, 1]
    assert [body["task_ids"] for body in transport.bodies("/wait-tasks")] == [[1, 2, 3, 4, 5], [1, 2, 3], [1]]
    assert transport.bodies("/wait-tasks")[0]["wait_seconds"] == 25


def test_results_of_no_tasks_ask_nothing() -> None:
    transport = FakeTransport()
    assert list(client(transport).results([])) == []
    assert not transport.calls


def test_results_of_very_many_look_at_all_of_them_in_turn() -> None:
    transport = FakeTransport(wait_tasks=waits(lambda asked: [task_id for task_id in asked if task_id >= 1000]))
    first = next(client(transport).results(range(1500)))
    assert first["task_id"] == 1000
    asked = transport.bodies("/wait-tasks")
    assert [len(body["task_ids"]) for body in asked] == [1000, 1000]
    assert asked[0]["wait_seconds"] == 1


def test_results_give_up_after_the_whole_timeout() -> None:
    time = FakeTime()
    transport = FakeTransport(wait_tasks=waits(lambda asked: []))
    with pytest.raises(StillOpen, match=r"after 3 s: 2 task\(s\): 1, 2") as caught:
        list(client(transport, time).results([1, 2], timeout=3))
    assert caught.value.task_ids == [1, 2]
    assert time.now == pytest.approx(1003)


def test_results_of_unknown_tasks_do_not_wait_for_ever() -> None:
    transport = FakeTransport(wait_tasks=in_turn({"tasks": [], "open": 0}))
    with pytest.raises(Rejected, match="none of these tasks exists"):
        list(client(transport).results([77]))


# --- results


def ends_as(task: dict[str, Any]) -> Callable[[str, Any], Any]:
    return in_turn({"tasks": [task], "open": 0})


def test_a_small_result_comes_with_the_task() -> None:
    assert client(FakeTransport(wait_tasks=ends_as(ended(1, result={"count": 4})))).result(1) == {"count": 4}
    assert client(FakeTransport(wait_tasks=ends_as(ended(1, result=None)))).result(1) is None


@pytest.mark.parametrize(
    ("body", "media_type", "expected"),
    [
        (b'{"n": 36893488147419103232}', "application/json", {"n": 2**65}),
        (b"\x89PNG\0\xff", "image/png", b"\x89PNG\0\xff"),
    ],
)
def test_a_large_result_is_fetched(body: bytes, media_type: str, expected: Any) -> None:
    ref = {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest(), "media_type": media_type}
    transport = FakeTransport(wait_tasks=ends_as(ended(1, result_ref=ref)), task=in_turn((body, media_type)))
    assert client(transport).result(1) == expected


def test_a_large_result_that_was_changed_on_its_way_is_not_taken() -> None:
    ref = {"bytes": 3, "sha256": "0" * 64, "media_type": "image/png"}
    transport = FakeTransport(wait_tasks=ends_as(ended(1, result_ref=ref)), task=in_turn((b"abc", "image/png")))
    with pytest.raises(BadReply, match="not the one that was reported"):
        client(transport).result(1)


def test_a_failure_is_raised_with_its_error() -> None:
    task = ended(3, "failed", error="ValueError: no")
    with pytest.raises(TaskFailed, match="task 3 failed: ValueError: no") as caught:
        client(FakeTransport(wait_tasks=ends_as(ended(3, "failed")), task=in_turn(task))).result(3)
    assert caught.value.task == task


def test_a_failure_is_raised_though_the_task_was_retried_at_once() -> None:
    task = ended(3, "failed", error="ValueError: no")
    with pytest.raises(TaskFailed, match="task 3 failed: ValueError: no"):
        client(FakeTransport(wait_tasks=ends_as(task), task=in_turn(ended(3, "pending")))).result(3)


def test_a_cancellation_is_raised() -> None:
    task = ended(3, "cancelled")
    with pytest.raises(TaskCancelled, match="task 3 was cancelled"):
        client(FakeTransport(wait_tasks=ends_as(task), task=in_turn(task))).result(3)


def test_a_task_that_has_not_ended_has_no_result() -> None:
    with pytest.raises(StillOpen):
        client(FakeTransport()).result_of(ended(3, "pending"))
