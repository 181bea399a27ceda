"""The local line, and who of the children gets what of it.

Short tasks go to a child in groups of at most GROUP_SECONDS of expected work, so that it need not wait for each; a
long or an unknown one is sent alone, to an idle child. Behind one that should take no more than FOLLOWED_SECONDS stands
one more, so that the child goes on at once, and tells of both in one frame. A guess may be wrong: a line is taken back
and shared anew when the task before it has twice its time, at least GROUP_SECONDS, and at once when another child
idles. So nothing waits behind a long task.

Of tasks that cost several slots only as many run as the slots allow. The first in the line waits for its slots, and
what comes after it waits, too: else it would never get them.
"""

import math
import time
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from math import ceil

from worker.children.ledger import Held
from worker.children.pace import Pace
from worker.children.process import ChildProcess

GROUP_SECONDS = 0.05
GROUP_TASKS = 250
FOLLOWED_SECONDS = 0.5
LONGEST_WAIT = 5.0  # seconds, of which half a one was meant (`supervisor.py`)
REFILL_BELOW = 64  # tasks in a child's line: few enough to be passed in the time that a refill takes


class Sharing:
    """The tasks that stand in no child's line, oldest first."""

    def __init__(self, pace: Pace, slots: int) -> None:
        self._pace, self._slots = pace, slots
        self._costly = False  # whether any task ever cost more than one slot
        self._waiting: deque[Held] = deque()

    def add(self, tasks: Iterable[Held]) -> None:
        """Put tasks at the end."""
        before = len(self._waiting)
        self._waiting.extend(tasks)
        self._costly = self._costly or any(held.task.cost > 1 for held in islice(self._waiting, before, None))

    def __len__(self) -> int:
        return len(self._waiting)

    def put_back(self, tasks: Sequence[Held]) -> None:
        """Put tasks that had been given out to where they stood: those of several children may come in any order."""
        for held in tasks:
            held.child = None
        if tasks:
            self._waiting = deque(sorted([*tasks, *self._waiting], key=_since))

    def take_back(self, child: ChildProcess) -> None:
        """Put back what the child has not taken from its line yet."""
        self.put_back(child.take_back())

    def remove(self, held: Held) -> None:
        """Forget one that waits."""
        self._waiting.remove(held)

    def remove_all(self) -> list[Held]:
        """Forget all that wait, and return them."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def overdue(self, now: float) -> list[Held]:
        """Forget all that wait, and return them, when the first has waited for too long: they were taken for short,
        and another worker may be idle. One that costs several slots may have to wait for them, and stays."""
        if now < self.overdue_at():
            return []
        stays = [self._waiting.popleft() for _ in range(self._staying())]
        back = self.remove_all()
        self._waiting.extend(stays)
        return back

    def overdue_at(self) -> float:
        """When the first that waits will have waited for too long (monotonic)."""
        place = self._staying()
        return self._waiting[place].entered_at + LONGEST_WAIT if len(self._waiting) > place else math.inf

    def _staying(self) -> int:
        return int(self._costly and len(self._waiting) > 0 and self._waiting[0].task.cost > 1)

    def share_out(self, children: Sequence[ChildProcess]) -> None:
        """Give what waits to children that have room, idle ones first, to each its part."""
        self._relieve(children)
        if not self._waiting:
            return
        with_room = sorted(filter(self._has_room, children), key=lambda child: (not child.idle, len(child.line)))
        for place, child in enumerate(with_room):
            free = self._free_beside(child, children) if self._costly else self._slots
            self._give(child, ceil(len(self._waiting) / (len(with_room) - place)), free)

    def next_check(self, children: Iterable[ChildProcess]) -> float:
        """When a line is to be taken back if nothing happens before (monotonic)."""
        return min((self._stuck_at(child) for child in children if child.line), default=math.inf)

    def _relieve(self, children: Sequence[ChildProcess]) -> None:
        now = time.monotonic()
        for child in children:
            if child.line and now >= self._stuck_at(child):
                self.take_back(child)
        if not self._waiting and any(child.idle and not child.doomed for child in children):
            self.take_back(max(children, key=lambda child: len(child.line)))

    def _has_room(self, child: ChildProcess) -> bool:
        if child.doomed or not child.allowance:
            return False
        short = len(child.line) < REFILL_BELOW and self._load(child) < GROUP_SECONDS
        return child.idle or short or self._may_be_followed(child)

    def _may_be_followed(self, child: ChildProcess) -> bool:
        """Whether the task that runs may have one behind it, and has none."""
        if child.line or child.current is None or self._expected(child.current) > FOLLOWED_SECONDS:
            return False
        return time.monotonic() < self._stuck_at(child)

    def _stuck_at(self, child: ChildProcess) -> float:
        """When the tasks in its line will have waited too long for the one before them (monotonic)."""
        if child.current is None:
            return math.inf
        expected = self._expected(child.current)
        patience = max(GROUP_SECONDS, 2 * expected) if expected <= FOLLOWED_SECONDS else GROUP_SECONDS
        return child.current.started_at + patience

    def _load(self, child: ChildProcess) -> float:
        """Seconds of work before it, by expectation; infinite when its task has outlived that."""
        load = sum(self._expected(held) for held in child.line)
        if child.current is None:
            return load
        if time.monotonic() >= child.current.started_at + GROUP_SECONDS:
            return math.inf
        return load + self._expected(child.current)

    def _expected(self, held: Held) -> float:
        return self._pace.expected(held.task.task_type)

    def _free_beside(self, child: ChildProcess, children: Sequence[ChildProcess]) -> int:
        """The slots that the other children leave."""
        return self._slots - sum(_occupied(other) for other in children if other is not child)

    def _give(self, child: ChildProcess, share: int, slots: int) -> None:
        group: list[Held] = []
        load, expected, alone = self._load(child), self._pace.expected, child.idle or self._may_be_followed(child)
        for held in islice(self._waiting, min(share, child.allowance, GROUP_TASKS - len(child.line))):
            load += expected(held.task.task_type)
            if held.task.cost > slots or (load > GROUP_SECONDS and (group or not alone)):
                break
            group.append(held)
        for _ in range(child.send(group)):
            self._waiting.popleft()


def _since(held: Held) -> tuple[float, int]:
    return held.entered_at, held.number


def _occupied(child: ChildProcess) -> int:
    """The slots of the most costly task that it runs, or will run without being asked again."""
    held = [*child.line, child.current] if child.current is not None else child.line
    return max((one.task.cost for one in held if one is not None), default=0)
