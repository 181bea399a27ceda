"""One worker: claims tasks, runs them in children, keeps outcomes until they have their verdicts.

Threads, and what each owns:

    main        signals, start and end; waits otherwise
    supervisor  the children (supervisor.py); tells the Worker, its Sink, of started leases, of outcomes and of news
    claimer     the claim that waits at the dispatcher (claimer.py)
    reporter    the outbox, reports, and the claims that ride on them (reporter.py)
    heartbeat   nothing but heartbeats (heartbeat.py)
    siblings    the locks of dead instances and the reports of their death (siblings.py)
    handlers    whether the handlers' files have changed (reloading.py)

They share `Leases` (leases.py), whose lock is never held for long, and call the dispatcher through one `Link`.

A worker whose instance is held dead by the dispatcher, though it lives, goes on under a fresh instance id in the same
folder, under the same lock, with the same children: nothing it holds moves, so nothing can get lost on the way. The
dispatcher has ended the leases of the dead id; the next heartbeat lists them and learns which are lost, and outcomes
that are there already are delivered and count as late.

The end (SIGTERM, SIGINT, the order `stop`): no more tasks are claimed, the waiting claim is ended by a higher number,
what has not begun is handed back, what runs may finish (a second signal hands that back, too) while a claim for nothing
waits for orders, the outbox is emptied. Unless something is left in it, or a claim is still unanswered, the instance
folder goes, for nobody needs to report a death, and a last heartbeat says so; else it stays for a successor.
"""

import logging
import os
import platform
import queue
import signal
import socket
import threading
import time
from contextlib import suppress
from functools import partial
from typing import Any

from client.failover import connect
from client.transport import TransportError
from worker import instance, machine
from worker.children.handlers import Probe, probe
from worker.children.supervisor import Supervisor, SupervisorSettings
from worker.claimer import Claimer
from worker.claims import Claims
from worker.config import INLINE_RESULT_BYTES, WorkerSettings
from worker.heartbeat import Heartbeat
from worker.instance import Instance
from worker.leases import Leases
from worker.link import Link, note_move
from worker.loop import Loop
from worker.model import Outcome
from worker.quarantine import Quarantine
from worker.registering import registration
from worker.reloading import HandlerWatch
from worker.reporter import Reporter
from worker.siblings import Siblings, open_outbox

log = logging.getLogger(__name__)
_FLUSH = 10.0  # seconds for the last reports
_LOOK = 0.1  # seconds between looks while draining
_LOOK_UP = 0.5  # seconds between looks for a signal
_ORDER, _ORDER_NOW = "order to stop", "order to stop now"


class NothingToRun(Exception):
    """There is no handler for any of the task types that this worker may run."""


class Worker:
    """Made and run once, by the main thread. Raises InstanceError, NothingToRun, ValueError (a bad URL or token)."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._link = Link(connect(settings.dispatcher_url, settings.dispatcher_token or None, note_move))
        self._watch = HandlerWatch(settings.task_paths(), self._reload)
        found = _handlers(settings)
        if not found.types:
            raise NothingToRun(f"no handler to run in {', '.join(map(str, settings.task_paths()))}")
        self._schemas, self._speed = found.types, machine.Speed()
        self._instance = instance.create(settings.cache_dir, settings.worker_id)
        self._quarantine = Quarantine(self._instance.quarantine, self._instance.folder.name)
        self._leases = Leases(self._instance.folder.name)
        self._supervisor = Supervisor(_for_supervisor(settings, self._instance), self, found.slots)
        self._claims = Claims(
            settings, sorted(self._schemas), self._link, self._leases, self._supervisor, self.finished
        )
        self._reporter = Reporter(
            settings, partial(open_outbox, self._instance), self._link, self._leases, self._claims
        )
        self._heartbeat = Heartbeat(
            settings,
            registration(settings, found),
            self._host,
            self._link,
            self._leases,
            self._supervisor,
            self._claims,
            self._renew,
        )
        self._siblings = Siblings(settings, self._link, self._leases, self._reporter)
        self._signals: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._renewing = threading.Lock()
        self._connect()

    def run(self) -> None:
        """Until a signal or the order to stop has come and all is handed back."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: self._signals.put(signal.Signals(number).name))
        self._supervisor.start()
        waiting = self._siblings.look()
        log.info("started: %s; %d results waiting to be sent", self._described(), waiting)
        for loop in self._loops:
            loop.start()
        reason = self._first_signal()
        log.info("%s: nothing more is claimed, running tasks may finish; a second signal hands them back", reason)
        self._drain(reason == _ORDER_NOW)
        self._flush()
        self._end()

    def _first_signal(self) -> str:
        """Waits for it, and looks up now and then: the kernel may hand a signal to another thread (it does so when the
        process was stopped), and Python's handler then runs only when this one wakes."""
        while True:
            with suppress(queue.Empty):
                return self._signals.get(timeout=_LOOK_UP)

    # What the supervisor tells, in its thread

    def started(self, lease_ids: list[str]) -> None:
        self._leases.started(lease_ids)
        try:
            self._instance.note_started(lease_ids, self._leases.open_notes)
        except OSError as error:  # at worst, a crash of this very worker will not be charged to these tasks
            log.debug("started leases cannot be noted: %s", error)

    def finished(self, outcomes: list[Outcome]) -> None:
        self._speed.count(len(outcomes))
        self._leases.finished([outcome.lease_id for outcome in outcomes])
        self._reporter.add(outcomes)

    def progressed(self, lease_id: str, update: dict[str, Any]) -> None:
        self._leases.progressed(lease_id, update)
        self._heartbeat.hint()

    # Wiring

    def _connect(self) -> None:
        claimer = Claimer(
            self._settings,
            self._leases,
            self._claims,
            self._heartbeat.confirm,
            self._heartbeat.confirm_soon,
            self._renew,
        )
        claiming = Loop("claimer", claimer.step)
        self._claims.on_dry = claiming.wake
        reporting = Loop("reporter", self._reporter.step, at_end=self._reporter.close)
        beating = Loop("heartbeat", self._heartbeat.step)
        watching = Loop("handlers", self._watch.step)
        self._loops = (beating, reporting, claiming, Loop("siblings", self._siblings.step), watching)
        self._reporter.wake, self._heartbeat.wake = reporting.wake, beating.wake
        self._claims.host, self._link.on_silence = self._host, beating.wake
        self._claims.note_store = self._note_store
        self._claims.on_stop = lambda now: self._signals.put(_ORDER_NOW if now else _ORDER)

        def on_return() -> None:
            self._reporter.retry_now()
            self._siblings.retry_now()
            claiming.wake()

        self._link.on_return = on_return

    def _note_store(self, store_id: str) -> None:
        try:
            self._instance.note_store(store_id)
        except OSError as error:  # who reports our death will then name the store that it knows itself
            log.warning("the store's id cannot be noted: %s", error)

    def _reload(self) -> None:
        """The handlers' files have changed. One that cannot be used any more is not asked for until it is mended."""
        found = _handlers(self._settings)
        log.info("handlers have changed; task types now: %s", ", ".join(sorted(found.types)) or "none")
        self._claims.serve(sorted(found.types))
        self._supervisor.renew(found.slots)
        self._heartbeat.register(registration(self._settings, found))

    def _host(self) -> dict[str, Any]:
        return {
            "hostname": socket.gethostname(),
            "pid": os.getpid(),
            "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            "running": len(self._supervisor.running()),
            "outbox": self._reporter.waiting,
            "quarantined": self._quarantine.count(),
            "finished_per_minute": self._speed.per_minute(),
            **machine.described(),
        }

    def _described(self) -> str:
        types = ", ".join(sorted(self._schemas))
        return (
            f"worker {self._settings.worker_id}, dispatcher {', '.join(self._settings.dispatcher_url)}, "
            f"concurrency {self._settings.most}, task types {types}, cache {self._instance.folder}"
        )

    def _renew(self, dead_id: str) -> None:
        """The dispatcher holds this instance dead: go on under another id."""
        with self._renewing:
            if self._leases.instance_id == dead_id:  # else another thread has heard it, too
                self._leases.renew(self._instance.renew())
                log.warning("the dispatcher holds instance %s dead: going on as %s", dead_id, self._leases.instance_id)

    # The end

    def _drain(self, now: bool) -> None:
        self._claims.draining = True
        limit = 0.0 if now else self._settings.worker_drain_seconds or float("inf")
        deadline = time.monotonic() + limit
        while True:
            self._supervisor.release_waiting()  # again and again: an answer to a claim may have been on its way
            if self._supervisor.wait_idle(_LOOK):
                break
            if self._hurried() or time.monotonic() >= deadline:
                log.info("running tasks are handed back: %d", len(self._supervisor.running()))
                self._supervisor.release_running()
        self._supervisor.close()
        self._claims.closing = True

    def _flush(self) -> None:
        """Gives the last reports, and the end of the waiting claim, a little time."""
        self._reporter.retry_now()
        deadline = time.monotonic() + _FLUSH
        while time.monotonic() < deadline and not self._hurried(_LOOK):
            if self._reporter.rests() and (self._leases.idle() or self._link.silent or self._link.unwelcome):
                break

    def _end(self) -> None:
        self._heartbeat.close()
        for loop in self._loops:
            loop.stop()
        beating, reporting, _, siblings, _ = self._loops
        if reporting.join(_FLUSH):
            self._send_unsaved()
        if siblings.join(_FLUSH):
            self._siblings.leave()
        if self._leases.idle() and not self._reporter.waiting:
            self._instance.drop()
            if beating.join(_FLUSH):  # one under way would be answered that its instance is dead
                self._heartbeat.leave()
            log.info("ended; everything is handed back")
        else:
            self._instance.leave()
            if self._reporter.waiting:
                log.warning("ended; %d outcomes stay in %s", self._reporter.waiting, self._instance.outbox)
            else:
                log.warning("ended; the dispatcher could not be told, and gets back later what it handed out")
        self._link.close()

    def _send_unsaved(self) -> None:
        try:
            self._reporter.send_unsaved()
        except TransportError as error:
            log.error("outcomes that could not be made durable are lost, their leases will expire: %s", error)

    def _hurried(self, seconds: float = 0.0) -> bool:
        """Whether one more signal comes within these seconds."""
        try:
            return self._signals.get(timeout=seconds or None, block=seconds > 0) != _ORDER
        except queue.Empty:
            return False


def _for_supervisor(settings: WorkerSettings, own: Instance) -> SupervisorSettings:
    return SupervisorSettings(
        concurrency=settings.most,
        least=settings.least,
        idle_seconds=settings.worker_idle_seconds,
        memory_mb=settings.worker_memory_mb or None,
        task_paths=settings.task_paths(),
        spool=own.spool,
        result_max_bytes=settings.result_max_bytes,
        inline_result_bytes=INLINE_RESULT_BYTES,
        inherit_fds=(own.lock,),
        mark=own.folder.name,
    )


def _handlers(settings: WorkerSettings) -> Probe:
    """The task types of this worker; what cannot be imported is reported and skipped."""
    found = probe(settings.task_paths())
    for name, error in sorted(found.errors.items()):
        log.error("handler %s is skipped: %s", name, error)
    wanted = settings.worker_task_types or tuple(found.types)
    for task_type in wanted:
        if task_type not in found.types:
            log.warning("WORKER_TASK_TYPES names %s, for which there is no handler", task_type)
    usable = {task_type: found.types[task_type] for task_type in wanted if task_type in found.types}
    slots = {task_type: n for task_type, n in found.slots.items() if task_type in usable}
    defaults = {task_type: wants for task_type, wants in found.defaults.items() if task_type in usable}
    return Probe(usable, slots, defaults=defaults)
