"""Fires the ticks of recurring schedules. Without a schedule that is due it only reads."""

import logging

from dispatcher.clock import Now
from dispatcher.maintenance.scheduler import pause_until
from dispatcher.queue import Queue
from dispatcher.queue.jumps import Jumps
from dispatcher.queue.recurring import Schedules

log = logging.getLogger("taskmill.recurring")
LONGEST_PAUSE_S = 0.5  # so long may a schedule that another dispatcher made or changed go unseen


class Recurring:
    """Any number of dispatchers do this at the same time, and each tick is fired once."""

    def __init__(self, queue: Queue) -> None:
        self._queue, self._schedules = queue, Schedules(queue)
        self._next: int | None = None
        self._jumps, self._is_new = Jumps(), True  # the clock may have gone back before the start

    def run_once(self, now: Now) -> int:
        """Fire everything that is due; how many tasks."""
        tasks, self._next = 0, None
        jump = self._jumps.look(now)
        if self._is_new or jump < 0:
            self._schedules.come_back()
        self._jumps.heeded(now)
        self._is_new = False
        waiting: set[str] = set()
        while (tick := self._schedules.next_tick()) is not None and tick <= now.wall and not self._queue.draining:
            fired = self._schedules.fire(waiting)
            tasks += fired.tasks
            waiting.update(fired.waiting)
            if not fired.schedules and not fired.waiting:
                break
        self._next = None if waiting else tick  # room is not awaited, but looked for
        if tasks:
            log.debug("%d tasks of schedules submitted", tasks)
        return tasks

    def pause(self) -> float:
        """Seconds until the next tick."""
        return pause_until(self._next, self._queue.now().wall, LONGEST_PAUSE_S)
