"""One HTTP exchange with the dispatcher: a keep-alive pool, one attempt, a checked reply.

It stands on sockets and `http.client`'s response parser: measured at 105 µs of CPU for a small POST, where
`urllib3.PoolManager` takes 200 and `requests.Session` 390; and only so is it known whether a socket was used
before, which the one transparent re-send needs. Nothing is read from the environment's proxy variables, no
redirect is followed, and the token goes to the one address that was given.
"""

import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn
from urllib.parse import SplitResult, urlsplit

from client.errors import BadReply, Refused, TransportError, Unreachable
from client.sockets import Sockets, tls_context
from common import settings

__all__ = ["BadReply", "Refused", "Stream", "Transport", "TransportError", "Unreachable"]

MAX_REPLY = 80 * 1024 * 1024
_CHUNK = 64 * 1024
_ENDED = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)  # the other side has gone
_BARE = ("/get-task", "/health")  # the classic replies that stand without an envelope
_PLAIN = re.compile(r"[!-~]+")  # what may stand in a request line or a token: no space, no control, ASCII


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    head: bytes
    body: bytes | BinaryIO
    timeout: float


class Stream:
    """The body of a reply, piece by piece; `size` in bytes where the dispatcher named it."""

    def __init__(self, reply: "_Reply") -> None:
        self.media_type: str = reply.response.getheader("Content-Type") or "application/octet-stream"
        self.size: int | None = reply.response.length
        self._reply = reply

    def __iter__(self) -> Iterator[bytes]:
        return self._reply.chunks()


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
        parts = _checked_url(self.url)
        self._prefix = parts.path
        self._headers = _fixed_headers(parts, token)
        tls = tls_context(parts, ca_file or _ca_setting(parts))
        port = parts.port or (443 if tls else 80)
        self._sockets = Sockets(str(parts.hostname), port, tls, size=pool_size, connect_timeout=connect_timeout)

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
        with self._exchange(self._request(method, path, body, timeout, content_type)) as reply:
            text = reply.read()
        return _data(self.url, path, text)

    @contextmanager
    def stream(self, path: str, *, timeout: float) -> Iterator[Stream]:
        """GET whose body is read by iterating; `timeout` seconds for each piece. Raises as `call` does."""
        with self._exchange(self._request("GET", path, None, timeout, "application/json")) as reply:
            reply.deadline = None
            yield Stream(reply)

    def close(self) -> None:
        """Closes all idle sockets; a call after this still works, on a socket of its own."""
        self._sockets.close()

    def _request(
        self, method: str, path: str, body: bytes | BinaryIO | None, timeout: float, content_type: str
    ) -> _Request:
        target = self._prefix + path
        if not path.startswith("/") or not _PLAIN.fullmatch(target):
            raise ValueError(f"not a path: {path!r}")
        head = f"{method} {target} HTTP/1.1\r\n{self._headers}"
        if body is not None:
            head += f"Content-Type: {content_type}\r\nContent-Length: {_size(body)}\r\n"
        return _Request(method, f"{head}\r\n".encode("ascii"), b"" if body is None else body, timeout)

    @contextmanager
    def _exchange(self, request: _Request) -> Iterator["_Reply"]:
        """A reply whose status is a success; its socket goes back to the pool when its body was read."""
        with _translated(self.url, request.timeout):
            reply = self._send(request)
        try:
            _raise_for_status(reply)
            yield reply
        finally:
            reply.response.close()
            if reply.complete and not reply.response.will_close:
                self._sockets.give(reply.sock)
            else:
                reply.sock.close()

    def _send(self, request: _Request) -> "_Reply":
        used = self._sockets.idle()
        if used is not None:
            try:
                return _attempt(self.url, used, request)
            except _ENDED:
                # The dispatcher had closed this idle socket. Every request of ours is idempotent by name, so it is
                # sent once more, on a new socket.
                pass
        return _attempt(self.url, self._sockets.open(), request)


class _Reply:
    """A reply whose head was read. `deadline` (monotonic) is for the whole body; None: `timeout` for each piece."""

    def __init__(self, url: str, sock: socket.socket, response: http.client.HTTPResponse, timeout: float) -> None:
        self.url, self.sock, self.response = url, sock, response
        self.deadline: float | None = time.monotonic() + timeout
        self.complete = False
        self._timeout = timeout

    def chunks(self) -> Iterator[bytes]:
        while chunk := self._chunk():
            yield chunk

    def read(self) -> bytes:
        """The whole body; raises BadReply when it is too large."""
        parts, size = [], self.response.length or 0
        if size <= MAX_REPLY:
            size = 0
            for chunk in self.chunks():
                parts.append(chunk)
                size += len(chunk)
                if size > MAX_REPLY:
                    break
        if size > MAX_REPLY:
            raise BadReply(self.url, f"an answer of more than {MAX_REPLY // 2**20} MiB")
        return b"".join(parts)

    def _chunk(self) -> bytes:
        if self.complete:
            return b""
        with _translated(self.url, self._timeout):
            self.sock.settimeout(self._timeout if self.deadline is None else _left(self.deadline))
            chunk = self.response.read1(_CHUNK)
            if not chunk and self.response.length:
                raise ConnectionResetError("the connection ended within the answer")
        self.complete = not chunk
        return chunk


def _attempt(url: str, sock: socket.socket, request: _Request) -> _Reply:
    response = http.client.HTTPResponse(sock, method=request.method)
    try:
        sock.settimeout(request.timeout)
        broken = _transmit(sock, request)
        reply = _Reply(url, sock, response, request.timeout)
        try:
            response.begin()
        except _ENDED as error:
            raise broken or error from None
        return reply
    except BaseException:
        response.close()
        sock.close()
        raise


def _transmit(sock: socket.socket, request: _Request) -> Exception | None:
    """Sends the request; returns the error when nobody listens any more: an answer may stand there already (413)."""
    try:
        if isinstance(request.body, bytes):
            sock.sendall(request.head + request.body)
        else:
            _transmit_file(sock, request.head, request.body)
    except _ENDED as error:
        return error
    return None


def _transmit_file(sock: socket.socket, head: bytes, body: BinaryIO) -> None:
    body.seek(0)
    sock.sendall(head)
    while piece := body.read(_CHUNK):
        sock.sendall(piece)


@contextmanager
def _translated(url: str, timeout: float) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise Unreachable(url, f"nothing within {timeout:g} s") from None
    except (http.client.IncompleteRead, OSError) as error:
        raise Unreachable(url, getattr(error, "strerror", None) or str(error)) from error
    except http.client.HTTPException as error:
        raise BadReply(url, f"not HTTP ({type(error).__name__})") from error


def _raise_for_status(reply: _Reply) -> None:
    status = reply.response.status
    if 300 <= status < 400:
        raise BadReply(reply.url, f"a redirect (HTTP {status}) to {reply.response.getheader('Location')}")
    if status >= 400:
        code, message = _error(reply.read(), status)
        raise Refused(status, code, message, _retry_after(reply.response.getheader("Retry-After")))


def _error(text: bytes, status: int) -> tuple[str, str]:
    """Code and message of an error body, or what stands for them when a proxy or a stranger answered."""
    try:
        body = _parse(text)
    except ValueError:
        body = None
    fields = body if isinstance(body, dict) else {}
    code = fields.get("code")
    message = fields.get("message") or fields.get("error")
    reason = http.client.responses.get(status, "an unknown status")
    return str(code or f"http_{status}"), str(message or reason)


def _retry_after(text: str | None) -> float | None:
    """Seconds; a date is passed over, since the clocks of two machines need not agree."""
    return float(text) if text and re.fullmatch(r"\d{1,6}(\.\d+)?", text.strip()) else None


def _data(url: str, path: str, text: bytes) -> Any:
    try:
        reply = _parse(text)
    except ValueError as error:
        raise BadReply(url, f"not JSON ({error})") from None
    if not isinstance(reply, dict):
        raise BadReply(url, f"{type(reply).__name__} in place of an object")
    if reply.get("status") == "success" and "data" in reply:
        return reply["data"]
    if path.partition("?")[0] in _BARE:
        return reply
    raise BadReply(url, "an object without status success and data")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Not the full JSON profile: texts in a reply were checked when the dispatcher took them in, and the check for
# duplicate keys would triple the cost of reading a large claim.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _parse(text: bytes) -> Any:
    """The JSON value of a body; raises ValueError, also for text that is not UTF-8 or nested too deep."""
    try:
        return _DECODER.decode(text.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deep") from None


def _checked_url(url: str) -> SplitResult:
    parts = urlsplit(url)
    usable = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
    if not usable or not _PLAIN.fullmatch(url):
        raise ValueError(f"{url!r} is not the URL of a dispatcher, like http://127.0.0.1:5000")
    if parts.username is not None:
        raise ValueError("a dispatcher's URL carries no user or password: set DISPATCHER_TOKEN")
    return parts


def _fixed_headers(parts: SplitResult, token: str | None) -> str:
    headers = f"Host: {parts.netloc}\r\nAccept-Encoding: identity\r\nUser-Agent: taskmill\r\n"
    if token is None:
        return headers
    if not _PLAIN.fullmatch(token):
        raise ValueError("the token must be printable ASCII without spaces")
    return f"{headers}Authorization: Bearer {token}\r\n"


def _ca_setting(parts: SplitResult) -> Path | None:
    named = settings.environment().get("DISPATCHER_CA") if parts.scheme == "https" else None
    return settings.ROOT / named if named else None


def _size(body: bytes | BinaryIO) -> int:
    return len(body) if isinstance(body, bytes) else body.seek(0, 2)


def _left(deadline: float) -> float:
    """Seconds until the deadline; raises TimeoutError after it (a socket takes 0 for 'do not block')."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
