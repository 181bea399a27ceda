"""The main program of a child: takes tasks from its line, runs their handlers, says what they ended in.

The supervisor may take tasks back from its line at any time (see `line.py`); so a child takes one ticket at a time and
announces it, in one write with the end of the task before, ahead of running the task. It dies with its supervisor in
two ways: the kernel kills its whole process group when the last writer of the life pipe is gone, busy or not; and its
line ends.

It starts in some 20 ms and stays small: nothing is imported before a task needs it.
"""

import faulthandler
import fcntl
import json
import os
import resource
import signal
import sys
import time
from _thread import allocate_lock
from functools import partial
from typing import Any, NamedTuple

from common import durable
from common.handlers.loading import Handler, classic_failure, find, load
from common.handlers.signs import raised
from common.json_profile import JsonError, dump
from worker.children import framing
from worker.children.context import Context
from worker.children.framing import frame
from worker.children.outcomes import failed_fields, rest, spool_path
from worker.children.stopping import StopOrder, Stopped
from worker.children.work import Work, WorkLine

OOM_SCORE = 500  # short of memory, the kernel is to take a child before its supervisor


class Orders(NamedTuple):
    """What the supervisor tells a child at its start: folders of handlers, limits in bytes, descriptors."""

    folders: list[str]
    spool: str
    inline_bytes: int
    limit_bytes: int
    texts: int
    tickets: int
    frames: int
    life: int
    inherited: list[int]


class Result(NamedTuple):
    """How a handler ended; `text` is the result if it completed, else the fields of the outcome, each after a
    comma."""

    kind: bytes
    text: str
    seconds: float


class Child:
    """Runs one task at a time."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._stop = StopOrder()
        self._stop.install()
        self._pid = os.getpid()
        self._handlers: dict[str, Handler] = {}
        self._told = ""  # what the handler logged, as a field of its outcome
        self._lock = allocate_lock()
        self._line = WorkLine(orders.texts, orders.tickets)

    def run(self) -> None:
        """Until the line ends, or the order to stop has come."""
        ended = b""
        while not self._stop.given:
            number = self._line.ticket()
            if number is None:
                self._send(ended)
                ended = b""
                self._line.wait()
            elif number:
                work = self._line.work(number)
                self._send(ended + frame(framing.STARTED, number))
                ended = self._run(work)
            else:
                break
        self._send(ended)

    def _send(self, data: bytes) -> None:
        with self._lock:  # a handler's threads may send progress meanwhile
            while data:
                data = data[os.write(self._orders.frames, data) :]

    def _run(self, work: Work) -> bytes:
        """The frame that ends a task."""
        try:
            result = self._attempt(work) if work.memory_mb is None else self._limited(work)
        except Stopped:
            result = None
        if result is None or self._stop.given:
            return frame(framing.STOPPED, work.number)
        kind, text, seconds = result
        if kind == framing.COMPLETED and self._told:
            kind, text = framing.LOGGED, f',"result":{text},"run_seconds":{seconds:.6f}'
        if kind != framing.COMPLETED:
            text = rest(framing.STATUS[kind], text + self._told)
        return frame(kind, work.number, seconds, text.encode())

    def _limited(self, work: Work) -> Result:
        """An attempt in which allocations fail that the supervisor may see too late (see `memory.py`)."""
        assert work.memory_mb is not None
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = work.memory_mb * 2 * 2**20 + _data_bytes()
        limits = [limit for limit in (wanted, soft) if limit != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
        try:
            return self._attempt(work)
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))

    def _attempt(self, work: Work) -> Result:
        """Execute a task and write down its result. Whatever the handler raises is its failure, `SystemExit` too."""
        began, context = time.monotonic(), None
        try:
            self._stop.arm()
            handler = self._handlers.get(work.task_type) or self._load(work.task_type)
            if not handler.classic:
                context = Context(work.checkpoint, partial(self._send_progress, work.number), self._stop)
            began = time.monotonic()
            value = self._call(handler, work, context)
            self._stop.disarm()
            return self._result(value, handler.classic, work.lease_id, time.monotonic() - began)
        except Stopped:
            raise
        except BaseException as error:
            self._stop.disarm()
            limit = work.memory_mb
            reason = f"out of memory (memory_mb = {limit}): " if limit and isinstance(error, MemoryError) else ""
            return _raised(error, time.monotonic() - began, reason)
        finally:
            self._stop.disarm()
            self._told = "" if context is None else context.end()

    def _call(self, handler: Handler, work: Work, context: Context | None) -> Any:
        payload = handler.payload(work.data)
        try:
            return handler.execute(work.task_id, payload) if context is None else handler.execute(payload, context)
        finally:
            if os.getpid() != self._pid:
                os._exit(1)  # forked by the handler, which returned in both: it must not go on as a second child

    def _send_progress(self, number: int, text: bytes) -> None:
        self._send(frame(framing.PROGRESS, number, 0.0, text))

    def _load(self, task_type: str) -> Handler:
        """The handler of a type, set up; a failure to load one is not remembered."""
        handler = load(find(self._orders.folders, task_type))
        handler.setup()
        self._handlers[task_type] = handler
        return handler

    def _result(self, value: Any, classic: bool, lease_id: str, seconds: float) -> Result:
        if self._stop.given:
            raise Stopped
        if classic and (error := classic_failure(value)):
            return _failure(error, seconds)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._stored(bytes(value), "application/octet-stream", lease_id, seconds)
        try:
            text = dump(value)
        except JsonError as error:
            return _failure(f"the result cannot be reported: {error}", seconds)
        if len(text) <= self._orders.inline_bytes and len(text.encode()) <= self._orders.inline_bytes:
            return Result(framing.COMPLETED, text, seconds)
        return self._stored(text.encode(), "application/json", lease_id, seconds)

    def _stored(self, data: bytes, media_type: str, lease_id: str, seconds: float) -> Result:
        """Put a result into the spool, safe on disk; the outcome refers to it."""
        limit = self._orders.limit_bytes
        if len(data) > limit:
            return _failure(f"the result is too large: {len(data)} bytes, the limit is {limit}", seconds)
        from hashlib import sha256  # here: large results are rare

        durable.write(spool_path(self._orders.spool, lease_id, ".bin"), data)
        reference = dump({"bytes": len(data), "sha256": sha256(data).hexdigest(), "media_type": media_type})
        return Result(framing.STORED, f',"result_ref":{reference},"run_seconds":{seconds:.6f}', seconds)


def _data_bytes() -> int:
    """What RLIMIT_DATA counts of this process now."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[5]) * resource.getpagesize()
    except OSError:
        return 0


def _failure(error: str, seconds: float, retry: bool = True) -> Result:
    return Result(framing.FAILED, failed_fields(error, seconds, retry=retry), seconds)


def _raised(error: BaseException, seconds: float, prefix: str = "") -> Result:
    """What a handler raised: it asks to be run later, or it failed, perhaps for good."""
    told = raised(error, prefix)
    if told.snooze is not None:
        fields = f',"snooze_seconds":{told.snooze:.3f},"run_seconds":{seconds:.6f}'
        return Result(framing.SNOOZED, fields, seconds)
    return _failure(told.error, seconds, told.retry)


def die_with_supervisor(life: int) -> None:
    """Have the kernel kill this process group when nobody holds the other end of the life pipe any more."""
    fcntl.fcntl(life, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(life, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(life, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    try:
        os.read(life, 1)
    except BlockingIOError:
        return
    os._exit(1)  # it was gone before we asked


def _be_a_good_process(orders: Orders) -> None:
    die_with_supervisor(orders.life)
    for descriptor in (orders.texts, orders.tickets, orders.frames, orders.life, *orders.inherited):
        os.set_inheritable(descriptor, False)  # ours alone: a program that a handler starts must not hold them
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(OOM_SCORE))
    except OSError:
        pass  # not on this system: the kernel then judges by size alone


def main() -> None:
    """Started by `process.py` as `python -I -c BOOT root orders`."""
    orders = Orders(**json.loads(sys.argv[2]))
    _be_a_good_process(orders)
    try:
        Child(orders).run()
    except BrokenPipeError:
        sys.exit(1)  # the supervisor is gone
