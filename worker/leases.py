"""What this instance holds: every lease without a definitive verdict, and every claim without an answer.

The one piece of state that all threads of the worker share; each method is short and takes the one lock, so the
heartbeat never waits for slow work. A lease enters with the claim that brought it, in the same step in which that claim
leaves the claims in flight: there is no moment in which a heartbeat names neither. It leaves when its outcome has got a
definitive verdict, when its outcome went to quarantine, or when the dispatcher said `lost` and its task has stopped.
"""

import json
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worker.children.tasklog import joined
from worker.model import Task

Name = tuple[str, int]  # of a task: its store's id and its own
_TWICE = 2  # so often a lease is missing from heartbeats before it ends
NEWS_CHARS = 8 * 2**20  # of one heartbeat, well below the limit of a request's body


@dataclass(slots=True)
class Claim:
    """One numbered request for tasks; repeated under its number until it is answered."""

    number: int
    instance_id: str
    max_tasks: int
    wait_seconds: float
    called: bool = True  # False: the call failed, the number waits to be repeated


@dataclass(frozen=True, slots=True)
class Listing:
    """What one heartbeat tells; `entries` are the `leases` of docs/protocol.md."""

    instance_id: str
    seq: int
    store_id: str | None
    entries: list[dict[str, Any]]
    claims_in_flight: list[int]

    @property
    def has_news(self) -> bool:
        """Whether it tells more than which leases are held."""
        return any(len(entry) > 1 for entry in self.entries)


class Leases:
    """The leases and claims of one instance; safe for all threads."""

    def __init__(self, instance_id: str) -> None:
        self._lock = threading.Lock()
        self._settled = threading.Condition(self._lock)
        self._held: dict[str, Name] = {}
        self._by_task: dict[Name, str] = {}
        self._started: set[str] = set()
        self._finished: set[str] = set()
        self._refused: set[str] = set()
        self._news: dict[str, Mapping[str, Any]] = {}  # to be told by the next heartbeat
        self._claims: dict[int, Claim] = {}
        self._number = self._seq = 0
        self._empty = 0  # heartbeats in a row that listed nothing, all answered, since a lease was last settled
        self.instance_id = instance_id
        self.store_id: str | None = None  # of the latest answer

    def renew(self, instance_id: str) -> None:
        """Goes on under another id: numbers start anew, claims of the dead one will bring nothing."""
        with self._lock:
            self.instance_id, self._number, self._seq = instance_id, 0, 0
            self._claims.clear()

    # Claims

    def open_claim(self, max_tasks: int, wait_seconds: float) -> Claim:
        """A claim under a new number, in flight from now on."""
        with self._lock:
            self._number += 1
            claim = Claim(self._number, self.instance_id, max_tasks, wait_seconds)
            self._claims[claim.number] = claim
            return claim

    def unanswered_claim(self) -> Claim | None:
        """The oldest claim whose call failed, to be called again now."""
        with self._lock:
            claim = next((claim for claim in self._claims.values() if not claim.called), None)
            if claim is not None:
                claim.called = True
            return claim

    def claiming(self) -> bool:
        """Whether a claim that does not wait is under way."""
        with self._lock:
            return any(claim.called and not claim.wait_seconds for claim in self._claims.values())

    def failed_claim(self, claim: Claim) -> None:
        claim.called = False

    def is_latest(self, claim: Claim) -> bool:
        """Whether no claim was opened after this one."""
        return claim.number == self._number and claim.instance_id == self.instance_id

    def answered_claim(self, claim: Claim, store_id: str, tasks: Sequence[Task]) -> tuple[list[Task], list[Task]]:
        """Takes the leases that a claim brought: those to run, and second leases of tasks that are held already."""
        with self._lock:
            if self._claims.get(claim.number) is claim:
                del self._claims[claim.number]
            self.store_id = store_id
            fresh: list[Task] = []
            twins: list[Task] = []
            for task in tasks:
                lease_id, name = task.lease_id, (task.store_id, task.task_id)
                if lease_id in self._held:
                    continue  # an earlier answer to the same claim has come after all
                self._held[lease_id] = name
                if self._runs(name):
                    twins.append(task)
                else:
                    self._by_task[name] = lease_id
                    fresh.append(task)
            return fresh, twins

    # Lives of leases

    def adopt(self, leases: Iterable[tuple[str, str, int]]) -> None:
        """Takes over leases (lease_id, store_id, task_id) whose outcomes lie in an adopted outbox."""
        with self._lock:
            for lease_id, store_id, task_id in leases:
                if lease_id not in self._held:
                    self._held[lease_id] = store_id, task_id
                    self._started.add(lease_id)
                    self._finished.add(lease_id)
                    self._by_task.setdefault((store_id, task_id), lease_id)

    def started(self, lease_ids: Iterable[str]) -> None:
        with self._lock:
            self._started.update(self._held.keys() & lease_ids)

    def finished(self, lease_ids: Iterable[str]) -> None:
        """Their outcomes are there and wait to be reported."""
        with self._lock:
            self._finished.update(self._held.keys() & lease_ids)

    def refused(self, lease_ids: Iterable[str]) -> None:
        """Their outcomes were answered without a definitive verdict: a new lease of the same task may run."""
        with self._lock:
            self._refused.update(self._held.keys() & lease_ids)

    def settled(self, lease_ids: Collection[str]) -> None:
        """These need no mention any more."""
        with self._lock:
            for lease_id in lease_ids:
                name = self._held.pop(lease_id, None)
                if name is not None and self._by_task.get(name) == lease_id:
                    del self._by_task[name]
                self._news.pop(lease_id, None)
            self._empty = 0
            for marked in (self._started, self._finished, self._refused):
                marked.difference_update(lease_ids)
            self._settled.notify_all()

    def wait_settled(self, lease_ids: Collection[str], seconds: float) -> bool:
        """Whether none of these is held any more, within so many seconds."""
        with self._settled:
            return self._settled.wait_for(lambda: self._held.keys().isdisjoint(lease_ids), seconds)

    def holds_any(self, lease_ids: Iterable[str]) -> bool:
        """Whether one of these is held."""
        with self._lock:
            return not self._held.keys().isdisjoint(lease_ids)

    def unreported(self) -> int:
        """How many outcomes wait for their verdicts."""
        return len(self._finished)

    def unfinished(self, lease_ids: Iterable[str]) -> list[str]:
        """Those of them that wait or run here."""
        with self._lock:
            return [one for one in lease_ids if one in self._held and one not in self._finished]

    def open_notes(self) -> list[str]:
        """The started leases that are still held."""
        with self._lock:
            return list(self._started)

    def idle(self) -> bool:
        """Whether nothing is held and no claim is open: this instance leaves no trace when it ends."""
        with self._lock:
            return not self._held and not self._claims

    # Heartbeats

    def nothing_to_tell(self) -> bool:
        """Whether nothing is held, and no claim is open beside one that may wait.

        The dispatcher must have heard twice that nothing is held: so a lease ends there of which it never got an
        outcome, say because that went to quarantine.
        """
        with self._lock:
            return not self._held and self._empty >= _TWICE and len(self._claims) <= 1

    def progressed(self, lease_id: str, update: Mapping[str, Any]) -> None:
        """Keeps the newest progress, note and checkpoint until a heartbeat has carried them."""
        with self._lock:
            if lease_id in self._held:
                self._news[lease_id] = _merged(self._news.get(lease_id, {}), update)

    def has_news(self) -> bool:
        return bool(self._news)

    def listings(self) -> list[Listing]:
        """One listing for the store of the latest answer, and one for every other store that leases came from."""
        with self._lock:
            by_store: dict[str | None, list[dict[str, Any]]] = {self.store_id: []}
            told = self._take_news() if self._news else {}
            for lease_id, (store_id, _) in self._held.items():
                entry = {"lease_id": lease_id, **told.get(lease_id, {})}
                by_store.setdefault(store_id, []).append(entry)
            first = self._seq + 1
            self._seq += len(by_store)
            in_flight = list(self._claims)
            self._empty = 0 if self._held else self._empty + 1
            return [
                Listing(self.instance_id, seq, store_id, entries, in_flight)
                for seq, (store_id, entries) in enumerate(by_store.items(), first)
            ]

    def not_told(self, listing: Listing) -> None:
        """A heartbeat was not answered: its news are news again, unless newer ones have come."""
        with self._lock:
            self._empty = 0
            for entry in listing.entries:
                lease_id = entry["lease_id"]
                if len(entry) > 1 and lease_id in self._held:
                    parts = {name: part for name, part in entry.items() if name != "lease_id"}
                    self._news[lease_id] = _merged(parts, self._news.get(lease_id, {}))

    def _take_news(self) -> dict[str, Mapping[str, Any]]:
        """What is new, as much as a request has room for; who comes first is another one each time."""
        lease_ids = list(self._news)
        turn = self._seq % len(lease_ids)
        told: dict[str, Mapping[str, Any]] = {}
        room = NEWS_CHARS
        for lease_id in lease_ids[turn:] + lease_ids[:turn]:
            room -= len(json.dumps(self._news[lease_id]))
            if told and room < 0:
                break
            told[lease_id] = self._news.pop(lease_id)
        return told

    def _runs(self, name: Name) -> bool:
        """Whether a lease of this task is held for which the task runs, ran or waits here."""
        lease_id = self._by_task.get(name)
        return lease_id in self._held and lease_id not in self._refused


def _merged(older: Mapping[str, Any], newer: Mapping[str, Any]) -> dict[str, Any]:
    """The newest of everything, but of a log all that was said."""
    both = {**older, **newer}
    if "log" in older and "log" in newer:
        both["log"] = joined(older["log"], newer["log"])
    return both
