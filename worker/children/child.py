"""The main program of a child: takes tasks from its line, runs their handlers, says what they ended in.

Its line is a socket of packets whose other user is the supervisor itself, which may take tasks back at any time
(see `supervisor.py`); so a child reads one packet at a time and announces it, in one write with the end of the task
before, ahead of running it. It dies with its supervisor in two ways: the kernel kills its whole process group when the
last writer of the life pipe is gone, busy or not; and its line ends.

It starts in some 20 ms and stays small: nothing is imported before a task needs it.
"""

import faulthandler
import fcntl
import json
import os
import resource
import select
import signal
import sys
import time
from _thread import allocate_lock
from typing import Any, NamedTuple

from common.json_profile import JsonError, dump
from worker.children import framing
from worker.children.context import Context
from worker.children.framing import PACKET_BYTES, frame
from worker.children.loading import Handler, find, load
from worker.children.outcomes import explained, failed_fields, outcome_text, spool_path
from worker.children.signs import final_reason, snooze_seconds
from worker.children.stopping import StopOrder, Stopped

OOM_SCORE = 500  # short of memory, the kernel is to take a child before its supervisor

Fields = dict[str, Any]


class Orders(NamedTuple):
    """What the supervisor tells a child at its start: folders of handlers, limits in bytes, descriptors."""

    folders: list[str]
    spool: str
    inline_bytes: int
    limit_bytes: int
    line: int
    frames: int
    life: int
    inherited: list[int]


class Result(NamedTuple):
    """How a handler ended, before the task's names are added."""

    kind: bytes
    fields: str
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
        self._poller = select.poll()
        self._poller.register(orders.line, select.POLLIN)

    def run(self) -> None:
        """Until the line ends, or the order to stop has come."""
        ended = b""
        while not self._stop.given:
            packet = self._take()
            if packet is None:
                self._send(ended)
                ended = b""
                self._poller.poll()
            elif packet:
                task = _opened(packet)
                self._send(ended + frame(framing.STARTED, task["number"]))
                ended = self._run(task)
            else:
                break
        self._send(ended)

    def _take(self) -> bytes | None:
        """The next packet; None when none waits, empty when there will be no more."""
        try:
            return os.read(self._orders.line, PACKET_BYTES)
        except BlockingIOError:
            return None

    def _send(self, data: bytes) -> None:
        with self._lock:  # a handler's threads may send progress meanwhile
            while data:
                data = data[os.write(self._orders.frames, data) :]

    def _run(self, task: Fields) -> bytes:
        """The frame that ends a task."""
        number = task["number"]
        try:
            result = self._limited(task) if "memory_mb" in task else self._attempt(task)
        except Stopped:
            result = None
        if result is None or self._stop.given:
            return frame(framing.STOPPED, number)
        names = {name: task[name] for name in ("store_id", "task_id", "lease_id")}
        text = outcome_text(names, framing.STATUS[result.kind], result.fields + self._told)
        return frame(result.kind, number, result.seconds, text.encode())

    def _limited(self, task: Fields) -> Result:
        """An attempt in which allocations fail that the supervisor may see too late (see `memory.py`)."""
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = task["memory_mb"] * 2 * 2**20 + _data_bytes()
        limits = [limit for limit in (wanted, soft) if limit != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
        try:
            return self._attempt(task)
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))

    def _attempt(self, task: Fields) -> Result:
        """Execute a task and write down its result. Whatever the handler raises is its failure, `SystemExit` too."""
        began = time.monotonic()
        context = Context(task["checkpoint"], lambda text: self._send_progress(task["number"], text), self._stop)
        limit = task.get("memory_mb")
        try:
            self._stop.arm()
            handler = self._handler(task["task_type"])
            began = time.monotonic()
            value = self._call(handler, task, context)
            self._stop.disarm()
            seconds = time.monotonic() - began
            return self._result(value, handler.classic, task["lease_id"], seconds)
        except Stopped:
            raise
        except BaseException as error:
            self._stop.disarm()
            reason = f"out of memory (memory_mb = {limit}): " if limit and isinstance(error, MemoryError) else ""
            return _raised(error, time.monotonic() - began, reason)
        finally:
            self._stop.disarm()
            context.end()
            self._told = context.told()

    def _call(self, handler: Handler, task: Fields, context: Context) -> Any:
        payload = handler.payload(task["data"])
        try:
            return handler.execute(task["task_id"], payload) if handler.classic else handler.execute(payload, context)
        finally:
            if os.getpid() != self._pid:
                os._exit(1)  # forked by the handler, which returned in both: it must not go on as a second child

    def _send_progress(self, number: int, text: bytes) -> None:
        self._send(frame(framing.PROGRESS, number, 0.0, text))

    def _handler(self, task_type: str) -> Handler:
        """The handler of a type, set up; a failure to load one is not remembered."""
        handler = self._handlers.get(task_type)
        if handler is None:
            handler = load(find(self._orders.folders, task_type))
            handler.setup()
            self._handlers[task_type] = handler
        return handler

    def _result(self, value: Any, classic: bool, lease_id: str, seconds: float) -> Result:
        if self._stop.given:
            raise Stopped
        if classic and isinstance(value, dict) and value.get("status") == "failed":
            return _failure(str(value.get("error") or "the handler returned status failed"), seconds)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._stored(bytes(value), "application/octet-stream", lease_id, seconds)
        try:
            text = dump(value)
        except JsonError as error:
            return _failure(f"the result cannot be reported: {error}", seconds)
        if len(text) <= self._orders.inline_bytes and len(text.encode()) <= self._orders.inline_bytes:
            return Result(framing.COMPLETED, f'"result":{text},"run_seconds":{seconds:.6f}', seconds)
        return self._stored(text.encode(), "application/json", lease_id, seconds)

    def _stored(self, data: bytes, media_type: str, lease_id: str, seconds: float) -> Result:
        """Put a result into the spool, safe on disk; the outcome refers to it."""
        limit = self._orders.limit_bytes
        if len(data) > limit:
            return _failure(f"the result is too large: {len(data)} bytes, the limit is {limit}", seconds)
        from hashlib import sha256  # here: large results are rare

        _write_durably(spool_path(self._orders.spool, lease_id, ".bin"), data)
        reference = dump({"bytes": len(data), "sha256": sha256(data).hexdigest(), "media_type": media_type})
        return Result(framing.STORED, f'"result_ref":{reference},"run_seconds":{seconds:.6f}', seconds)


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
    try:
        snooze = snooze_seconds(error)
    except ValueError as wrong:
        return _failure(explained(wrong), seconds)
    if snooze is not None:
        fields = f'"snooze_seconds":{snooze:.3f},"run_seconds":{seconds:.6f}'
        return Result(framing.SNOOZED, fields, seconds)
    reason = final_reason(error)
    return _failure(prefix + explained(error, reason or ""), seconds, retry=reason is None)


def _opened(packet: bytes) -> Fields:
    """The task in a packet; one too large for a packet lies in a file that the packet names."""
    task: Fields = json.loads(packet)
    if "file" in task:
        with open(task["file"], "rb") as file:
            task = json.loads(file.read())
    return task


def _write_durably(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


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
    for descriptor in (orders.line, orders.frames, orders.life, *orders.inherited):
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
