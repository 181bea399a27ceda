"""The load before a power cut: every kind of operation on a Queue, and what its answers promise.

`Load.told` holds, for each task, what the dispatcher has told its clients by answers: that is what must outlive a cut.
One `step` is one transaction, or several with a `mark()` after each: a mark says that all that was asked is answered.
"""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, suppress
from functools import partial
from random import Random
from threading import Event
from time import monotonic, sleep
from typing import Any, NamedTuple

from dispatcher.clock import Now
from dispatcher.model import End, Granted, LeaseName, Outcome, Progress, State, TaskFilter
from dispatcher.queue import Queue, control, retention
from dispatcher.queue.claim import Claim
from dispatcher.queue.death import Death
from dispatcher.queue.heartbeat import Heartbeat
from dispatcher.queue.pace import Pace, at_once
from dispatcher.queue.report import Verdict
from dispatcher.queue.submit import Submission, submit
from dispatcher.store.base import Tx
from dispatcher.store.sqlite import SqliteStore

GONE = "gone"  # pruned
FINAL = (State.COMPLETED, State.FAILED, State.CANCELLED)
WORKERS = ("ann", "bob", "eve")
PATIENCE = 20.0


class Told(NamedTuple):
    """What clients were told of a task."""

    asked: Submission
    state: str = State.PENDING
    result: str | None = None  # of a completed task: the body, or the hash of the upload
    note: str | None = None
    to_cancel: bool = False
    grant: Granted | None = None  # the live lease
    past: Granted | None = None  # the one before, ended without success
    won: Granted | None = None  # the one that brought the result
    holder: str = ""


class FakeClock:
    """Stands still until told."""

    def __init__(self, wall: int = 1_800_000_000_000) -> None:
        self.wall = wall

    def now(self) -> Now:
        return Now(self.wall, self.wall)


class Undone(Exception):
    """Raised by an operation to be undone."""


class Op(NamedTuple):
    """A call to the queue, and what its answer teaches."""

    call: Callable[[], Any]
    learn: Callable[[Any], None]


class Load:
    """Clients and workers of one life of the dispatcher."""

    def __init__(
        self, store: SqliteStore, clock: FakeClock, rng: Random, told: dict[int, Told], life: int, pool: Executor
    ) -> None:
        self.store, self.queue, self.clock, self.rng, self.told, self._pool = (
            store,
            Queue(store),
            clock,
            rng,
            told,
            pool,
        )
        self.operations = 0
        self._life, self._numbers = life, itertools.count(life * 100_000 + 1)
        self._instances = {worker: f"i-{worker}-life-{life}" for worker in WORKERS}
        self._reading = ExitStack()
        self._kinds: dict[Callable[[], Op | None], int] = {
            self._submit: 6, self._repeat: 1, self._claim: 6, self._classic: 1, self._report: 8, self._beat: 3,
            self._cancel: 2, self._retry: 1, self._edit: 1, self._prune: 1, self._reap: 1, self._due: 1, self._die: 1,
        }  # fmt: skip

    def step(self, mark: Callable[[], None]) -> None:
        """Do something, and mark each answer."""
        self.clock.wall += self.rng.randrange(3000)
        how = self.rng.choices(
            (self._single, self._together, self._upload, self._waiting_claim, self._read), (14, 4, 1, 2, 2)
        )
        how[0](mark)

    def end(self) -> None:
        """Let go of the store."""
        self._reading.close()
        self.queue.drain()

    # ways to call
    def _single(self, mark: Callable[[], None]) -> None:
        op = self._op()
        self._learn(op, op.call())
        mark()

    def _together(self, mark: Callable[[], None]) -> None:
        """Several callers whose operations share one transaction, one of which fails."""
        ops = [self._op() for _ in range(self.rng.randint(2, 4))]
        reached, go = Event(), Event()
        blocker = self._pool.submit(self.store.write, lambda tx: (reached.set(), go.wait(PATIENCE)))
        assert reached.wait(PATIENCE)
        answers = []
        for place, call in enumerate([self._fail, *(op.call for op in ops)], 1):
            answers.append(self._pool.submit(call))
            until(lambda place=place: self.store._writer._calls.qsize() == place)
        go.set()
        blocker.result(PATIENCE)
        for op, answer in zip(ops, answers[1:], strict=True):
            self._learn(op, answer.result(PATIENCE))
        answers[0].result(PATIENCE)
        mark()

    def _fail(self) -> None:
        """A caller whose operation writes and then raises: nothing of it may be seen, ever."""

        def op(tx: Tx) -> None:
            submit(tx, [Submission("never", '"never"', queue="nowhere", key="never")], self.queue.terms)
            raise Undone

        with suppress(Undone):
            self.store.write(op)

    def _waiting_claim(self, mark: Callable[[], None]) -> None:
        """A claim that waits is served in the transaction of a submit."""
        asked = self._asking(wait_ms=int(PATIENCE * 1000))
        waits = self._pool.submit(self.queue.claim, asked)
        until(lambda: waits.done() or len(self.queue.waiting))
        if waits.done():  # there was work already
            self._granted(asked.worker_id, waits.result().tasks)
            mark()
            return
        op = self._submit()
        self._learn(op, op.call())
        self.store.write(lambda tx: None)  # who was served by the submit has left by now
        if len(self.queue.waiting):  # none of the new tasks is due: a newer claim ends the wait
            self.queue.claim(dataclasses.replace(asked, request_id=next(self._numbers), max_tasks=0, wait_ms=0))
        self._granted(asked.worker_id, waits.result(PATIENCE).tasks)
        mark()

    def _upload(self, mark: Callable[[], None]) -> None:
        """A result put in parts, each its own transaction, then reported."""
        held = self._held()
        if not held:
            return
        told = self.rng.choice(held)
        name, digest = name_of(told.grant), hashlib.sha256()

        def parts() -> Iterator[bytes]:
            for _ in range(self.rng.randint(1, 3)):
                data = self.rng.randbytes(self.rng.choice((10, 3000, 9000)))
                digest.update(data)
                yield data
                mark()

        upload = self.queue.upload(name, self.store.store_id, "application/octet-stream", parts(), digest)
        mark()
        outcome = Outcome(name, End.COMPLETED, None, upload, run_ms=5)
        self._settle(told.grant, outcome, self.queue.report([outcome], "nobody")[0][0])
        self.operations += 1
        mark()

    def _read(self, _: Callable[[], None]) -> None:
        """A reader that begins stays in its moment over the next steps, so that checkpoints find one in their way."""
        self._reading.close()
        if self.rng.random() < 0.5:
            self._reading.enter_context(self.store.read()).live_leases()

    def _op(self) -> Op:
        while True:
            kind = self.rng.choices(list(self._kinds), list(self._kinds.values()))[0]
            if op := kind():
                return op

    def _learn(self, op: Op, answer: Any) -> None:
        self.operations += 1
        op.learn(answer)

    # clients
    def _submission(self) -> Submission:
        rng, number = self.rng, f"{self._life}-{next(self._numbers)}"
        data = json.dumps({"no": number, "pad": "x" * rng.choice((0, 40, 300, 5000))})
        return Submission(
            rng.choice(("noop", "prime")), data, rng.choice(("default", "slow")), rng.randrange(3),
            delay_ms=rng.choice((None, None, None, 4000)), max_attempts=rng.randint(1, 3),
            tags=("red",) if rng.random() < 0.3 else (), key=f"key-{number}" if rng.random() < 0.5 else None,
            digest=hashlib.sha256(data.encode()).digest(),
        )  # fmt: skip

    def _submit(self) -> Op:
        asked = [self._submission() for _ in range(self.rng.choice((1, 1, 1, 3, 12)))]
        return Op(partial(self.queue.submit, asked), lambda ids: self._submitted(asked, ids))

    def _submitted(self, asked: Sequence[Submission], ids: Sequence[int]) -> None:
        new = {task_id: Told(one) for one, task_id in zip(asked, ids, strict=True)}
        assert not new.keys() & self.told.keys(), "an id was handed out twice"
        self.told.update(new)

    def _repeat(self) -> Op | None:
        known = [(i, told.asked) for i, told in self.told.items() if told.asked.key and told.state != GONE]
        if not known:
            return None
        task_id, asked = self.rng.choice(known)

        def learn(ids: list[int]) -> None:
            assert ids == [task_id]

        return Op(partial(self.queue.submit, [asked]), learn)

    def _some(self, *states: str) -> list[int]:
        fitting = [task_id for task_id, told in self.told.items() if told.state in states]
        return self.rng.sample(fitting, min(len(fitting), self.rng.randint(1, 3)))

    def _cancel(self) -> Op | None:
        ids = self._some(State.PENDING, State.IN_PROGRESS, State.COMPLETED)
        return Op(partial(self.queue.cancel, ids), self._cancelled) if ids else None

    def _cancelled(self, verdicts: dict[int, str]) -> None:
        for task_id, verdict in verdicts.items():
            if verdict == "cancelled":
                self._tell(task_id, state=State.CANCELLED)
            elif verdict == "cancel_requested":
                self._tell(task_id, to_cancel=True)

    def _retry(self) -> Op | None:
        ids = self._some(*FINAL)
        return Op(partial(self.queue.retry, ids), self._retried) if ids else None

    def _retried(self, verdicts: dict[int, str]) -> None:
        for task_id in [task_id for task_id, verdict in verdicts.items() if verdict == "retried"]:
            self._tell(
                task_id, state=State.PENDING, result=None, note=None, to_cancel=False, grant=None, past=None, won=None
            )

    def _edit(self) -> Op | None:
        ids, data = self._some(State.PENDING), json.dumps({"edited": next(self._numbers)})

        def learn(done: bool) -> None:
            if done:
                self._tell(ids[0], asked=self.told[ids[0]].asked._replace(data=data), note=None, past=None)

        def edit(tx: Tx) -> bool:
            return control.edit(tx, ids[0], {"data": data, "priority": 5})

        return Op(partial(self.queue.store.write, edit), learn) if ids else None

    # workers
    def _claim(self) -> Op:
        asked = self._asking()
        return Op(partial(self.queue.claim, asked), lambda claimed: self._granted(asked.worker_id, claimed.tasks))

    def _asking(self, wait_ms: int = 0) -> Claim:
        worker = self.rng.choice(WORKERS)
        n = self.rng.randint(1, 6)
        return Claim(worker, self._instances[worker], next(self._numbers), n, wait_ms=wait_ms)

    def _classic(self) -> Op:
        return Op(partial(self.queue.claim_classic, "old"), lambda task: self._granted("old", [task] if task else []))

    def _granted(self, worker: str, tasks: Sequence[Granted]) -> None:
        for task in tasks:
            assert task.data == self.told[task.task_id].asked.data
            self._tell(task.task_id, state=State.IN_PROGRESS, grant=task, holder=worker)

    def _held(self) -> list[Told]:
        return [told for told in self.told.values() if told.grant]

    def _report(self) -> Op | None:
        held = self._held()
        leases = [told.grant for told in self.rng.sample(held, min(len(held), self.rng.randint(1, 6)))]
        leases += [told.past for told in self.told.values() if told.past and self.rng.random() < 0.1]
        outcomes = [self._outcome(lease) for lease in leases]

        def learn(answer: Any) -> None:
            for lease, outcome, verdict in zip(leases, outcomes, answer[0], strict=True):
                self._settle(lease, outcome, verdict)

        return Op(partial(self.queue.report, outcomes, "nobody"), learn) if outcomes else None

    def _outcome(self, lease: Granted) -> Outcome:
        status = self.rng.choices(
            (End.COMPLETED, End.FAILED, End.RELEASED, End.SNOOZED, End.CANCELLED), (8, 4, 1, 1, 1)
        )[0]
        body = json.dumps({"of": lease.task_id, "pad": "y" * self.rng.choice((0, 50, 4000))})
        failed = status == End.FAILED
        return Outcome(
            name_of(lease),
            status,
            None if failed else body,
            error="it broke" if failed else None,
            run_ms=5,
            snooze_ms=500,
        )

    def _settle(self, lease: Granted, outcome: Outcome, verdict: Verdict) -> None:
        told = self.told[lease.task_id]
        if verdict == Verdict.ACCEPTED_LATE or (verdict == Verdict.ACCEPTED and outcome.status == End.COMPLETED):
            result = outcome.upload.sha256 if outcome.upload else outcome.result
            self._tell(lease.task_id, state=State.COMPLETED, result=result, grant=None, won=lease, past=None)
        elif verdict == Verdict.ACCEPTED:
            self._tell(lease.task_id, state=_ended(told, lease, outcome), grant=None, past=lease)

    def _beat(self) -> Op:
        """A heartbeat with notes; now and then one lease is not listed."""
        worker, number = self.rng.choice(WORKERS), next(self._numbers)
        held = [told.grant for told in self._held() if told.holder == worker]
        listed = {str(name_of(lease)): lease for lease in held if self.rng.random() < 0.9}
        said = {lease_id: Progress(name_of(lease), 1, 2, f"note {number}", None) for lease_id, lease in listed.items()}

        def learn(answer: Any) -> None:
            for lease_id, verdict in answer.leases.items():
                if verdict in ("ok", "cancel"):
                    self._tell(listed[lease_id].task_id, note=f"note {number}")
            self._look_at_leases()

        return Op(partial(self.queue.heartbeat, Heartbeat(worker, self._instances[worker], number, said)), learn)

    def _die(self) -> Op:
        """A worker dies; a sibling adopts some of its leases."""
        dead, heir = self.rng.sample(WORKERS, 2)
        was, self._instances[dead] = self._instances[dead], f"i-{dead}-{next(self._numbers)}"
        held = [told.grant for told in self._held() if told.holder == dead]
        ids = [str(name_of(lease)) for lease in held]
        death = Death(heir, self._instances[heir], dead, was, tuple(ids[::3]), tuple(ids[1::3]))
        return Op(partial(self.queue.report_death, self.store.store_id, death), lambda _: self._look_at_leases())

    # maintenance
    def _reap(self) -> Op:
        if self.rng.random() < 0.5:
            self.clock.wall += 130_000
        return Op(partial(self.queue.reap, self.clock.wall), lambda _: self._look_at_leases())

    def _due(self) -> Op:
        return Op(lambda: self.queue.make_ready(Pace(self.queue.store, at_once, 100)), lambda _: None)

    def _prune(self) -> Op:
        state, before = self.rng.choice(FINAL), self.clock.wall - self.rng.randrange(20_000)
        limit = self.rng.randint(1, 8)

        def prune(tx: Any) -> None:
            for lane_id in tx.counts.lanes:
                retention.prune(tx, retention.Due(state, lane_id, before), limit)

        return Op(
            partial(self.queue.store.write, prune),
            lambda _: self._look([i for i, told in self.told.items() if told.state == state]),
        )

    # the books
    def _tell(self, task_id: int, **news: Any) -> None:
        self.told[task_id] = self.told[task_id]._replace(**news)

    def _look_at_leases(self) -> None:
        self._look([task_id for task_id, told in self.told.items() if told.grant])

    def _look(self, ids: Sequence[int]) -> None:
        """What a client sees that asks for these tasks."""
        shown = {row["task_id"]: row for row in self.queue.tasks(TaskFilter(ids=tuple(ids)), None, 500)}
        for task_id in ids:
            self._see(task_id, shown.get(task_id))

    def _see(self, task_id: int, row: dict[str, Any] | None) -> None:
        if row is None:
            self._tell(task_id, state=GONE, result=None, note=None, grant=None, past=None, won=None)
            return
        told = self.told[task_id]
        live = (
            told.grant if told.grant and row["lease"] == told.grant.token and row["status"] == "in_progress" else None
        )
        past = told.past if live else told.grant or told.past
        holder = row["assigned_to"] or ""
        self._tell(task_id, state=State(row["status"]), note=row["note"], grant=live, past=past, holder=holder)


def _ended(told: Told, lease: Granted, outcome: Outcome) -> State:
    """What a task becomes whose lease was accepted to have ended without success."""
    if told.to_cancel or outcome.status == End.CANCELLED:
        return State.CANCELLED
    final = outcome.status == End.FAILED and lease.attempt >= lease.max_attempts
    return State.FAILED if final else State.PENDING


def name_of(lease: Granted) -> LeaseName:
    return LeaseName(lease.task_id, lease.token)


def until(condition: Callable[[], Any]) -> None:
    """Wait for another thread to get there, with a deadline."""
    deadline = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < deadline, "it did not come to pass"
        sleep(0)
