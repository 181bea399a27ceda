"""Control over tasks: cancel, retry, edit and delete, one by one or many at a time."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from client import bodies
from client.calls import Calls
from client.waiting import WINDOW

Action = Literal["cancel", "retry", "delete"]
_TIMEOUT = 60.0  # the dispatcher works for ten seconds on one request


class Changed(NamedTuple):
    """What a bulk action found and changed; `verdicts` counts them, `sample_ids` are a few of the tasks."""

    matched: int
    changed: int
    verdicts: dict[str, int]
    sample_ids: list[int]


class Control(Calls):
    """The methods of a Client that steer tasks."""

    def cancel(self, task_ids: Iterable[int]) -> dict[int, str]:
        """For each id `cancelled`, `cancel_requested` (it runs and is told), `already_final` or `not_found`."""
        return self._each("/cancel-tasks", task_ids)

    def retry(self, task_ids: Iterable[int]) -> dict[int, str]:
        """Run ended tasks again; for each id `retried`, `not_final`, `not_unique` or `not_found`."""
        return self._each("/tasks/retry", task_ids)

    def delete(self, task_ids: Iterable[int]) -> dict[int, str]:
        """Delete ended tasks; for each id `deleted`, `not_final` or `not_found`."""
        return self._each("/tasks/delete", task_ids)

    def would_change(self, action: Action, task_ids: Iterable[int]) -> Changed:
        """What an action on these ids would change, which nothing is yet."""
        total = Changed(0, 0, {}, [])
        for window in _windows(task_ids):
            total = _sum(total, self._post(f"/tasks/{action}", {"task_ids": window, "dry_run": True}, _TIMEOUT))
        return total

    def edit(self, task_id: int, **changes: Any) -> dict[str, Any]:
        """Change a waiting task: any of task_data, queue, priority, run_at, delay_seconds, max_attempts, tags,
        timeout_seconds, backoff, wait_seconds, total_seconds, memory_mb. Raises Rejected with code `not_waiting` when
        it does not wait."""
        if changes.get("run_at") is not None:
            changes["run_at"] = bodies.rfc3339(changes["run_at"])
        return dict(self._send("PATCH", f"/task/{task_id}", changes))

    def bulk(self, action: Action, *, dry_run: bool = False, **filters: Any) -> Changed:
        """Cancel, retry or delete all tasks that match every filter: status, queue, task_type, tag,
        older_than_seconds, newer_than_seconds. Many small steps: what fails on the way can simply be repeated."""
        return list(self.bulk_steps(action, dry_run=dry_run, **filters))[-1]

    def bulk_steps(self, action: Action, *, dry_run: bool = False, **filters: Any) -> Iterator[Changed]:
        """As `bulk`; yields the sum so far, every ten seconds or so and at the end."""
        total, cursor = Changed(0, 0, {}, []), None
        while True:
            fields = {"filter": filters, "dry_run": dry_run, **({"cursor": cursor} if cursor else {})}
            told = self._post(f"/tasks/{action}", fields, _TIMEOUT)
            total = _sum(total, told)
            yield total
            cursor = told["next_cursor"]
            if cursor is None:
                return

    def retention(self) -> dict[str, Any]:
        """How long ended tasks are kept: `default` and, for those that say otherwise, `queues`."""
        return dict(self._call("GET", "/retention"))

    def set_retention(self, queue: str | None = None, **seconds: int | None) -> dict[str, Any]:
        """Set completed_seconds, failed_seconds, cancelled_seconds of a queue (None: of all that say nothing);
        None takes one back. What holds now."""
        named = {} if queue is None else {"queue": queue}
        return dict(self._post("/retention", {**named, **seconds}))

    def _each(self, path: str, task_ids: Iterable[int]) -> dict[int, str]:
        verdicts = {}
        for window in _windows(task_ids):
            reply = self._post(path, {"task_ids": window}, _TIMEOUT)
            verdicts.update({task["task_id"]: task["verdict"] for task in reply["tasks"]})
        return verdicts


def _windows(task_ids: Iterable[int]) -> Iterator[list[int]]:
    wanted = list(task_ids)
    return (wanted[start : start + WINDOW] for start in range(0, len(wanted), WINDOW))


def _sum(total: Changed, told: Mapping[str, Any]) -> Changed:
    names = [*total.verdicts, *told["verdicts"]]
    verdicts = {name: total.verdicts.get(name, 0) + told["verdicts"].get(name, 0) for name in names}
    sample = total.sample_ids or told["sample_ids"]
    return Changed(total.matched + told["matched"], total.changed + told["changed"], verdicts, sample)
