"""The server, as a process of its own, at its edges: stopping, ports, slow clients, bodies."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 5.0
QUICK = {"KEEP_ALIVE_SECONDS": 0.5, "STALL_SECONDS": 0.5, "SWEEP_SECONDS": 0.1, "DRAIN_SECONDS": 0.3}
AUTH = b"Authorization: Bearer right\r\n"


class Server:
    """One server process, and raw connections to it."""

    def __init__(self, process: subprocess.Popen[str], cleanup: ExitStack) -> None:
        self.process, self._cleanup = process, cleanup
        self.lines = [self._read_line()]
        self.port = int(self.lines[0].rsplit(":", 1)[1]) if "listening on" in self.lines[0] else 0

    def _read_line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def connect(self, *parts: bytes) -> socket.socket:
        connection = self._cleanup.enter_context(socket.create_connection(("127.0.0.1", self.port), DEADLINE))
        connection.sendall(b"".join(parts))
        return connection

    def ask(self, method: str, path: str, body: bytes = b"", headers: bytes = AUTH) -> tuple[int, bytes]:
        connection = self.connect(request(method, path, body, headers))
        answer = read_answer(connection)
        connection.close()
        return answer

    def wait_at(self, *paths: str) -> list[socket.socket]:
        """Connections whose requests wait in the application."""
        connections = [self.connect(request("POST", path)) for path in paths]
        wait_until(lambda: self.ask("GET", "/waiting")[1] == str(len(paths)).encode())
        return connections

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """The exit code, and in `lines` what it said."""
        began = time.monotonic()
        self.process.send_signal(signum)
        code = self.process.wait(DEADLINE)
        assert time.monotonic() - began < DEADLINE
        assert self.process.stdout
        self.lines += self.process.stdout.read().splitlines()
        return code


def request(method: str, path: str, body: bytes = b"", headers: bytes = AUTH) -> bytes:
    start = f"{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n".encode()
    return start + headers + b"\r\n" + body


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body; leaves the connection open."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += receive(connection)
    head, body = data.split(b"\r\n\r\n", 1)
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(fields.get(b"content-length", 0)):
        body += receive(connection)
    assert b"granian" not in head
    return int(head.split()[1]), body


def receive(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    assert data, "the server closed the connection"
    return data


def is_closed(connection: socket.socket) -> bool:
    """Whether the server closes it, within the deadline."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        return True
    return True


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline, "not in time"


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    with ExitStack() as cleanup:

        def start(**options: Any) -> Server:
            command = [sys.executable, "-m", "tests.http.server_app", json.dumps(options)]
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            cleanup.enter_context(process)
            cleanup.callback(process.kill)
            return Server(process, cleanup)

        yield start


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_stop_answers_those_who_wait_and_those_at_work(start: Callable[..., Server], signum: int) -> None:
    server = start()
    idle = server.connect()
    waiting = server.wait_at("/park", "/park", "/park", "/finish-after-stop")
    code = server.stop(signum)
    answers = [read_answer(connection) for connection in waiting]
    assert (code, answers) == (0, [(200, b"woken")] * 3 + [(200, b"finished")])
    assert server.lines[1:] == [f"INFO:dispatcher.server:stopping on {signal.Signals(signum).name}", "on_stop"]
    assert is_closed(idle)


def test_stop_cuts_off_what_hangs(start: Callable[..., Server]) -> None:
    server = start(DRAIN_SECONDS=0.3, CUT_OFF_SECONDS=0.3)
    stalled = server.connect(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n", AUTH, b"\r\n123")
    headless = server.connect(b"POST /echo HT")
    hanging = server.wait_at("/hang")
    assert server.stop() == 0
    assert all(is_closed(connection) for connection in (*hanging, stalled, headless))


def test_a_second_signal_ends_it_at_once(start: Callable[..., Server]) -> None:
    server = start(DRAIN_SECONDS=60)
    server.wait_at("/hang")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.stdout
    assert [server.process.stdout.readline() for _ in range(2)][1] == "on_stop\n"
    assert server.stop() == 128 + signal.SIGTERM


def test_a_port_in_use_is_one_clear_line(start: Callable[..., Server]) -> None:
    first = start()
    second = start(port=first.port)
    assert second.process.wait(DEADLINE) == 2
    assert second.lines == [f"cannot listen on 127.0.0.1:{first.port}: Address already in use"]
    assert first.ask("POST", "/echo", b"still here") == (200, b"still here")


def test_killed_it_leaves_nothing_behind(start: Callable[..., Server]) -> None:
    server = start()
    server.ask("POST", "/echo", b"x")
    pid = server.process.pid
    assert [task for task in os.listdir(f"/proc/{pid}/task") if children(pid, task)] == []
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    assert start(port=server.port).ask("POST", "/echo", b"again") == (200, b"again")


def children(pid: int, task: str) -> str:
    return Path(f"/proc/{pid}/task/{task}/children").read_text()


def test_a_connection_is_kept(start: Callable[..., Server]) -> None:
    connection = start().connect()
    for body in (b"first", b"second"):
        connection.sendall(request("POST", "/echo", body))
        assert read_answer(connection) == (200, body)


def test_strangers_are_refused_before_their_body(start: Callable[..., Server]) -> None:
    server = start(threads=1)
    head = b"POST /echo HTTP/1.1\r\nHost: test\r\n"
    for framing in (b"Content-Length: 999\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"):
        strangers = [server.connect(head, framing) for _ in range(20)]
        assert all(read_answer(connection)[0] == 401 for connection in strangers)
        assert all(is_closed(connection) for connection in strangers)
    assert server.ask("POST", "/echo", b"friend") == (200, b"friend")


def test_slow_headers_and_idle_connections_are_ended(start: Callable[..., Server]) -> None:
    server = start(threads=1, **QUICK)
    slow = [server.connect(part) for part in (b"", b"POST /ec", b"POST /echo HTTP/1.1\r\nHo") for _ in range(10)]
    assert server.ask("POST", "/echo", b"quick") == (200, b"quick")
    assert all(is_closed(connection) for connection in slow)


def test_stalled_and_dripping_bodies_are_ended(start: Callable[..., Server]) -> None:
    server = start(threads=41, **QUICK)
    head = b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 999\r\n" + AUTH + b"\r\n"
    stalled, dripping = ([server.connect(head) for _ in range(20)] for _ in range(2))

    def drip(connection: socket.socket) -> bool:
        """Whether it still takes a byte."""
        try:
            connection.sendall(b"x")
        except ConnectionError:
            return False
        return server.ask("POST", "/echo", b"quick") == (200, b"quick")

    wait_until(lambda: not any([drip(connection) for connection in dripping]))
    assert all(is_closed(connection) for connection in stalled)


def test_a_steady_upload_is_not_a_stall(start: Callable[..., Server]) -> None:
    server = start(**QUICK | {"KEEP_ALIVE_SECONDS": 60, "STALL_BYTES_PER_SECOND": 1, "SWEEP_SECONDS": 0.5})
    upload = server.connect(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 15\r\n", AUTH, b"\r\n")
    upload.settimeout(0.1)  # the pace of the upload: some bytes between two sweeps
    for _ in range(14):
        upload.sendall(b"x")
        with pytest.raises(TimeoutError):
            upload.recv(1)
    upload.settimeout(DEADLINE)
    upload.sendall(b"x")
    assert read_answer(upload) == (200, b"x" * 15)


def test_a_ping_is_answered_by_the_server_itself(start: Callable[..., Server]) -> None:
    server = start()
    assert server.ask("OPTIONS", "*", headers=b"") == (204, b"")
    assert server.ask("OPTIONS", "/waiting", headers=b"")[0] == 401
    connection = server.connect(request("OPTIONS", "*", b"a body"))  # nobody reads it, and it is no request
    assert read_answer(connection)[0] == 204
    connection.sendall(request("GET", "/waiting"))
    assert read_answer(connection) == (200, b"0")


def test_three_hundred_waiting_are_woken_together(start: Callable[..., Server]) -> None:
    server = start(threads=310)
    parked = server.wait_at(*["/park"] * 300)
    assert server.ask("POST", "/wake") == (200, b"done")
    began = time.monotonic()
    assert {read_answer(connection) for connection in parked} == {(200, b"woken")}
    assert time.monotonic() - began < 2


def test_long_headers_are_refused(start: Callable[..., Server]) -> None:
    server = start()
    assert server.ask("POST", "/echo", b"x", AUTH + b"X-Long: " + b"a" * 20_000 + b"\r\n")[0] == 431
    assert server.ask("POST", "/echo", b"x", AUTH + b"X-Many: a\r\n" * 150)[0] == 431
    assert server.ask("POST", "/echo", b"x") == (200, b"x")


def test_bodies_are_whole_or_refused(start: Callable[..., Server]) -> None:
    server = start()
    head = b"POST /echo HTTP/1.1\r\nHost: test\r\n" + AUTH
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    assert read_answer(server.connect(chunked, b"5\r\nwhole\r\n0\r\n\r\n")) == (200, b"whole")
    assert read_answer(server.connect(chunked, b"3e8\r\n", b"x" * 1000, b"\r\n0\r\n\r\n")) == (200, b"x" * 1000)
    assert read_answer(server.connect(chunked, b"3e9\r\n", b"x" * 1001, b"\r\n0\r\n\r\n"))[0] == 413
    short = server.connect(head, b"Content-Length: 9\r\n\r\nshort")
    short.shutdown(socket.SHUT_WR)
    assert read_answer(short)[0] == 400


def test_two_framings_are_read_as_chunks_and_end_the_connection(start: Callable[..., Server]) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: test\r\n" + AUTH
    smuggler = start().connect(head, b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nGET /")
    assert read_answer(smuggler) == (200, b"x")
    assert is_closed(smuggler)


def test_two_lengths_are_refused(start: Callable[..., Server]) -> None:
    server = start()
    assert server.ask("POST", "/echo", b"x", AUTH + b"Content-Length: 2\r\n")[0] == 400


def test_answers_can_be_streamed(start: Callable[..., Server]) -> None:
    connection = start().connect(b"GET /chunks HTTP/1.1\r\nHost: test\r\nConnection: close\r\n", AUTH, b"\r\n")
    data = b""
    while part := connection.recv(65536):
        data += part
    assert data.endswith(b"\r\n\r\n1\r\n0\r\n1\r\n1\r\n1\r\n2\r\n0\r\n\r\n")
