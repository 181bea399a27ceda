"""The dispatcher as Python methods: every call is retried while the dispatcher is away.

That is safe: a submit has a name, and most others say what shall be so. Only a retry and an edit whose answer was lost
do it again: a task that has ended once more in between runs once more, and an edited one has another generation.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlencode

from client import bodies, config, urls
from client.attempts import AttemptCalls
from client.control import Control
from client.errors import BadReply, Refused, Rejected, StillOpen, TaskCancelled, TaskFailed
from client.events import EventCalls
from client.failover import Failover, connect
from client.queues import QueueCalls
from client.retry import Retry, Timing
from client.schedules import LaterCalls
from client.transport import Exchanges, Transport
from client.waiting import ENDED, LONGEST_WAIT, Task, Watch
from client.workers import WorkerCalls
from common import json_profile

T = TypeVar("T")
_SLACK = 10.0  # seconds that an answer may take beyond the wait it was asked for
_BULK_TIMEOUT = 120.0


class Client(Control, LaterCalls, QueueCalls, AttemptCalls, WorkerCalls, EventCalls):
    """A dispatcher's client; thread-safe, and a context manager that closes its connections.

    `url` and `token` default to the settings DISPATCHER_URL and DISPATCHER_TOKEN. `url` may name several dispatchers
    over one store, separated by commas: one of them is used, and when it goes another, with no error.

    Connection errors and 5xx are retried for `retry_seconds` (0: never) and then raised as Unreachable or Refused; a
    4xx is raised at once as Rejected; an answer of something that is no dispatcher as BadReply.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        retry_seconds: float = 60.0,
        transport: Exchanges | None = None,
        timing: Timing | None = None,
        retry: Retry | None = None,
    ) -> None:
        given = config.load()
        self._transport: Exchanges = transport or _connected(url, token, given)
        self._timing = timing or Timing()
        self._retry = retry or Retry(retry_seconds, self._timing)

    @property
    def url(self) -> str:
        """Where the dispatcher is; of several, the one in use."""
        return self._transport.url

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes all idle connections."""
        self._transport.close()

    def submit(
        self,
        task_type: str,
        data: Mapping[str, Any] | None = None,
        *,
        queue: str = "default",
        priority: int = 0,
        run_at: datetime | str | None = None,
        delay_seconds: float | None = None,
        max_attempts: int | None = None,
        timeout_seconds: float | None = None,
        backoff: Mapping[str, float] | None = None,
        wait_seconds: float | None = None,
        total_seconds: float | None = None,
        tags: Sequence[str] = (),
        memory_mb: int | None = None,
        requires: Sequence[str] = (),
        key: str | None = None,
        idempotency_key: str | None = None,
        unique_key: str | None = None,
        unique_for: float | str | None = None,
        webhook: str | None = None,
    ) -> int:
        """The id of the task, new or submitted before under the same `idempotency_key`, or that of its twin under the
        same `unique_key` (`submit_unique` tells which).

        `requires` names labels that its worker must have; `key` (like user:42) is what a queue's limit for each key
        counts; `webhook` is a URL that is told of the end; `run_at` is a datetime with a zone or RFC 3339 text. Raises
        JsonError (a ValueError) naming the path when `data` is not JSON, Rejected naming the field that is refused.
        """
        task = {
            "task_type": task_type, "task_data": data, "queue": queue, "priority": priority, "run_at": run_at,
            "delay_seconds": delay_seconds, "max_attempts": max_attempts, "timeout_seconds": timeout_seconds,
            "backoff": backoff, "wait_seconds": wait_seconds, "total_seconds": total_seconds,
            "tags": list(tags) or None, "memory_mb": memory_mb, "requires": list(requires) or None, "key": key,
            "unique_key": unique_key, "unique_for": unique_for, "webhook": webhook,
        }  # fmt: skip
        body = bodies.task_text(task, idempotency_key or bodies.new_key()).encode("utf-8")
        return int(self._call("POST", "/submit-task", body)["task_id"])

    def submit_many(self, tasks: Iterable[Mapping[str, Any]], *, idempotency_key: str | None = None) -> list[int]:
        """The ids of many tasks, in their order; see `submit_batches` for the tasks and for what a failure leaves."""
        batches = self.submit_batches(tasks, idempotency_key=idempotency_key)
        return [task_id for task_ids in batches for task_id in task_ids]

    def submit_batches(
        self, tasks: Iterable[Mapping[str, Any]], *, idempotency_key: str | None = None
    ) -> Iterator[list[int]]:
        """Submits tasks in requests of at most 2,000 and about 8 MiB; yields the ids of each as it is accepted.

        A task is a dict of the fields of `POST /submit-task`. Each request is stored whole or not at all; after an
        error those that were yielded stay. With an `idempotency_key` the whole call can be repeated without harm. A
        refusal names a task by its place in the request, where neighbours that differ only in their data stand
        together: `tasks[0].each[5]` is the sixth of the first ones.
        """
        for body in bodies.bulk_bodies(tasks, idempotency_key):
            yield list(self._call("POST", "/submit-tasks", body, timeout=_BULK_TIMEOUT)["task_ids"])

    def task(self, task_id: int) -> Task:
        """The state of a task; raises Rejected with code `not_found`."""
        return dict(self._call("GET", f"/task/{task_id}"))

    def tasks(self, *, ids: Iterable[int] | None = None, limit: int = 500, **filters: str) -> Iterator[Task]:
        """The tasks that match all filters (status, task_type, queue, tag), page by page of `limit`."""
        if ids is None:
            yield from self._pages({**filters, "limit": limit})
            return
        wanted = list(ids)
        for start in range(0, len(wanted), 200):
            named = ",".join(str(task_id) for task_id in wanted[start : start + 200])
            yield from self._pages({**filters, "ids": named, "limit": limit})

    def wait(self, task_id: int, timeout: float | None = None) -> Task:
        """The task once it has ended, in whatever way; raises StillOpen after `timeout` seconds.

        While the dispatcher is away its retries come on top of the timeout.
        """
        started = self._timing.now()
        return self._until(started, timeout, lambda: [task_id], lambda seconds: self._ended(task_id, seconds))

    def results(self, task_ids: Iterable[int], timeout: float | None = None) -> Iterator[Task]:
        """The tasks as they end, each once; raises StillOpen with the rest after `timeout` seconds in all."""
        watch = self.waiting(task_ids)
        started = self._timing.now()
        while watch:
            yield from self._until(started, timeout, lambda: watch.open, lambda seconds: watch.round(seconds) or None)

    def waiting(self, task_ids: Iterable[int]) -> Watch:
        """The waiting for many tasks, round by round, for those who do something in between."""
        return Watch(lambda ids, seconds: self._paced(seconds, partial(self._ended_among, ids)) or [], task_ids)

    def result(self, task_id: int, timeout: float | None = None) -> Any:
        """The result of a task, waited for: parsed JSON, or bytes. Raises TaskFailed, TaskCancelled, StillOpen."""
        (task,) = self.results([task_id], timeout)
        if task["status"] == "completed":
            return self.result_of(task)
        whole = self.task(task_id)  # the error has all of it, unless it was retried meanwhile
        return self.result_of(whole if whole["status"] in ENDED else task)

    def result_of(self, task: Task) -> Any:
        """The result of an ended task as `wait` and `results` return it, fetched if it was too large to come along."""
        if task["status"] == "failed":
            raise TaskFailed(task)
        if task["status"] == "cancelled":
            raise TaskCancelled(task)
        if task["status"] != "completed":
            raise StillOpen([task["task_id"]], 0)
        if task.get("result_ref"):
            return self._retry.run(lambda: self._download(task["task_id"], task["result_ref"]))
        return task.get("result")

    def copy_result(self, task: Task, out: BinaryIO) -> int:
        """Write the result of a completed task into a file as its handler returned it, JSON or bytes, piece by piece;
        how many bytes. Not retried: what was written before an error is there. Raises Rejected when there is none."""
        digest, count = hashlib.sha256(), 0
        try:
            with self._transport.stream(f"/task/{task['task_id']}/result", timeout=30.0) as stream:
                for piece in stream:
                    digest.update(piece)
                    count += out.write(piece)
        except Refused as error:
            raise (Rejected(error) if error.status < 500 else error) from None
        self._check(task, digest.hexdigest())
        return count

    def stats(self) -> dict[str, Any]:
        """Counts of tasks by state, workers, rates."""
        return dict(self._call("GET", "/stats"))

    def health(self) -> dict[str, Any]:
        """The dispatcher's word on itself: `{"status": "healthy", …}`."""
        return dict(self._call("GET", "/health"))

    def _call(self, method: str, path: str, body: bytes | None = None, timeout: float = 30.0) -> Any:
        return self._retry.run(lambda: self._transport.call(method, path, body, timeout=timeout))

    def _pages(self, query: dict[str, Any]) -> Iterator[Task]:
        while True:
            page = self._call("GET", f"/tasks?{urlencode(query)}")
            yield from page["tasks"]
            if not page["next_cursor"]:
                return
            query = {**query, "cursor": page["next_cursor"]}

    def _until(
        self,
        started: float,
        timeout: float | None,
        rest: Callable[[], list[int]],
        ask: Callable[[float], T | None],
    ) -> T:
        """The first answer of `ask(seconds)` that is not None; asks at least once. Raises StillOpen with the `rest`."""
        deadline = math.inf if timeout is None else started + timeout
        while True:
            left = max(0.0, deadline - self._timing.now())
            answer = self._paced(min(LONGEST_WAIT, left), ask)
            if answer is not None:
                return answer
            if self._timing.now() >= deadline:
                raise StillOpen(rest(), timeout or 0.0)

    def _paced(self, seconds: float, ask: Callable[[float], T | None]) -> T | None:
        """One question, whose empty answer takes its time: a dispatcher that is stopping gives it at once."""
        asked = self._timing.now()
        answer = ask(seconds)
        if not answer:
            self._timing.sleep(max(0.0, min(1.0, seconds) - (self._timing.now() - asked)))
        return answer

    def _ended(self, task_id: int, seconds: float) -> Task | None:
        task = self._call("GET", f"/task/{task_id}?wait={int(seconds)}", timeout=seconds + _SLACK)
        return task if task["status"] in ENDED else None

    def _ended_among(self, task_ids: list[int], seconds: float) -> list[Task]:
        fields = {"task_ids": task_ids, "wait_seconds": int(seconds), "brief": True}
        reply = self._post("/wait-tasks", fields, timeout=seconds + _SLACK)
        if not reply["tasks"] and reply["open"] == 0:
            raise Rejected(Refused(404, "not_found", f"none of these tasks exists: {task_ids[:5]}"))
        terms = reply.get("terms", ())
        return [_ended_task(terms, *one) if isinstance(one, list) else one for one in reply["tasks"]]

    def _check(self, task: Mapping[str, Any], digest: str) -> None:
        ref = task.get("result_ref")
        if ref and digest != ref["sha256"]:
            raise BadReply(self.url, f"the result of task {task['task_id']} is not the one that was reported")

    def _download(self, task_id: int, ref: Mapping[str, Any]) -> Any:
        with self._transport.stream(f"/task/{task_id}/result", timeout=30.0) as stream:
            body = b"".join(stream)
        self._check({"task_id": task_id, "result_ref": ref}, hashlib.sha256(body).hexdigest())
        return json_profile.parse(body) if stream.media_type.startswith("application/json") else body


def _connected(url: str | None, token: str | None, given: config.ClientSettings) -> Transport | Failover:
    named = urls.listed(url) if url else urls.of_setting(given.dispatcher_url)
    return connect(named, token or given.dispatcher_token or None)


def _ended_task(terms: Sequence[Task], task_id: int, place: int, run_ms: int, data: Any, result: Any) -> Task:
    """A task that came as an array (docs/protocol.md)."""
    return {"task_id": task_id, **terms[place], "run_seconds": run_ms / 1000, "task_data": data, "result": result}
