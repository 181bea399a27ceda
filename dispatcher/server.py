"""The HTTP server: granian's WSGI worker, driven inside this one process (docs/decisions/0001-server.md).

granian's own command keeps a main process and a serving one; killed -9, the main leaves the other behind with port
and file. So we bind the port ourselves and run the worker here: Rust threads read and write, and the application runs
in blocking threads that come with demand (a waiting claim holds one) and go when idle. There is nothing to fork.

What could hold a thread or a connection, and what ends it:
- headers that drip, and idle connections: granian, after KEEP_ALIVE_SECONDS; they hold no thread.
- a body of someone unknown: the application answers 401 before it reads, and granian closes the connection.
- a body that stalls or drips, a reader that does not read: `_end_stalled`. granian does not say which connection a
  request came on, but the kernel knows of each what moved and when: for STALL_SECONDS no answer begun and next to
  nothing received. No wait for work is that long.
- a request that granian forgets: `nudge.py`.
- a host that vanished: TCP keepalive and TCP_USER_TIMEOUT, set on the listening socket and inherited.

Stopping: the first SIGTERM or SIGINT calls `on_stop`, which answers the waiting claims; running requests finish; what
still hangs after DRAIN_SECONDS is cut off. A second signal ends the process at once, which harms nothing committed.
"""

import asyncio
import importlib
import logging
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from granian.http import HTTP1Settings
from granian.wsgi import _callback_wrapper
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from dispatcher.nudge import Nudge
from dispatcher.process import BACKLOG, url_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 8192  # granian accepts no more; one over it would starve, so far above what waits
HEADER_BYTES = 16 * 1024
KEEP_ALIVE_SECONDS = 60  # above the heartbeat interval, so that workers keep their connection
STALL_SECONDS = 60
STALL_BYTES_PER_SECOND = 1024
SWEEP_SECONDS = 15.0
NUDGE_SECONDS = 0.25
IDLE_THREAD_SECONDS = 30
DRAIN_SECONDS = 3.0
CUT_OFF_SECONDS = 1.0


def serve(
    app: "WSGIApplication",
    listener: socket.socket,
    *,
    threads: int,
    body_limit: int,
    on_stop: Callable[[], None],
) -> int:
    """Serves until SIGTERM or SIGINT; the exit code, for `process.leave`. To be called in the main thread.

    `on_stop` must make every waiting request answer soon, and those that come later at once. A body that is cut
    short raises ClientDisconnected where the application reads it; one of undeclared length that exceeds
    `body_limit`, RequestEntityTooLarge.
    """
    url, (host, port) = url_of(listener), listener.getsockname()[:2]
    bell, caught = _Bell(), _catch_stop_signals()
    nudge = Nudge(host, port, bell.ring)
    worker = _Worker(_careful(app, body_limit, nudge), listener, threads, bell)
    log.info("listening on %s", url)
    _look_after(port, nudge, bell, lambda: bool(caught))
    log.info("stopping on %s", signal.Signals(caught[0]).name)
    nudge.close()
    on_stop()
    worker.stop(port)
    return 0


def _look_after(port: int, nudge: Nudge, bell: "_Bell", stopped: Callable[[], bool]) -> None:
    """What has to be done now and then, until the server is stopped."""
    received: dict[int, int] = {}
    sweep = time.monotonic() + SWEEP_SECONDS
    while not stopped():
        wanted = bell.wait(lambda: stopped() or nudge.wanted, sweep - time.monotonic())
        if wanted and not bell.wait(stopped, NUDGE_SECONDS):  # once for all that come meanwhile
            nudge.tick()
        if time.monotonic() > sweep:
            sweep = time.monotonic() + SWEEP_SECONDS
            received = _end_stalled(port, received)
            nudge.came()


class _Worker:
    """granian's serving part. Its parts are not public: requirements.txt pins the version, tests/http holds it."""

    def __init__(self, app: "WSGIApplication", listener: socket.socket, threads: int, bell: "_Bell") -> None:
        logging.getLogger("_granian").setLevel(logging.WARNING)
        native: Any = importlib.import_module("granian._granian")
        futures: Any = importlib.import_module("granian._futures")
        loop = asyncio.new_event_loop()  # asked for, and never run, by WSGI
        loop.close()
        self._bell, self._ended = bell, False
        self._signal = native.WorkerSignal()
        self._signal.add_cb(self._end)
        holder = native.SocketHolder(listener.detach(), False, BACKLOG)
        worker = native.WSGIWorker(1, (None, holder), None, 1, 1, threads, IDLE_THREAD_SECONDS, *_limits(), *_plain())
        worker.serve_mtr(
            futures._new_cbscheduler(loop, _callback_wrapper(app, {}), impl_asyncio=True), loop, self._signal
        )

    def stop(self, port: int) -> None:
        """Lets running requests finish; cuts off those that do not."""
        self._signal.set()
        if self._bell.wait(lambda: self._ended, DRAIN_SECONDS):
            return
        log.warning("cutting off requests that did not end in %g s", DRAIN_SECONDS)
        for connection in _connections(port):
            _shut(connection)
        self._bell.wait(lambda: self._ended, CUT_OFF_SECONDS)

    def _end(self) -> None:
        self._ended = True
        self._bell.ring()


def _limits() -> tuple[Any, ...]:
    """granian's connection limit and HTTP options (HTTP/1 only)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if sys.platform == "linux" and soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    connections = min(MAX_CONNECTIONS, soft - 256) if soft != resource.RLIM_INFINITY else MAX_CONNECTIONS
    http1 = HTTP1Settings(header_read_timeout=int(KEEP_ALIVE_SECONDS * 1000), max_buffer_size=HEADER_BYTES)
    return max(connections, 64), "1", http1, None


def _plain() -> tuple[Any, ...]:
    """granian's remaining options: no static files, no TLS, no metrics."""
    return None, False, None, None, None, "tls1.3", None, [], False, (None, None)


# -- signals --


class _Bell:
    """Wakes the main thread. Signals ring it from whichever thread they reach, so that none is slept through."""

    def __init__(self) -> None:
        self._hear, self._pull = os.pipe()
        os.set_blocking(self._pull, False)
        signal.set_wakeup_fd(self._pull, warn_on_full_buffer=False)

    def ring(self) -> None:
        os.write(self._pull, b"\0")

    def wait(self, true: Callable[[], bool], seconds: float) -> bool:
        """Whether it became true in time."""
        deadline = time.monotonic() + seconds
        while not true() and (left := deadline - time.monotonic()) > 0:
            if select.select([self._hear], [], [], left)[0]:
                os.read(self._hear, 64)
        return true()


def _catch_stop_signals() -> list[int]:
    """Where the first one will stand; the next ends the process."""
    caught: list[int] = []

    def catch(signum: int, _frame: FrameType | None) -> None:
        if caught:
            os._exit(128 + signum)
        caught.append(signum)

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, catch)
    return caught


# -- requests --


def _careful(app: "WSGIApplication", body_limit: int, nudge: Nudge) -> "WSGIApplication":
    """The application, shielded from what granian leaves open."""

    def call(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "OPTIONS" and environ["PATH_INFO"] == "*":  # a ping, most often our own
            start_response("204 No Content", [("Server", "taskmill")])
            return []
        nudge.came()
        environ["wsgi.input"] = _Body(environ, body_limit)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, [*headers, ("Server", "taskmill")], exc_info)  # else granian names itself

        return app(environ, start)

    return call


class _Body:
    """A request's body, to be read with `read`. granian ends one that was cut short just like a whole one."""

    def __init__(self, environ: "WSGIEnvironment", limit: int) -> None:
        self._inner = environ["wsgi.input"]
        self._chunked = "HTTP_TRANSFER_ENCODING" in environ
        self._left = limit + 1 if self._chunked else int(environ.get("CONTENT_LENGTH") or 0)
        self._limit = limit

    def read(self, size: int | None = -1) -> bytes:
        wanted = self._left if size is None or size < 0 else min(size, self._left)
        data: bytes = self._inner.read(wanted) if wanted else b""
        self._left -= len(data)
        if self._chunked and not self._left:
            raise RequestEntityTooLarge(f"request body is over {self._limit} bytes")
        if not self._chunked and len(data) < wanted:
            raise ClientDisconnected("request body was cut short")
        return data


# -- connections --


def _end_stalled(port: int, before: dict[int, int]) -> dict[int, int]:
    """Ends the connections that stall; what each had received by now, by descriptor, for the next call."""
    received = {}
    for connection in _connections(port) if sys.platform == "linux" else ():
        number = connection.fileno()
        silent_ms, received[number] = _traffic(connection)
        progress = received[number] - before.get(number, 0)
        if silent_ms > STALL_SECONDS * 1000 and progress < STALL_BYTES_PER_SECOND * SWEEP_SECONDS:
            log.info("ending a connection that stalled")
            _shut(connection)
    return received


def _traffic(connection: socket.socket) -> tuple[int, int]:
    """Milliseconds since we last sent on it (or accepted it), and the bytes received: two fields of TCP_INFO."""
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136)
    except OSError:  # it has just ended
        return 0, 0
    return struct.unpack_from("=I", info, 44)[0], struct.unpack_from("=Q", info, 128)[0]


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        log.debug("the connection is gone already")


def _connections(port: int) -> Iterator[socket.socket]:
    """The accepted connections. granian owns their descriptors, so none is closed or duplicated here.

    (Closing so much as a copy of a descriptor that meanwhile belongs to the database file would drop SQLite's locks.)
    """
    for name in os.listdir("/dev/fd"):
        try:
            connection = socket.socket(fileno=int(name))
        except OSError:  # not a socket, or gone
            continue
        try:
            if _is_accepted(connection, port):
                yield connection
        except OSError:
            log.debug("descriptor %s went away", name)
        finally:
            connection.detach()


def _is_accepted(connection: socket.socket, port: int) -> bool:
    inet = connection.family in (socket.AF_INET, socket.AF_INET6) and connection.type == socket.SOCK_STREAM
    listening = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    return inet and not listening and connection.getsockname()[1] == port
