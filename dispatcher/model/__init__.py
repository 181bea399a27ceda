"""The data of the queue: states, lanes, rows and what ends a lease; limits are in `limits.py`. A leaf.

Times are whole milliseconds: `*_at` UTC wall time, `lease_expires` on the steady lease clock.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from dispatcher.model.limits import KeyUse as KeyUse
from dispatcher.model.limits import QueueSettings as QueueSettings
from dispatcher.model.limits import QueueUse as QueueUse
from dispatcher.model.limits import Rate as Rate


class State(str, Enum):
    """The life of a task (DESIGN section 2)."""

    BLOCKED = "blocked"  # waits for other tasks; the end of the last of them makes it pending
    PENDING = "pending"  # a claim takes it once it is ready
    IN_PROGRESS = "in_progress"  # leased; a report, the reaper or a death report ends the lease
    COMPLETED = "completed"  # a success was recorded, for ever
    FAILED = "failed"  # no attempt is left; a late success or an operator's retry may revive it
    CANCELLED = "cancelled"  # ended by request


FINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})


class End(str, Enum):
    """How a lease ended."""

    COMPLETED = "completed"  # a late success (one in time ends in the task's own row)
    FAILED = "failed"
    RELEASED = "released"
    SNOOZED = "snoozed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    UNLISTED = "unlisted"
    DIED = "died"
    SUPERSEDED = "superseded"


SILENT = frozenset({End.EXPIRED, End.UNLISTED})  # the ends that a heartbeat may take back
LOST = SILENT | {End.DIED}  # the ends in which nobody said that the attempt failed


KEYED = "#key"  # stands among what a lane requires when its tasks have keys; no label can be called so


class Lane(NamedTuple):
    """(queue, task_type, requires): what a worker is or is not eligible for."""

    id: int
    queue: str
    task_type: str
    requires: tuple[str, ...]

    @property
    def keyed(self) -> bool:
        """Whether its tasks have keys (`store/keys.py`)."""
        return KEYED in self.requires


LEASE_ID = re.compile("([0-9]{1,18})-([0-7][0-9a-f]{15})")  # tokens are below 2^63


class LeaseName(NamedTuple):
    """A lease as both sides name it; `lease_id` on the wire is `<task_id>-<token in hex>`."""

    task_id: int
    token: int

    def __str__(self) -> str:
        return f"{self.task_id}-{self.token:016x}"

    @classmethod
    def parse(cls, lease_id: str) -> "LeaseName | None":
        """The name in a lease_id, or None when it cannot be one of ours."""
        found = LEASE_ID.fullmatch(lease_id)
        return cls(int(found[1]), int(found[2], 16)) if found else None


class TaskTerms(NamedTuple):
    """What many tasks of a submit have in common."""

    lane_id: int
    priority: int
    run_at: int
    max_attempts: int
    timeout_ms: int | None


class NewTask(NamedTuple):
    """A task as it is submitted, checked and with every default filled in; `data` is JSON text. Tasks on the same terms
    share the object."""

    terms: TaskTerms
    data: str
    tags: tuple[str, ...]
    options: str | None = None  # what it rarely asks for, as JSON text; None when nothing
    key: str | None = None  # what it shares with others, in a lane of tasks with keys


class EndedTask(NamedTuple):
    """What a task ended in; `data` and `result` are JSON text, an uploaded result is told by its size and hash."""

    task_id: int
    task_type: str
    queue: str
    state: str
    attempts: int
    finished_at: int
    worker_id: str | None
    data: str
    result: str | None
    run_ms: int | None
    size: int | None
    sha256: str | None
    media_type: str | None
    error: str | None
    packed: bytes | None  # what `result` is made of, where that was worth compressing


class TaskRow(NamedTuple):
    """The hot row of a task."""

    id: int
    lane_id: int
    state: State
    ready: int
    priority: int
    run_at: int
    attempts: int
    max_attempts: int
    generation: int
    timeout_ms: int | None
    created_at: int
    started_at: int | None
    finished_at: int | None
    cancel_requested_at: int | None
    lease: int | None
    lease_instance: int | None
    lease_request: int | None
    lease_expires: int | None
    lease_length: int | None
    lease_provisional: int
    lease_misses: int
    held: int = 0


class Instance(NamedTuple):
    """One run of a worker process; a classic client is one nameless instance for each worker_id."""

    id: int
    instance_id: str | None
    worker_id: str
    seen_at: int
    seq: int
    answered: int
    died_at: int | None
    ordered: str | None = None  # quiet, sleep, sleep_now, stop, stop_now; None: run


class Granted(NamedTuple):
    """A task as a claim hands it out; `data`, `checkpoint` and `options` are JSON text."""

    task_id: int
    lane: Lane
    token: int
    attempt: int
    max_attempts: int
    timeout_ms: int | None
    run_at: int
    length: int
    data: str
    checkpoint: str | None
    options: str | None = None


def chars_of(granted: Sequence[Granted]) -> int:
    """About how much of an answer they take."""
    return sum([len(task.data) + len(task.checkpoint or "") for task in granted])


class Grant(NamedTuple):
    """The terms under which a claim leases tasks; a classic claim gets its number from us."""

    instance: int
    request: int
    length: int
    provisional: bool
    spared: frozenset[int] = frozenset()  # tasks that shall wait for another worker


class LeaseEnd(NamedTuple):
    """A lease that ends in anything but a success, and what its task becomes."""

    name: LeaseName
    how: End
    error: str | None
    charged: bool
    state: State
    run_at: int | None = None  # None keeps the task's own


class EndedLease(NamedTuple):
    """The row of an ended lease that did not complete in time."""

    task_id: int
    token: int
    generation: int
    instance: int
    attempt: int
    how: End
    charged: int
    claimed_at: int
    ended_at: int
    error: str | None


class Deadline(NamedTuple):
    """A limit of time of a task, `wait` or `total`; the column order of its table."""

    task_id: int
    kind: str
    generation: int
    at: int  # not over before then
    length_ms: int
    fired: bool = False  # over, and the holder was told to stop


class Upload(NamedTuple):
    """A result put raw under a lease before its report."""

    bytes: int
    sha256: str
    media_type: str


class LogPart(NamedTuple):
    """Lines of an attempt's log; `start` is the number of the first of them, from 0."""

    start: int
    lines: tuple[str, ...]


class Outcome(NamedTuple):
    """One outcome as it was reported; `result` is JSON text, `upload` what was put before the report."""

    name: LeaseName
    status: End
    result: str | None = None
    upload: Upload | None = None
    error: str | None = None
    run_ms: int | None = None
    snooze_ms: int = 0
    log: LogPart | None = None
    packed: bytes | None = None  # instead of the result, where that was worth compressing (`uploads.py`)
    retry: bool = True  # of a failure: whether another attempt may succeed
    crashed: bool = False  # of a failure: the child that ran it is dead


class Progress(NamedTuple):
    """What a heartbeat brings for one lease; None keeps what is stored."""

    name: LeaseName
    done: float | None
    total: float | None
    note: str | None
    checkpoint: str | None
    partial: str | None = None
    log: LogPart | None = None


class Output(NamedTuple):
    """What a task shows while it runs: a partial result and the last lines of its log, both JSON text.

    `next` is the number of the line that the attempt under `lease` has not sent yet.
    """

    task_id: int
    partial: str | None
    log: str | None
    lease: int | None
    next: int


class Schedule(NamedTuple):
    """A recurring schedule; the column order of its table. `task` and `data` are JSON text."""

    name: str
    cron: str | None
    zone: str
    every_ms: int | None
    catch_up: str
    paused: bool
    task: str
    data: str
    next_at: int | None
    last_at: int | None
    last_task_id: int | None
    last_error: str | None
    created_at: int
    updated_at: int
    skipped_from: int | None = None  # the ticks that were left out last: from this one until before that one
    skipped_until: int | None = None
    skipped_why: str | None = None


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """What `GET /tasks` and bulk actions select; None selects all. Wall times: of the end, or else of the submit."""

    state: State | None = None
    queue: str | None = None
    task_type: str | None = None
    tag: str | None = None
    ids: tuple[int, ...] | None = None
    states: tuple[State, ...] | None = None
    before: int | None = None
    since: int | None = None


@dataclass(frozen=True, slots=True)
class Orders:
    """What a reply tells a worker: its state and the leases to stop; `now`: a sleep or stop that waits for no task."""

    state: str = "run"
    cancel: tuple[str, ...] = ()
    now: bool = False

    def differ(self, known: "Orders") -> bool:
        """Whether they say anything else, in whatever order."""
        return (*self.said, frozenset(self.cancel)) != (*known.said, frozenset(known.cancel))

    @property
    def said(self) -> tuple[str, bool]:
        """What they say of the worker itself."""
        return self.state, self.now

    def as_dict(self) -> dict[str, Any]:
        """The shape on the wire."""
        return {"state": self.state, **({"now": True} if self.now else {}), "cancel": list(self.cancel)}
