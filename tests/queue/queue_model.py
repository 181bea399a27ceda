"""What the queue should do, in plain Python over dictionaries: DESIGN sections 2 to 4, written from that page.

Each method of Model is told what was asked and what was answered: it asserts that the answer is allowed and follows it.
`check` then compares every row of the store. Where DESIGN leaves room, all that it allows is accepted and what the
store did is adopted; each such place is marked "Open:".
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dispatcher.clock import Now
from dispatcher.model import End, EndedLease, Granted, Instance, LeaseName, Orders, Outcome, State, TaskRow
from dispatcher.queue.report import Verdict
from dispatcher.queue.submit import Submission

LEASE, SILENCE, PROVISIONAL, GAP = 120_000, 60_000, 10_000, 5_000
KEY_AGE = 24 * 3600 * 1000
ENDED = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})
SILENT = frozenset({End.EXPIRED, End.UNLISTED})

Look = Callable[[int], TaskRow]


class Wants(NamedTuple):
    """What a claim asks for; None means all."""

    limit: int
    types: frozenset[str] | None = None
    queues: frozenset[str] | None = None


class Seen(NamedTuple):
    """What the store holds after a step; instances and holders under the model's names for them."""

    rows: Mapping[int, TaskRow]
    instances: Mapping[str, Instance]
    held: Sequence[LeaseName]
    counts: Mapping[tuple[str, str], Mapping[str, int]]


@dataclass(eq=False)
class Lease:
    """Every lease ever granted; `how` is None while it lives, COMPLETED when it won."""

    name: LeaseName
    generation: int
    holder: str
    number: int | None
    granted_wall: int
    length: int
    expires: int
    provisional: bool
    misses: int = 0
    excused: bool = False  # since it was missed once, a heartbeat named its claim as in flight
    former_number: int | None = None  # of a lease that was taken back
    beyond: bool = False  # taken back without being counted: the attempts were at their maximum
    how: End | None = None
    charged: bool = True
    terms_or: tuple[int, int] | None = None  # what (expires, length) may be instead


@dataclass(eq=False)
class Work:
    """A task."""

    id: int
    said: Submission
    created: int
    priority: int
    run_at: int
    max_attempts: int
    data: str
    state: State = State.PENDING
    ready: bool = False
    generation: int = 1
    attempts: int = 0
    granted: int = 0  # leases of this generation,
    given_back: int = 0  # and how many of them were not charged
    attempts_or: int | None = None  # what attempts may be instead
    cancel: bool = False
    lease: Lease | None = None
    winner: Lease | None = None
    result: str | None = None
    finished: int | None = None
    failed_by: End | None = None  # how the lease ended that left no attempt
    had_failures: bool = False  # an attempt of this generation was reported failed
    leases: list[Lease] = field(default_factory=list)


@dataclass(eq=False)
class Actor:
    """An instance; a classic client's is named `classic:<worker_id>`."""

    seq: int = 0
    asked: int = 0  # the highest claim number ever sent
    answered: int = 0  # the highest that was answered with tasks
    dead: bool = False


class Model:
    """The whole queue."""

    def __init__(self) -> None:
        self.tasks: dict[int, Work] = {}
        self.leases: dict[str, Lease] = {}  # every one ever granted, the oldest first
        self.actors: dict[str, Actor] = {}
        self.keys: dict[str, tuple[int, bytes, int]] = {}
        self.ids: set[int] = set()
        self.last_pass: int | None = None
        self.last_written: int | None = None  # of the passes that a store with several dispatchers remembers
        self.touched: set[int] = set()

    # reading
    def actor(self, name: str) -> Actor:
        return self.actors.setdefault(name, Actor())

    def live(self, holder: str | None = None) -> list[Lease]:
        found = [task.lease for task in self.tasks.values() if task.lease is not None]
        return found if holder is None else [lease for lease in found if lease.holder == holder]

    def task_of(self, lease: Lease) -> Work:
        return self.tasks[lease.name.task_id]

    def to_cancel(self, holder: str) -> set[str]:
        return {str(lease.name) for lease in self.live(holder) if self.task_of(lease).cancel}

    def told(self, holder: str, orders: Orders) -> None:
        """Every reply carries the orders."""
        assert (orders.state, set(orders.cancel)) == ("run", self.to_cancel(holder)), orders

    # submit
    def conflict(self, submissions: Iterable[Submission]) -> bool:
        """Whether one of these comes under a known key with another body."""
        bodies = {key: digest for key, (_, digest, _) in self.keys.items()}
        return any(s.key is not None and bodies.setdefault(s.key, s.digest) != s.digest for s in submissions)

    def submitted(self, now: Now, submissions: Sequence[Submission], ids: Sequence[int]) -> None:
        assert len(ids) == len(submissions)
        for said, task_id in zip(submissions, ids, strict=True):
            if said.key is not None and said.key in self.keys:
                assert task_id == self.keys[said.key][0], "a repeated submit is answered as the first one was"
                continue
            assert task_id not in self.ids, "an id is never handed out twice"
            self._appear(now, said, task_id)

    def _appear(self, now: Now, said: Submission, task_id: int) -> None:
        run_at = now.wall if said.run_at is None else said.run_at
        task = Work(task_id, said, now.wall, said.priority, run_at, said.max_attempts or 3, said.data)
        self._wait(now, task, run_at)
        self.tasks[task_id] = task
        self.ids.add(task_id)
        if said.key is not None:
            self.keys[said.key] = (task_id, said.digest, now.wall)

    # claim
    def claimed(
        self, now: Now, holder: str, number: int | None, wants: Wants, got: Sequence[Granted], provisional: bool = False
    ) -> None:
        """A claim was answered; a classic one has no number."""
        actor = self.actor(holder)
        if number is not None and number <= actor.answered:
            self._repeated(now, holder, number, got)
            return
        # Open: is an empty answer an answer, so that its number gets nothing new? (An empty poll writes nothing.)
        if got or number is None or number > actor.asked:
            self._check_choice(wants, got)
        for granted in got:
            self._grant(now, holder, number, granted, provisional)
        if number is not None:
            actor.asked = max(actor.asked, number)
            actor.answered = number if got else actor.answered
        else:
            actor.answered += bool(got)  # the dispatcher numbers the claims of classic clients

    def _repeated(self, now: Now, holder: str, number: int, got: Sequence[Granted]) -> None:
        """A number that was answered gets what of it is still held, never anything new."""
        names = {str(LeaseName(granted.task_id, granted.token)) for granted in got}
        held = {str(lease.name) for lease in self.live(holder) if lease.number == number}
        # Open: is a lease that was taken back still one of its claim?
        back = {str(lease.name) for lease in self.live(holder) if lease.former_number == number}
        assert len(names) == len(got)
        assert held <= names <= held | back, (held, names)
        for lease in (self.leases[name] for name in names):
            was_provisional, before = lease.provisional, (lease.expires, lease.length)
            self._renew(now, lease, LEASE)
            # Open: a repeat ends the provision; whether it renews besides, and for how long, is not said
            lease.terms_or = (now.steady + SILENCE, SILENCE) if was_provisional else before

    def _check_choice(self, wants: Wants, got: Sequence[Granted]) -> None:
        """As many as are wanted and there, and of each queue its head. Open: how queues share."""
        open_to = [task for task in self.tasks.values() if task.ready and self._eligible(task, wants)]
        ids = [granted.task_id for granted in got]
        assert len(ids) == min(max(wants.limit, 0), len(open_to)), (ids, [task.id for task in open_to])
        for queue in {task.said.queue for task in open_to}:
            line = [task for task in open_to if task.said.queue == queue]
            line.sort(key=lambda task: (-task.priority, task.run_at, task.id))
            taken = {task.id for task in line if task.id in ids}
            assert taken == {task.id for task in line[: len(taken)]}, f"{queue}: not its head, {taken}"

    def _eligible(self, task: Work, wants: Wants) -> bool:
        by_type = wants.types is None or task.said.task_type in wants.types
        return by_type and (wants.queues is None or task.said.queue in wants.queues)

    def _grant(self, now: Now, holder: str, number: int | None, granted: Granted, provisional: bool) -> None:
        task = self.tasks[granted.task_id]
        name = LeaseName(granted.task_id, granted.token)
        assert task.lease is None, "I2: one lease per task"
        assert task.ready, "only what can be taken"
        assert str(name) not in self.leases, "a fresh lease_id for every claim"
        assert not self.actor(holder).dead, "a dead instance gets no leases"
        length = PROVISIONAL if provisional else LEASE
        lease = Lease(name, task.generation, holder, number, now.wall, length, now.steady + length, provisional)
        self.leases[str(name)] = task.lease = lease
        task.leases.append(lease)
        task.state, task.ready = State.IN_PROGRESS, False
        task.attempts += 1
        task.granted += 1
        said = (granted.attempt, granted.max_attempts, granted.data, granted.lane.task_type, granted.lane.queue)
        assert said == (task.attempts, task.max_attempts, task.data, task.said.task_type, task.said.queue)

    # ends of leases
    def _renew(self, now: Now, lease: Lease, length: int) -> None:
        lease.expires, lease.length = now.steady + length, length
        lease.provisional, lease.misses, lease.excused = False, 0, False

    def _end(self, now: Now, lease: Lease, how: End, charged: bool, state: State, run_at: int | None = None) -> None:
        """A live lease ends otherwise than by success."""
        task = self.task_of(lease)
        lease.how, lease.charged, task.lease = how, charged, None
        if not charged:
            # Open: what a lease gives back that was taken back without being counted
            task.attempts_or = task.attempts if lease.beyond else None
            task.attempts -= 1
            task.given_back += 1
        task.state = State.CANCELLED if task.cancel else state
        task.ready = False
        if task.state == State.PENDING:
            self._wait(now, task, run_at)
        task.finished = now.wall if task.state in ENDED else None
        task.failed_by = how if task.state == State.FAILED else None

    def _wait(self, now: Now, task: Work, run_at: int | None = None) -> None:
        """It is pending, and ready when it is due; what was due stays so when the wall clock goes back, unless it has
        another time now. Without a time it comes from a lease: it was due."""
        was_due = run_at is None or (task.ready and task.run_at == run_at)
        task.run_at = task.run_at if run_at is None else run_at
        task.ready = was_due or task.run_at <= now.wall

    def _lose(self, now: Now, lease: Lease, how: End, charged: bool) -> None:
        """The holder fell silent, does not know the lease, or died."""
        task = self.task_of(lease)
        spent = charged and task.attempts >= task.max_attempts
        self._end(now, lease, how, charged, State.FAILED if spent else State.PENDING)

    def _win(self, now: Now, lease: Lease, result: str | None) -> None:
        task = self.task_of(lease)
        assert task.winner is None, "I4: the first success wins, for ever within its generation"
        lease.how, lease.charged, task.lease, task.winner = End.COMPLETED, True, None, lease
        task.state, task.ready, task.result, task.finished = State.COMPLETED, False, result, now.wall
        self.touched.add(task.id)

    # reports
    def reported(self, now: Now, outcome: Outcome, verdict: Verdict, look: Look) -> None:
        """An outcome got its verdict."""
        lease = self.leases.get(str(outcome.name))
        task = self.tasks.get(outcome.name.task_id)
        if lease is None or task is None:
            assert verdict == Verdict.UNKNOWN, verdict
        elif lease.how is None:
            assert verdict == Verdict.ACCEPTED, verdict
            self._accept(now, lease, outcome, look)
        elif lease.how == outcome.status:
            assert verdict == Verdict.DUPLICATE, verdict
        elif outcome.status == End.COMPLETED and self.may_still_win(lease):
            assert verdict == Verdict.ACCEPTED_LATE, verdict
            self._accept_late(now, lease, outcome)
        else:
            assert verdict in self._refusals(task, lease), verdict

    def _accept(self, now: Now, lease: Lease, outcome: Outcome, look: Look) -> None:
        task, status = self.task_of(lease), outcome.status
        if status == End.COMPLETED:
            self._win(now, lease, outcome.result)
        elif status == End.CANCELLED:
            # Open: whether a cancelled attempt is charged
            self._end(now, lease, status, True, State.CANCELLED)
            task.attempts_or = task.attempts - 1
        elif status == End.RELEASED:
            self._end(now, lease, status, False, State.PENDING)
        elif status == End.SNOOZED:  # Open: that a snooze is not charged either
            self._end(now, lease, status, False, State.PENDING, now.wall + outcome.snooze_ms)
        else:
            self._fail(now, task, lease, look)

    def _fail(self, now: Now, task: Work, lease: Lease, look: Look) -> None:
        if task.attempts >= task.max_attempts:
            self._end(now, lease, End.FAILED, True, State.FAILED)
        else:
            later = look(task.id).run_at  # Open: how much later a retry is
            assert task.cancel or later > now.wall, "a retry is pending with a later run_at"
            self._end(now, lease, End.FAILED, True, State.PENDING, later)
        task.had_failures = True

    def may_still_win(self, lease: Lease) -> bool:
        task = self.task_of(lease)
        return lease.generation == task.generation and task.state not in (State.COMPLETED, State.CANCELLED)

    def _accept_late(self, now: Now, lease: Lease, outcome: Outcome) -> None:
        """It wins over whatever the task is now; a live lease that it beats is superseded (and stays charged)."""
        beaten = self.task_of(lease).lease
        if beaten is not None:
            beaten.how = End.SUPERSEDED
        self._win(now, lease, outcome.result)

    def _refusals(self, task: Work, lease: Lease) -> set[Verdict]:
        allowed = {Verdict.CANCELLED if task.state == State.CANCELLED else Verdict.SUPERSEDED}
        if lease.generation != task.generation:  # Open: an older generation's lease of a task that is cancelled now
            allowed.add(Verdict.SUPERSEDED)
        if lease.how == End.COMPLETED:  # Open: the winner contradicts itself
            allowed |= {Verdict.DUPLICATE, Verdict.SUPERSEDED}
        return allowed

    def classic_lease(self, worker_id: str, task_id: int) -> Lease | None:
        """Which lease a classic report without one means: that worker's newest of the task."""
        mine = [lease for lease in self.tasks[task_id].leases if lease.holder == f"classic:{worker_id}"]
        winner = self.tasks[task_id].winner
        # Open: the newest, or the one that won by naming its lease; neither changes anything any more
        return winner if winner in mine else mine[-1] if mine else None

    # heartbeat
    def beaten(
        self, now: Now, holder: str, seq: int, listed: Sequence[str], in_flight: Collection[int], foreign: bool,
        told: Mapping[str, str], look: Look,
    ) -> None:  # fmt: skip
        """A heartbeat was answered."""
        actor = self.actor(holder)
        if seq <= actor.seq:
            assert not told, "an older or equal one is answered with orders only"
            return
        actor.seq = seq  # Open: whether one for another store uses its number up
        if foreign:
            assert dict(told) == dict.fromkeys(listed, "foreign")
            return
        assert set(told) == set(listed)
        refused = [lease for lease_id in listed if (lease := self._listed(now, holder, lease_id, told[lease_id]))]
        for lease in refused:  # of several leases of one task that could come back one does; Open: which
            rival = self.task_of(lease).lease
            assert rival is not None, f"{lease.name} was not taken back"
            assert str(rival.name) in listed, f"{lease.name} was not taken back"
        for lease in self.live(holder):
            if str(lease.name) not in listed:
                self._missed(now, lease, in_flight, look)

    def _listed(self, now: Now, holder: str, lease_id: str, told: str) -> Lease | None:
        """What one listed lease was told; the lease when it could have come back and did not."""
        lease = self.leases.get(lease_id)
        if lease is None or lease.name.task_id not in self.tasks:
            assert told == "lost", told
            return None
        if lease.how is None:
            self._listed_live(now, holder, lease, told)
            return None
        may, must = self.returns(lease)
        # Open: a heartbeat that lists another instance's lease (the fence knows task and lease, no instance)
        must = must and lease.holder == holder
        assert told == "lost" or (told == "ok" and may), (told, lease)
        if told == "ok":
            self._take_back(now, lease)
        return lease if told == "lost" and must else None

    def _listed_live(self, now: Now, holder: str, lease: Lease, told: str) -> None:
        if lease.holder == holder:
            assert told == ("cancel" if self.task_of(lease).cancel else "ok"), told
        if told != "lost":
            self._renew(now, lease, SILENCE)

    def returns(self, lease: Lease) -> tuple[bool, bool]:
        """Whether a lease that has ended may come back by being listed, and whether it must."""
        task = self.task_of(lease)
        silent = lease.how in SILENT and not self.actor(lease.holder).dead and lease.generation == task.generation
        if task.state == State.FAILED:
            may = silent and task.failed_by in SILENT | {End.DIED}
            # Open: "only because leases were lost", when earlier attempts were reported failed
            return may, may and not task.had_failures
        may = silent and task.state == State.PENDING
        return may, may

    def _take_back(self, now: Now, lease: Lease) -> None:
        task = self.task_of(lease)
        if not lease.charged:
            lease.beyond = task.attempts >= task.max_attempts
            task.attempts += not lease.beyond
            task.given_back -= not lease.beyond
        lease.how, lease.charged, task.lease = None, True, lease
        lease.former_number, lease.number = lease.number or lease.former_number, None
        self._renew(now, lease, SILENCE)
        task.state, task.ready, task.finished, task.failed_by = State.IN_PROGRESS, False, None, None

    def _missed(self, now: Now, lease: Lease, in_flight: Collection[int], look: Look) -> None:
        if lease.number is not None and lease.number in in_flight:
            lease.excused = lease.misses > 0
            return
        # Open: missed, then in flight, then missed: two successive ones? And is one taken back still of its claim?
        back_in_flight = lease.former_number in in_flight
        spared = (lease.excused or back_in_flight) and look(lease.name.task_id).lease == lease.name.token
        if lease.misses and not spared:
            self._lose(now, lease, End.UNLISTED, charged=False)
        lease.misses, lease.excused = 1, back_in_flight

    def beaten_classic(self, now: Now, holder: str, look: Look) -> None:
        """It renews the newest lease that was claimed the classic way. Open: newest by claim or by wall time."""
        mine = [lease for lease in self.leases.values() if lease.how is None and lease in self.live(holder)]
        if not mine:
            return
        latest = max(lease.granted_wall for lease in mine)
        newest = [lease for lease in mine if lease is mine[-1] or lease.granted_wall == latest]
        terms = (now.steady + SILENCE, SILENCE)
        rows = {lease: look(lease.name.task_id) for lease in newest}
        renewed = [lease for lease, row in rows.items() if (row.lease_expires, row.lease_length) == terms]
        assert renewed, "a classic heartbeat renews the newest classic lease"
        for lease in renewed:
            self._renew(now, lease, SILENCE)

    # death
    def died(self, now: Now, heir: str, dead: str, outbox: Collection[str], started: Collection[str]) -> list[int]:
        """A death was reported; how many leases passed on, were charged, were given back."""
        self.actor(heir)
        self.actor(dead).dead = True
        numbers = [0, 0, 0]
        for lease in self.live(dead):
            if str(lease.name) in outbox:
                lease.holder, lease.number, lease.former_number = heir, None, None
                self._renew(now, lease, SILENCE)
                numbers[0] += 1
            else:
                charged = str(lease.name) in started
                self._lose(now, lease, End.DIED, charged)
                numbers[1 if charged else 2] += 1
        return numbers

    # time
    def reaped(self, now: Now, ended: int) -> None:
        """A pass of the reaper; after a gap every live lease is lengthened before any is ended."""
        live = self.live()
        if live and (self.last_pass is None or abs(now.steady - self.last_pass) > GAP):
            for lease in live:
                lease.expires = now.steady + max(lease.length, SILENCE)
        over = [lease for lease in live if lease.expires <= now.steady]
        for lease in over:
            self._lose(now, lease, End.EXPIRED, charged=not lease.provisional)
        assert ended == len(over), (ended, over)
        self.last_pass = now.steady
        if live:
            self.last_written = now.steady

    def scheduled(self, now: Now, made: int) -> None:
        due = [task for task in self.tasks.values() if self._is_due(task, now) and not task.ready]
        assert made == len(due), (made, due)
        for task in due:
            task.ready = True

    def _is_due(self, task: Work, now: Now) -> bool:
        return task.state == State.PENDING and task.run_at <= now.wall

    # control
    def cancelled(self, now: Now, task_id: int, verdict: str) -> None:
        task = self.tasks.get(task_id)
        if task is None:
            assert verdict == "not_found", verdict
        elif task.state == State.PENDING:
            assert verdict == "cancelled", verdict
            task.state, task.ready, task.finished = State.CANCELLED, False, now.wall
        elif task.state == State.IN_PROGRESS:
            assert verdict == "cancel_requested", verdict
            task.cancel = True
        else:
            assert verdict == "already_final", verdict

    def retried(self, now: Now, task_id: int, verdict: str) -> None:
        task = self.tasks.get(task_id)
        if task is None or task.state not in ENDED:
            assert verdict == ("not_found" if task is None else "not_final"), verdict
            return
        assert verdict == "retried", verdict
        self._live_anew(task)
        task.state, task.cancel = State.PENDING, False
        self._wait(now, task, now.wall)
        task.winner = task.result = task.finished = task.failed_by = None

    def edited(self, now: Now, task_id: int, priority: int, run_at: int, max_attempts: int, data: str) -> bool:
        """What an edit should answer."""
        task = self.tasks.get(task_id)
        if task is None or task.state != State.PENDING:
            return False
        self._live_anew(task)
        task.priority, task.max_attempts, task.data = priority, max_attempts, data
        self._wait(now, task, run_at)
        return True

    def _live_anew(self, task: Work) -> None:
        task.generation += 1
        task.attempts = task.granted = task.given_back = 0
        task.had_failures = False

    def pruned(self, now: Now, completed_ms: int, failed_ms: int, deleted: int) -> None:
        kept = {State.COMPLETED: now.wall - completed_ms, State.FAILED: now.wall - failed_ms}
        kept[State.CANCELLED] = kept[State.FAILED]
        old = [t.id for t in self.tasks.values() if t.finished is not None and t.finished < kept[t.state]]
        assert deleted == len(old), (deleted, old)
        for task_id in old:
            del self.tasks[task_id]
        fresh = {key: use for key, use in self.keys.items() if use[2] >= now.wall - KEY_AGE or use[0] in self.tasks}
        self.keys = fresh

    # comparing
    def check(self, seen: Seen) -> None:
        """The store holds what the model holds, and the invariants."""
        assert seen.rows.keys() == self.tasks.keys()
        for task in self.tasks.values():
            self._check_task(task, seen.rows[task.id])
        self._check_actors(seen)
        assert len({name.task_id for name in seen.held}) == len(seen.held), "I2: one unexpired lease per task"
        assert set(seen.held) == {lease.name for lease in self.live()}
        self._check_counts(seen)

    def _check_task(self, task: Work, row: TaskRow) -> None:
        lease = task.lease
        if row.attempts == task.attempts_or:
            task.attempts = row.attempts
        task.attempts_or = None
        if lease is not None:
            assert row.lease_expires is not None, "I6: every in_progress task has an expiry"
            if (row.lease_expires, row.lease_length) == lease.terms_or:
                lease.expires, lease.length = row.lease_expires, row.lease_length
            lease.terms_or = None
        holding = lease or task.winner
        expected = (task.state, bool(task.ready), task.attempts, task.generation, task.priority, task.run_at,
                    task.max_attempts, task.created, task.finished, holding and holding.name.token)  # fmt: skip
        found = (row.state, bool(row.ready), row.attempts, row.generation, row.priority, row.run_at,
                 row.max_attempts, row.created_at, row.finished_at, row.lease)  # fmt: skip
        assert found == expected, f"task {task.id}: the store has {found}, the model {expected}"
        assert 0 <= row.attempts <= row.max_attempts, "I6: attempts never exceed max_attempts"
        assert task.granted <= task.max_attempts + task.given_back, "I6: beside those given back"
        if lease is not None:
            terms = (row.lease_expires, row.lease_length, bool(row.lease_provisional), row.cancel_requested_at is None)
            wanted = (lease.expires, lease.length, lease.provisional, not task.cancel)
            assert terms == wanted, f"lease {lease.name}: the store has {terms}, the model {wanted}"

    def _check_actors(self, seen: Seen) -> None:
        for name, actor in self.actors.items():
            row = seen.instances.get(name)
            found = (row.seq, row.answered, row.died_at is not None) if row else (0, 0, False)
            assert found == (actor.seq, actor.answered, actor.dead), f"instance {name}: {found}"
        holders = {row.id: name for name, row in seen.instances.items()}
        for task in self.tasks.values():
            holding = task.lease or task.winner
            holder = None if holding is None else holding.holder
            assert holders.get(seen.rows[task.id].lease_instance or 0) == holder, f"task {task.id}: held by another"

    def _check_counts(self, seen: Seen) -> None:
        """Counts are kept, never found by scanning: here they are scanned."""
        recount: dict[tuple[str, str], dict[str, int]] = {}
        for task in self.tasks.values():
            row, lane = seen.rows[task.id], recount.setdefault((task.said.queue, task.said.task_type), {})
            lane[row.state.value] = lane.get(row.state.value, 0) + 1
            if row.ready:
                assert row.state == State.PENDING
                lane["ready"] = lane.get("ready", 0) + 1
        kept = {lane: {state: n for state, n in numbers.items() if n} for lane, numbers in seen.counts.items()}
        assert {lane: numbers for lane, numbers in kept.items() if numbers} == recount

    def check_ended(self, ended: Mapping[LeaseName, EndedLease]) -> None:
        """Each lease that ended without winning in time has its one row, which tells how, and of which generation."""
        for lease in (lease for task in self.tasks.values() for lease in task.leases):
            row = ended.get(lease.name)
            won_now = lease is self.task_of(lease).winner
            if lease.how is None:
                assert row is None, f"{lease.name} lives"
            elif row is not None:
                assert (row.how, row.generation) == (lease.how, lease.generation), lease
            else:
                assert won_now, f"{lease.name} has no row"
