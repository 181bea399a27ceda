"""One HTTP exchange with the dispatcher: a kept socket, one attempt, a checked reply.

Nothing is read from the environment's proxy variables, no redirect is followed, and the token goes to the one
address that was given.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from client import envelope, urls
from client.answers import Answer, Malformed
from client.connections import Address, Body, Connection, Pool, Request, Stale, Unanswered, tls_context
from client.errors import BadReply, Refused, TransportError, Unreachable
from common import settings

__all__ = ["BadReply", "Refused", "Stream", "Transport", "TransportError", "Unreachable"]

MAX_REPLY = 80 * 1024 * 1024
_VALUE = re.compile(r"[ -~]*")  # of a header
_ZONE = re.compile(r"%[^]]*")  # of an IPv6 address: it means something on this machine only


class Stream:
    """The body of a reply, piece by piece; `size` in bytes where the dispatcher named it."""

    def __init__(self, reply: "_Reply", timeout: float) -> None:
        self.media_type: str = reply.answer.headers.get("Content-Type") or "application/octet-stream"
        self.size: int | None = reply.answer.size
        self.headers: Mapping[str, str] = reply.answer.headers
        self._reply, self._timeout = reply, timeout

    def __iter__(self) -> Iterator[bytes]:
        return self._reply.pieces(self._timeout)


class Pieces(Protocol):
    """What is read piece by piece."""

    @property
    def media_type(self) -> str:
        """Of the whole."""

    def __iter__(self) -> Iterator[bytes]: ...


class Exchanges(Protocol):
    """What a client needs: a Transport, several behind a Failover, or what stands in for a dispatcher."""

    @property
    def url(self) -> str:
        """Where the dispatcher is."""

    def call(self, method: str, path: str, body: bytes | BinaryIO | None = None, *, timeout: float = 30.0) -> Any:
        """The data of its answer."""

    def stream(self, path: str, *, timeout: float) -> AbstractContextManager[Pieces]:
        """The body of its answer."""

    def close(self) -> None:
        """Closes all idle connections."""


class Transport:
    """Exchanges with one dispatcher over kept sockets; safe for many threads, never retries an answered call.

    `url` is http:// or https://, and may carry a path. `ca_file` (else the setting DISPATCHER_CA) is a PEM file
    to verify https with. Raises ValueError for a URL or token that cannot be used.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        pool_size: int = 8,
        connect_timeout: float = 5.0,
        ca_file: Path | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        parts = urls.parts(self.url)
        self._prefix = parts.path
        self._headers = f"Host: {_ZONE.sub('', parts.netloc)}\r\n{_fixed_headers(token)}"
        tls = tls_context(ca_file or _ca_setting()) if parts.scheme == "https" else None
        self._address = Address.of(parts, connect_timeout, tls)
        self._pool_size = pool_size
        self._begin()

    def call(
        self,
        method: str,
        path: str,
        body: bytes | BinaryIO | None = None,
        *,
        timeout: float = 30.0,
        content_type: str = "application/json",
    ) -> Any:
        """The `data` of a success envelope; of /health and the classic /get-task the whole object.

        `path` starts with a slash and is already quoted. A file is sent from its start to its end. `timeout` is in
        seconds: for sending (each piece of a file), and again for the whole answer. Raises Unreachable, BadReply,
        Refused.
        """
        with self._ask(self._request(method, path, body, content_type), timeout) as reply:
            reply.raise_for_status()
            text = reply.read()
        return envelope.data(self.url, path, text)

    @contextmanager
    def stream(self, path: str, *, timeout: float) -> Iterator[Stream]:
        """GET whose body is read by iterating; `timeout` seconds for each piece. Raises as `call` does."""
        with self._ask(self._request("GET", path), timeout) as reply:
            reply.raise_for_status()
            yield Stream(reply, timeout)

    def renew(self) -> None:
        """The dispatcher answers again after a silence: what still waits for an answer on an older socket, which may
        be dead without a word, is sent once more, on a new one. From any thread."""
        self._unanswered.give_up()

    def retire(self) -> None:
        """The end, when this dispatcher is silent and another answers in its place: what waits for an answer, and
        every call from now on, raises Unreachable at once. From any thread."""
        self._unanswered.over = True
        self._unanswered.give_up()
        self.close()

    def successor(self) -> "Transport":
        """Another one to the same dispatcher, with sockets of its own."""
        made = copy(self)
        made._begin()
        return made

    def close(self) -> None:
        """Closes all idle sockets; a call after this still works, on a socket of its own."""
        self._pool.close()

    def _begin(self) -> None:
        self._unanswered = Unanswered()
        self._pool = Pool(self._address, self._pool_size, self._unanswered)

    def _request(self, method: str, path: str, body: Body = None, content_type: str = "") -> Request:
        if not path.startswith("/"):
            raise ValueError(f"not a path: {path!r}")
        if body is None:
            return Request(_head(method, self._prefix + path, self._headers) + b"\r\n")
        head, size = _head(method, self._prefix + path, self._headers, content_type), _size(body)
        return Request(b"%sContent-Length: %d\r\n\r\n" % (head, size), body, size)

    def _ask(self, request: Request, timeout: float) -> "_Reply":
        """Raises Unreachable or BadReply."""
        try:
            connection = self._pool.take()
            try:
                answer = connection.ask(request, timeout)
            except Stale:
                # The dispatcher had closed this idle socket, or `renew`. Every request of ours is idempotent by name,
                # so it is sent once more, on a new socket.
                connection = self._pool.new()
                answer = connection.ask(request, timeout)
        except (OSError, Malformed) as error:
            raise _named(error, self.url, timeout) from error
        return _Reply(self.url, self._pool, connection, answer, timeout)


class _Reply:
    """An answer whose head was read. At its exit the socket goes back to the pool, if the body was read."""

    def __init__(self, url: str, pool: Pool, connection: Connection, answer: Answer, timeout: float) -> None:
        self.answer = answer
        self._url, self._pool, self._connection, self._timeout = url, pool, connection, timeout

    def __enter__(self) -> "_Reply":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.put(self._connection, self.answer)

    def raise_for_status(self) -> None:
        """Raises Refused, or BadReply for a redirect."""
        status = self.answer.status
        if 300 <= status < 400:
            raise BadReply(self._url, f"a redirect (HTTP {status}) to {self.answer.headers.get('Location')}")
        if status >= 400:
            raise envelope.refusal(status, self.read(), self.answer.headers.get("Retry-After"))

    def pieces(self, seconds: float | None = None) -> Iterator[bytes]:
        """The body as it comes: each piece within these seconds, or all of it by the deadline of the call."""
        while True:
            if piece := self.answer.taken():
                yield piece
            if self.answer.whole:
                return
            try:
                self._connection.receive(self.answer, seconds)
            except (OSError, Malformed) as error:
                raise _named(error, self._url, self._timeout) from error

    def read(self) -> bytes:
        """The whole body; raises BadReply when it is too large."""
        parts, size = [], 0
        announced = 0 if self.answer.whole else self.answer.size or 0
        for piece in self.pieces() if announced <= MAX_REPLY else ():
            parts.append(piece)
            size += len(piece)
            if size > MAX_REPLY:
                break
        if max(size, announced) > MAX_REPLY:
            raise BadReply(self._url, f"an answer of more than {MAX_REPLY // 2**20} MiB")
        return b"".join(parts)


def _named(error: Exception, url: str, timeout: float) -> TransportError:
    """What goes wrong on a connection, as a user is told."""
    if isinstance(error, Malformed):
        return BadReply(url, f"not HTTP ({error})")
    if isinstance(error, TimeoutError):
        return Unreachable(url, f"nothing within {timeout:g} s")
    return Unreachable(url, getattr(error, "strerror", None) or str(error))


@lru_cache(256)  # a worker asks for the same few again and again
def _head(method: str, target: str, headers: str, content_type: str | None = None) -> bytes:
    """The request line and the headers, without the length of a body and the empty line."""
    if not urls.PLAIN.fullmatch(target):
        raise ValueError(f"not a path: {target!r}")
    if not urls.PLAIN.fullmatch(method) or not _VALUE.fullmatch(content_type or ""):
        raise ValueError(f"not a method and a media type: {method!r}, {content_type!r}")
    described = "" if content_type is None else f"Content-Type: {content_type}\r\n"
    return f"{method} {target} HTTP/1.1\r\n{headers}{described}".encode("ascii")


def _fixed_headers(token: str | None) -> str:
    headers = "Accept-Encoding: identity\r\nUser-Agent: taskmill\r\n"
    if token is None:
        return headers
    if not urls.PLAIN.fullmatch(token):
        raise ValueError("the token (DISPATCHER_TOKEN) must be printable ASCII without spaces")
    return f"{headers}Authorization: Bearer {token}\r\n"


def _size(body: bytes | BinaryIO) -> int:
    return len(body) if isinstance(body, bytes) else body.seek(0, 2)


def _ca_setting() -> Path | None:
    named = settings.environment().get("DISPATCHER_CA")
    return settings.ROOT / named if named else None
