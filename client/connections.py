"""Kept sockets to one dispatcher: what is sent and received within its time, and word of one that had died."""

import errno
import os
import select
import socket
import ssl
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import SplitResult

from client.answers import Answer

Body = bytes | BinaryIO | None
_PIECE = 64 * 1024  # bytes that are sent or received at a time
# seconds until the first probe (TCP_KEEPALIVE: on macOS) and between two, and how many may stay without an answer
_PROBES = {"TCP_KEEPIDLE": 20, "TCP_KEEPALIVE": 20, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
_ENDED = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)  # how sending learns that nobody reads any more


class Stale(ConnectionError):
    """A kept connection ended before the first byte of an answer, or its request was given up by another thread."""


class Address(NamedTuple):
    """Where a dispatcher listens; `connect_timeout` is in seconds."""

    host: str
    port: int
    connect_timeout: float
    tls: ssl.SSLContext | None

    @classmethod
    def of(cls, parts: SplitResult, connect_timeout: float, tls: ssl.SSLContext | None) -> "Address":
        """That of a URL."""
        port = (443 if tls else 80) if parts.port is None else parts.port
        return cls((parts.hostname or "").replace("%25", "%"), port, connect_timeout, tls)  # %25: before a zone

    def open(self) -> socket.socket:
        """A new socket; raises OSError."""
        try:
            return self._opened()
        except TimeoutError as error:
            raise OSError(f"no connection within {self.connect_timeout:g} s") from error
        except UnicodeError as error:  # of a label that is too long
            raise OSError(f"{self.host} is no name of a host") from error

    def _opened(self) -> socket.socket:
        sock = socket.create_connection((self.host, self.port), self.connect_timeout)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _notice_vanished_host(sock)
            return self.tls.wrap_socket(sock, server_hostname=self._certified) if self.tls else sock
        except BaseException:
            sock.close()
            raise

    @property
    def _certified(self) -> str:
        """The name in the certificate: without the dot of a full name, and the zone of an IPv6 address."""
        return self.host.partition("%")[0].rstrip(".")


def _notice_vanished_host(sock: socket.socket) -> None:
    """Who waits for an answer learns within 40 s that the other host is gone, or was started anew."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _PROBES.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Request(NamedTuple):
    """A head with its empty line, and what follows it: of a file as many bytes as the head says, from its start."""

    head: bytes
    body: Body = None
    size: int = 0

    def pieces(self) -> Iterator[bytes]:
        """All of it; the head and a small body in one, so that they go out together."""
        if self.body is None:
            yield self.head
        elif isinstance(self.body, bytes):
            yield from (self.head + self.body,) if len(self.body) <= _PIECE else (self.head, self.body)
        else:
            yield self.head
            yield from _parts(self.body, self.size)


def _parts(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Never more, which would be taken for the next request. Raises OSError when there is less."""
    file.seek(0)
    while size:
        if not (part := file.read(min(_PIECE, size))):
            raise OSError("the file became shorter while it was sent")
        size -= len(part)
        yield part


class Unanswered(set["Connection"]):
    """The connections of one Transport on which an answer is waited for; none may wait any more once it is `over`."""

    over = False

    def give_up(self) -> None:
        """Ends all these waits; from any thread."""
        for connection in list(self):
            connection.give_up()


class Connection:
    """An open socket and the exchanges on it, one after the other.

    While it sends, and waits for an answer, it stands in `unanswered`.
    """

    def __init__(self, sock: socket.socket, unanswered: Unanswered) -> None:
        self._sock, self._unanswered = sock, unanswered
        self._kept = self._given_up = False
        self._deadline, self._process = 0.0, os.getpid()
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def ask(self, request: Request, timeout: float) -> Answer:
        """The answer, of which the head is there at least. `timeout` is in seconds, for each piece that is sent and
        for the whole answer. Raises Stale, Malformed or OSError, and is closed then."""
        self._unanswered.add(self)  # before it is sent: who has it by then may have answered others already
        try:
            if self._unanswered.over:  # looked at after the line above, so that either we see it or it sees us
                self.give_up()
            sent = self._send(request, timeout)
            self._deadline = time.monotonic() + timeout
            answer = self._answer()
        except BaseException:
            self.close()
            raise
        finally:
            self._unanswered.discard(self)
        self._kept, answer.keep_alive = True, answer.keep_alive and sent
        return answer

    def receive(self, answer: Answer, seconds: float | None = None) -> None:
        """More of the answer, within these seconds, or its deadline. Raises Malformed or OSError."""
        self._sock.settimeout(self._left() if seconds is None else seconds)
        if data := self._sock.recv(_PIECE):
            answer.feed(data)
        else:
            answer.end()

    def give_up(self) -> None:
        """Ends the wait for an answer, from another thread: `ask` raises Stale."""
        self._given_up = True
        with suppress(OSError):  # it has just ended
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)  # not that of TLS, which would read on in plain

    def is_quiet(self) -> bool:
        """Whether nothing has come unasked, neither bytes that would pass for an answer nor its end, and nothing will:
        in a fork the answers are those of the process that opened it."""
        return not self._poll.poll(0) and self._process == os.getpid()

    def close(self) -> None:
        """Closes the socket."""
        self._sock.close()

    def _send(self, request: Request, timeout: float) -> bool:
        """Whether all was taken: if not, an early answer may stand there already, and is worth reading."""
        self._sock.settimeout(timeout)
        try:
            for piece in request.pieces():
                self._sock.sendall(piece)
        except OSError as error:
            ended = self._given_up or isinstance(error, _ENDED)
            if not ended and error.errno != errno.EPROTOTYPE:  # macOS, while a socket is closed
                raise
            return False
        return True

    def _answer(self) -> Answer:
        answer = Answer()
        try:
            while not answer.headed:
                self.receive(answer)
        except OSError as error:
            if self._given_up or (self._kept and not answer.begun and isinstance(error, ConnectionError)):
                raise Stale(str(error)) from error
            raise
        return answer

    def _left(self) -> float:
        """Seconds until the whole answer is due, never 0 (for a socket: 'do not block'); then raises TimeoutError."""
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds


class Pool:
    """Keeps up to `size` idle connections to one address, and gives the one first that was used last; more may be in
    use. Safe for many threads, without a lock that a fork could find held: each step on the list is one of its own."""

    def __init__(self, address: Address, size: int, unanswered: Unanswered) -> None:
        self._address, self._size, self._unanswered = address, size, unanswered
        self._idle: list[Connection] = []
        weakref.finalize(self, _close_all, self._idle)  # for who forgets to close a client

    def take(self) -> Connection:
        """A kept connection that seems alive, else a new one. Raises OSError."""
        while connection := _last(self._idle):
            if connection.is_quiet():
                return connection
            connection.close()
        return self.new()

    def new(self) -> Connection:
        """A new connection; raises OSError."""
        if self._unanswered.over:
            raise ConnectionError("given up for another dispatcher, which answers")
        return Connection(self._address.open(), self._unanswered)

    def put(self, connection: Connection, answer: Answer) -> None:
        """Back from an exchange: kept if its answer was read to its end and leaves it open."""
        if not (answer.whole and answer.keep_alive):
            connection.close()
            return
        self._idle.append(connection)
        if len(self._idle) > self._size and (spare := _last(self._idle)):  # looked at after the line above: see `close`
            spare.close()

    def close(self) -> None:
        """Closes all idle connections; what comes back after this is not kept."""
        self._size = 0
        _close_all(self._idle)


def _last(idle: list[Connection]) -> Connection | None:
    with suppress(IndexError):
        return idle.pop()
    return None


def _close_all(idle: list[Connection]) -> None:
    while connection := _last(idle):
        connection.close()


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """A context that verifies certificate and host name, with the CA file if one is given."""
    context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    context.set_alpn_protocols(["http/1.1"])
    return context
