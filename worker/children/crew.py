"""The children of one supervisor: starting, heeding, stopping and replacing them (see `supervisor.py`).

All of it belongs to the supervisor's thread; nothing here waits.
"""

import logging
import math
import selectors
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain
from typing import Any, Literal

from worker.children.framing import PROGRESS, STARTED, STOPPED, Frame, FrameError
from worker.children.ledger import RELEASED, Ending, Held, Ledger, News
from worker.children.memory import MIB, MemoryWatch, left_over
from worker.children.pace import Pace
from worker.children.process import ChildProcess, SupervisorSettings
from worker.children.sharing import Sharing
from worker.model import Task

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
PATIENCE = 3  # children in a row that came to nothing, before waiting tasks are given back
READING_PAUSE = 0.003
TASK_SECONDS = 20e-6  # the least that a task takes a child
LAST_CHUNKS = 32  # of a dead child's output: what it started may go on printing

log = logging.getLogger(__name__)


class Crew:
    """Runs every task it takes in a child, and settles it."""

    def __init__(self, settings: SupervisorSettings, selector: selectors.BaseSelector) -> None:
        self.children: list[ChildProcess] = []
        self.pace = Pace()
        self.failures = 0  # children in a row that ended without having run anything
        self._settings = settings
        self._selector = selector
        self._leaving: list[ChildProcess] = []
        self._ledger = Ledger(settings.spool)
        self._sharing = Sharing(self.pace, settings.concurrency)
        self._memory = MemoryWatch()
        self._start_at = -math.inf
        self._closing = False

    # Orders

    def take(self, tasks: Iterable[Task]) -> None:
        """Put tasks at the end of the line."""
        self._sharing.add(self._ledger.enter(tasks))

    def refuse(self, tasks: Iterable[Task]) -> None:
        """Give tasks back as they come."""
        for held in self._ledger.enter(tasks):
            self._ledger.settle_by(held, RELEASED)

    def renew(self) -> None:
        """The handlers have changed: what runs goes on, all else is given back, every child is replaced when free."""
        self.release_waiting()
        for child in list(self.children):
            child.allowance = 0
            if child.idle and not child.doomed:
                self._dismiss(child)

    def stop(self, lease_ids: Iterable[str], status: Literal["cancelled", "lost"]) -> None:
        """End tasks: a waiting one at once, a running one with its child."""
        for lease_id in lease_ids:
            held = self._ledger.find(lease_id)
            if held is not None and held.ending is None:
                self._stop(held, Ending(status))

    def _stop(self, held: Held, ending: Ending) -> None:
        held.ending = ending
        if held.child is not None:
            self._sharing.take_back(held.child)
        if held.child is None:
            self._sharing.remove(held)
            self._ledger.settle_by(held, ending)
        elif held is held.child.current:
            self._halt(held.child)
        # else the child has just taken it: its announcement is on the way, and halts it (`_begin`)

    def release_waiting(self) -> None:
        """Give back every task that no child has begun."""
        for child in self.children:
            self._sharing.take_back(child)
        self._release(self._sharing.remove_all())

    def _release(self, waiting: Iterable[Held]) -> None:
        for held in waiting:
            self._ledger.settle_by(held, held.ending or RELEASED)

    def release_running(self) -> None:
        """Kill every child that runs a task; the task is given back."""
        for child in self.children:
            self._sharing.take_back(child)
            if not child.idle:
                for held in filter(None, (child.current, *child.line)):
                    held.ending = held.ending or RELEASED
                child.kill()

    def abandon(self) -> None:
        """Leave no child behind: the supervisor's thread has failed."""
        for child in chain(self.children, self._leaving):
            child.kill()
            child.bury()

    def close(self) -> None:
        """Give back what is left and dismiss the children."""
        self._closing = True
        self.release_waiting()
        self.release_running()
        for child in list(self.children):
            self._dismiss(child)

    @property
    def gone(self) -> bool:
        """Whether it was closed and nothing is left of it."""
        return self._closing and not self.children and not self._leaving

    # The clock

    def tend(self) -> News:
        """Do what is due by now, give out tasks; what happened since the last call."""
        now = time.monotonic()
        for child in chain(self.children, self._leaving):
            self._mind(child, now)
        for child, used in self._memory.over(self.children):
            self._end_for_memory(child, used)
        while self._short and now >= self._start_at:
            self._start_child(now)
        self._sharing.share_out(self.children)
        self._release(self._sharing.overdue(now))
        for child in self._spare(now):
            self._dismiss(child)
        return self._ledger.news()

    def next_deadline(self) -> float:
        """When `tend` has something to do even if nothing happens (monotonic)."""
        times = [min(child.deadline, child.kill_at) for child in chain(self.children, self._leaving)]
        times += [self._start_at if self._short else math.inf, self._sharing.next_check(self.children)]
        times.append(self._sharing.overdue_at())
        times += [child.idle_since + self._settings.idle_seconds for child in self._unneeded()]
        return min(*times, self._memory.next_look(self.children))

    def pause(self) -> float:
        """Seconds for which nothing needs to be heard: every child that works has tasks before it for longer. A single
        one is no flood: it stands behind a longer task (`sharing.py`)."""
        ahead = min((len(child.line) for child in self.children if not child.idle), default=0)
        return min(READING_PAUSE, ahead * TASK_SECONDS) if ahead > 1 else 0.0

    @property
    def _short(self) -> bool:
        return len(self.children) < self._needed() and not self._closing

    def _needed(self) -> int:
        """How many children there should be: where they come and go, those at work and one for each task that waits."""
        least, most = self._settings.least, self._settings.concurrency
        if least is None or least >= most:
            return most
        busy = sum(not child.idle for child in self.children)
        return min(most, max(least, busy + len(self._sharing)))

    def _unneeded(self) -> list[ChildProcess]:
        """Idle children above the least number, the longest idle first."""
        least = self._settings.least
        if least is None or len(self.children) <= least:
            return []
        idle = sorted((c for c in self.children if c.idle and not c.doomed), key=lambda child: child.idle_since)
        return idle[: len(self.children) - least]

    def _spare(self, now: float) -> list[ChildProcess]:
        return [child for child in self._unneeded() if now >= child.idle_since + self._settings.idle_seconds]

    def _end_for_memory(self, child: ChildProcess, used: int) -> None:
        assert child.current is not None
        limit = child.current.task.memory_mb
        figure = math.ceil(used / MIB)  # more than the limit, whatever is behind the point
        ending = Ending("failed", f"out of memory: it used {figure} MiB, the limit is memory_mb = {limit}", True)
        child.current.ending = child.current.ending or ending
        self._sharing.take_back(child)
        child.kill()

    def _mind(self, child: ChildProcess, now: float) -> None:
        if now >= child.kill_at:
            if not child.doomed:
                child.fault = "child closed its pipe"
            child.kill()
        elif now >= child.deadline and child.current is not None:
            ending = Ending("failed", f"timed out after {child.current.task.timeout_seconds:g} s")
            child.current.ending = child.current.ending or ending
            self._halt(child)

    def _halt(self, child: ChildProcess) -> None:
        self._sharing.take_back(child)
        child.halt(time.monotonic() + self._settings.kill_grace)

    # Coming and going

    def _start_child(self, now: float) -> None:
        try:
            child = ChildProcess(self._settings)
        except OSError as error:
            self._pause(f"a child cannot be started: {error}", now)
            return
        self.children.append(child)
        self._watch(child.frames, lambda: self._read(child))
        self._watch(child.output, lambda: child.read_output() or self._selector.unregister(child.output))
        self._watch(child.exit, lambda: self._bury(child))

    def _watch(self, descriptor: int, act: Callable[[], Any]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, act)

    def _unwatch(self, child: ChildProcess) -> None:
        for descriptor in (child.frames, child.output, child.exit):
            if descriptor in self._selector.get_map():
                self._selector.unregister(descriptor)

    def _pause(self, why: str, now: float) -> None:
        """The next child comes later and later; when it seems that none ever will, what waits may run elsewhere."""
        log.error("%s", why)
        self.failures += 1
        self._start_at = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self.failures - 1, 10))
        if self.failures >= PATIENCE and not self.children:
            self.release_waiting()

    def _dismiss(self, child: ChildProcess) -> None:
        child.dismiss(time.monotonic() + self._settings.kill_grace)
        self.children.remove(child)
        self._leaving.append(child)

    def _bury(self, child: ChildProcess) -> None:
        """The process has ended, and its task with it; what stood in its line runs elsewhere."""
        self._read_last(child)
        self._unwatch(child)
        (self.children if child in self.children else self._leaving).remove(child)
        reason = child.bury()
        self._sharing.put_back([held for held in child.line if held.ending is None])
        for held in child.line:
            if held.ending is not None:
                self._ledger.settle_by(held, held.ending)
        if child.current is not None:
            self._settle_dead(child.current, child, reason)
        elif child.ran == 0 and not child.doomed:
            self._pause(f"a child ended before its first task: {reason}{child.said()}", time.monotonic())
        if self._closing:
            self.release_waiting()

    def _settle_dead(self, held: Held, child: ChildProcess, reason: str) -> None:
        """Its child died of it, unless we killed the child for the sake of another task."""
        if held.ending is None and child.doomed and not child.fault:
            self._sharing.put_back([held])
            return
        ending = held.ending or Ending("failed", reason, crashed=True)
        if ending.status == "failed":
            ending = Ending("failed", ending.error + child.said(), ending.crashed)
        self._ledger.settle_by(held, ending)

    # What children say

    def _read(self, child: ChildProcess) -> None:
        try:
            frames = child.read_frames()
            self._heed(child, frames or ())
        except (FrameError, ValueError) as error:
            child.fault = f"child broke its pipe: {error}"
            child.kill()
            frames = None
        if frames is None:  # no more will come; if it lives on, it is of no use
            self._selector.unregister(child.frames)
            child.kill_at = min(child.kill_at, time.monotonic() + self._settings.kill_grace)

    def _read_last(self, child: ChildProcess) -> None:
        """What a dead child's pipes still hold."""
        with suppress(BlockingIOError):
            while child.frames in self._selector.get_map():
                self._read(child)
        with suppress(BlockingIOError):
            for _ in range(LAST_CHUNKS):
                if not child.read_output():
                    return

    def _heed(self, child: ChildProcess, frames: Iterable[Frame]) -> None:
        for frame in frames:
            kind, number, _, body = frame
            held = child.current
            if kind == STARTED:
                self._begin(child, number)
            elif held is None or held.number != number:
                if kind != PROGRESS:  # a thread may outlive its task; an outcome cannot
                    raise FrameError(f"task {number} is not the one that runs")
            elif kind == PROGRESS:
                self._ledger.progressed(held, body)
            else:
                self._end(child, held, frame)

    def _begin(self, child: ChildProcess, number: int) -> None:
        if not child.line or child.line[0].number != number or child.current is not None:
            raise FrameError(f"task {number} is not the next one")
        held = child.current = child.line.popleft()
        self._ledger.started(held)
        if held.task.memory_mb is not None:
            child.left_over = left_over(child)
        if held.task.timeout_seconds:
            child.deadline = held.started_at + held.task.timeout_seconds
        child.forget_output()
        if held.ending is not None and not child.doomed:
            self._halt(child)

    def _end(self, child: ChildProcess, held: Held, frame: Frame) -> None:
        kind, _, seconds, _ = frame
        child.current, child.deadline = None, math.inf
        child.ran += 1
        self.failures = 0
        if kind != STOPPED:
            self.pace.note(held.task.task_type, seconds)
            self._ledger.settle(held, frame)
        elif held.ending is not None:
            self._ledger.settle_by(held, held.ending)
        else:
            self._sharing.put_back([held])  # the order was meant for the task before
        if child.doomed:
            child.kill()  # what it was to stop has ended; should it have begun another, that runs elsewhere
        elif not child.line:
            child.idle_since = time.monotonic()
            if not child.allowance:
                self._dismiss(child)
