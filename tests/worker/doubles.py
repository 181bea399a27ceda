"""Doubles for the worker's tests: a scripted dispatcher behind a Link, a runner without children, a clock by hand."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from client.transport import Refused, Unreachable
from worker.children.outcomes import as_object
from worker.claims import Claims
from worker.config import WorkerSettings
from worker.disk import Database
from worker.leases import Leases
from worker.link import Link
from worker.model import Outcome, Task
from worker.outbox import Outbox
from worker.quarantine import Quarantine
from worker.reporter import Reporter

STORE = "store-a"
RUN = {"state": "run", "cancel": []}


def silence(body: Any) -> Any:
    raise Unreachable("http://nowhere", "connection refused")


def refusal(status: int, code: str = "unavailable", retry_after: float | None = None) -> Callable[[Any], Any]:
    def refuse(body: Any) -> Any:
        raise Refused(status, code, "no", retry_after)

    return refuse


class ScriptedDispatcher:
    """Answers each path with the function set for it; remembers every call as (method, path, body)."""

    def __init__(self) -> None:
        self.url = "http://a:5000"
        self.calls: list[tuple[str, str, Any]] = []
        self.answers: dict[str, Callable[[Any], Any]] = {
            "/submit-results": self.accept,
            "/get-tasks": lambda body: claimed([]),
            "/heartbeat": self.pulse,
            "/report-death": lambda body: {"verdict": "recorded", "adopted": 0, "charged": 0, "released": 0},
        }
        self.verdicts: dict[str, str] = {}  # by lease_id; accepted if not named
        self.leases: dict[str, str] = {}  # by lease_id; ok if not named
        self.delivered: list[str] = []
        self.brief = True  # one word for all where it may
        self.store_id = STORE
        self.wait_seconds: float | None = None  # how long a claim may stand for heartbeats
        self.death_seconds: float | None = None  # after which silence

    def call(self, method: str, path: str, body: Any = None, *, timeout: float = 30, content_type: str = "") -> Any:
        sent = body if isinstance(body, bytes) else body.read()
        parsed = json.loads(sent) if content_type == "application/json" and method == "POST" else sent
        if path == "/submit-results":
            parsed["outcomes"] = [as_object(one) for one in parsed["outcomes"]]
        self.calls.append((method, path, parsed))
        return self.answers[path.partition("?")[0]](parsed)

    def renew(self) -> None:
        self.calls.append(("RENEW", "", None))

    def close(self) -> None:
        pass

    def bodies(self, path: str) -> list[Any]:
        return [body for _, called, body in self.calls if called.partition("?")[0] == path]

    def accept(self, body: Any) -> Any:
        ids = [one["lease_id"] for one in body["outcomes"]]
        self.delivered += ids
        verdicts: Any = [{"lease_id": one, "verdict": self.verdicts.get(one, "accepted")} for one in ids]
        if body.get("brief") and self.brief and all(one["verdict"] == "accepted" for one in verdicts):
            verdicts = "accepted"
        return {"verdicts": verdicts, "orders": RUN, **({"claim": claimed([])} if "claim" in body else {})}

    def pulse(self, body: Any) -> Any:
        answers = {entry["lease_id"]: self.leases.get(entry["lease_id"], "ok") for entry in body["leases"]}
        told = {"wait_seconds": self.wait_seconds, "death_seconds": self.death_seconds}
        said = {name: seconds for name, seconds in told.items() if seconds is not None}
        return {"store_id": self.store_id, "leases": answers, "orders": RUN, **said}


def claimed(tasks: list[Any], **more: Any) -> dict[str, Any]:
    """The answer to a brief claim; what is no plain task stays as it is."""
    terms: list[dict[str, Any]] = []
    told = [
        _brief(task, terms) if isinstance(task, dict) and task.keys() == leased(1).keys() else task for task in tasks
    ]
    return {"store_id": STORE, "provisional": False, "orders": RUN, "tasks": told, "terms": terms, **more}


def _brief(task: dict[str, Any], terms: list[dict[str, Any]]) -> list[Any]:
    own = {name: value for name, value in task.items() if name not in ("task_id", "lease_id", "task_data")}
    if own not in terms:
        terms.append(own)
    return [task["task_id"], task["lease_id"], terms.index(own), task["task_data"]]


def leased(task_id: int, lease_id: str = "") -> dict[str, Any]:
    """A task as a claim brings it."""
    return {
        "task_id": task_id,
        "task_type": "noop",
        "task_data": {},
        "queue": "default",
        "lease_id": lease_id or f"{task_id}-1",
        "attempt": 1,
        "max_attempts": 3,
        "lease_seconds": 120,
        "timeout_seconds": None,
    }


def task(task_id: int, lease_id: str = "", store_id: str = STORE) -> Task:
    return Task(store_id, task_id, "noop", {}, lease_id or f"{task_id}-1", 1)


def outcome(task_id: int, status: str = "completed", spool: Path | None = None, **fields: Any) -> Outcome:
    """As a child and its supervisor write it: a success with its result alone as an array."""
    names = {"store_id": STORE, "task_id": task_id, "lease_id": f"{task_id}-1"}
    value: Any = {**names, "status": status, **fields}
    if status == "completed" and fields.keys() <= {"result"}:
        value = [*names.values(), 1, fields.get("result", {"n": task_id})]
    return Outcome(f"{task_id}-1", "noop", status, json.dumps(value), 0.001, spool)


class Runner:
    """Stands for the Supervisor."""

    def __init__(self) -> None:
        self.capacity, self.offered, self.stopped = 0, [], []  # type: int, list[Task], list[tuple[list[str], str]]
        self.short = self.busy = False
        self.released: list[str] = []

    def offer(self, tasks: list[Task]) -> None:
        self.offered += tasks
        self.capacity -= len(tasks)

    def wanted(self) -> int:
        return max(0, self.capacity)

    def brief(self) -> bool:
        return self.short

    def supplied(self) -> bool:
        return self.busy

    def stop(self, lease_ids: list[str], reason: str) -> None:
        self.stopped.append((lease_ids, reason))

    def release_waiting(self) -> None:
        self.released.append("waiting")

    def release_running(self) -> None:
        self.released.append("running")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """The parts of a worker on a scripted dispatcher, stepped by hand; `settings` are fields of WorkerSettings."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        (folder / "outbox").mkdir(parents=True, exist_ok=True)
        self.settings = WorkerSettings(worker_id="lab-1", cache_dir=folder.parent, **settings)
        self.dispatcher, self.clock, self.runner = ScriptedDispatcher(), Clock(), Runner()
        self.link = Link(self.dispatcher)
        self.leases = Leases("instance-1")
        self.claims = Claims(
            self.settings, ["noop"], self.link, self.leases, self.runner, self.deliver, clock=self.clock
        )
        self.reporter = Reporter(self.settings, self.outbox, self.link, self.leases, self.claims, clock=self.clock)
        self.link.on_return = self.reporter.retry_now

    def outbox(self) -> Outbox:
        return open_outbox(self.folder)

    def deliver(self, outcomes: list[Outcome]) -> None:
        self.reporter.add(outcomes)

    def hold(self, *task_ids: int) -> None:
        """As if a claim had brought these tasks."""
        self.leases.answered_claim(self.leases.open_claim(0, 0), STORE, [task(one) for one in task_ids])

    def deliver_outcomes(self, *task_ids: int) -> None:
        """Their tasks are done; the reporter takes one turn."""
        self.leases.finished([f"{one}-1" for one in task_ids])
        self.reporter.add([outcome(one) for one in task_ids])
        self.reporter.step()

    def steps(self, most: int = 100) -> None:
        """The reporter's steps until it has nothing to do but wait."""
        for _ in range(most):
            if self.reporter.step() > 0:
                return
        raise AssertionError("the reporter does not come to rest")


def open_outbox(folder: Path) -> Outbox:
    return Outbox(folder / "outbox", Quarantine(folder.parent / "quarantine", folder.name))


def open_database(folder: Path) -> Database:
    return Database(folder / "outbox")


def wait_until(condition: Callable[[], object], seconds: float = 30.0, what: str = "it did not happen") -> None:
    """Returns when the condition holds; looks every 10 ms."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
