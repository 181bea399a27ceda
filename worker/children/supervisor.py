"""Runs tasks in child processes. A handler may crash, hang, flood or grow: it hurts nobody but its own task (I9).

One thread, started here, owns the children and everything that changes (`crew.py`); other threads only put orders
into a deque and write a byte into the wake pipe. The thread sleeps in a selector over the children's pipes and ends,
and until the next deadline; deadlines are monotonic.

    supervisor thread ── line: texts in groups, a ticket a task ──▶ child      `line.py`, `work.py`
                      ◀── frames: started, ended, progress ──       `framing.py`
                      ◀── output: stdout and stderr, last 64 KiB ──
                      ─── life: nothing; its end kills the child's process group

*The line* ends in a pipe of tickets of which the supervisor keeps **both** ends. The child reads one ticket when it
begins a task; whatever it has not read the supervisor can read back, one task at a time, whatever the child is doing,
if only sleeping in C code. So a child may have hundreds of short tasks before it (`sharing.py`), and yet none of them
is stuck behind a long one, charged for a crash, or started after a release.

*While children have many short tasks before them* the thread looks at their frames only every few milliseconds, so
that it hears of many tasks at a time; to be woken for each would cost more than the tasks.

*A start is announced* before the handler runs, in one write with the end of the task before. Of the tasks of a child
that dies, only the announced one is charged; a task that was taken but not announced was not begun.

*The end of a child* is seen through its pidfd, not the end of a pipe, which a grandchild may hold open. Then its
process group is killed, and whatever left the group (`leftovers.py`); then it is reaped and replaced.

*To stop a task* is to stop its child: an order to the handler, SIGTERM to the group, SIGKILL to the group after the
grace (`stopping.py`). A result that came before the order stands.

*The end of the supervisor*, kill -9 included, closes its end of each life pipe; the kernel then sends SIGKILL to the
child's whole process group. PR_SET_PDEATHSIG would spare grandchildren, and fire when the starting *thread* ends.

A child that ends before its first task is replaced after a pause that grows up to 10 s; while there is none at all,
nothing is wanted and what waits is given back.
"""

import logging
import math
import os
import selectors
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from threading import Condition, Thread
from typing import Any, Literal, Protocol

from worker.children.crew import Crew
from worker.children.ledger import Held, News
from worker.children.process import ChildProcess
from worker.children.process import (
    SupervisorSettings as SupervisorSettings,  # named here for those who make a Supervisor
)
from worker.model import Outcome, Task

LOOKAHEAD = 0.75
BRIEF = 0.005
MOST_AHEAD = 2000  # two full claims: one runs while the report of the other is answered

log = logging.getLogger(__name__)


class Sink(Protocol):
    """Where the supervisor's news go; called from its thread, so each call must be quick and must not raise."""

    def started(self, lease_ids: list[str]) -> None:
        """Tasks that a child began. One that is begun again, because its child had to go, is named again."""

    def finished(self, outcomes: list[Outcome]) -> None:
        """Tasks that ended, in the order of their ends."""

    def progressed(self, lease_id: str, update: dict[str, Any]) -> None:
        """An update from a handler: `progress` {done, total}, `note`, `checkpoint`, `partial`, `log`, some of them."""


@dataclass(frozen=True, slots=True)
class Running:
    """A task that a child runs now, for `seconds` so far."""

    lease_id: str
    task_type: str
    seconds: float


class Supervisor:
    """Runs offered tasks in up to `concurrency` children. Every method may be called from any thread but its own.

    Should its thread fail (a bug of ours, or a sink that raised), the children are killed and every call raises
    RuntimeError.
    """

    def __init__(self, settings: SupervisorSettings, sink: Sink, costs: Mapping[str, int] | None = None) -> None:
        self._settings = settings
        self._sink = sink
        self._selector = selectors.DefaultSelector()
        self._crew = Crew(settings, self._selector)
        self._orders: deque[Callable[[], None]] = deque()
        self._ear, self._mouth = os.pipe()
        os.set_blocking(self._ear, False)
        os.set_blocking(self._mouth, False)
        self._selector.register(self._ear, selectors.EVENT_READ, partial(os.read, self._ear, 4096))
        self._changed = Condition()
        self._costs = dict(costs or {})  # the slots of task types that take more than one
        self._held = 0  # slots of tasks offered and not settled
        self._telling = False
        self._closed = self._failed = False
        self._thread = Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Start the thread and, with it, the children."""
        self._settings.spool.mkdir(parents=True, exist_ok=True)
        self._thread.start()

    def offer(self, tasks: Sequence[Task]) -> None:
        """Take tasks; they run in this order as children get free. A lease that is held already is ignored."""
        if self._costs or self._settings.memory_mb:
            tasks = [self._priced(task) for task in tasks]
        with self._changed:
            taken = self._fitting(tasks) if self._costs else len(tasks)
            self._held += sum(task.cost for task in tasks)
        self._order(partial(self._crew.take, tasks[:taken]))
        if taken < len(tasks):
            self._order(partial(self._crew.refuse, tasks[taken:]))

    def _priced(self, task: Task) -> Task:
        """A task with the limits that are its own by default."""
        cost = min(self._costs.get(task.task_type, 1), self._settings.concurrency)
        memory = task.memory_mb or self._settings.memory_mb
        return task if (cost, memory) == (1, task.memory_mb) else task._replace(cost=cost, memory_mb=memory)

    def _fitting(self, tasks: Sequence[Task]) -> int:
        """How many of the tasks there are slots for; a claim counts tasks and cannot know what they will cost."""
        room = self._settings.concurrency + self._prefetch() - self._held
        for place, task in enumerate(tasks):
            if room <= 0:
                return place
            room -= task.cost
        return len(tasks)

    def renew(self, costs: Mapping[str, int]) -> None:
        """The handlers have changed: tasks that run finish as they are, everything else uses the new ones.
        `costs` are the slots of those task types that take more than one."""
        self._costs = dict(costs)
        self._order(self._crew.renew)

    def wanted(self) -> int:
        """How many more tasks to claim now: for the free children, and LOOKAHEAD seconds of work."""
        self._check()
        if not self._crew.children and self._crew.failures:
            return 0
        return max(0, min(self._settings.concurrency + self._prefetch() - self._held, MOST_AHEAD))

    def brief(self) -> bool:
        """Whether tasks take no more than a moment, as measured."""
        return self._crew.pace.mean is not None and self._crew.pace.mean < BRIEF

    def supplied(self) -> bool:
        """Whether the children have a third of what may lie before them, in tasks that are neither brief nor long: then
        outcomes come soon, and with the next report there will be room."""
        ahead, since = self._prefetch(), time.monotonic() - LOOKAHEAD
        at_work = any(not child.idle and _long_task(child, since) is None for child in self._crew.children)
        return (
            at_work and ahead > 0 and not self.brief() and 3 * self.wanted() < 2 * (self._settings.concurrency + ahead)
        )

    def stop(self, lease_ids: Sequence[str], status: Literal["cancelled", "lost"]) -> None:
        """End tasks, running or not: `cancelled` with that outcome, `lost` with none. An outcome made before stands."""
        self._order(partial(self._crew.stop, list(lease_ids), status))

    def release_waiting(self) -> None:
        """Every task that was not begun ends `released`."""
        self._order(self._crew.release_waiting)

    def release_running(self) -> None:
        """Kill the children that run tasks, now; those end `released`."""
        self._order(self._crew.release_running)

    def running(self) -> list[Running]:
        """What the children run at this moment."""
        now = time.monotonic()
        current = [held for child in self._crew.children if (held := child.current) is not None]
        return [Running(held.task.lease_id, held.task.task_type, max(0.0, now - held.started_at)) for held in current]

    def wait_idle(self, timeout: float) -> bool:
        """Wait until the outcome of every task was told; False when that took longer than `timeout` seconds."""
        with self._changed:
            idle = self._changed.wait_for(lambda: self._failed or not (self._held or self._telling), timeout)
            self._check()
            return idle

    def close(self) -> None:
        """End the children and the thread; tasks still held end `released`. Takes up to the grace."""
        if self._thread.is_alive():
            self._order(self._crew.close)
            self._thread.join()
        with self._changed:
            if not self._closed:
                self._closed = True
                self._selector.close()
                os.close(self._ear)
                os.close(self._mouth)

    def _prefetch(self) -> int:
        mean = self._crew.pace.mean
        if mean is None or mean > LOOKAHEAD:
            return 0
        since = time.monotonic() - LOOKAHEAD
        long = sum(held.task.cost for child in self._crew.children if (held := _long_task(child, since)) is not None)
        flowing = max(0, self._settings.concurrency - long)
        return min(MOST_AHEAD, int(flowing * LOOKAHEAD / max(mean, 1e-6)))

    def _order(self, order: Callable[[], None]) -> None:
        """Have the thread do something; after `close` there is nothing to do it to."""
        with self._changed:
            self._check()
            if not self._closed:
                self._orders.append(order)
                with suppress(BlockingIOError):  # then it has thousands of reasons to wake already
                    os.write(self._mouth, b"\0")

    def _check(self) -> None:
        if self._failed:
            raise RuntimeError("the supervisor's thread has failed; its log line says why")

    def _run(self) -> None:
        try:
            while not self._crew.gone:
                self._round()
            self._tell(self._crew.tend())
        except BaseException:
            log.critical("the supervisor's thread has failed", exc_info=True)
            self._crew.abandon()
            with self._changed:
                self._failed = True
                self._changed.notify_all()

    def _round(self) -> None:
        self._tell(self._crew.tend())
        if (pause := self._crew.pause()) > 0:
            time.sleep(pause)
        wait = self._crew.next_deadline() - time.monotonic()
        for key, _ in self._selector.select(None if wait == math.inf else max(0.0, wait)):
            if self._selector.get_map().get(key.fd) is key:  # else one before it in this list ended its child
                key.data()
        while self._orders:
            self._orders.popleft()()

    def _tell(self, news: News) -> None:
        if not (news.settled or news.started or news.progress):
            return
        with self._changed:
            self._held -= news.settled  # before the sink hears of it: it may ask at once how many are wanted
            self._telling = True
        if news.started:
            self._sink.started(news.started)
        for lease_id, update in news.progress:
            self._sink.progressed(lease_id, update)
        if news.outcomes:
            self._sink.finished(news.outcomes)
        with self._changed:
            self._telling = False
            if not self._held:
                self._changed.notify_all()


def _long_task(child: ChildProcess, since: float) -> Held | None:
    """What a child runs, if it began before that moment (monotonic)."""
    held = child.current
    return held if held is not None and held.started_at < since else None
