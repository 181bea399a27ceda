"""A server on a loopback port that answers as its script says and remembers what it was asked."""

import json
import socket
import ssl
import threading
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOOPBACK_PEM = Path(__file__).with_name("loopback.pem")  # certificate and key for 127.0.0.1, of use to nobody else


@dataclass(frozen=True)
class Answer:
    """What one request gets: bytes (none: nothing is sent), then the connection is closed, kept or left silent.

    With `after` it is held back until that is set.
    """

    text: bytes = b""
    then: str = "keep"
    after: threading.Event | None = None


HANG_UP = Answer(then="close")
SILENCE = Answer(then="silence")


def reply(body: Any, status: str = "200 OK", **headers: str) -> Answer:
    """An ordinary answer; a body that is not bytes goes as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return Answer(f"HTTP/1.1 {status}\r\nContent-Length: {len(raw)}\r\n{lines}\r\n".encode() + raw)


def success(data: Any, **headers: str) -> Answer:
    """A success envelope."""
    return reply({"status": "success", "data": data}, **headers)


@dataclass(frozen=True)
class Seen:
    """One request as it came in; header names in lower case."""

    connection: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """Answers come from `script`, in the order of the requests; an exhausted script closes the connection."""

    tls: bool = False
    script: deque[Answer] = field(default_factory=deque)
    seen: list[Seen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.connections = 0

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self._listener.getsockname()[1]}"

    def answer(self, *answers: Answer) -> "Server":
        self.script.extend(answers)
        return self

    def close(self) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive(), "a client left its connection open"
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(sock, self.connections))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        with sock:
            try:
                stream = _tls(sock) if self.tls else sock
                with stream, stream.makefile("rb") as incoming:
                    while self._exchange(stream, incoming, number):
                        pass
            except OSError:
                pass  # the client went away or did not trust us: the test looks at the client

    def _exchange(self, sock: socket.socket, incoming: Any, number: int) -> bool:
        start = incoming.readline().decode().split()
        if not start:
            return False
        headers = {}
        while line := incoming.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = incoming.read(int(headers.get("content-length", 0)))
        self.seen.append(Seen(number, start[0], start[1], headers, body))
        return self._play(sock, self.script.popleft() if self.script else HANG_UP)

    def _play(self, sock: socket.socket, answer: Answer) -> bool:
        if answer.after is not None:
            assert answer.after.wait(5), "the test never let this answer go"
        sock.sendall(answer.text)
        if answer.then == "silence":
            self._over.wait(5)
        return answer.then == "keep"


def _tls(sock: socket.socket) -> socket.socket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(LOOPBACK_PEM)
    return context.wrap_socket(sock, server_side=True)
