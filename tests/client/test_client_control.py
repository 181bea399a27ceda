"""The client's methods that steer tasks: what they send, and how they sum up the steps of a bulk action."""

from datetime import datetime, timezone
from typing import Any

from client_fakes import FakeTransport, client, in_turn


def told(matched: int, cursor: int | None, verdict: str = "cancelled") -> dict[str, Any]:
    return {
        "dry_run": False, "matched": matched, "changed": matched, "verdicts": {verdict: matched},
        "sample_ids": [matched], "next_cursor": cursor,
    }  # fmt: skip


def test_retry_and_delete_give_a_verdict_for_each_id() -> None:
    def verdicts(path: str, fields: Any) -> Any:
        verdict = "retried" if path == "/tasks/retry" else "deleted"
        return {"tasks": [{"task_id": task_id, "verdict": verdict} for task_id in fields["task_ids"]]}

    transport = FakeTransport(tasks=verdicts)
    assert client(transport).retry(range(1, 1502)) == dict.fromkeys(range(1, 1502), "retried")
    assert client(transport).delete([7]) == {7: "deleted"}
    assert [len(body["task_ids"]) for body in transport.bodies("/tasks/retry")] == [1000, 501]


def test_edit_sends_what_changes() -> None:
    transport = FakeTransport(task=in_turn({"task_id": 7, "status": "pending", "generation": 2}))
    moment = datetime(2030, 1, 2, tzinfo=timezone.utc)
    assert client(transport).edit(7, priority=5, run_at=moment, timeout_seconds=None)["generation"] == 2
    assert transport.calls == [
        ("PATCH", "/task/7", {"priority": 5, "run_at": "2030-01-02T00:00:00Z", "timeout_seconds": None})
    ]


def test_a_bulk_action_goes_on_until_everything_is_done() -> None:
    transport = FakeTransport(tasks=in_turn(told(3, 40), told(2, 90, "cancel_requested"), told(0, None)))
    steps = list(client(transport).bulk_steps("cancel", queue="q"))
    assert [step.changed for step in steps] == [3, 5, 5]
    assert steps[-1].verdicts == {"cancelled": 3, "cancel_requested": 2}
    assert steps[-1].sample_ids == [3]
    filters = {"filter": {"queue": "q"}, "dry_run": False}
    assert transport.bodies("/tasks/cancel") == [filters, {**filters, "cursor": 40}, {**filters, "cursor": 90}]


def test_a_dry_run_is_one() -> None:
    transport = FakeTransport(tasks=in_turn(told(3, None)))
    assert client(transport).bulk("delete", dry_run=True, status="failed").matched == 3
    assert transport.bodies("/tasks/delete") == [{"filter": {"status": "failed"}, "dry_run": True}]


def test_retention_is_read_and_set() -> None:
    kept = {"default": {"failed_seconds": 9}, "queues": {}}
    transport = FakeTransport(retention=in_turn(kept, kept, kept))
    made = client(transport)
    assert made.retention() == kept
    assert made.set_retention("q", failed_seconds=9) == kept
    made.set_retention(completed_seconds=None)
    assert transport.calls == [
        ("GET", "/retention", None), ("POST", "/retention", {"queue": "q", "failed_seconds": 9}),
        ("POST", "/retention", {"completed_seconds": None}),
    ]  # fmt: skip
