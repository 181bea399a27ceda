"""The thread whose claim waits at the dispatcher: one at a time, each number repeated until it is answered."""

import random
import time
from collections.abc import Callable

from client.transport import Refused, TransportError
from worker.claims import FLOOD, Claims
from worker.config import WorkerSettings
from worker.leases import Claim, Leases
from worker.link import Backoff

_AT_ONCE = 0.05  # an empty answer that came sooner did not wait
_MOMENT = 0.02  # seconds, of the ten that a provisional lease has
_ENDING = 1.0  # seconds between looks when nothing is waited for any more


class Claimer:
    """`confirm` returns when a heartbeat that lists the new leases was answered, `confirm_soon` at once: one goes out
    within a second, if they are held by then. `renew` starts a new identity."""

    def __init__(
        self,
        settings: WorkerSettings,
        leases: Leases,
        claims: Claims,
        confirm: Callable[[], None],
        confirm_soon: Callable[[list[str]], None],
        renew: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leases, self._claims, self._clock = leases, claims, clock
        self._confirm, self._confirm_soon, self._renew = confirm, confirm_soon, renew
        self._poll_interval = settings.worker_poll_interval
        self._backoff = Backoff(0.5, 30.0)
        self._too_soon = 0  # empty answers in a row that did not wait

    def step(self) -> float:
        """One claim; returns the seconds until the next."""
        claim = self._claims.unanswered_claim()
        if claim is None:
            held_off = _ENDING if self._claims.closing else self._claims.hold_off()
            if held_off:
                return held_off
            claim = self._claims.waiting_claim()
        return self._call(claim)

    def _call(self, claim: Claim) -> float:
        began, known = self._clock(), self._claims.orders
        try:
            lease_ids, data = self._claims.call(claim)
        except Refused as refused:
            if refused.code == "instance_dead":
                self._renew(claim.instance_id)
                return 0.0
            return self._backoff.next(refused.retry_after or 0.0)
        except TransportError:
            return self._backoff.next()
        self._backoff.reset()
        if data.get("provisional"):
            self._see_confirmed(lease_ids)
        at_once = self._clock() - began < _AT_ONCE and claim.wait_seconds > 0
        for_nothing = not lease_ids and self._claims.orders == known and self._leases.is_latest(claim)
        self._too_soon = self._too_soon + 1 if at_once and for_nothing else 0
        return self._pause()

    def _see_confirmed(self, lease_ids: list[str]) -> None:
        """Waits until these leases are confirmed. Those of short tasks are by their outcomes, most of them within a
        moment, and a heartbeat that lists a flood of them would only hold those up."""
        if not self._claims.brief():
            self._confirm()
            return
        if len(lease_ids) >= FLOOD or not self._leases.wait_settled(lease_ids, _MOMENT):
            self._confirm_soon(lease_ids)

    def _pause(self) -> float:
        """Nothing in general; for a dispatcher that answers empty claims at once, up to the poll interval."""
        if not self._too_soon:
            return 0.0
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 -- jitter, not a secret
        return float(jitter * min(self._poll_interval, _AT_ONCE * 2 ** min(self._too_soon, 20)))
