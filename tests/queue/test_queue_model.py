"""The queue against a plain model of DESIGN (queue_model.py): random histories, compared after each step (I2 to I6)."""

import hashlib
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    RuleStrategy,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from made_once import empty_queue, folder
from postgres_server import Schemas
from queue_model import Lease, Model, Seen, Wants

from dispatcher.clock import Clock, Now
from dispatcher.errors import InstanceDead, KeyConflict, NotFound
from dispatcher.maintenance.pruner import Pruner
from dispatcher.maintenance.reaper import Reaper
from dispatcher.maintenance.scheduler import Scheduler
from dispatcher.model import FINAL, End, LeaseName, Outcome, State, TaskRow
from dispatcher.queue import Queue, control
from dispatcher.queue.claim import Claim, grant
from dispatcher.queue.death import Death
from dispatcher.queue.heartbeat import Heartbeat
from dispatcher.queue.submit import Submission
from dispatcher.queue.terms import Terms
from dispatcher.routes.outcomes import check
from dispatcher.store.base import Store, Tx
from dispatcher.store.postgres import PostgresStore
from dispatcher.store.sqlite import SqliteStore

SECOND, DAY = 1000, 24 * 3600 * 1000
TYPES, QUEUES, CLASSIC = ("a", "b"), ("default", "night"), ("ann", "bob")
MOSTLY = (End.COMPLETED, End.COMPLETED, End.FAILED, End.RELEASED)
OUTCOMES = (End.COMPLETED, End.FAILED, End.RELEASED, End.SNOOZED, End.CANCELLED)
LONGEST = 300  # steps of a drain; more means that something is stuck

few = st.integers(1, 3)
pick = st.integers(0, 9)
mask = st.integers(0, 255)
outcomes = st.sampled_from(OUTCOMES)
maybe_types = st.sampled_from([None, None, frozenset("a"), frozenset("b")])
maybe_queues = st.sampled_from([None, None, None, frozenset(["night"])])
delays = st.sampled_from([None, None, None, -5 * SECOND, 30 * SECOND, DAY])


class HeldClock:
    """Stands still until told."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_800_000_000_000, 1_700_000_000_000

    def now(self) -> Now:
        return Now(self.wall, self.steady)

    def forward(self, ms: int) -> None:
        self.wall += ms
        self.steady += ms


class SqlitePlace:
    """Where one example's store lies; a further kind of store needs the same three methods and an entry in `place`."""

    def __init__(self) -> None:
        self._cleanup = ExitStack()
        self._folder = self._cleanup.enter_context(folder())

    def open(self, clock: Clock) -> Store:
        return SqliteStore(empty_queue(self._folder / "queue.db"), clock)

    def drop(self) -> None:
        self._cleanup.close()


class PostgresPlace:
    """The same in a database that is lent to it."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas, self._url = schemas, schemas.lend()

    def open(self, clock: Clock) -> Store:
        return PostgresStore(self._url, clock, notify=False)

    def drop(self) -> None:
        self._schemas.give_back()


KINDS = ("postgresql", "sqlite")
EXAMPLES = {"postgresql": (8, 150), "sqlite": (100, 800)}  # short, long: a step costs ten times as much there


def subset(items: Sequence[Any], bits: int) -> list[Any]:
    """Those of the last eight whose bit is set."""
    return [item for n, item in enumerate(items[-8:]) if bits >> n & 1]


def when(condition: Callable[[Model], Any]) -> Callable[[Any], Any]:
    """A rule that would mostly do nothing otherwise."""
    return precondition(lambda machine: bool(condition(machine.model)))


def some_ready(model: Model) -> bool:
    return any(task.ready for task in model.tasks.values())


def some_in(*states: State) -> Callable[[Model], bool]:
    return lambda model: any(task.state in states for task in model.tasks.values())


def some_late(model: Model) -> list[Lease]:
    """Leases that have ended and whose success or listing might still count."""
    known = [lease for lease in model.leases.values() if lease.how is not None and lease.name.task_id in model.tasks]
    return [lease for lease in known if model.may_still_win(lease)]


def some_silent(model: Model) -> list[Lease]:
    """Native leases that ended by silence."""
    known = [lease for task in model.tasks.values() for lease in task.leases if lease.holder[:8] != "classic:"]
    return [lease for lease in known if lease.how in (End.EXPIRED, End.UNLISTED)]


class EveryRule(RuleStrategy):
    """Any rule in any example. Left alone Hypothesis disables half of them in each (swarm testing): of thirty rules
    that depend on each other, without claims or without time, that leaves little worth comparing."""

    def _rule_is_enabled(self, r: Any) -> bool:
        return bool(self.is_valid(r))


class QueueMachine(RuleBasedStateMachine):
    """Drives a Queue; `model` is told everything."""

    place: Callable[[], Any]

    def __init__(self) -> None:
        super().__init__()
        assert isinstance(self._rules_strategy, RuleStrategy)
        self._rules_strategy = EveryRule(self)
        self._place = self.place()
        self.clock, self.model = HeldClock(), Model()
        self.natives, self.dead = ["i1", "i2", "i3"], ["ghost"]
        self.jumps = self.restarts = 0
        self.said = 0  # so that no two results or errors are alike
        self._open()
        self.store_id = self.store.store_id

    def _open(self) -> None:
        self.store: Store = self._place.open(self.clock)
        self.queue = Queue(self.store)
        self.queue.blame.failed = lambda *_: None  # type: ignore[method-assign]  # who is preferred: test_store_blame
        self.reaper, self.scheduler = Reaper(self.queue), Scheduler(self.queue)

    # reading
    @property
    def now(self) -> Now:
        return self.clock.now()

    def look(self, task_id: int) -> TaskRow:
        return self.store.write(lambda tx: tx.tasks([task_id])[task_id])

    def native(self, n: int) -> str:
        """A living instance, or now and then a dead one or one never heard of."""
        return self.dead[-1] if n == 9 else self.natives[n % 3]

    def holder(self, n: int) -> str:
        """Mostly one that holds leases."""
        holders = [lease.holder for lease in self.model.live() if lease.holder in self.natives]
        return holders[n % len(holders)] if holders and n < 8 else self.native(n)

    def lease(self, n: int) -> Lease:
        """Any lease ever granted, the newest first."""
        known = list(self.model.leases.values())
        return known[-1 - n % len(known)]

    def task_id(self, n: int) -> int:
        """A task, or now and then the id of none."""
        ids = sorted(self.model.ids)
        return ids[-1 - n % len(ids)] if ids and n < 9 else 999

    def task_in(self, n: int, *states: State) -> int:
        """Mostly one in such a state."""
        ids = [task.id for task in self.model.tasks.values() if task.state in states]
        return ids[n % len(ids)] if ids and n < 8 else self.task_id(n)

    def next(self) -> int:
        self.said += 1
        return self.said

    # submits
    @initialize(tasks=st.lists(st.tuples(pick, delays), min_size=2, max_size=4))
    def begin(self, tasks: list[tuple[int, int | None]]) -> None:
        self._submit([self._submission(n, delay, None) for n, delay in tasks])

    @rule(n=pick, delay=delays, key=st.sampled_from([None, "k1", "k1", "k2"]), extra=st.booleans())
    @when(lambda model: sum(task.finished is None for task in model.tasks.values()) < 5)
    def submit(self, n: int, delay: int | None, key: str | None, extra: bool) -> None:
        self._submit([self._submission(n, delay, key), *([self._submission(n // 2, delay, "k1")] if extra else [])])

    def _submission(self, n: int, delay: int | None, key: str | None) -> Submission:
        """What stands under a key is one of two bodies."""
        data = f'{{"n": {n % 2 if key else self.next()}}}'
        said = Submission(TYPES[n % 2], data, QUEUES[n // 2 % 2], n % 3, max_attempts=(None, 1, 2)[n % 3], key=key)
        run_at = None if delay is None else self.now.wall + delay
        return said._replace(run_at=run_at, digest=hashlib.sha256(data.encode()).digest())

    def _submit(self, submissions: list[Submission]) -> None:
        if self.model.conflict(submissions):
            with pytest.raises(KeyConflict):
                self.queue.submit(submissions)
        else:
            self.model.submitted(self.now, submissions, self.queue.submit(submissions))

    # claims
    @rule(who=pick, limit=few, types=maybe_types, queues=maybe_queues)
    @when(some_ready)
    def claim(self, who: int, limit: int, types: frozenset[str] | None, queues: frozenset[str] | None) -> None:
        self._claim(self.native(who), 1, Wants(limit, types, queues))

    @rule(who=pick, limit=few)
    @when(some_ready)
    def claim_more(self, who: int, limit: int) -> None:
        self._claim(self.native(who), 1, Wants(limit))

    @rule(who=pick, ahead=st.sampled_from([0, 0, -1, -2, 3]), limit=st.integers(0, 2))
    def claim_again(self, who: int, ahead: int, limit: int) -> None:
        self._claim(self.native(who), ahead, Wants(limit))

    def _asking(self, who: str, ahead: int, wants: Wants) -> Claim:
        number = max(1, self.model.actor(who).asked + ahead)
        return Claim(f"of-{who}", who, number, wants.limit, wants.types, wants.queues)

    def _claim(self, who: str, ahead: int, wants: Wants) -> None:
        asked = self._asking(who, ahead, wants)
        if self.model.actor(who).dead:
            with pytest.raises(InstanceDead):
                self.queue.claim(asked)
            return
        answer = self.queue.claim(asked)
        assert not answer.provisional
        self.model.claimed(self.now, who, asked.request_id, wants, answer.tasks)
        self.model.told(who, answer.orders)

    @rule(who=pick, limit=few)
    @when(some_ready)
    def claim_that_waited(self, who: int, limit: int) -> None:
        """The waiting is left out: only how it is served."""
        name = self.native(who)
        asked = self._asking(name, 1, Wants(limit))
        wants = Wants(0 if self.model.actor(name).dead else limit)
        got = self.store.write(lambda tx: grant(tx, asked, tx.ready_lanes(), Terms(), provisional=True))
        self.model.claimed(self.now, name, asked.request_id, wants, got, provisional=True)

    @rule(who=pick, types=maybe_types)
    @when(some_ready)
    def claim_classic(self, who: int, types: frozenset[str] | None) -> None:
        worker_id = CLASSIC[who % 2]
        got = self.queue.claim_classic(worker_id, types)
        self.model.claimed(self.now, f"classic:{worker_id}", None, Wants(1, types), [got] if got else [])

    # heartbeats
    @rule(who=pick, left_out=st.integers(0, 3), times=few, in_flight=st.booleans())
    @when(Model.live)
    def heartbeat(self, who: int, left_out: int, times: int, in_flight: bool) -> None:
        """It lists what it holds, but one: once, twice, or before and after one that lists it; perhaps in flight."""
        name = self.holder(who)
        held = self.model.live(name)
        left = held[left_out : left_out + 1]
        numbers = [lease.number for lease in left if in_flight and lease.number is not None]
        for turn in range(times):
            listed = held if (turn, times) == (1, 3) else [lease for lease in held if lease not in left]
            self._beat(name, 1, [str(lease.name) for lease in listed], numbers)

    @rule(who=pick)
    @when(some_silent)
    def heartbeat_of_silence(self, who: int) -> None:
        """As after a pause: it lists what it holds and what it lost unawares."""
        silent = some_silent(self.model)
        free = [lease for lease in silent if self.model.task_of(lease).state in (State.PENDING, State.FAILED)]
        barred = [lease for lease in free if who % 2 and not self.model.returns(lease)[0]]
        asking = barred or free or silent
        name = asking[who % len(asking)].holder
        self._beat(name, 1, [str(lease.name) for lease in [*silent, *self.model.live()] if lease.holder == name], ())

    @rule(who=pick, ahead=st.sampled_from([1, 1, 1, 0, -1, 4]), own=mask, others=mask, numbers=mask, store=pick)
    @when(lambda model: model.leases)
    def heartbeat_of_any(self, who: int, ahead: int, own: int, others: int, numbers: int, store: int) -> None:
        name = self.native(who)
        known = list(self.model.leases.values())
        listed = subset([str(lease.name) for lease in known if lease.holder == name], own)
        if others & 1:
            listed += [*subset([str(lease.name) for lease in known], others), "garbage", f"1-{'0' * 16}"]
        asked = self.model.actor(name).asked
        in_flight = subset(range(max(1, asked - 3), asked + 2), numbers)
        store_id = "another" if store == 0 else None if store == 1 else self.store_id
        self._beat(name, ahead, listed, in_flight, store_id)

    def _beat(
        self, name: str, ahead: int, listed: Sequence[str], in_flight: Sequence[int], store_id: str | None = None
    ) -> None:
        seq = max(1, self.model.actor(name).seq + ahead)
        beat = Heartbeat(f"of-{name}", name, seq, dict.fromkeys(listed), in_flight, store_id=store_id)
        if self.model.actor(name).dead:
            with pytest.raises(InstanceDead):
                self.queue.heartbeat(beat)
            return
        answer = self.queue.heartbeat(beat)
        names = list(dict.fromkeys(listed))
        self.model.beaten(self.now, name, seq, names, in_flight, store_id == "another", answer.leases, self.look)
        self.model.told(name, answer.orders)

    @rule(who=pick)
    @when(lambda model: any(lease.holder[:8] == "classic:" for lease in model.live()))
    def heartbeat_classic(self, who: int) -> None:
        worker_id = CLASSIC[who % 2]
        self.queue.heartbeat_classic(worker_id, None)
        self.model.beaten_classic(self.now, f"classic:{worker_id}", self.look)

    # reports
    @rule(n=pick, status=outcomes)
    @when(Model.live)
    def report_live(self, n: int, status: End) -> None:
        """What a good worker does."""
        live = self.model.live()
        lease = live[n % len(live)]
        self._report([(lease, status)], lease.holder)

    @rule(n=st.integers(0, 20), status=st.sampled_from(OUTCOMES + MOSTLY), store=pick)
    @when(lambda model: model.leases)
    def report_any(self, n: int, status: End, store: int) -> None:
        """Late, repeated, contradictory; or to a wrong store, which is told apart before the queue."""
        lease = self.lease(n)
        if store == 9:
            said = {"store_id": "another", "lease_id": str(lease.name), "status": status.value, "result": {}}
            assert check([said], self.store_id) == [(None, "foreign", "")]
        else:
            self._report([(lease, status)], self.native(n))

    @rule(n=pick, status=st.sampled_from(MOSTLY))
    @when(some_late)
    def report_late(self, n: int, status: End) -> None:
        """A lease that has ended, of a task that could still gain by it."""
        late = some_late(self.model)
        self._report([(late[n % len(late)], status)], self.native(n))

    @rule(bits=mask, first=st.integers(0, 4), twice=st.booleans(), who=pick, then=st.sampled_from([None, 0, 1, 1]))
    @when(lambda model: model.leases)
    def report_batch(self, bits: int, first: int, twice: bool, who: int, then: int | None) -> None:
        """Outcomes of several tasks, with or without a claim for the next ones."""
        leases = {lease.name.task_id: lease for lease in subset(list(self.model.leases.values()), bits)}
        told = [(lease, OUTCOMES[(first + n) % 5]) for n, lease in enumerate(leases.values())]
        # Open: in which order the outcomes of two leases of one task in one report are taken
        self._report(told * (1 + twice), self.native(who), then)

    def _outcome(self, lease: LeaseName, status: End) -> Outcome:
        n = self.next()
        result = f'"result {n}"' if status == End.COMPLETED else None
        error = f"error {n}" if status == End.FAILED else None
        return Outcome(lease, status, result, error=error, run_ms=n, snooze_ms=(10 * SECOND, DAY)[n % 2])

    def _report(self, told: Sequence[tuple[Lease, End]], who: str, then: int | None = None) -> None:
        said = [self._outcome(lease.name, status) for lease, status in told]
        asked = None if then is None or who.startswith("classic") else self._asking(who, then, Wants(2))
        verdicts, orders, claimed = self.queue.report(said, who, asked)
        for outcome, verdict in zip(said, verdicts, strict=True):
            self.model.reported(self.now, outcome, verdict, self.look)
        if asked is None or self.model.actor(who).dead:
            assert claimed is None
        else:
            assert claimed is not None
            self.model.claimed(self.now, who, asked.request_id, Wants(2), claimed.tasks)
        if not who.startswith("classic"):
            self.model.told(who, orders)

    @rule(n=pick, who=pick, status=st.sampled_from([End.COMPLETED, End.FAILED]), named=st.booleans())
    @when(lambda model: model.leases)
    def report_classic(self, n: int, who: int, status: End, named: bool) -> None:
        """With or without its lease; now and then of a task that was not this worker's, or is no more."""
        lease, worker_id = self.lease(n), CLASSIC[who % 2]
        task_id = self.task_id(n) if who > 7 else lease.name.task_id
        outcome, name = self._outcome(LeaseName(0, 0), status), lease.name if named else None
        if task_id not in self.model.tasks:
            with pytest.raises(NotFound):
                self.queue.report_classic(worker_id, task_id, outcome, name)
            return
        verdict = self.queue.report_classic(worker_id, task_id, outcome, name)
        meant = lease if named else self.model.classic_lease(worker_id, task_id)
        found = meant.name if meant and meant.name.task_id == task_id else LeaseName(0, 0)
        self.model.reported(self.now, outcome._replace(name=found), verdict, self.look)

    # deaths
    @rule(who=pick, heir=pick, outbox=mask, started=mask, foreign=pick)
    @when(Model.live)
    def death(self, who: int, heir: int, outbox: int, started: int, foreign: int) -> None:
        dead, reporter = self.holder(who), self.native(heir)
        if dead == reporter:
            return
        known = [str(lease.name) for lease in [*self.model.leases.values(), *self.model.live(dead)]]
        lists = tuple(subset(known, outbox)), (*subset(known, started), "garbage")
        news = Death(f"of-{reporter}", reporter, f"of-{dead}", dead, *lists)
        if foreign == 0:
            assert self.queue.report_death("another", news) is None
        elif self.model.actor(reporter).dead:
            with pytest.raises(InstanceDead):
                self.queue.report_death(self.store_id, news)
        else:
            recorded = self.queue.report_death(self.store_id, news)
            assert recorded is not None
            assert list(recorded) == self.model.died(self.now, reporter, dead, *lists)
            self._replace(dead)

    def _replace(self, dead: str) -> None:
        """It starts anew under a fresh instance_id."""
        if dead in self.natives:
            self.dead.append(dead)
            self.natives[self.natives.index(dead)] = f"i{len(self.dead) + 3}"

    # time
    @rule(seconds=st.sampled_from([1, 4, 6, 11, 61, 121, 3600]))
    @when(Model.live)
    def time_passes_unwatched(self, seconds: int) -> None:
        self.clock.forward(seconds * SECOND)

    @rule(seconds=st.sampled_from([5, 10, 60, 60, 120]))
    @when(Model.live)
    def time_passes(self, seconds: int) -> None:
        """With a reaper that is never away."""
        for _ in range(0, seconds, 5):
            self._reap()
            self.clock.forward(5 * SECOND)
        self._reap()

    @rule(seconds=st.sampled_from([0, 1, 5]), again=st.booleans())
    @when(Model.live)
    def reap(self, seconds: int, again: bool) -> None:
        """A pass or two, a little apart."""
        for _ in range(1 + again):
            self._reap()
            self.clock.forward(seconds * SECOND)

    def _reap(self) -> None:
        self.model.reaped(self.now, self.reaper.run_once(self.now))

    @rule(ms=st.sampled_from([-DAY, -40 * SECOND, 40 * SECOND, DAY]))
    @precondition(lambda machine: machine.jumps < 3)
    def wall_clock_jumps(self, ms: int) -> None:
        self.jumps += 1
        self.clock.wall += ms

    @rule(seconds=st.sampled_from([0, 30, 3600]), jump=st.sampled_from([0, 0, DAY]))
    @when(lambda model: any(task.state == State.PENDING and not task.ready for task in model.tasks.values()))
    def schedule(self, seconds: int, jump: int) -> None:
        self.clock.forward(seconds * SECOND)
        self.clock.wall += jump
        self._schedule()

    def _schedule(self) -> None:
        self.model.scheduled(self.now, self.scheduler.run_once(self.now))

    @rule(ms=st.sampled_from([-DAY, 0, SECOND, DAY]))
    @precondition(lambda machine: machine.restarts < 3 and machine.model.live())
    def restart(self, ms: int) -> None:
        """The steady clock begins anew from the wall clock, wherever that is."""
        self.restarts += 1
        self.queue.drain()
        self.store.close()
        self.clock.steady += ms
        self._open()
        assert self.store.store_id == self.store_id
        self.model.last_pass = self.model.last_written if self.store.shared else None

    @rule(completed=st.sampled_from([0, DAY]), failed=st.sampled_from([0, DAY]), later=st.sampled_from([1, 1, 2 * DAY]))
    @when(lambda model: sum(task.finished is not None for task in model.tasks.values()) > 2)
    def prune(self, completed: int, failed: int, later: int) -> None:
        self.clock.wall += later
        kept = {State.COMPLETED: completed, State.FAILED: failed, State.CANCELLED: failed}
        self.model.pruned(self.now, completed, failed, Pruner(self.queue, kept).run_once(self.now))

    # control
    @rule(n=pick, m=pick)
    @when(some_in(State.PENDING, State.IN_PROGRESS))
    def cancel(self, n: int, m: int) -> None:
        ids = list({self.task_id(n), self.task_id(m)})
        for task_id, verdict in self.queue.cancel(ids).items():
            self.model.cancelled(self.now, task_id, verdict)

    @rule(n=pick, m=pick)
    @when(some_in(*FINAL))
    def retry(self, n: int, m: int) -> None:
        ids = list({self.task_in(n, *FINAL), self.task_id(m)})
        for task_id, verdict in self.queue.retry(ids).items():
            self.model.retried(self.now, task_id, verdict)

    @rule(n=pick, priority=few, delay=delays, max_attempts=few)
    @when(some_in(State.PENDING))
    def edit(self, n: int, priority: int, delay: int | None, max_attempts: int) -> None:
        task_id, run_at = self.task_in(n, State.PENDING), self.now.wall + (delay or 0)
        data = f'{{"n": {self.next()}}}'
        changes = {"priority": priority, "run_at": run_at, "max_attempts": max_attempts, "data": data}
        answer = self.queue.store.write(lambda tx: control.edit(tx, task_id, changes))
        assert answer == self.model.edited(self.now, task_id, priority, run_at, max_attempts, data)

    # what workers mostly do, more often
    claim_often = claim_oftener = claim_most = claim_more
    beat_often = heartbeat
    wake_often = wake_oftener = heartbeat_of_silence
    report_often = report_oftener = report_live
    watch_often = time_passes
    win_often = report_late

    # comparing
    @invariant()
    def store_is_as_the_model(self) -> None:
        seen = self.store.write(self._seen)
        with self.store.read() as reader:
            counts = reader.counts()
            results = {i: reader.task(i) for i in self.model.touched if i in self.model.tasks}
        self.model.check(Seen(*seen, counts))
        self.model.touched.clear()
        for task_id, found in results.items():
            assert found is not None
            assert found["result"] == self.model.tasks[task_id].result

    def _seen(self, tx: Tx) -> tuple[Any, Any, Any]:
        actors = {
            name: tx.classic(name[8:]) if name[:8] == "classic:" else tx.instance(name) for name in self.model.actors
        }
        known = {name: actor for name, actor in actors.items() if actor is not None}
        held = [LeaseName(row.id, row.lease or 0) for actor in known.values() for row in tx.leases(actor.id)]
        return tx.tasks(sorted(self.model.ids)), known, held

    # the end of each history
    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self._drain()
        finally:
            self.queue.drain()
            self.store.close()
            self._place.drop()

    def _drain(self) -> None:
        """I6: silence ends every lease, with a reason; then all runs to its end, and everything is as it was told."""
        self.time_passes(180)
        assert not self.model.live(), "everything that nobody renews ends"
        self.store_is_as_the_model()
        worker = "last"
        for _ in range(LONGEST):
            if all(task.finished is not None for task in self.model.tasks.values()):
                break
            self._run_some(worker)
            self.store_is_as_the_model()
        else:
            raise AssertionError("I6: something is stuck")
        self._check_histories()

    def _run_some(self, worker: str) -> None:
        waiting = [task.run_at for task in self.model.tasks.values() if task.state == State.PENDING]
        self.clock.wall = max([self.clock.wall, *waiting])
        self._schedule()
        self._claim(worker, 1, Wants(5))
        self._report([(lease, OUTCOMES[n % 2]) for n, lease in enumerate(self.model.live())], worker)

    def _check_histories(self) -> None:
        names = [lease.name for task in self.model.tasks.values() for lease in task.leases]
        self.model.check_ended(self.store.write(lambda tx: tx.ended(names)))
        for task in self.model.tasks.values():
            found = self.queue.task(task.id)
            assert found["result"] == task.result, "I4: the first success wins, for ever"
            assert found["error"] or task.state != State.FAILED, "failed with a reason"


def run(place: Callable[[], Any], examples: int, steps: int) -> None:
    """A fresh seed each time; a failure shows it, and the blob that reproduces the one example."""
    number = random.SystemRandom().randrange(2**32)
    print(f"model: {examples} examples of up to {steps} steps, seed {number}")  # noqa: T201  before a failure
    machine = seed(number)(type("Machine", (QueueMachine,), {"place": staticmethod(place)}))
    terms = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=False,
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),  # histories are long and slow by intention
    )
    run_state_machine_as_test(machine, settings=terms)


@pytest.fixture
def place(kind: str, request: pytest.FixtureRequest) -> Callable[[], Any]:
    """Makes a place for each example."""
    return partial(PostgresPlace, request.getfixturevalue("schemas")) if kind == "postgresql" else SqlitePlace


@pytest.mark.parametrize("kind", KINDS)
def test_the_queue_does_what_its_model_does(kind: str, place: Callable[[], Any]) -> None:
    run(place, EXAMPLES[kind][0], 40)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_the_queue_does_what_its_model_does_for_long(kind: str, place: Callable[[], Any]) -> None:
    run(place, EXAMPLES[kind][1], 60)
