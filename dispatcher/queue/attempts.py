"""What the queue does about attempts beside the requests of workers: limits of time, blame, defaults of types."""

from typing import Any

from dispatcher.clock import Now
from dispatcher.model import TaskRow
from dispatcher.queue import deadlines
from dispatcher.queue.blame import Blame
from dispatcher.queue.defaults import Defaults
from dispatcher.queue.jumps import Jumps
from dispatcher.queue.kept import Kept
from dispatcher.queue.waiting import Waiting
from dispatcher.store.base import Store


class AttemptControl:
    """A part of the queue."""

    store: Store
    waiting: Waiting
    blame: Blame
    defaults: Defaults
    kept: Kept
    jumps: Jumps

    def next_deadline(self) -> int | None:
        """When the next limit of time has to be looked at, UTC milliseconds."""
        return self.kept.read(self.store, "next_deadline", lambda reader: reader.next_deadline())

    def heed_clock(self, now: Now) -> None:
        """When the wall clock has jumped forward, limits end so much later."""
        if jump := self.jumps.look(now):
            if jump > 0:
                self.store.write(lambda tx: tx.put_off_deadlines(jump))
            self.jumps.heeded(now)

    def enforce_deadlines(self, limit: int) -> int:
        """Look at that many limits that may be over; at how many it was."""
        seen, stopped = self.store.write(lambda tx: deadlines.enforce(tx, limit, self.jumps))
        self._end_waits(stopped)
        return seen

    def _end_waits(self, stopped: list[TaskRow]) -> None:
        """The holders of these tasks hear of it at once."""
        self.waiting.dismiss({row.lease_instance for row in stopped if row.lease_instance is not None})

    def blames(self) -> list[dict[str, Any]]:
        """Which workers do not get which types."""
        with self.store.read() as reader:
            return reader.blames()

    def forgive(self, worker_id: str, task_type: str | None) -> int:
        """Let a worker have a type again, without a type all of them; how many that were."""
        forgiven = self.store.write(lambda tx: tx.forgive(worker_id, task_type))
        self.blame.forget(worker_id, task_type)
        self.learn_attempts()
        return forgiven

    def learn_attempts(self) -> None:
        """Read what the store says of blame and defaults, which other dispatchers may have changed."""
        self.blame.stale = False  # before the look: what is said meanwhile is looked at again
        with self.store.read() as reader:
            blames, texts = reader.blames(), reader.type_defaults()
        if self.defaults.is_news(texts):
            self.defaults.learn(texts)
        if self.blame.learn(blames):
            self._stir()

    def tend_attempts(self, now: Now) -> None:
        """Keep up with other dispatchers, and let workers have what they had to leave to others for a while."""
        if self.store.shared or self.blame.stale:
            self.learn_attempts()
        if self.blame.lapse(now.wall):
            self._stir()

    def _stir(self) -> None:
        """Somebody who waits may take now what he could not before."""
        if len(self.waiting):
            self.store.write(lambda tx: tx.stir())
