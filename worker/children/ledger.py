"""Every task that this worker holds, from `offer` until it is settled, exactly once; and the news of that."""

import json
import math
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from worker.children.framing import COMPLETED, STATUS, STORED, Frame
from worker.children.line import LONGEST
from worker.children.outcomes import brief, failed_fields, names, quoted, rest, spool_path
from worker.model import Outcome, Task

if TYPE_CHECKING:
    from worker.children.process import ChildProcess

_ENCODER = json.JSONEncoder(check_circular=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Ending:
    """What a task is to end as, whatever becomes of its handler; `lost` has no outcome."""

    status: Literal["failed", "cancelled", "lost", "released"]
    error: str = ""
    crashed: bool = False  # a failure that took its child with it


RELEASED = Ending("released")


@dataclass(slots=True, eq=False)
class Held:
    """A task of ours; `child` has it in its line or runs it, `ending` is set once it is to stop.

    `text` is what goes into a child's line; a large task lies in a file that the text names.
    """

    task: Task
    number: int
    text: str
    large: bool = False
    child: "ChildProcess | None" = None
    ending: Ending | None = None
    started_at: float = math.inf
    entered_at: float = math.inf


@dataclass
class News:
    """What happened, in the order in which it is told; `settled` counts the slots of tasks that are no longer held."""

    started: list[str] = field(default_factory=list)
    progress: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    settled: int = 0


class Ledger:
    """The held tasks by lease, and the news not yet told."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._held: dict[str, Held] = {}
        self._numbers = count()
        self._news = News()

    def enter(self, tasks: Iterable[Task]) -> list[Held]:
        """Hold these tasks; one whose lease is held already is left out, and counts as settled."""
        now = time.monotonic()
        return [held for task in tasks if (held := self._enter(task, now))]

    def _enter(self, task: Task, now: float) -> Held | None:
        if task.lease_id in self._held:
            self._news.settled += task.cost
            return None
        number = 1 + next(self._numbers) % 0xFFFFFFFF
        held = self._held[task.lease_id] = Held(task, number, _text(task, number), entered_at=now)
        held.large = len(held.text) > LONGEST
        return held if not held.large or self._put_in_file(held) else None

    def _put_in_file(self, held: Held) -> bool:
        path = self._file(held, ".in")
        try:
            path.write_text(held.text)
        except OSError as error:
            self.settle_by(held, Ending("failed", f"the task cannot be handed to a child: {error}"))
            return False
        held.text = _ENCODER.encode([held.number, str(path)])
        return True

    def find(self, lease_id: str) -> Held | None:
        """The held task under a lease."""
        return self._held.get(lease_id)

    def started(self, held: Held) -> None:
        """A child has begun it."""
        held.started_at = time.monotonic()
        self._news.started.append(held.task.lease_id)

    def progressed(self, held: Held, body: bytes) -> None:
        """Its handler sent an update with progress, note or checkpoint; raises ValueError for anything else."""
        update = json.loads(body)
        if not isinstance(update, dict):
            raise ValueError("an update is an object")
        self._news.progress.append((held.task.lease_id, update))

    def settle(self, held: Held, frame: Frame) -> None:
        """It ended with an outcome made by its child; raises ValueError when that is no text."""
        kind, _, seconds, body = frame
        task, spool = held.task, self._file(held, ".bin") if kind == STORED else None
        if kind == COMPLETED:
            text = brief(task.store_id, task.task_id, task.lease_id, seconds, body.decode())
        else:
            text = names(task.store_id, task.task_id, task.lease_id) + body.decode()
        self._close(held, Outcome(task.lease_id, task.task_type, STATUS[kind], text, seconds, spool))

    def settle_by(self, held: Held, ending: Ending) -> None:
        """It ended without its child's word; what that left in the spool is void."""
        seconds = 0.0
        if held.started_at < math.inf:
            seconds = time.monotonic() - held.started_at
            _remove(self._file(held, ".bin"))
        task, status = held.task, ending.status
        fields = failed_fields(ending.error, seconds, crashed=ending.crashed) if status == "failed" else ""
        text = names(task.store_id, task.task_id, task.lease_id) + rest(status, fields)
        self._close(held, None if status == "lost" else Outcome(task.lease_id, task.task_type, status, text, seconds))

    def news(self) -> News:
        """What happened since the last call."""
        news, self._news = self._news, News()
        return news

    def _file(self, held: Held, suffix: str) -> Path:
        return Path(spool_path(str(self._spool), held.task.lease_id, suffix))

    def _close(self, held: Held, outcome: Outcome | None) -> None:
        del self._held[held.task.lease_id]
        self._news.settled += held.task.cost
        if outcome is not None:
            self._news.outcomes.append(outcome)
        if held.large:
            _remove(self._file(held, ".in"))


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _text(task: Task, number: int) -> str:
    """The fields of a `Work`."""
    data = "{}" if task.data == {} else _ENCODER.encode(task.data)
    checkpoint = "null" if task.checkpoint is None else _ENCODER.encode(task.checkpoint)
    memory = "null" if task.memory_mb is None else task.memory_mb
    return f"[{number},{task.task_id},{quoted(task.task_type)},{data},{quoted(task.lease_id)},{checkpoint},{memory}]"
