"""The queue: each method is one operation on the store, decided by the rules beside this file."""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from dispatcher.clock import Now
from dispatcher.errors import NotFound
from dispatcher.meters import Totals
from dispatcher.model import EndedTask, Granted, LeaseName, Orders, Outcome, State, TaskRow, Upload
from dispatcher.queue import control, death, retention, uploads, webhooks, workers
from dispatcher.queue.asks import Asks
from dispatcher.queue.attempts import AttemptControl
from dispatcher.queue.blame import Blame
from dispatcher.queue.claim import Claim, Claimed, claim, claim_classic, is_repeat, orders_for
from dispatcher.queue.defaults import Defaults
from dispatcher.queue.events import Events
from dispatcher.queue.heartbeat import Answered, Heartbeat, heartbeat, heartbeat_classic
from dispatcher.queue.jumps import Jumps
from dispatcher.queue.kept import Kept
from dispatcher.queue.rates import Rates
from dispatcher.queue.reads import ANSWER_BYTES, Reads
from dispatcher.queue.report import Verdict, report
from dispatcher.queue.schemas import Schemas
from dispatcher.queue.submit import RequestName, Submission, Submitted, submit, submit_once
from dispatcher.queue.terms import Terms
from dispatcher.queue.upkeep import Upkeep
from dispatcher.queue.waiting import Parked, Waiting
from dispatcher.queue.watch import Watchers
from dispatcher.store.base import Store, Tx
from dispatcher.store.writer import Serving

GATHER_S = 0.5
T = TypeVar("T")


class Queue(Upkeep, AttemptControl, Reads):
    """One queue over one store."""

    def __init__(
        self, store: Store, terms: Terms | None = None, most_waiting: int = 10_000, most_streams: int = 1_000
    ) -> None:
        self.store, self.terms = store, terms or Terms()
        self.blame, self.defaults = Blame(), Defaults()
        self.waiting, self.watchers, self.rates = Waiting(self.terms, self.blame), Watchers(), Rates()
        self.asks, self.events, self.hooks = Asks(), Events(most_streams), Totals()
        self.kept = Kept()
        self.jumps = Jumps()
        self._places = threading.Semaphore(most_waiting)  # each request that waits holds a thread of the server
        with store.read() as reader:
            self.schemas = Schemas(reader.type_schemas())
        self.learn_attempts()
        self._learned = 0
        self.draining = False
        store.on_commit(self._at_end, self._ended)
        self._hear: Callable[[], None] | None = None

    def on_news(self, call: Callable[[], None]) -> None:
        """Hook: another dispatcher made tasks ready (a hint)."""
        self._hear = call
        self.store.on_news(call)

    def adopt(self, store: Store) -> None:
        """Go on over another store, which holds this very queue: who waits here goes on waiting, served from there."""
        if store.store_id != self.store.store_id:
            raise ValueError("another queue")
        with store.read() as reader:
            self.schemas.learn(reader.type_schemas())
        store.on_commit(self._at_end, self._ended)
        self.store = store
        if self._hear is not None:
            store.on_news(self._hear)
            self._hear()  # who looks after other dispatchers sleeps long while there are none

    def _at_end(self, tx: Tx) -> Serving | None:
        """The end of each transaction, before its COMMIT."""
        if self.terms.webhooks and tx.finished:
            webhooks.note(tx, self.terms, tx.finished)
        return self.waiting.serve(tx)

    def _ended(self, ids: list[int]) -> None:
        self.watchers.ended(ids)
        self.events.touch(ids)
        self.rates.ended(len(ids), self.store.now().wall // 1000)

    def drain(self) -> None:
        """Answer everything that waits; nothing waits from now on."""
        self.draining = True
        self.waiting.close()
        self.watchers.close()
        self.events.close()

    # submit
    def submit(self, submissions: Sequence[Submission]) -> list[int]:
        """Store tasks, all or none; their ids. Raises KeyConflict."""
        return self.submitted(submissions).ids

    def submitted(self, submissions: Sequence[Submission], name: RequestName | None = None) -> Submitted:
        """Store tasks, all or none, and once under a name; their ids, and which are new. Raises KeyConflict."""
        if name is not None:
            made = self.store.write(lambda tx: submit_once(tx, name, submissions, self.terms, self.defaults))
        elif len(submissions) == 1:
            made = self.store.write_together(self._submit_each, submissions[0])
        else:
            made = self.store.write(lambda tx: submit(tx, submissions, self.terms, self.defaults))
        self.events.touch(made.ids)
        return made

    def _submit_each(self, tx: Tx, asked: Sequence[Submission]) -> list[Submitted]:
        """Those of many senders, in one go."""
        made = submit(tx, asked, self.terms, self.defaults)
        return [Submitted([task_id], [new]) for task_id, new in zip(made.ids, made.created, strict=True)]

    # claim
    def claim(self, asked: Claim) -> Claimed:
        """Lease tasks to an instance; waits up to `wait_ms` when there are none. Raises InstanceDead."""
        with self._place(asked.wait_ms) as wait_ms:
            return self._claim(asked if wait_ms else replace(asked, wait_ms=0))

    @contextmanager
    def _place(self, wait: float) -> Iterator[float]:
        """How long a request may wait: as long as it asked for, not at all when too many wait already."""
        place = wait > 0 and self._places.acquire(blocking=False)
        try:
            yield wait if place else 0
        finally:
            if place:
                self._places.release()

    def _claim(self, asked: Claim) -> Claimed:
        self._heard(asked)
        outdated = self.waiting.outdated(asked)
        parked = Parked(asked)
        try:
            answer = self.store.write(lambda tx: self._claim_or_park(tx, parked, outdated))
        except BaseException:  # parked in a transaction that failed
            self.waiting.leave(parked)
            raise
        if answer is not None:
            self._note_waits(answer.tasks)
            return answer
        served = self.waiting.wait(parked)
        if served:
            self._note_waits(served.tasks)
            return served
        if parked.overdue:  # new orders would have ended the wait
            return Claimed((), False, asked.orders)
        return self.store.write(lambda tx: Claimed((), False, orders_for(tx, asked.instance_id)))

    def _heard(self, asked: Claim) -> None:
        """Note that a worker is around, and what it asks for."""
        now = self.store.now()
        self.asks.note(asked, now.steady)
        self.blame.seen(asked, now.wall)

    def _claim_or_park(self, tx: Tx, parked: Parked, outdated: bool) -> Claimed | None:
        asked = parked.asked
        self.waiting.unpark(parked)  # by an earlier run of this operation
        known = tx.instance(asked.instance_id)
        granted = claim(tx, asked, self.terms, outdated, self.blame)
        orders = orders_for(tx, asked.instance_id)
        if granted or outdated or is_repeat(known, asked) or asked.wait_ms <= 0 or orders.differ(asked.orders):
            return Claimed(granted, False, orders)
        parked.instance = known.id if known else None
        return None if self.waiting.park(parked) else Claimed((), False, orders)

    def _note_waits(self, tasks: Collection[Granted]) -> None:
        now = self.store.now().wall
        self.rates.waited([(now - task.run_at) / 1000 if now > task.run_at else 0.0 for task in tasks])
        self.events.touch(task.task_id for task in tasks)

    def claim_classic(self, worker_id: str, types: frozenset[str] | None = None) -> Granted | None:
        """Lease one task the classic way."""
        self._heard(Claim(worker_id, "", 0, 1, task_types=types))
        granted = self.store.write(lambda tx: claim_classic(tx, worker_id, self.terms, types, self.blame))
        self._note_waits([granted] if granted else [])
        return granted

    # report
    def report(
        self, outcomes: Sequence[Outcome], instance_id: str, then: Claim | None = None
    ) -> tuple[list[Verdict], Orders, Claimed | None]:
        """A verdict for each outcome; with `then` also a claim that never waits, in the same transaction."""
        if then:
            self._heard(then)
        outdated = then is not None and self.waiting.outdated(then)
        lean = uploads.lean(outcomes)
        answer = self.store.write(lambda tx: self._report(tx, lean, instance_id, then, outdated))
        self._note_reported(outcomes)
        self.events.touch(outcome.name.task_id for outcome in outcomes)
        if answer[2]:
            self._note_waits(answer[2].tasks)
        return answer

    def _note_reported(self, outcomes: Sequence[Outcome]) -> None:
        if self.blame.stale:
            self.learn_attempts()
        self.rates.tried([outcome.status for outcome in outcomes])
        self.rates.ran([o.run_ms / 1000 for o in outcomes if o.run_ms is not None])

    def _report(
        self, tx: Tx, outcomes: Sequence[Outcome], instance_id: str, then: Claim | None, outdated: bool
    ) -> tuple[list[Verdict], Orders, Claimed | None]:
        verdicts, failures = report(tx, outcomes, self.defaults)
        instance = tx.instance(instance_id)
        if failures and instance is not None:
            self.blame.failed(tx, instance.worker_id, failures)
        claimed = None
        if then is not None and (instance is None or instance.died_at is None):
            granted = claim(tx, then, self.terms, outdated, self.blame)
            claimed = Claimed(granted, False, orders_for(tx, instance_id))
        return verdicts, claimed.orders if claimed else orders_for(tx, instance_id), claimed

    def report_classic(self, worker_id: str, task_id: int, outcome: Outcome, lease: LeaseName | None) -> Verdict:
        """The verdict on one report in the classic form. Raises NotFound for an id that never was."""
        (lean,) = uploads.lean([outcome])
        verdict = self.store.write(lambda tx: self._report_classic(tx, worker_id, task_id, lean, lease))
        self._note_reported([outcome])
        self.events.touch([task_id])
        return verdict

    def _report_classic(
        self, tx: Tx, worker_id: str, task_id: int, outcome: Outcome, lease: LeaseName | None
    ) -> Verdict:
        if not tx.tasks([task_id]):
            raise NotFound(f"task {task_id}")
        instance = tx.classic(worker_id)
        if lease is None:
            lease = tx.newest_of(instance.id, task_id) if instance else None
        if lease is None or lease.task_id != task_id:
            return Verdict.UNKNOWN
        if instance is not None:
            tx.seen(instance.id, 0, None)
        verdicts, failures = report(tx, [outcome._replace(name=lease)], self.defaults)
        self.blame.failed(tx, worker_id, failures)
        return verdicts[0]

    # heartbeat and death
    def heartbeat(self, beat: Heartbeat) -> Answered:
        """Renew leases; verdicts for each and orders. Raises InstanceDead."""
        self.rates.heartbeats.add("native")
        told = {name: (beat.defaults or {}).get(name) for name in beat.types or ()}
        news = bool(beat.types) and (self.schemas.is_news(beat.types or {}) or self.defaults.is_news(told))
        answer = self.store.write(lambda tx: heartbeat(tx, beat, self.store.store_id, self.terms, news))
        if news and answer.taken:
            self.schemas.learn(beat.types or {})
            self.defaults.learn(told)
        return answer

    def heartbeat_classic(self, worker_id: str, host: str | None) -> int:
        """Renew the worker's newest classic lease; when it was, UTC milliseconds."""
        self.rates.heartbeats.add("classic")
        return self.store.write(lambda tx: heartbeat_classic(tx, worker_id, host, self.terms))

    def report_death(self, store_id: str, news: death.Death) -> death.Recorded | None:
        """Settle the leases of a dead instance; None when it belongs to another store. Raises InstanceDead."""
        if store_id != self.store.store_id:
            return None
        recorded = self.store.write(lambda tx: death.record(tx, news, self.terms))
        self.waiting.dismiss_dead(news.dead_instance_id)
        return recorded

    # results
    def upload(self, name: LeaseName, store_id: str, media_type: str, parts: Iterator[bytes], digest: Any) -> Upload:
        """Store an uploaded result part by part, each its own write; `digest` has hashed all parts at their end."""
        return uploads.put(self.store, name, store_id, media_type, parts, digest)

    # control
    def cancel(self, ids: Sequence[int]) -> dict[int, str]:
        """Cancel waiting tasks, order the holders of running ones to stop; a verdict for each id."""
        verdicts, running = self.store.write(lambda tx: control.cancel(tx, ids))
        self.stop_waiting(running)
        return verdicts

    def stop_waiting(self, running: Sequence[TaskRow]) -> None:
        """There are orders for the holders of these tasks: their claims wait no longer."""
        if running:
            self.waiting.dismiss({row.lease_instance for row in running if row.lease_instance is not None})

    def change(self, task_id: int, wanted: control.Edit) -> TaskRow:
        """Change a waiting task; its new row. Raises NotFound and NotWaiting."""
        return self.store.write(lambda tx: control.change(tx, task_id, wanted))

    def remove(self, task_id: int, force: bool = False) -> str:
        """Delete a task that has ended; with `force` cancel it first. The verdict. Raises NotFound."""
        verdict, running = self.store.write(lambda tx: control.remove(tx, task_id, force, self.terms))
        self.stop_waiting(running)
        return verdict

    def retry(self, ids: Sequence[int]) -> dict[int, str]:
        """Run ended tasks again; a verdict for each id."""
        return self.store.write(lambda tx: control.retry(tx, ids))

    def order_worker(self, worker_id: str, state: str, now: bool = False) -> int:
        """Order a worker to run, be quiet, sleep or stop; how many living instances that reached. Raises NotFound."""
        reached = self.store.write(lambda tx: workers.order(tx, worker_id, state, now))
        self.waiting.dismiss_worker(worker_id)
        return len(reached)

    def retention(self) -> dict[tuple[str, State], int]:
        """How many seconds ended tasks are kept, by queue ('*': any other) and state, as far as that was set."""
        with self.store.read() as reader:
            return reader.retention()

    def keep_for(self, queue: str, seconds: Mapping[State, int | None]) -> None:
        """Set how long a queue's ended tasks are kept; None forgets it."""
        self.store.write(lambda tx: retention.keep(tx, queue, seconds))

    # reads
    def task(self, task_id: int, wait_s: float = 0) -> dict[str, Any]:
        """Everything about a task; waits up to `wait_s` for its end. Raises NotFound."""
        return self._until([task_id], wait_s, lambda: self._task(task_id), lambda row: row["finished_at"] is None)

    def _task(self, task_id: int) -> dict[str, Any]:
        with self.store.read() as reader:
            found = reader.task(task_id)
        if found is None:
            raise NotFound(f"task {task_id}")
        return found

    def wait_tasks(self, ids: Sequence[int], wait_s: float) -> tuple[list[EndedTask], int]:
        """Those of the tasks that have ended, as many as fit an answer, and how many are still open; waits up to
        `wait_s` for the first end while any is open. The next ends are gathered for as long again, at most a moment,
        so that a client that waits for a thousand does not come back for each."""
        return self._until(ids, wait_s, lambda: self._ended_of(ids), lambda found: found[1] if not found[0] else 0)

    def _until(self, ids: Sequence[int], wait_s: float, look: Callable[[], T], still_open: Callable[[T], int]) -> T:
        """What `look` finds of these tasks, once it says that there is nothing to wait for, or after `wait_s`."""
        if wait_s <= 0:
            return look()
        with self._place(wait_s) as allowed, self.watchers.watch(ids) as watch:
            began = time.monotonic()
            while True:
                watch.forget()
                found, waited = look(), time.monotonic() - began
                open_ = still_open(found)
                if not open_ or waited >= allowed or self.watchers.closed:
                    return found
                watch.wait(1, allowed - waited)
                waited = time.monotonic() - began
                watch.wait(open_, min(GATHER_S, waited, max(0.0, allowed - waited)))

    def _ended_of(self, ids: Sequence[int]) -> tuple[list[EndedTask], int]:
        with self.store.read() as reader:
            ended = reader.outcomes(ids, ANSWER_BYTES)
            return ended, reader.count_open(ids) if len(ended) < len(set(ids)) else 0

    def now(self) -> Now:
        """The store's time."""
        return self.store.now()

    def is_ready(self) -> bool:
        """Whether the last transaction could be committed."""
        return self.store.healthy
