"""The thread that delivers outcomes: it owns the outbox, and on a busy worker it carries the claims as well.

    supervisor's thread ── add ──▶ ready outcomes ── one entry, one fsync ──▶ outbox ── report + claim ──▶ dispatcher
                                                                                 ▲                             │
                                            outboxes of the dead, adopted ───────┘     verdicts, tasks, orders ┘

Each step makes what is ready durable and sends one report: the next entry, and the small ones behind it as far as they
fit (an outage leaves many). One that fails goes behind the others. In silence everything waits for
CACHE_RETRY_INTERVAL, or until any call of this worker is answered again. A refusal of the moment (401, 503 …) pauses
all, too; any other refusal puts off the one entry, and a report that is refused as a whole is taken apart until the
outcome to blame is alone. What the disk does not take stays in memory, unsent, and stops all claiming.
"""

import json
import logging
import math
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any
from urllib.parse import quote

from client.transport import BadReply, Refused, TransportError
from worker import verdicts
from worker.claims import Claims
from worker.config import WorkerSettings
from worker.delays import Delays
from worker.disk import DISK_FAULTS
from worker.leases import Claim, Leases
from worker.link import GENERAL, Link
from worker.model import Outcome
from worker.outbox import Entry, Outbox
from worker.ready import MAX_OUTCOMES, Ready
from worker.verdicts import Verdict

log = logging.getLogger(__name__)
FULL = 0.8  # of CACHE_MAX_BYTES: claiming stops, and what is held already finds room
_TO_SPLIT = (400, 413)
_REPORT_TIME, _UPLOAD_TIME = 10.0, 120.0  # seconds for an answer
_SLOWEST = 256 * 1024  # bytes a second: a report has more time in proportion
_SMALL = 2**20  # bytes of the entries that share a report: a slow line must not lose much at a time
_COMPANY = 0.6  # seconds at most for which outcomes wait for others, while the children have more to do
_DISK_RETRY = 1.0
_TICK = 1.0  # how soon it is noticed that the waiting claim has been outgrown
_TIDY_AFTER = 1.0  # seconds in which the next entry may take with it what is settled: a sync of the disk less
_LEAST_AGEING = 60.0  # seconds of refusals before an entry's age is written down again

Opener = Callable[[], Outbox]


class Reporter:
    """Takes outcomes from any thread with `add`; everything else happens in `step`, in one thread."""

    def __init__(
        self,
        settings: WorkerSettings,
        open_outbox: Opener,
        link: Link,
        leases: Leases,
        claims: Claims,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._link, self._leases, self._claims, self._clock = settings, link, leases, claims, clock
        self._delays = Delays(settings.cache_retry_interval, clock)
        self._ready = Ready()
        self._to_open: list[tuple[Opener, Callable[[], None]]] = [(open_outbox, lambda: None)]
        self._outboxes: list[tuple[Outbox, Callable[[], None]]] = []  # our own first
        self._uploaded: set[Entry] = set()
        self._single: set[Entry] = set()  # were in a report that was refused as a whole: each goes alone
        self._disk_retry_at, self._disk_fault = 0.0, ""
        self._resting, self._ready_since, self._settled_at = False, math.inf, -math.inf
        self.wake: Callable[[], None] = lambda: None
        self.waiting = 0  # outcomes without a definitive verdict, as of the last step
        claims.blocked = True  # until the outbox is open

    # From any thread

    def add(self, outcomes: list[Outcome]) -> None:
        """Outcomes to be reported."""
        self._ready.add(outcomes)
        if not self._has_company():
            self.wake()

    def adopt(self, open_outbox: Opener, emptied: Callable[[], None]) -> None:
        """Delivers another outbox, too, opened in our thread; `emptied` is called when it is closed again, empty."""
        self._to_open.append((open_outbox, emptied))
        self.wake()

    def retry_now(self) -> None:
        """The dispatcher answers again: nothing needs to wait for its time."""
        self._resting = False
        self._delays.clear()
        self.wake()

    def rests(self) -> bool:
        """Whether there is nothing to do but to wait."""
        return self._resting and not self._ready and not self._to_open

    # The thread's own

    def step(self) -> float:
        """Delivers one entry, if one is due; returns the seconds until the next turn."""
        self._resting = False
        try:
            self._open_new()
            company = self._seconds_for_company()
            if not company:
                self._persist()
            pause = self._deliver_one()
            return min(pause, company) if company else pause
        except DISK_FAULTS as error:
            self._disk_failed(error)
        except sqlite3.DatabaseError as error:
            self._heal(error)
        finally:
            self.waiting = len(self._ready) + sum(outbox.waiting() for outbox, _ in self._outboxes)
        return 0.0 if not self._disk_fault else _DISK_RETRY

    def close(self) -> None:
        """To be called by the same thread that made the steps."""
        for outbox, _ in self._outboxes:
            with suppress(*DISK_FAULTS, sqlite3.DatabaseError):  # then it is reported once more, as a duplicate
                outbox.sweep()
            outbox.close()

    def send_unsaved(self) -> None:
        """The last resort before the end of the process: what the disk did not take is sent from memory, once."""
        while batch := self._ready.take():
            lines = ",".join(outcome.body for outcome in batch).encode(errors="replace")
            data = self._call(self._body(lines, None))
            lease_ids = [outcome.lease_id for outcome in batch]
            self._leases.settled(verdicts.settled(lease_ids, verdicts.of(data, lease_ids)))

    def _open_new(self) -> None:
        while self._to_open:
            open_outbox, emptied = self._to_open[0]
            outbox = open_outbox()
            self._outboxes.append((outbox, emptied))
            self._leases.adopt(outbox.leases)
            del self._to_open[0]

    def _seconds_for_company(self) -> float:
        """How long what is ready may wait for more, since a report of three costs as much as one of one."""
        if not self._ready or self._ready.urgent or not self._claims.leisurely():
            self._ready_since = math.inf
            return 0.0
        self._ready_since = min(self._ready_since, self._clock())
        return max(0.0, self._ready_since + _COMPANY - self._clock())

    def _has_company(self) -> bool:
        """Whether others wait already that will take what comes now with them, when their time has come."""
        return self._ready_since < math.inf and not self._ready.urgent and self._claims.leisurely()

    def _persist(self) -> None:
        self._ready_since = math.inf
        if self._disk_fault and self._clock() < self._disk_retry_at:
            return
        left = len(self._ready)  # what comes meanwhile has its turn: in a flood there is always more
        while left > 0 and (batch := self._ready.take()):
            left -= len(batch)
            try:
                entry = self._own.put(batch)
            except Exception:
                self._ready.put_back(batch)
                raise
            if self._delays.paused:
                entry.lines = b""  # it will be read again when its time has come
        self._disk_works()

    def _deliver_one(self) -> float:
        entry = self._delays.next(self._entries())
        if entry is not None:
            self._send(entry)
            return 0.0
        claim = self._claims.claim_beside(reporting=False)
        if claim is not None:
            self._claim(claim)
            return 0.0
        self._leave_emptied()
        if not self._ready and self._clock() >= self._settled_at + _TIDY_AFTER:
            for outbox, _ in self._outboxes:
                outbox.sweep()
        self._resting = True
        return _TICK

    def _send(self, first: Entry) -> None:
        batch = [entry for entry in self._together(first) if self._readable(entry)]
        if not batch:
            return
        try:
            self._upload(batch[0])
            self._report(batch)
        except Refused as refused:
            self._put_off(batch, refused)
        except TransportError:
            self._delays.silence()
        for entry in batch:
            entry.lines = b""

    def _together(self, first: Entry) -> list[Entry]:
        """The entries of one report."""
        batch, outcomes, size = [first], len(first.lease_ids), first.size
        for entry in self._entries() if self._may_join(first) else ():
            if entry is first or not self._may_join(entry) or not self._delays.is_due(entry):
                continue
            outcomes, size = outcomes + len(entry.lease_ids), size + entry.size
            if outcomes > MAX_OUTCOMES or size > _SMALL:
                break
            batch.append(entry)
        return batch

    def _may_join(self, entry: Entry) -> bool:
        return entry.spool is None and entry not in self._single

    def _readable(self, entry: Entry) -> bool:
        if entry.outbox.lines(entry):
            return True
        self._forget(entry)  # damaged, and in quarantine by now
        return False

    def _upload(self, entry: Entry) -> None:
        """A spool file goes ahead of its report. If it is refused, the verdict on the report says what that means."""
        if entry.spool is None or entry in self._uploaded or not entry.spool.exists():
            return
        outcome = json.loads(entry.lines)
        path = f"/result/{quote(outcome['lease_id'], safe='')}?store_id={quote(outcome['store_id'], safe='')}"
        try:
            with entry.spool.open("rb") as file:
                self._link.call("PUT", path, file, _UPLOAD_TIME, outcome["result_ref"]["media_type"])
            self._uploaded.add(entry)
        except Refused as refused:
            if refused.status in GENERAL:
                raise
            log.warning("the result of lease %s is refused: %s", outcome["lease_id"], refused)

    def _report(self, batch: list[Entry]) -> None:
        claim = self._claims.claim_beside(reporting=True)
        body = self._body(b",".join([entry.lines.replace(b"\n", b",") for entry in batch]), claim)
        try:
            data = self._call(body)
            told = iter(verdicts.of(data, [lease_id for entry in batch for lease_id in entry.lease_ids]))
        except TransportError:
            if claim is not None:
                self._leases.failed_claim(claim)
            raise
        try:
            for entry in batch:  # before the claim: a lease that has ended is no twin of a new one
                self._judge(entry, list(islice(told, len(entry.lease_ids))))
        finally:
            self._take(claim, data)

    def _call(self, body: bytes) -> Any:
        return self._link.call("POST", "/submit-results", body, _REPORT_TIME + len(body) / _SLOWEST)

    def _body(self, lines: bytes, claim: Claim | None) -> bytes:
        """The outcomes are texts already; only what is around them is made here."""
        head = {"worker_id": self._settings.worker_id, "instance_id": self._leases.instance_id, "brief": True}
        tail = b"" if claim is None else b',"claim":' + json.dumps(self._claims.body(claim)).encode()
        return json.dumps(head).encode()[:-1] + b',"outcomes":[' + lines + b"]" + tail + b"}"

    def _take(self, claim: Claim | None, data: dict[str, Any]) -> None:
        self._claims.obey(data.get("orders"))
        if claim is None:
            return
        try:
            self._claims.fed(claim, len(self._claims.take(claim, data.get("claim"))))
        except BadReply:  # refused: whoever repeats it learns why
            self._leases.failed_claim(claim)

    def _claim(self, claim: Claim) -> None:
        with suppress(TransportError):  # the claimer repeats it
            self._claims.call(claim)

    # Verdicts

    def _judge(self, entry: Entry, told: list[Verdict]) -> None:
        rest = verdicts.refused(told)
        if not rest:
            entry.outbox.settle(entry)
            self._settled_at = self._clock()
            self._forget(entry)
            return
        self._leases.settled(verdicts.settled(entry.lease_ids, told))
        if len(rest) < len(told):
            entry.outbox.keep(entry, rest)
        self._leases.refused(entry.lease_ids)
        self._uploaded.discard(entry)
        self._delays.put_off(entry)
        reason = f"{told[rest[0]]['verdict']} {told[rest[0]].get('reason', '')}".strip()
        if entry.spool and not entry.spool.exists():  # no repeat will bring its result back: the task must run again
            self._set_aside(entry, f"{reason}: the file with its result is missing")
        else:
            self._age([entry], reason)

    def _put_off(self, batch: list[Entry], refused: Refused) -> None:
        self._single.update(batch)  # if one of them is to blame, it shall not hold up the others
        first = batch[0]
        if refused.status in GENERAL:
            self._delays.pause(batch, refused.retry_after)
        elif len(batch) > 1:
            return
        elif refused.status in _TO_SPLIT and len(first.lease_ids) > 1:
            self._single.add(first.outbox.split(first))
            return
        else:
            self._delays.put_off(first)
        self._age(batch, str(refused))

    def _age(self, batch: list[Entry], reason: str) -> None:
        fresh = [entry for entry in batch if not self._delays.was_refused(entry)]
        if fresh:
            log.warning("%d outcomes were refused (%s); they are kept", sum(len(e.lease_ids) for e in fresh), reason)
        for entry in batch:
            self._age_one(entry, reason)

    def _age_one(self, entry: Entry, reason: str) -> None:
        seconds = self._delays.refused(entry)
        limit = self._settings.cache_ttl_seconds
        if entry.refused_seconds + seconds >= limit:
            self._set_aside(entry, f"refused for {limit:.0f} s: {reason}")
        elif seconds >= min(_LEAST_AGEING, limit / 20):
            entry.outbox.age(entry, seconds)
            self._delays.counted(entry)

    def _set_aside(self, entry: Entry, reason: str) -> None:
        log.error("%d outcomes are quarantined (%s)", len(entry.lease_ids), reason)
        entry.outbox.quarantine(entry, reason)
        self._forget(entry)

    def _forget(self, entry: Entry) -> None:
        self._leases.settled(entry.lease_ids)
        self._delays.forget(entry)
        self._uploaded.discard(entry)
        self._single.discard(entry)

    # Disk

    @property
    def _own(self) -> Outbox:
        return self._outboxes[0][0]

    def _entries(self) -> Iterator[Entry]:
        """Those of the dead are older than ours."""
        for outbox, _ in reversed(self._outboxes):
            yield from outbox.entries.values()

    def _leave_emptied(self) -> None:
        for outbox, emptied in [pair for pair in self._outboxes[1:] if not pair[0].entries]:
            outbox.sweep()
            self._outboxes.remove((outbox, emptied))
            outbox.close()
            emptied()

    def _disk_works(self) -> None:
        if self._disk_fault:
            log.info("outcomes can be made durable again")
            self._disk_fault = ""
        size = sum(outbox.size for outbox, _ in self._outboxes)
        full = size >= FULL * self._settings.cache_max_bytes
        if full and not self._claims.blocked:
            log.warning(
                "%d bytes of outcomes wait (four fifths of CACHE_MAX_BYTES=%d): no more tasks are claimed",
                size,
                self._settings.cache_max_bytes,
            )
        self._claims.blocked = full

    def _disk_failed(self, error: Exception) -> None:
        self._claims.blocked = True
        self._disk_retry_at = self._clock() + _DISK_RETRY
        if not self._disk_fault:
            log.error("outcomes cannot be made durable (%s): they stay in memory, no more tasks are claimed", error)
        self._disk_fault = str(error)

    def _heal(self, error: Exception) -> None:
        log.error("the outbox is corrupt: %s", error)
        for outbox, _ in self._outboxes:
            known = {lease_id for entry in outbox.entries.values() for lease_id in entry.lease_ids}
            outbox.reopen()
            self._leases.settled(known - {lease[0] for lease in outbox.leases})
        self._delays.clear()
        self._uploaded.clear()
        self._single.clear()
