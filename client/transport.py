"""One HTTP exchange with the dispatcher: urllib3's keep-alive pool, one attempt, a checked reply.

Nothing is read from the environment's proxy variables, no redirect is followed, and the token goes to the one
address that was given.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from urllib3.exceptions import ClosedPoolError
from urllib3.response import BaseHTTPResponse

from client import envelope, urls
from client.connections import Body, Connection, Stale, Unanswered, new_pool, tls_context, translated, urlopen
from client.errors import BadReply, Refused, TransportError, Unreachable
from common import settings

__all__ = ["BadReply", "Refused", "Stream", "Transport", "TransportError", "Unreachable"]

MAX_REPLY = 80 * 1024 * 1024
_CHUNK = 64 * 1024


class Stream:
    """The body of a reply, piece by piece; `size` in bytes where the dispatcher named it."""

    def __init__(self, reply: "_Reply") -> None:
        self.media_type: str = reply.response.headers.get("Content-Type") or "application/octet-stream"
        self.size: int | None = reply.response.length_remaining
        self.headers: Mapping[str, str] = reply.response.headers
        self._reply = reply

    def __iter__(self) -> Iterator[bytes]:
        return self._reply.chunks()


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
        self._headers = _fixed_headers(token)
        tls = tls_context(ca_file or _ca_setting()) if parts.scheme == "https" else None
        self._new_pool = partial(new_pool, self.url, pool_size, connect_timeout, tls)
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
        with self._exchange(method, path, body, timeout, content_type) as reply:
            text = reply.read()
        return envelope.data(self.url, path, text)

    @contextmanager
    def stream(self, path: str, *, timeout: float) -> Iterator[Stream]:
        """GET whose body is read by iterating; `timeout` seconds for each piece. Raises as `call` does."""
        with self._exchange("GET", path, None, timeout) as reply:
            reply.piecewise = True
            yield Stream(reply)

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
        self._pool = self._new_pool(self._unanswered)

    @contextmanager
    def _exchange(
        self, method: str, path: str, body: Body, timeout: float, content_type: str = ""
    ) -> Iterator["_Reply"]:
        """A reply whose status is a success; its socket goes back to the pool when its body was read."""
        target = self._prefix + path
        if not path.startswith("/") or not urls.PLAIN.fullmatch(target):
            raise ValueError(f"not a path: {path!r}")
        headers = self._headers if body is None else {**self._headers, **_body_headers(body, content_type)}
        with translated(self.url, timeout):
            response = self._send(method, target, body, headers, timeout)
        with closing(response):
            reply = _Reply(self.url, response, timeout)
            _raise_for_status(reply)
            yield reply

    def _send(self, *request: Any) -> BaseHTTPResponse:
        try:
            return urlopen(self._pool, *request)
        except (Stale, ClosedPoolError):
            if self._unanswered.over:
                raise Unreachable(self.url, "given up for another dispatcher, which answers") from None
            # Stale: the dispatcher had closed this idle socket, or `renew`. Every request of ours is idempotent by
            # name, so it is sent once more, on a new socket.
            with self._new_pool(self._unanswered) as own:  # closed before its socket comes back: that is not kept
                return urlopen(own, *request)


class _Reply:
    """A reply whose head was read; its body has the deadline of the connection, or `timeout` for each piece."""

    def __init__(self, url: str, response: BaseHTTPResponse, timeout: float) -> None:
        self.url, self.response, self.piecewise = url, response, False
        self._timeout = timeout

    def chunks(self) -> Iterator[bytes]:
        while chunk := self._chunk():
            yield chunk

    def read(self) -> bytes:
        """The whole body; raises BadReply when it is too large."""
        parts, size = [], 0
        announced = self.response.length_remaining or 0
        for chunk in self.chunks() if announced <= MAX_REPLY else ():
            parts.append(chunk)
            size += len(chunk)
            if size > MAX_REPLY:
                break
        if max(size, announced) > MAX_REPLY:
            raise BadReply(self.url, f"an answer of more than {MAX_REPLY // 2**20} MiB")
        return b"".join(parts)

    def _chunk(self) -> bytes:
        with translated(self.url, self._timeout):
            connection = self.response.connection  # None: all was read, and the socket may serve others already
            if isinstance(connection, Connection):
                connection.wire.settimeout(self._timeout if self.piecewise else connection.left())
            return self.response.read1(_CHUNK)


def _raise_for_status(reply: _Reply) -> None:
    status, headers = reply.response.status, reply.response.headers
    if 300 <= status < 400:
        raise BadReply(reply.url, f"a redirect (HTTP {status}) to {headers.get('Location')}")
    if status >= 400:
        raise envelope.refusal(status, reply.read(), headers.get("Retry-After"))


def _fixed_headers(token: str | None) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity", "User-Agent": "taskmill"}
    if token is None:
        return headers
    if not urls.PLAIN.fullmatch(token):
        raise ValueError("the token must be printable ASCII without spaces")
    return {**headers, "Authorization": f"Bearer {token}"}


def _body_headers(body: bytes | BinaryIO, content_type: str) -> dict[str, str]:
    size = len(body) if isinstance(body, bytes) else body.seek(0, 2)
    return {"Content-Type": content_type, "Content-Length": str(size)}


def _ca_setting() -> Path | None:
    named = settings.environment().get("DISPATCHER_CA")
    return settings.ROOT / named if named else None
