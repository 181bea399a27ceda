"""The heartbeat: lists every lease that is held, names the claims in flight, carries news, brings orders (mechanism 1).

It runs in a thread with nothing else on it and shares no lock with slow work. It goes out every
WORKER_HEARTBEAT_INTERVAL, or half of the silence after which the dispatcher takes a worker for dead if that is less, or
up to a tenth sooner; early, at most once a second, when a handler has news; at once when a provisional lease must be
confirmed or another store answers (for leases of short tasks within a second, if they are held then). Unanswered, it is
repeated every 2 s.

While there is nothing to tell, as two of them have said, a claim that waits at the only dispatcher stands for it
(`Patience`) and none goes out; what is due by then goes out as soon as that is over. Of several dispatchers it is what
finds out about one that fails.

The wire has one store id per heartbeat, so leases of another store than the latest (results of before a dispatcher was
set up anew) are listed in a heartbeat of their own.
"""

import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from client.transport import Refused, TransportError
from worker.claims import Claims, Runner
from worker.config import WorkerSettings
from worker.leases import Leases, Listing
from worker.link import Link

log = logging.getLogger(__name__)
_SPACING = 1.0  # seconds between early heartbeats
_RETRY = 2.0
_JITTER = (0.9, 1.0)
_ANSWER_TIME = 10.0
_LEAVE_TIME = 2.0
_BAD = (400, 413)


class Heartbeat:
    """`register` and `host` make those blocks of the body; `wake` (set by the wiring) makes the next step come now."""

    def __init__(
        self,
        settings: WorkerSettings,
        register: dict[str, Any],
        host: Callable[[], dict[str, Any]],
        link: Link,
        leases: Leases,
        runner: Runner,
        claims: Claims,
        renew: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker_id, self._set_interval = settings.worker_id, settings.worker_heartbeat_interval
        self._register, self._host, self._renew, self._clock = register, host, renew, clock
        self._link, self._leases, self._runner, self._claims = link, leases, runner, claims
        self._alone = len(set(settings.dispatcher_url)) == 1
        self._registered: tuple[str, str | None] | None = None  # as which instance, in which store
        self._next, self._last, self._failing = -math.inf, -math.inf, False
        self._death = math.inf  # after so many silent seconds the dispatcher takes a worker for dead
        self._hinted = False
        self._unconfirmed: deque[tuple[float, Collection[str]]] = deque()  # each with its time
        self._asked = self._answered = 0
        self._turn = threading.Condition()
        self._closed = False
        self.wake: Callable[[], None] = lambda: None

    @property
    def _interval(self) -> float:
        """As it is set; sooner where the dispatcher takes the silent for dead before long."""
        return min(self._set_interval, self._death / 2)

    def register(self, register: dict[str, Any]) -> None:
        """What this worker is has changed: say so now."""
        with self._turn:
            self._register, self._registered, self._next = register, None, -math.inf
        self.wake()

    def hint(self) -> None:
        """There is news: do not wait for the interval."""
        if not self._hinted:
            self._hinted = True
            self.wake()

    def confirm(self) -> None:
        """Returns when a heartbeat that starts from now on was answered, or at the end of the worker."""
        with self._turn:
            self._asked += 1
            mine, self._next = self._asked, -math.inf
        self.wake()
        with self._turn:
            self._turn.wait_for(lambda: self._answered >= mine or self._closed)

    def confirm_soon(self, lease_ids: Collection[str]) -> None:
        """A heartbeat goes out within a second, unless these are all settled by then."""
        with self._turn:
            self._unconfirmed.append((self._clock() + _SPACING, lease_ids))
        self.wake()

    def close(self) -> None:
        """Nobody waits for an answer any more."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()

    def leave(self) -> None:
        """The last one, when nothing is held: else the worker would be thought alive until its silence is noticed."""
        if not self._link.silent:
            listing = self._leases.listings()[0]
            with suppress(TransportError):
                self._link.post("/heartbeat", {**self._body(listing), "leaving": True}, _LEAVE_TIME)

    def step(self) -> float:
        """Sends what is due; returns the seconds until something will be."""
        now = self._clock()
        due = min(self._next, self._unconfirmed_since(now))
        if self._hinted and not self._failing:
            due = min(due, self._last + _SPACING)
        if due > now:
            return due - now
        if self._spared():
            return self._interval
        with self._turn:
            asked, self._next, self._hinted = self._asked, math.inf, False
            self._unconfirmed.clear()  # it lists them
        self._last = now
        delay = self._beat_all()
        with self._turn:
            self._failing = delay is None
            if delay is not None:
                self._answered = asked
                self._turn.notify_all()
            # Whoever asked meanwhile set it back to "now", and that stands.
            self._next = min(self._next, self._clock() + (_RETRY if delay is None else delay))
        return 0.0

    def _unconfirmed_since(self, now: float) -> float:
        """When a heartbeat is due for leases that were to be confirmed soon."""
        with self._turn:
            while self._unconfirmed:
                at, lease_ids = self._unconfirmed[0]
                if at > now or self._leases.holds_any(lease_ids):
                    return at
                self._unconfirmed.popleft()
        return math.inf

    def _spared(self) -> bool:
        """Whether the dispatcher knows all that a heartbeat would say from the claim that waits there."""
        known = self._registered == (self._leases.instance_id, self._leases.store_id)
        calm = known and not self._link.silent and self._asked == self._answered
        return calm and self._alone and self._leases.nothing_to_tell() and self._claims.stands_for_heartbeats()

    def _beat_all(self) -> float | None:
        """Seconds until the next heartbeat; None when one got no answer."""
        listings = self._leases.listings()
        answered = [self._beat(listing, place == 0) for place, listing in enumerate(listings)]
        if not all(answered):
            return None
        self._hinted = self._hinted or self._leases.has_news()  # there was no room for all of it
        known = self._registered == (self._leases.instance_id, self._leases.store_id)
        jitter = random.uniform(*_JITTER)  # noqa: S311 -- not a secret: a thousand that start together drift apart
        return self._interval * jitter if known else _SPACING

    def _beat(self, listing: Listing, latest: bool) -> bool:
        body = self._body(listing)
        if latest and self._registered != (listing.instance_id, listing.store_id):
            body["register"] = self._register
        try:
            data = self._link.post("/heartbeat", body, min(_ANSWER_TIME, max(1.0, self._interval)))
            self._hear(data)
            if body.get("register") is self._register:
                self._registered = (listing.instance_id, self._leases.store_id)
            return True
        except Refused as refused:
            if refused.code == "instance_dead":
                self._renew(listing.instance_id)
            elif refused.status in _BAD and self._gives_up(listing, "register" in body, refused):
                return False
        except TransportError:
            pass
        self._leases.not_told(listing)
        return False

    def _gives_up(self, listing: Listing, registers: bool, refused: Refused) -> bool:
        """Whether there was more than the leases in it, to be left out: repeated, it would be refused until they are
        over."""
        if listing.has_news:
            log.error("a heartbeat is refused, what it told of running tasks is given up: %s", refused)
            return True
        if registers:
            log.error("the dispatcher refuses what this worker registers: %s", refused)
            self._registered = (listing.instance_id, listing.store_id)
        return registers

    def _body(self, listing: Listing) -> dict[str, Any]:
        return {
            "store_id": listing.store_id,
            "worker_id": self._worker_id,
            "instance_id": listing.instance_id,
            "seq": listing.seq,
            "claims_in_flight": listing.claims_in_flight,
            "leases": listing.entries,
            "host": self._host(),
        }

    def _hear(self, data: Any) -> None:
        if not isinstance(data, dict):
            return
        if isinstance(data.get("store_id"), str):
            self._leases.store_id = data["store_id"]
        self._claims.obey(data.get("orders"))
        self._claims.patience.told(data.get("wait_seconds"))
        death = data.get("death_seconds")
        self._death = float(death) if isinstance(death, (int, float)) and death > 0 else math.inf
        verdicts = data.get("leases")
        if isinstance(verdicts, dict):
            self._judge(verdicts)

    def _judge(self, verdicts: dict[str, Any]) -> None:
        """`foreign` and `ok` change nothing. What is finished goes on to be reported, whatever is said here."""
        cancel = self._leases.unfinished([one for one, verdict in verdicts.items() if verdict == "cancel"])
        if cancel:
            self._runner.stop(cancel, "cancelled")
        lost = self._leases.unfinished([one for one, verdict in verdicts.items() if verdict == "lost"])
        if lost:
            log.info("%d leases were lost, their tasks stop here: %s", len(lost), ", ".join(lost[:5]))
            self._runner.stop(lost, "lost")
            self._leases.settled(lost)
