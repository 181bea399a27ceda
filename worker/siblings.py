"""Finds instances of workers on this host that died, takes over what they left, and tells the dispatcher.

A lock that can be obtained proves that its worker and all its children are gone (instance.py); daemons that these
started are ended at once. Two siblings that try for one lock are told apart by flock. Who has it keeps it until nothing
is left to do, so when the adopter dies, too, the next one starts over with the same folder. In order: the leases whose
outcomes lie in the dead one's outbox become ours (we list them from now on); its death is reported, until that is
answered; its outbox is delivered from where it lies, by our reporter; when it is empty and the death is recorded, the
folder goes. A dispatcher with another store answers `foreign`: everything is kept and asked again slowly; after
CACHE_TTL_SECONDS of such answers the folder moves to quarantine.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from client.transport import TransportError
from worker import instance
from worker.children import leftovers
from worker.config import WorkerSettings
from worker.disk import DISK_FAULTS
from worker.instance import Instance
from worker.leases import Leases
from worker.link import Backoff, Link
from worker.outbox import Outbox
from worker.quarantine import Quarantine
from worker.reporter import Reporter

log = logging.getLogger(__name__)
_TRY = 1.0  # seconds between two looks at the locks
_CLEAN_UP = 60
_ANSWER_TIME = 10.0


class Siblings:
    """`step` looks at all locks once, and goes on with what was taken over."""

    def __init__(
        self,
        settings: WorkerSettings,
        link: Link,
        leases: Leases,
        reporter: Reporter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._link, self._leases, self._reporter, self._clock = settings, link, leases, reporter, clock
        self._estates: list[Estate] = []
        self._looks = 0
        self._answered_again = False

    def retry_now(self) -> None:
        """The dispatcher answers again: no report of a death needs to wait for its time. From any thread."""
        self._answered_again = True

    def step(self) -> float:
        if self._looks % _CLEAN_UP == 0:
            instance.clean_up(self._settings.cache_dir)
        self._looks += 1
        self.look()
        again, self._answered_again = self._answered_again, False
        for estate in self._estates:
            estate.advance(at_once=again)
        self._estates = [estate for estate in self._estates if not estate.closed]
        return _TRY

    def look(self) -> int:
        """Takes what dead instances left; returns how many outcomes wait in there."""
        dead = filter(None, map(instance.obtain, instance.folders(self._settings.cache_dir)))
        return sum(self._take(one) for one in dead)

    def leave(self) -> None:
        """At the end of this worker: what is not done is left for the next one."""
        for estate in self._estates:
            estate.dead.leave()

    def _take(self, dead: Instance) -> int:
        leftovers.kill(dead.folder.name)
        try:
            outbox = open_outbox(dead)
        except DISK_FAULTS as error:
            log.warning("the outbox of %s cannot be opened now: %s", dead.folder, error)
            dead.leave()
            return 0
        outbox.close()  # the reporter opens it anew: one thread, one connection
        self._leases.adopt(outbox.leases)
        log.info("instance %s is dead; %d outcomes of it wait to be sent", dead.folder, len(outbox.leases))
        context = (self._settings, self._link, self._leases, self._reporter, self._clock)
        self._estates.append(Estate(dead, outbox.leases, *context))
        return len(outbox.leases)


class Estate:
    """What one dead instance left."""

    def __init__(
        self,
        dead: Instance,
        outbox_leases: list[tuple[str, str, int]],
        settings: WorkerSettings,
        link: Link,
        leases: Leases,
        reporter: Reporter,
        clock: Callable[[], float],
    ) -> None:
        self.dead, self.closed = dead, False
        self._outbox_leases = outbox_leases
        self._settings, self._link, self._leases, self._reporter, self._clock = settings, link, leases, reporter, clock
        stores = dead.stores() or [""]  # "": it never had an answer, so the present store is as good as any
        self._unreported = [(dead_id, store_id) for store_id in stores for dead_id in dead.ids()]
        self._backoff = Backoff(0.5, 30.0)
        self._next = 0.0
        self._foreign_since: float | None = None
        self._delivering = self._emptied = False

    def advance(self, at_once: bool = False) -> None:
        """One step further, if it is time."""
        if self._unreported and (at_once or self._clock() >= self._next):
            self._report()
        if self._emptied and not self._unreported:
            log.info("nothing is left of the dead instance %s", self.dead.folder.name)
            self.dead.drop()
            self.closed = True
        elif self._emptied and self._given_up():
            self._move_to_quarantine()

    def _report(self) -> None:
        if not self._leases.store_id and not all(store_id for _, store_id in self._unreported):
            return  # the first heartbeat will tell
        try:
            foreign = [pair for pair in self._unreported if not self._report_one(*pair)]
        except TransportError:
            self._next = self._clock() + self._backoff.next()
            return
        self._backoff.reset()
        if foreign and self._foreign_since is None:
            log.warning("the death of %s concerns another store; it is kept", self.dead.folder)
            self._foreign_since = self._clock()
        self._unreported = foreign
        self._next = self._clock() + self._settings.cache_retry_interval
        if not self._delivering:
            self._delivering = True
            self._reporter.adopt(lambda: open_outbox(self.dead), self._set_emptied)

    def _report_one(self, dead_id: str, store_id: str) -> bool:
        """Whether the death is recorded; raises TransportError."""
        in_outbox = {lease_id: store for lease_id, store, _ in self._outbox_leases}
        body: dict[str, Any] = {
            "store_id": store_id or self._leases.store_id,
            "worker_id": self._settings.worker_id,
            "instance_id": self._leases.instance_id,
            "dead_worker_id": self.dead.worker_id,
            "dead_instance_id": dead_id,
            "outbox_leases": [lease_id for lease_id, store in in_outbox.items() if not store_id or store == store_id],
            "started_leases": [lease_id for lease_id in self.dead.started() if lease_id not in in_outbox],
        }
        data = self._link.post("/report-death", body, _ANSWER_TIME)
        return isinstance(data, dict) and data.get("verdict") == "recorded"

    def _set_emptied(self) -> None:
        self._emptied = True

    def _given_up(self) -> bool:
        since = self._foreign_since
        return since is not None and self._clock() - since >= self._settings.cache_ttl_seconds

    def _move_to_quarantine(self) -> None:
        log.error("no store takes the death of %s: moved to quarantine", self.dead.folder)
        self.dead.quarantine.mkdir(exist_ok=True, mode=0o700)
        self.dead.folder.rename(self.dead.quarantine / self.dead.folder.name)
        self.dead.leave()
        self.closed = True


def open_outbox(owner: Instance) -> Outbox:
    """The outbox in an instance folder. Raises DISK_FAULTS."""
    return Outbox(owner.outbox, Quarantine(owner.quarantine, owner.folder.name))
