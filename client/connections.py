"""urllib3's pool of kept connections, with the timeouts of a call, word of one that had died, and our errors."""

import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, connection_from_url
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse, HTTPResponse

from client.errors import BadReply, Unreachable

Body = bytes | BinaryIO | None
_CHUNK = 64 * 1024  # of a file that is sent


class Stale(HTTPError):
    """A kept connection ended before the first byte of an answer, or its request was given up by another thread."""


class Unanswered(set["Connection"]):
    """The connections of one Transport on which an answer is waited for; none may wait any more once it is `over`."""

    over = False

    def give_up(self) -> None:
        """Ends all these waits; from any thread."""
        for connection in list(self):
            connection.give_up()


class Connection(HTTPConnection):
    """Connects within the pool's timeout and sends within the call's.

    `wire` is the socket of the answer, also when that is the last one and `sock` has gone. While it waits for an answer
    it stands in `unanswered`.
    """

    def __init__(self, *args: Any, unanswered: Unanswered, **options: Any) -> None:
        super().__init__(*args, **options)
        self._connect_timeout, self._kept = self.timeout, False
        self._unanswered, self._given_up = unanswered, False

    def connect(self) -> None:
        """Opens the connection; raises what urllib3 does."""
        self.timeout, timeout = self._connect_timeout, self.timeout
        super().connect()
        self.timeout, self._kept = timeout, False
        self.sock.settimeout(timeout)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3's own
        """The head of the answer; raises Stale, or what urllib3 does."""
        self.wire, self._deadline = self.sock, time.monotonic() + (self.timeout or 0.0)
        self._unanswered.add(self)
        try:
            if self._unanswered.over:  # looked at after the line above, so that either we see it or it sees us
                self.give_up()
            response = super().getresponse()
        except OSError as error:
            if self._given_up or (self._kept and isinstance(error, ConnectionError)):
                raise Stale(str(error)) from error
            raise
        finally:
            self._unanswered.discard(self)
        self._kept = True
        return response

    def give_up(self) -> None:
        """Ends the wait for an answer, from another thread: `getresponse` raises Stale."""
        self._given_up = True
        with suppress(OSError):  # it has just ended
            socket.socket.shutdown(self.wire, socket.SHUT_RDWR)

    def left(self) -> float:
        """Seconds until the whole answer is due, never 0 (for a socket: 'do not block'); then raises TimeoutError."""
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds


class TlsConnection(Connection, HTTPSConnection):
    """The same over TLS."""

    def send(self, data: Any) -> None:
        """Sends; raises BrokenPipeError, upon which urllib3 reads the answer that may stand there already."""
        try:
            super().send(data)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            raise BrokenPipeError(str(error)) from error


def new_pool(
    url: str, size: int, connect_timeout: float, tls: ssl.SSLContext | None, unanswered: Unanswered
) -> HTTPConnectionPool:
    """A pool for the address in `url` that keeps up to `size` idle connections; more may be in use."""
    options: dict[str, Any] = {"unanswered": unanswered, **({"ssl_context": tls} if tls else {})}
    pool = connection_from_url(url, maxsize=size, timeout=connect_timeout, block=False, blocksize=_CHUNK, **options)
    pool.ConnectionCls = TlsConnection if tls else Connection
    return pool


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """A context that verifies certificate and host name, with the CA file if one is given."""
    return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)


def urlopen(
    pool: HTTPConnectionPool, method: str, target: str, body: Body, headers: dict[str, str], timeout: float
) -> BaseHTTPResponse:
    """One attempt, whatever the status; a file is sent from its start. Raises Stale, or what urllib3 does."""
    if body is not None and not isinstance(body, bytes):
        body.seek(0)
    plain: dict[str, Any] = {"retries": False, "redirect": False, "preload_content": False, "decode_content": False}
    return pool.urlopen(method, target, body, headers, timeout=timeout, **plain)


@contextmanager
def translated(url: str, timeout: float) -> Iterator[None]:
    """Raises urllib3's errors as Unreachable or BadReply."""
    try:
        yield
    except (HTTPError, TimeoutError) as error:
        cause = _cause(error)
        if isinstance(cause, TimeoutError):
            raise Unreachable(url, f"nothing within {timeout:g} s") from None
        if isinstance(cause, (http.client.IncompleteRead, OSError)):
            raise Unreachable(url, getattr(cause, "strerror", None) or str(cause)) from error
        raise BadReply(url, f"not HTTP ({type(cause).__name__})") from error


def _cause(error: Exception) -> Exception:
    """What of the standard library stands under an error of urllib3; the error itself when nothing does."""
    under = error.__cause__ or (error.args[-1] if error.args else None)
    return under if isinstance(under, Exception) else error
