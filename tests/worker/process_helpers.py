"""What the supervisor's tests share: a sink that records, and waiting on a condition with a deadline."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from worker.children.outcomes import as_object
from worker.children.supervisor import Supervisor, SupervisorSettings
from worker.model import Outcome, Task

HANDLERS = Path(__file__).parent / "handlers"
PATIENCE = 20.0
_numbers = count(1)


class Recorder:
    """Keeps the supervisor's news by lease."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.begun: list[str] = []
        self.outcomes: dict[str, Outcome] = {}
        self.order: list[str] = []
        self.updates: list[tuple[str, dict[str, Any]]] = []

    def started(self, lease_ids: list[str]) -> None:
        with self.changed:
            self.begun += lease_ids
            self.changed.notify_all()

    def finished(self, outcomes: list[Outcome]) -> None:
        with self.changed:
            for outcome in outcomes:
                assert outcome.lease_id not in self.outcomes, "settled twice"
                self.outcomes[outcome.lease_id] = outcome
                self.order.append(outcome.lease_id)
            self.changed.notify_all()

    def progressed(self, lease_id: str, update: dict[str, Any]) -> None:
        with self.changed:
            self.updates.append((lease_id, update))
            self.changed.notify_all()

    def wait(self, condition: Callable[[], Any]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, PATIENCE), f"begun {self.begun}, outcomes {self.outcomes}"

    def body(self, task: Task) -> dict[str, Any]:
        """The outcome of a task as it will be sent, once it is there."""
        self.wait(lambda: task.lease_id in self.outcomes)
        outcome = self.outcomes[task.lease_id]
        body: dict[str, Any] = as_object(json.loads(outcome.body))
        assert (body["store_id"], body["task_id"], body["lease_id"]) == (task.store_id, task.task_id, task.lease_id)
        assert body["status"] == outcome.status
        assert outcome.task_type == task.task_type
        return body

    def wait_begun(self, *tasks: Task) -> None:
        self.wait(lambda: {task.lease_id for task in tasks} <= set(self.begun))


class Bench:
    """A running supervisor and its sink."""

    def __init__(self, supervisor: Supervisor, sink: Recorder, spool: Path) -> None:
        self.supervisor = supervisor
        self.sink = sink
        self.spool = spool

    def offer(self, *tasks: Task) -> None:
        self.supervisor.offer(tasks)

    def run(self, task_type: str, data: Any = None, **fields: Any) -> dict[str, Any]:
        """The body of the outcome of one new task."""
        task = make(task_type, data, **fields)
        self.offer(task)
        return self.sink.body(task)

    def stored(self) -> list[Path]:
        return list(self.spool.iterdir())


@contextmanager
def bench(tmp_path: Path, concurrency: int = 2, **settings: Any) -> Iterator[Bench]:
    """A supervisor with the test handlers; closed at the end, leaving nothing in the spool but results."""
    spool = tmp_path / "spool"
    values = {"kill_grace": 0.3, "recycle_after": 0} | settings
    sink = Recorder()
    supervisor = Supervisor(SupervisorSettings(concurrency, (HANDLERS,), spool, **values), sink)
    supervisor.start()
    try:
        yield Bench(supervisor, sink, spool)
    finally:
        supervisor.close()


def make(task_type: str, data: Any = None, **fields: Any) -> Task:
    number = next(_numbers)
    return Task("store-1", number, task_type, data if data is not None else {}, f"{number}-lease", 1, **fields)


class Gate:
    """A task that waits until its gate is opened."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._path = path
        self.task = make("gate", {"gate": str(path)})

    def open(self) -> None:
        """Let it through; waits until its handler has come to the gate."""
        self._path.open("wb").close()


def wait_for(condition: Callable[[], Any], what: str = "the condition") -> None:
    """Look again and again, for what nobody announces."""
    deadline, pause = time.monotonic() + PATIENCE, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        pause.wait(0.005)


def gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def family(note: Path) -> list[int]:
    """The pids that a `family` task noted: its child, a program in its group, one in a session of its own."""
    wait_for(note.exists, "the family")
    return [int(pid) for pid in note.read_text().split()]
