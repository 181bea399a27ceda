"""How this worker asks for tasks and obeys orders: what the claimer and the reporter share.

Two threads claim. The claimer's claim waits at the dispatcher (mechanism 5); the reporter's claims ride on reports and
never wait. A higher number ends the older wait, so a claim beside the waiting one goes out exactly when it asks for
more than the waiting one does; the claimer holds off until that is answered, and while reports bring all the tasks
they ask for. Where tasks come in floods, hundreds to a claim, no claim rides: the claimer asks while a report is under
way, each in a round trip of its own, so that neither side waits for the other.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from client.transport import BadReply
from worker.config import WorkerSettings
from worker.handback import released
from worker.leases import Claim, Leases
from worker.link import Link
from worker.model import Outcome, Task
from worker.patience import Patience

log = logging.getLogger(__name__)
MAX_TASKS = 1000  # in one claim, see DESIGN section 5
_ANSWER_TIME = 10.0  # seconds that a claim's answer may take beyond its wait
_UNDER_WAY = 0.02  # seconds between looks whether a claim beside was answered
_AT_LEISURE = 0.25  # seconds between looks whether the children still have enough; a report does not wait for it
_LEFT = 1.0  # seconds in which a dispatcher that was left may still answer what waits there
_FLOW = 0.2  # seconds that one full report reply keeps the claimer off
FLOOD = 400  # tasks in an answer that make a flood, and the least that is asked for in one
_MORE_ROOM = 0.003  # seconds between looks whether there is room for that many
_UNREPORTED = 4 * MAX_TASKS  # outcomes: who has so many waits for the reports, flood or not


class Runner(Protocol):
    """What is used of the Supervisor."""

    def offer(self, tasks: list[Task]) -> None: ...
    def wanted(self) -> int: ...
    def brief(self) -> bool: ...
    def supplied(self) -> bool: ...
    def stop(self, lease_ids: list[str], reason: Any) -> None: ...
    def release_waiting(self) -> None: ...
    def release_running(self) -> None: ...


class Claims:
    """Makes claims, takes in their answers and the orders. `deliver` takes outcomes to be reported."""

    def __init__(
        self,
        settings: WorkerSettings,
        task_types: list[str],
        link: Link,
        leases: Leases,
        runner: Runner,
        deliver: Callable[[list[Outcome]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link, self._leases, self._runner, self._deliver, self._clock = link, leases, runner, deliver, clock
        self._terms: dict[str, Any] = {
            "protocol": 1,
            "task_types": task_types,
            "queues": list(settings.worker_queues) or None,
            "labels": settings.labels(),
        }
        self._worker_id = settings.worker_id
        self.patience = Patience(clock)
        self._parked: Claim | None = None
        self._current, self._left_at = "", 0.0  # the dispatcher in use, and when another was left for it
        self._outdated: Claim | None = None  # waits for task types that are no longer the right ones
        self._more = True  # the last answer was full: another claim may find more at once
        self._fed_until = 0.0
        self._flood_until = 0.0
        self.orders: dict[str, Any] = {"state": "run", "cancel": []}  # the latest that are known
        self.draining = False  # no more tasks; orders are waited for as long as something runs
        self.closing = False  # nothing runs any more: no claim may wait
        self.blocked = False  # set by the reporter: outcomes cannot be made durable, or too many wait
        self._stopping, self._stops = threading.Lock(), set[bool]()  # the orders to stop that were passed on
        self.on_stop: Callable[[bool], None] = lambda now: None
        self.on_dry: Callable[[], None] = lambda: None  # nothing holds the claimer off any more
        self.note_store: Callable[[str], None] = lambda store_id: None
        self.host: Callable[[], dict[str, Any]] = dict  # what a heartbeat says of this machine

    def serve(self, task_types: list[str]) -> None:
        """From now on ask for these task types; the reporter ends the claim that waits for the former ones."""
        self._terms = {**self._terms, "task_types": task_types}
        self._outdated = self._parked

    # Asking

    def room(self) -> int:
        """How many tasks to ask for now."""
        return max(0, min(MAX_TASKS, self._runner.wanted())) if self._may_ask() else 0

    def brief(self) -> bool:
        """Whether tasks take no more than a moment, as measured."""
        return self._runner.brief()

    def leisurely(self) -> bool:
        """Whether nothing is lost when the next report, and the claim that rides on it, goes out a little later."""
        return self._more and self._may_ask() and self._runner.supplied()

    def _may_ask(self) -> bool:
        return not self.draining and not self.blocked and self.orders["state"] == "run"

    def _flooded(self) -> bool:
        """Whether the last answer was full, and of hundreds: for a moment only, since longer tasks may come next."""
        return self._clock() < self._flood_until and self._may_ask()

    def waiting_claim(self) -> Claim:
        """The next claim that waits at the dispatcher, for orders alone when there is no room."""
        return self._leases.open_claim(self.room(), 0.0 if self._flooded() else self.patience.next())

    def stands_for_heartbeats(self) -> bool:
        """Whether a claim waits at the dispatcher that says all that a heartbeat without leases would."""
        parked = self._parked
        return parked is not None and self.patience.stands_for_heartbeats(parked.wait_seconds)

    def unanswered_claim(self) -> Claim | None:
        """The oldest claim that must be repeated. What it asked for before is history; the number is what counts."""
        claim = self._leases.unanswered_claim()
        if claim is not None:
            claim.max_tasks, claim.wait_seconds = self.room(), 0.0
        return claim

    def claim_beside(self, reporting: bool) -> Claim | None:
        """A claim to send now beside the waiting one, with a report or (if that has been outgrown) alone."""
        parked = self._parked
        room = self.room()
        if parked is not None:
            self._bring_along()
        if parked is None or not self._leases.is_latest(parked):
            beside = self._flooded() or self._leases.claiming()  # the claimer asks, or asks already, for this room
            return self._riding_claim(room) if reporting and not beside else None
        if room > parked.max_tasks or parked is self._outdated or self._must_end(parked):
            return self._leases.open_claim(room, 0.0)
        return None

    def _must_end(self, parked: Claim) -> bool:
        """Whether the end of the worker is the end of this wait, too."""
        return parked.wait_seconds > 0 and (self.closing or (self.draining and parked.max_tasks > 0))

    def _bring_along(self) -> None:
        """The waiting claim is sent anew when it stays at a dispatcher that was left for another.

        One that stops answers what waits there; one that only fails, say without its database, would keep the claim
        to the end of its wait: an idle worker would get nothing so long, and one that ends would leave it open.
        """
        if self._link.url != self._current:
            self._current, self._left_at = self._link.url, self._clock()
        elif self._left_at and self._clock() >= self._left_at + _LEFT:
            self._left_at = 0.0
            self._link.renew()

    def _riding_claim(self, room: int) -> Claim | None:
        """One that has got no answer goes first: a number for each report of an outage would make a stampede at its
        end, when all of them are repeated."""
        return self.unanswered_claim() or (self._leases.open_claim(room, 0.0) if room > 0 and self._more else None)

    def hold_off(self) -> float:
        """Seconds for which nobody needs to wait for work: reports bring it, or a claim beside is under way, or of a
        flood there is no room for enough, or so much was done that the reports must come first.

        Two claims at once would ask for the same room twice.
        """
        if self._flooded():
            return 0.0 if self.room() >= FLOOD and self._leases.unreported() < _UNREPORTED else _MORE_ROOM
        if self._leases.claiming():
            return _UNDER_WAY
        return max(self._fed_until - self._clock(), _AT_LEISURE if self.leisurely() else 0.0, 0.0)

    def body(self, claim: Claim) -> dict[str, Any]:
        """The claim as a report carries it; by itself it names worker and instance, too."""
        asked = {"request_id": claim.number, "max_tasks": claim.max_tasks, "wait_seconds": round(claim.wait_seconds, 3)}
        return {**self._terms, **asked, "orders": self.orders, "brief": True}

    def call(self, claim: Claim) -> tuple[list[str], dict[str, Any]]:
        """Sends a claim by itself; the leases that it brought, and the reply. Raises TransportError."""
        named: dict[str, Any] = {"worker_id": self._worker_id, "instance_id": claim.instance_id}
        began, wait = self._clock(), claim.wait_seconds
        try:
            if wait > 0:
                self._parked, self._current, self._left_at = claim, self._link.url, 0.0
                named["host"] = self.host()
            data = self._link.post("/get-tasks", {**named, **self.body(claim)}, wait + _ANSWER_TIME)
            lease_ids = self.take(claim, data)
            self.patience.answered(wait, self._clock() - began, len(lease_ids))
            return lease_ids, data
        except Exception:
            self._leases.failed_claim(claim)
            self.patience.failed(wait)
            raise
        finally:
            if self._parked is claim:
                self._parked = None

    # Answers

    def take(self, claim: Claim, data: Any) -> list[str]:
        """Takes in a claim's answer; the leases that it brought. Raises BadReply, then the claim is not answered."""
        try:
            store_id, tasks = str(data["store_id"]), _tasks(data)
        except (KeyError, TypeError) as error:
            raise BadReply("/get-tasks", f"no answer to a claim: {error!r}") from None
        self.note_store(store_id)
        fresh, unwanted = self._leases.answered_claim(claim, store_id, tasks)
        if self.draining:
            fresh, unwanted = [], unwanted + fresh
        elif unknown := {task.task_type for task in fresh}.difference(self._terms["task_types"]):
            gone = [task for task in fresh if task.task_type in unknown]
            fresh, unwanted = [task for task in fresh if task not in gone], unwanted + gone
        if unwanted:
            self._deliver([released(task) for task in unwanted])
        if fresh:
            self._runner.offer(fresh)
        self.obey(data.get("orders"))
        if fresh and self.orders["state"] == "sleep":  # granted before the order, and answered after it
            self._sleep("now" in self.orders)
        self._more = claim.max_tasks <= len(tasks)
        self._flood_until = self._clock() + _FLOW if self._more and claim.max_tasks >= FLOOD else 0.0
        return [task.lease_id for task in tasks]

    def fed(self, claim: Claim, count: int) -> None:
        """A report's claim brought `count` tasks. All it asked for: there is more where they came from. Fewer: from
        now on somebody must wait for work."""
        self._fed_until = self._clock() + _FLOW if 0 < claim.max_tasks <= count else 0.0
        if not self._fed_until:
            self.on_dry()

    def obey(self, orders: Any) -> None:
        """Follows the orders of any reply."""
        if not isinstance(orders, dict) or not isinstance(orders.get("cancel"), list):
            return
        known = self.orders
        new = [lease_id for lease_id in orders["cancel"] if lease_id not in known["cancel"]]
        self.orders = _understood(orders)
        if new:
            self._runner.stop(new, "cancelled")
        if _state(self.orders) != _state(known):
            self._heed(*_state(self.orders))

    def _heed(self, state: str, now: bool) -> None:
        log.info("ordered to %s%s", state, " now" if now else "")
        if state == "stop":
            self._stop(now)
        elif state == "sleep":
            self._sleep(now)

    def _stop(self, now: bool) -> None:
        """Each of the two orders once: a reply that is older than the order makes the next one look new, and whoever
        is told twice to stop now leaves at once, its last words unsaid."""
        with self._stopping:
            if now in self._stops:
                return
            self._stops.add(now)
        self.on_stop(now)

    def _sleep(self, now: bool) -> None:
        """Gives back what was not begun, with `now` what runs as well."""
        self._runner.release_waiting()
        if now:
            self._runner.release_running()


def _understood(orders: dict[str, Any]) -> dict[str, Any]:
    now = {"now": True} if orders.get("now") is True else {}
    return {"state": orders.get("state", "run"), **now, "cancel": orders["cancel"]}


def _state(orders: dict[str, Any]) -> tuple[str, bool]:
    return orders["state"], "now" in orders


def _tasks(data: dict[str, Any]) -> list[Task]:
    store_id = str(data["store_id"])
    terms = [(one["task_type"], one["attempt"], one.get("timeout_seconds")) for one in data.get("terms", ())]
    tasks = []
    for fields in data["tasks"]:
        try:
            tasks.append(_brief_task(store_id, terms, *fields) if type(fields) is list else _task(store_id, fields))
        except (LookupError, TypeError, ValueError) as error:
            log.error("a lease that cannot be read is left to expire: %r", error)
    return tasks


def _brief_task(store_id: str, terms: list[Any], task_id: int, lease_id: str, number: int, data: Any) -> Task:
    task_type, attempt, timeout = terms[number]
    _check(task_id, lease_id, task_type)
    return Task(store_id, task_id, task_type, data, lease_id, attempt, timeout)


def _check(task_id: int, lease_id: str, task_type: str) -> None:
    """Raises ValueError. The lease_id becomes a line of the started note and a part of a URL."""
    if type(task_id) is not int:
        raise ValueError(f"task_id {task_id!r}")
    if type(task_type) is not str:
        raise ValueError(f"task_type {task_type!r:.200}")
    if type(lease_id) is not str or not lease_id.isprintable() or len(lease_id) > 200:
        raise ValueError(f"lease_id {lease_id!r:.200}")


def _task(store_id: str, fields: dict[str, Any]) -> Task:
    lease_id, task_id = fields["lease_id"], fields["task_id"]
    _check(task_id, lease_id, fields["task_type"])
    return Task(
        store_id,
        task_id,
        fields["task_type"],
        fields["task_data"],
        lease_id,
        fields["attempt"],
        fields.get("timeout_seconds"),
        fields.get("checkpoint"),
        _memory(fields["options"]) if "options" in fields else None,
    )


def _memory(options: Any) -> int | None:
    found = options.get("memory_mb") if isinstance(options, dict) else None
    return found if isinstance(found, int) and found > 0 else None
