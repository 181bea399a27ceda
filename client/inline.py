"""A client without a dispatcher, for tests: what is submitted runs at once, in this process."""

import hashlib
import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, BinaryIO
from urllib.parse import parse_qsl

from client.bodies import new_key, spelt_out
from client.client import Client
from client.errors import Refused, StillOpen
from client.running import Named, Recorder, Run, attempt, loaded, round_trip
from client.waiting import ENDED, Task
from common.handlers.loading import Handler, HandlerError
from common.json_profile import dump, parse

_FIELDS = {*inspect.signature(Client.submit).parameters} - {"self", "data"} | {"task_data"}
_DEFAULT_ATTEMPTS = 3


class InlineClient(Client):
    """A Client whose tasks run inside `submit`, `submit_many` and `submit_batches`; then `wait`, `result`, `results`,
    `task` and `tasks` know how they ended. `runs` has what each attempt told.

    `handlers` gives task types their module, file or function; other types are found as a worker finds them. Attempts
    follow each other without pauses. Calls for what a dispatcher alone can do raise Rejected with code `unsupported`.
    """

    def __init__(self, handlers: Mapping[str, Named] | None = None) -> None:
        self._inline = _Inline(handlers or {})
        super().__init__(transport=self._inline, retry_seconds=0)

    @property
    def runs(self) -> dict[int, list[Run]]:
        """The attempts of each task by its id."""
        return self._inline.runs


@dataclass(frozen=True)
class _Bytes:
    """A result of bytes, as a stream of one piece."""

    body: bytes
    media_type: str = "application/octet-stream"

    def __iter__(self) -> Iterator[bytes]:
        yield self.body


class _Inline:
    """Stands in the place of a dispatcher: answers those of its requests that the client makes for tasks."""

    url = "inline:"

    def __init__(self, handlers: Mapping[str, Named]) -> None:
        self.runs: dict[int, list[Run]] = {}
        self._named = handlers
        self._handlers: dict[str, Handler] = {}
        self._tasks: dict[int, Task] = {}
        self._keys: dict[str, tuple[str, int]] = {}  # idempotency key → body, task
        self._twins: dict[str, tuple[int, float]] = {}  # unique key → the newest task, submitted when
        self._set_up: set[str] = set()

    def close(self) -> None:
        """Nothing is open."""

    def call(
        self, method: str, path: str, body: bytes | BinaryIO | None = None, *, timeout: float = 30.0,
        content_type: str = "application/json",
    ) -> Any:  # fmt: skip
        """The data of a dispatcher's answer; raises Refused, and StillOpen for a wait that nothing can end."""
        where, _, query = path.partition("?")
        _, first, *more = where.split("/")
        answers: dict[tuple[str, str, int], Callable[..., Any]] = {
            ("POST", "submit-task", 0): self._submit,
            ("POST", "submit-tasks", 0): self._submit_many,
            ("POST", "wait-tasks", 0): self._wait,
            ("GET", "tasks", 0): self._list,
            ("GET", "task", 1): self._show,
        }
        answer = answers.get((method, first, len(more)))
        if answer is None:
            raise _unsupported(method, where)
        return answer(*more, parse(body) if isinstance(body, bytes) else dict(parse_qsl(query)))

    @contextmanager
    def stream(self, path: str, *, timeout: float) -> Iterator[_Bytes]:
        """The result of a task, raw."""
        _, *parts = path.partition("?")[0].split("/")
        if len(parts) != 3 or parts[::2] != ["task", "result"]:
            raise _unsupported("GET", path)
        task = self._found(parts[1])
        if task["status"] != "completed":
            raise Refused(404, "not_found", f"task {task['task_id']} has no result")
        result = self.runs[task["task_id"]][-1].result
        yield _Bytes(result) if isinstance(result, bytes) else _Bytes(dump(result).encode(), "application/json")

    def _submit_many(self, body: dict[str, Any]) -> dict[str, Any]:
        tasks = list(spelt_out(body["tasks"]))
        for fields in tasks:
            self._check(fields)
        answers = [self._submit(fields) for fields in tasks]
        return {"task_ids": [one["task_id"] for one in answers], "created": [one["created"] for one in answers]}

    def _submit(self, fields: dict[str, Any]) -> dict[str, Any]:
        self._check(fields)
        key, text = fields.get("idempotency_key") or new_key(), dump(fields)
        before, task_id = self._keys.setdefault(key, (text, len(self._tasks) + 1))
        if before != text:
            raise Refused(409, "conflict", "idempotency_key: it was used with another body")
        if task_id in self._tasks:
            return {"task_id": task_id, "created": True}
        twin = self._twin(fields)
        if twin is not None:
            self._keys[key] = text, twin
            return {"task_id": twin, "created": False}
        self._run(self._new(task_id, fields))
        return {"task_id": task_id, "created": True}

    def _check(self, fields: dict[str, Any]) -> None:
        """Raises Refused for what can be seen to be wrong here; a dispatcher sees more."""
        if unknown := sorted(fields.keys() - _FIELDS):
            raise Refused(400, "invalid", f"{unknown[0]}: unknown field")
        if not isinstance(fields["task_data"], dict):
            raise Refused(400, "invalid", "task_data: must be an object")
        try:
            self._handler(fields.get("task_type", ""))
        except HandlerError as error:
            raise Refused(400, "invalid", f"task_type: {error}") from None

    def _handler(self, task_type: str) -> Handler:
        if task_type not in self._handlers:
            self._handlers[task_type] = loaded(self._named.get(task_type, task_type))
        return self._handlers[task_type]

    def _twin(self, fields: dict[str, Any]) -> int | None:
        """The task that stands for this one by its `unique_key`."""
        task_id, submitted = self._twins.get(fields.get("unique_key", ""), (0, 0.0))
        if not task_id:
            return None
        seconds = fields.get("unique_for", "unfinished")
        if isinstance(seconds, str):
            return task_id if self._tasks[task_id]["status"] not in ENDED else None
        return task_id if time.monotonic() - submitted < seconds else None

    def _new(self, task_id: int, fields: dict[str, Any]) -> Task:
        own = {name: value for name, value in fields.items() if name not in ("idempotency_key", "unique_for")}
        defaults = self._handler(fields["task_type"]).defaults() or {}
        unsaid = {"queue": "default", "priority": 0, "tags": [], "requires": [], "key": None, "timeout_seconds": None}
        task: Task = {"task_id": task_id, "max_attempts": _DEFAULT_ATTEMPTS, **unsaid, **defaults, **own}
        task |= {"created_at": _moment(), "run_at": _moment(), "attempts": 0, "status": "in_progress", "error": None}
        task |= {"progress": None, "note": None, "finished_at": None}
        self._tasks[task_id], self.runs[task_id] = task, []
        if "unique_key" in task:
            self._twins[task["unique_key"]] = task_id, time.monotonic()
        return task

    def _run(self, task: Task) -> None:
        """Attempts one after the other, until one of them settles it."""
        task_id, task_type, checkpoint = task["task_id"], task["task_type"], None
        while task["status"] == "in_progress":
            data, context = round_trip(task["task_data"]), Recorder(checkpoint, None)
            run = attempt(self._handler(task_type), data, task_id, context, set_up=task_type not in self._set_up)
            self._set_up.add(task_type)
            self.runs[task_id].append(run)
            checkpoint = run.checkpoint
            _settle(task, run)

    def _found(self, task_id: str | int) -> Task:
        task = self._tasks.get(int(task_id))
        if task is None:
            raise Refused(404, "not_found", f"there is no task {task_id}")
        return task

    def _show(self, task_id: str, query: dict[str, str]) -> Task:
        task = self._found(task_id)
        if "wait" in query and task["status"] not in ENDED:
            raise StillOpen([task["task_id"]], 0)
        result = task.get("result")
        return {**(result if isinstance(result, dict) else {}), **task}

    def _wait(self, body: dict[str, Any]) -> dict[str, Any]:
        known = [self._tasks[task_id] for task_id in body["task_ids"] if task_id in self._tasks]
        ended = [task for task in known if task["status"] in ENDED]
        if known and not ended:
            raise StillOpen([task["task_id"] for task in known], 0)
        return {"tasks": ended, "open": len(known) - len(ended)}

    def _list(self, query: dict[str, str]) -> dict[str, Any]:
        ids = [int(task_id) for task_id in query.get("ids", "").split(",") if task_id]
        tag = query.get("tag")
        same = {name: query[name] for name in ("status", "task_type", "queue") if name in query}
        tasks = [
            task for task in reversed(self._tasks.values())
            if same.items() <= task.items() and tag in (None, *task["tags"]) and (not ids or task["task_id"] in ids)
        ]  # fmt: skip
        return {"tasks": tasks, "next_cursor": None}


def _unsupported(method: str, path: str) -> Refused:
    return Refused(400, "unsupported", f"{method} {path}: an inline client has no dispatcher for this")


def _settle(task: Task, run: Run) -> None:
    """What an attempt makes of its task."""
    if run.progress:
        task["progress"] = dict(zip(("done", "total"), run.progress[-1], strict=True))
    task["note"] = run.notes[-1] if run.notes else task["note"]
    if run.snooze_seconds is not None:
        task |= {"status": "pending", "run_at": _moment(run.snooze_seconds)}
        return
    task |= {"attempts": task["attempts"] + 1, "error": run.error, "run_seconds": run.seconds}
    if run.status == "failed" and run.retry and task["attempts"] < task["max_attempts"]:
        return
    task |= {"status": run.status, "finished_at": _moment()}
    if isinstance(run.result, bytes):
        digest = hashlib.sha256(run.result).hexdigest()
        task["result_ref"] = {"bytes": len(run.result), "sha256": digest, "media_type": "application/octet-stream"}
    elif run.status == "completed":
        task["result"] = run.result


def _moment(seconds: float = 0) -> str:
    """So many seconds from now, as the wire has it."""
    moment = datetime.now(timezone.utc) + timedelta(seconds=seconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
