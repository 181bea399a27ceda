"""The contract of a store: what the rules in `dispatcher/queue` stand on.

All writes of one operation happen in one transaction: `Store.write(op)` runs `op(tx)` and returns only after its
COMMIT was durable; if `op` raises, nothing that it wrote remains. Operations of many threads share a transaction
(`writer.py`), each isolated from the failures of the others; an operation may be run again. A store may be shared
with other dispatchers: what an operation decides upon it locks (`tasks`, `leases`, `expired`, `meet`).

Every write to a leased task is fenced by (task_id, token, in_progress); touching nothing is an ordinary answer.
Lists come in and go out: a single call is a list of one. `tests/store/` holds every implementation to this page.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from dispatcher.clock import Now
from dispatcher.meters import StoreMeters
from dispatcher.model import (
    EndedLease,
    EndedTask,
    Grant,
    Granted,
    KeyUse,
    Lane,
    LeaseEnd,
    LeaseName,
    NewTask,
    Outcome,
    Output,
    Progress,
    QueueSettings,
    QueueUse,
    State,
    TaskFilter,
    TaskRow,
    Upload,
)
from dispatcher.store.attempts import AttemptReader, AttemptTx
from dispatcher.store.browsing import BrowseReads, HistoryOps
from dispatcher.store.instances import InstanceOps
from dispatcher.store.later import LaterOps, LaterReads
from dispatcher.store.webhooks import HookOps, HookReads
from dispatcher.store.writer import Serving

A = TypeVar("A")
T = TypeVar("T")


class Tx(InstanceOps, AttemptTx, LaterOps, HistoryOps, HookOps, Protocol):
    """One operation inside a transaction."""

    now: Now
    finished: list[int]
    wakes: dict[str, int]  # queues that their rate holds back, and when it lets the next task start (steady clock)

    # lanes and submits
    def lane(self, queue: str, task_type: str, requires: tuple[str, ...] = ()) -> int:
        """The id of a lane, made when it is new."""

    def ready_lanes(self) -> list[Lane]:
        """The lanes that hold at least one ready task."""

    def fresh_lanes(self) -> list[Lane]:
        """The lanes that gained ready tasks in this transaction and still hold some."""

    def look_afresh(self) -> None:
        """Count the lanes that other dispatchers filled among the fresh ones."""

    def insert(self, tasks: Sequence[NewTask]) -> list[int]:
        """Store tasks as pending, ready when due; their ids, in order, never used before."""

    def known_keys(self, keys: Sequence[str]) -> Mapping[str, tuple[int, bytes]]:
        """The (task_id, digest of the submitted body and what else was remembered with it) of each idempotency key in
        use."""

    def remember_keys(self, uses: Sequence[tuple[str, int, bytes]]) -> None:
        """Bind idempotency keys to (task_id, digest)."""

    def orphan_keys(self, ids: Sequence[int]) -> None:
        """These tasks are gone: `prune_leftovers` forgets their keys in time."""

    # queues and keys
    def queue_settings(self) -> Mapping[str, QueueSettings]:
        """The settings of the queues that have any; of what another dispatcher changed at most a second old."""

    def configure(self, queue: str, changes: Mapping[str, Any]) -> QueueSettings:
        """Change settings of a queue; how they are then."""

    def announce_settings(self) -> None:
        """After settings were changed and committed: what other dispatchers began before cannot commit any more."""

    def look_at_queue(self, queue: str) -> QueueUse:
        """How far a queue's limits are used up."""

    def lock_queue(self, queue: str) -> QueueUse | None:
        """The same, judged by one dispatcher at a time from here on; None when another has it in hand."""

    def spend(self, queue: str, bucket: int, at: int) -> None:
        """Store the bucket of a queue's rate; the queue is locked."""

    def freshen(self, queue: str) -> None:
        """Count a queue's ready lanes among the fresh ones."""

    def settle_keys(self) -> None:
        """Let in what the limits of keys allow after what this transaction did; done at its end in any case."""

    def key_has_room(self, task_id: int) -> bool:
        """Whether the key of a task allows it to be leased; the key is locked."""

    def resettle_keys(self, queue: str, after: str, limit: int) -> str | None:
        """Bring the next keys of a queue to its limit, in the order of their names; how far this came, None: done."""

    # claims
    def take(self, lanes: Sequence[int], limit: int, grant: Grant, room: int = 2**40) -> list[Granted]:
        """Lease up to `limit` ready tasks of these lanes, highest priority first, then by run_at and id; no more once
        their texts have come to `room` characters. (A store that learns that too late may take some too many.)"""

    def held(self, instance: int, request: int) -> list[Granted]:
        """The live leases that this claim was granted."""

    # ends of leases
    def options(self, ids: Sequence[int]) -> Mapping[int, str]:
        """The options (JSON text) of those of the tasks that have any."""

    def tasks(self, ids: Sequence[int]) -> Mapping[int, TaskRow]:
        """The hot rows of these tasks, locked for this transaction; unknown ids are absent."""

    def ended(self, names: Sequence[LeaseName]) -> Mapping[LeaseName, EndedLease]:
        """The rows of these leases as far as they ended other than by a success in time."""

    def last_end(self, task_id: int) -> EndedLease | None:
        """The newest ended lease of a task."""

    def newest_of(self, instance: int, task_id: int | None) -> LeaseName | None:
        """The instance's newest lease of this task, live, won or ended; without a task its newest live one."""

    def complete(self, successes: Sequence[Outcome]) -> set[LeaseName]:
        """Complete the tasks whose live lease is named; the names that matched."""

    def complete_late(self, success: Outcome, ended: EndedLease) -> bool:
        """Complete a task of that generation that is pending or failed, by a lease that has ended."""

    def end(self, ends: Sequence[LeaseEnd]) -> set[LeaseName]:
        """End live leases other than by success, each leaving its row; the names that matched."""

    def revive(self, ended: EndedLease, length: int, count: bool) -> bool:
        """Make an ended lease of a pending or failed task of its generation live again; `count`: charge the attempt."""

    def put_part(self, name: LeaseName, part: int, data: bytes, upload: int, size: int | None = None) -> bool:
        """Store one part of the upload of that random number; part 0 drops what an earlier one left, a later part
        follows its own part 0 alone (False). `size` is that of the part before it was compressed, if it was."""

    def put_upload(self, name: LeaseName, whole: Upload, upload: int) -> bool:
        """Declare the uploaded parts of a lease's result whole; False when they are not that many bytes."""

    def drop_parts(self, name: LeaseName, limit: int) -> int:
        """Drop up to that many parts of what was uploaded under a lease; how many."""

    def upload(self, name: LeaseName) -> Upload | None:
        """The whole upload of this lease, if there is one."""

    # renewals and silence
    def leases(self, instance: int, but: Collection[int] = ()) -> list[TaskRow]:
        """The tasks with live leases of this instance, `but` these, locked."""

    def cancel_orders(self, instances: Sequence[int]) -> Mapping[int, list[LeaseName]]:
        """The live leases of these instances whose task was asked to be cancelled; those with none are absent."""

    def renew(self, names: Sequence[LeaseName], length: int) -> set[LeaseName]:
        """Let live leases last `length` from now, confirmed and listed; the names that matched."""

    def miss(self, names: Sequence[LeaseName]) -> None:
        """Count one more heartbeat that did not list these live leases."""

    def adopt(self, names: Sequence[LeaseName], instance: int, length: int) -> set[LeaseName]:
        """Pass live leases to another instance, renewed; the names that matched."""

    def progress(self, updates: Sequence[Progress]) -> None:
        """Record progress, notes and checkpoints of live leases; those of other leases are ignored."""

    def outputs(self, ids: Sequence[int]) -> Mapping[int, Output]:
        """The partial results and logs of those of the tasks that have any."""

    def put_outputs(self, outputs: Sequence[Output]) -> None:
        """Replace partial results and logs."""

    def expired(self, limit: int) -> list[TaskRow]:
        """Tasks whose live lease is over, the oldest first, locked."""

    def extend_all(self, floor: int) -> None:
        """The gap rule: every live lease gets its full length anew from now, at least `floor`."""

    def touch(self, last: int | None) -> int | None:
        """A reaper's pass begins: write one row, proof that the store takes writes; when the last pass succeeded, on
        the steady clock, 0 if never. `last` is what this dispatcher knows. None while another dispatcher is at it."""

    # control
    def request_cancel(self, ids: Sequence[int]) -> list[TaskRow]:
        """Mark leased tasks to be cancelled, once; their rows."""

    def close_waiting(self, ids: Sequence[int]) -> set[int]:
        """Cancel tasks that nobody holds (pending, blocked); the ids that were."""

    def restart(self, ids: Sequence[int]) -> set[int]:
        """Make ended tasks pending in a new generation, due now, no attempt used; the ids that were."""

    def edit(self, task_id: int, changes: Mapping[str, Any]) -> bool:
        """Change a waiting task (data, options, priority, run_at, max_attempts, timeout_ms, lane_id) in a new
        generation."""

    def lane_of(self, lane_id: int) -> Lane:
        """A lane by its id."""

    def retag(self, task_id: int, tags: Sequence[str]) -> None:
        """Replace a task's tags."""

    def tagged(self, ids: Sequence[int], tag: str) -> set[int]:
        """Those of the tasks that carry a tag."""

    def weigh(self, ids: Sequence[int]) -> Mapping[int, int]:
        """How many bytes of data and inline result lie with each task."""

    def delete(self, ids: Sequence[int]) -> set[int]:
        """Delete ended tasks with all that belongs to them; the ids that were. Their uploads are swept later."""

    # housekeeping
    def make_ready(self, limit: int) -> int:
        """Make due pending tasks ready, and see to the keys whose rate lets their next task in; how many."""

    def old(self, state: State, lane_id: int, before: int, limit: int) -> list[int]:
        """Tasks of a lane that ended so before that wall time, locked."""

    def keep_for(self, queue: str, state: State, seconds: int | None) -> None:
        """Set how long a queue's tasks that ended so are kept; None forgets it."""

    def sweep(self, limit: int) -> int:
        """Drop up to that many parts of uploads that nothing refers to any more; 0 when there are none."""

    def prune_leftovers(self, keys_before: int, limit: int) -> int:
        """Delete keys of deleted tasks older than that, leave uploads that lost, of tasks that ended before, to
        `sweep`; how many."""

    def give_back(self, pages: int) -> int:
        """Return up to that many free pages of the database to the file system; how many."""


class Reader(AttemptReader, LaterReads, BrowseReads, HookReads, Protocol):
    """Reads of one moment."""

    def task(self, task_id: int) -> dict[str, Any] | None:
        """Everything about a task for display: row, lane, data, result, progress, attempts."""

    def tasks(self, wanted: TaskFilter, after: int | None, limit: int, max_bytes: int) -> list[dict[str, Any]]:
        """A page of tasks, newest first, with ids below `after`: at least one, as many as fit into `max_bytes`."""

    def outcomes(self, ids: Sequence[int], max_bytes: int) -> list[EndedTask]:
        """Those of the tasks that have ended, with result and error: at least one, as many as fit into `max_bytes`."""

    def ended_among(self, ids: Sequence[int]) -> list[int]:
        """Those of the tasks that have ended."""

    def count_open(self, ids: Sequence[int]) -> int:
        """How many of the tasks exist and have not ended."""

    def result_part(self, task_id: int, part: int) -> bytes | None:
        """One part of the uploaded result of a completed task; None after the last."""

    def matching(self, wanted: TaskFilter, after: int, window: int, limit: int) -> tuple[list[int], int | None]:
        """Ids above `after` of tasks that match, in order, at most `limit`, among the next `window` tasks; and the id
        from which to go on, None at the end."""

    def retention(self) -> dict[tuple[str, State], int]:
        """How many seconds ended tasks are kept, by queue ('*': any other) and state, as far as that was set."""

    def ended_lanes(self, state: State) -> list[tuple[int, str]]:
        """The lanes, with their queues, that may hold tasks which ended so."""

    def has_old(self, state: State, lane_id: int, before: int) -> bool:
        """Whether a lane holds a task that ended so before that wall time."""

    def counts(self) -> dict[tuple[str, str], dict[str, int]]:
        """Tasks by state, and how many are ready, for each (queue, task_type)."""

    def workers(self, since: int) -> list[dict[str, Any]]:
        """Instances seen since that wall time, and those that hold leases."""

    def oldest_by_queue(self) -> dict[str, int]:
        """The earliest run_at among the ready tasks of each queue that has any."""

    def output(self, task_id: int) -> Output | None:
        """The partial result and the log of a task, if it has any."""

    def next_due(self) -> int | None:
        """The earliest run_at among pending tasks that are not ready yet, or when a key's rate lets its next task in,
        should that come before; UTC milliseconds."""

    def live_leases(self) -> int:
        """How many leases are live."""

    def queue_settings(self) -> dict[str, QueueSettings]:
        """The settings of the queues that have any."""

    def queue_use(self, queue: str) -> QueueUse:
        """How far a queue's limits are used up."""

    def key_of(self, task_id: int) -> KeyUse | None:
        """The key of a task, and how far its limits are used up; None without a key."""

    def before(self, task_id: int, limit: int) -> int:
        """How many ready tasks of its queue stand before this ready one, counted up to the limit."""

    def type_schemas(self) -> dict[str, str | None]:
        """The registered task types and their payload schemas."""


class Store(Protocol):
    """A database that holds one queue."""

    @property
    def store_id(self) -> str:
        """The store's random name, the same for its whole life."""

    @property
    def meters(self) -> StoreMeters:
        """What the writer counts, from its start."""

    @property
    def healthy(self) -> bool:
        """Whether the last transaction could be committed."""

    @property
    def writes(self) -> int | None:
        """A number that rises with each transaction that wrote, before its callers hear; None: others write, too."""

    @property
    def shared(self) -> bool:
        """Whether other dispatchers may use the same database."""

    def on_news(self, call: Callable[[], None]) -> None:
        """Hook: another dispatcher made tasks ready. A hint: it may never come."""

    def on_commit(self, before: Callable[[Any], Serving | None], after: Callable[[list[int]], None]) -> None:
        """Hooks: `before(tx)` runs inside each transaction and is settled after it; `after` hears which tasks ended."""

    def now(self) -> Now:
        """The store's time."""

    def write(self, op: Callable[[Tx], T]) -> T:
        """Run one operation; return its answer after COMMIT, raise what it raised, Unavailable or StorageFull."""

    def write_together(self, op: Callable[[Tx, Sequence[A]], Sequence[T]], asked: A) -> T:
        """The same for what `op` does for many at once: who comes at the same time shares a run of it."""

    def read(self) -> AbstractContextManager[Reader]:
        """A reader for short reads."""

    def describe(self) -> dict[str, Any]:
        """Engine, version and sizes, for /health."""

    def close(self) -> None:
        """Finish what was accepted, checkpoint, let go of the database."""
