"""Recurring schedules: what is submitted again and again, once for each tick, whoever fires it.

A tick is fired in the transaction that moves `next_at` past it, on a row that is locked: so any number of dispatchers
fire it once, and a kill leaves it fired or still to come. The task's idempotency key names schedule and tick as well.
Ticks that nobody fired in time (a downtime, a queue without room) are judged by the schedule's catch-up policy; what it
leaves out is written down.
"""

import hashlib
import json
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from dispatcher.errors import BacklogFull, DispatcherError, Invalid, NotFound, ScheduleExists, StorageFull, Unavailable
from dispatcher.model import Schedule
from dispatcher.queue import unique
from dispatcher.queue.queue import Queue
from dispatcher.queue.submit import Submission, submit
from dispatcher.queue.ticks import Rule
from dispatcher.queue.turns import backlog_rooms
from dispatcher.store.base import Tx

log = logging.getLogger("taskmill.recurring")
GRACE_MS = 60_000  # a tick that is later than this was missed
ALL_AT_ONCE = 30  # ticks of one schedule in one transaction, when all are caught up; after so many it takes no other
BATCH = 100  # schedules in one transaction, at most
STEP_S = 0.004  # of working out ticks: after this a transaction takes no further schedule
WAITS = "waits for room: "  # how `last_error` begins while a due tick cannot be submitted yet
LATE = "no dispatcher fired them in time"
NOT_KEPT = frozenset({"data", "key", "digest"})  # fields of a submit that a schedule's `task` does not hold


class Wanted(NamedTuple):
    """A schedule as its owner wrote it."""

    name: str
    rule: Rule
    submission: Submission
    catch_up: str = "skip"
    paused: bool = False


class Fired(NamedTuple):
    """What became of due schedules: how many were moved on, how many tasks that made, and whose queue has no room."""

    schedules: int
    tasks: int
    waiting: tuple[str, ...] = ()


class Turn(NamedTuple):
    """A due schedule: the ticks that are fired now, the tick that comes next, and why nothing can be fired yet."""

    schedule: Schedule
    ticks: list[int]
    following: int | None
    full: str | None = None


class Schedules:
    """All schedules of a queue."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    # for their owners
    def create(self, wanted: Wanted) -> tuple[Schedule, bool]:
        """The schedule, and whether it is new: the same one may be created again. Raises ScheduleExists, Invalid."""
        return self._queue.store.write(lambda tx: _create(tx, wanted))

    def preview(self, wanted: Wanted) -> Schedule:
        """The schedule as it would be. Raises Invalid."""
        return _new(wanted, self._queue.now().wall)

    def change(self, name: str, changes: Mapping[str, Any]) -> Schedule:
        """Change rule, task and data, catch_up or paused. Raises NotFound, Invalid."""
        return self._queue.store.write(lambda tx: _change(tx, name, changes))

    def delete(self, name: str) -> None:
        """Fire no more of it; its tasks stay. Raises NotFound."""
        if not self._queue.store.write(lambda tx: tx.drop_schedule(name)):
            raise NotFound(f"schedule {name}")

    def run(self, name: str, key: str | None) -> tuple[int, bool]:
        """Submit its task now, beside its ticks, paused or not: the id, and whether it is new. Raises NotFound."""
        return self._queue.store.write(lambda tx: self._run(tx, name, key))

    def _run(self, tx: Tx, name: str, key: str | None) -> tuple[int, bool]:
        schedule = _known(tx, name)
        submission = submission_of(schedule)._replace(key=key, digest=_digest(f"run:{name}") if key else b"")
        (task_id,), (created,) = submit(tx, [submission], self._queue.terms, self._queue.defaults)
        tx.put_schedules([schedule._replace(last_at=tx.now.wall, last_task_id=task_id)])
        return task_id, created

    def page(self, after: str, limit: int) -> list[Schedule]:
        """Schedules by name, from behind `after`."""
        with self._queue.store.read() as reader:
            return reader.schedules(after, limit)

    def get(self, name: str) -> Schedule:
        """One schedule. Raises NotFound."""
        with self._queue.store.read() as reader:
            found = reader.schedule(name)
        if found is None:
            raise NotFound(f"schedule {name}")
        return found

    # for the loop
    def next_tick(self) -> int | None:
        """When the next tick of any of them comes, UTC milliseconds."""
        return self._queue.kept.read(self._queue.store, "next_tick", lambda reader: reader.next_tick())

    def come_back(self) -> int:
        """The wall clock went back, perhaps before the start: schedules whose next tick lies further ahead than by
        their rule come again in time; how many. A tick that they had fired already makes no second task."""
        store, wall, found, after = self._queue.store, self._queue.now().wall, 0, ""
        while page := self.page(after, BATCH):
            names = [schedule.name for schedule in page if _strays(schedule, wall)]
            found += sum(store.write(lambda tx, name=name: _come_back(tx, name)) for name in names)  # type: ignore[misc]
            after = page[-1].name
        return found

    def fire(self, but: Collection[str] = ()) -> Fired:
        """Fire what is due, a batch at a time, and leave out some. A schedule whose task is refused harms no other: it
        says so and waits for its next tick."""
        try:
            return self._queue.store.write(lambda tx: self._fire(tx, tx.due_schedules(BATCH, but)))
        except (Unavailable, StorageFull):
            raise
        except DispatcherError:
            return self._fire_one_by_one(but)

    def _fire(self, tx: Tx, due: Sequence[Schedule]) -> Fired:
        turns = _turns(tx, due)
        wanted = [tick_of(turn.schedule, tick) for turn in turns for tick in turn.ticks]
        ids = iter(submit(tx, wanted, self._queue.terms, self._queue.defaults).ids if wanted else [])
        moved = [_moved(turn, [next(ids) for _ in turn.ticks]) for turn in turns]
        tx.put_schedules([new for new, turn in zip(moved, turns, strict=True) if new != turn.schedule])
        waiting = tuple(turn.schedule.name for turn in turns if turn.full)
        return Fired(len(turns) - len(waiting), len(wanted), waiting)

    def _fire_one_by_one(self, but: Collection[str]) -> Fired:
        names = [schedule.name for schedule in self._queue.store.write(lambda tx: tx.due_schedules(BATCH, but))]
        tasks, waiting = 0, tuple[str, ...]()
        for name in names:
            try:
                fired = self._queue.store.write(lambda tx, name=name: self._fire(tx, _due(tx, name)))  # type: ignore[misc]
                tasks, waiting = tasks + fired.tasks, waiting + fired.waiting
            except (Unavailable, StorageFull):
                raise
            except DispatcherError as error:
                self._queue.store.write(lambda tx, name=name, why=str(error): _refuse(tx, _due(tx, name), why))  # type: ignore[misc]
        return Fired(len(names) - len(waiting), tasks, waiting)


def _turns(tx: Tx, due: Sequence[Schedule]) -> list[Turn]:
    """What is to be fired of due schedules, as far as a short step goes: at least the first of them."""
    rooms = backlog_rooms(tx, {submission_of(schedule).queue for schedule in due})
    turns: list[Turn] = []
    ticks, until = 0, time.perf_counter() + STEP_S
    for schedule in due:
        if turns and (ticks >= ALL_AT_ONCE or time.perf_counter() > until):
            break
        turns.append(_fitted(tx, Turn(schedule, *turn(schedule, tx.now.wall)), rooms))
        ticks += len(turns[-1].ticks)
    return turns


def _fitted(tx: Tx, turn: Turn, rooms: dict[str, int]) -> Turn:
    """As much of a turn as its queue has room for; what does not fit stays due."""
    tasks = [tick_of(turn.schedule, tick) for tick in turn.ticks]
    new = len(tasks) - len(unique.twins(tx, tasks).of) if tasks else 0
    if not new or (room := rooms.get(tasks[0].queue)) is None:
        return turn
    rooms[tasks[0].queue] = max(0, room - new)
    if new <= room:
        return turn
    if room and turn.schedule.catch_up == "all":
        return turn._replace(ticks=turn.ticks[:room], following=turn.ticks[room])
    most = tx.queue_settings()[tasks[0].queue].max_waiting or 0
    return Turn(turn.schedule, [], turn.schedule.next_at, str(BacklogFull(tasks[0].queue, most)))


def _moved(turn: Turn, ids: Sequence[int]) -> Schedule:
    """A schedule after its turn."""
    schedule = turn.schedule
    if turn.full:
        return schedule._replace(last_error=WAITS + turn.full)
    first, until = schedule.next_at, turn.ticks[0] if turn.ticks else turn.following
    if schedule.catch_up == "skip" and until != first:
        waited = schedule.last_error is not None and schedule.last_error.startswith(WAITS)
        why = (schedule.last_error or "").removeprefix(WAITS) if waited else LATE
        schedule = schedule._replace(skipped_from=first, skipped_until=until, skipped_why=why)
        schedule = schedule._replace(last_error=f"skipped: {why}") if waited else schedule
        log.warning("schedule %s skipped ticks: %s", schedule.name, why)
    if ids:
        schedule = schedule._replace(last_at=turn.ticks[-1], last_task_id=ids[-1], last_error=None)
    return schedule._replace(next_at=turn.following)


def turn(schedule: Schedule, now: int) -> tuple[list[int], int | None]:
    """The ticks of a due schedule that are fired now, and the tick that comes next."""
    rule, first = rule_of(schedule), schedule.next_at or 0
    if schedule.catch_up == "all":
        ticks: list[int] = []
        for tick in rule.ticks(first, now):
            if len(ticks) == ALL_AT_ONCE:
                return ticks, tick
            ticks.append(tick)
        return ticks, rule.after(ticks[-1], first)
    following = rule.after(now, first)
    if schedule.catch_up == "once":
        return [first], following
    recent = first if first >= now - GRACE_MS else rule.after(now - GRACE_MS - 1, first)
    newest = list(rule.ticks(recent, now))[-1:] if recent is not None else []
    return newest, following


def tick_of(schedule: Schedule, tick: int) -> Submission:
    """The task of one tick, which is the same whoever submits it."""
    key = f"schedule:{schedule.name}:{tick}"
    return submission_of(schedule)._replace(key=key, digest=_digest(key))


def rule_of(schedule: Schedule) -> Rule:
    """When its ticks come."""
    return Rule(schedule.cron, schedule.zone, schedule.every_ms)


def submission_of(schedule: Schedule) -> Submission:
    """What it submits."""
    said: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in told(schedule).items()}
    return Submission(**said, data=schedule.data)


def told(schedule: Schedule) -> dict[str, Any]:
    """What its task says beside the data, by the names of Submission."""
    return dict(json.loads(schedule.task))


def kept(submission: Submission) -> str:
    """A task as its schedule keeps it: only what it says."""
    defaults = Submission._field_defaults
    said = {k: v for k, v in submission._asdict().items() if k not in NOT_KEPT and v != defaults.get(k)}
    return json.dumps(said, sort_keys=True)


def next_ticks(schedule: Schedule, number: int) -> list[int]:
    """Its coming ticks."""
    found: list[int] = []
    tick = schedule.next_at
    while tick is not None and len(found) < number:
        found.append(tick)
        tick = rule_of(schedule).after(tick, tick)
    return found


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _new(wanted: Wanted, now: int) -> Schedule:
    rule, task = wanted.rule, kept(wanted.submission)
    start = _start(rule, now)
    head = (wanted.name, rule.cron, rule.zone, rule.every_ms, wanted.catch_up, wanted.paused)
    return Schedule(
        *head, task, wanted.submission.data, None if wanted.paused else start, None, None, None, now, now
    )  # fmt: skip


def _start(rule: Rule, now: int) -> int:
    first = rule.after(now, now)
    if first is None:
        raise Invalid("cron", "never comes again")
    return first


def _create(tx: Tx, wanted: Wanted) -> tuple[Schedule, bool]:
    schedule = _new(wanted, tx.now.wall)
    if tx.add_schedule(schedule):
        return schedule, True
    known = tx.schedule(wanted.name)
    if known is None or known[:8] != schedule[:8]:
        raise ScheduleExists(wanted.name)
    return known, False


def _change(tx: Tx, name: str, changes: Mapping[str, Any]) -> Schedule:
    known = _known(tx, name)
    if known.cron is None and "zone" in changes and "cron" not in changes:
        raise Invalid("zone", "only together with cron")
    changed = known._replace(**changes, updated_at=tx.now.wall)
    if changed.paused:
        changed = changed._replace(next_at=None, last_error=None)
    elif known.paused or rule_of(changed) != rule_of(known):
        changed = changed._replace(next_at=_start(rule_of(changed), tx.now.wall), last_error=None)
    tx.put_schedules([changed])
    return changed


def _known(tx: Tx, name: str) -> Schedule:
    schedule = tx.schedule(name)
    if schedule is None:
        raise NotFound(f"schedule {name}")
    return schedule


def _due(tx: Tx, name: str) -> list[Schedule]:
    """The schedule, if it is still due."""
    schedule = tx.schedule(name)
    return [schedule] if schedule and schedule.next_at is not None and schedule.next_at <= tx.now.wall else []


def _strays(schedule: Schedule, wall: int) -> bool:
    if schedule.next_at is None or schedule.next_at <= wall:
        return False
    following = _following(schedule, wall)
    return following is not None and following < schedule.next_at


def _come_back(tx: Tx, name: str) -> bool:
    schedule = tx.schedule(name)
    if schedule is None or not _strays(schedule, tx.now.wall):
        return False
    tx.put_schedules([schedule._replace(next_at=_following(schedule, tx.now.wall))])
    log.warning("schedule %s: its next tick lay too far ahead, the clock has gone back", name)
    return True


def _refuse(tx: Tx, due: Sequence[Schedule], reason: str) -> None:
    """Its ticks up to now are over: their task was refused."""
    tx.put_schedules([s._replace(next_at=_following(s, tx.now.wall), last_error=reason) for s in due])


def _following(schedule: Schedule, now: int) -> int | None:
    """The next tick; none of a schedule whose rule cannot be read here any more (a time zone that is gone)."""
    try:
        return rule_of(schedule).after(now, schedule.next_at or 0)
    except Invalid:
        return None
