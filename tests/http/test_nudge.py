"""The requests that the dispatcher makes of itself, so that granian forgets none (dispatcher/nudge.py)."""

import logging
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from http_helpers import Process, wait_until

from dispatcher import server
from dispatcher.nudge import MOST, REQUEST, Nudge

SECONDS = 5.0


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SECONDS)
        yield listener


@pytest.fixture
def nudge(listener: socket.socket) -> Iterator[Nudge]:
    with closing(Nudge(*listener.getsockname(), ignored)) as nudge:
        yield nudge


def ignored() -> None:
    pass


def accept(listener: socket.socket) -> socket.socket:
    connection, _ = listener.accept()
    connection.settimeout(SECONDS)
    return connection


def nobody_comes(listener: socket.socket) -> bool:
    listener.setblocking(False)
    try:
        listener.accept()
    except BlockingIOError:
        return True
    finally:
        listener.settimeout(SECONDS)
    return False


def test_nothing_is_sent_while_no_request_came(listener: socket.socket, nudge: Nudge) -> None:
    nudge.tick()
    assert nobody_comes(listener)


def test_it_rings_once_for_all_that_come_together(listener: socket.socket) -> None:
    rings: list[int] = []
    with closing(Nudge(*listener.getsockname(), lambda: rings.append(1))) as nudge:
        assert not nudge.wanted
        nudge.came()
        nudge.came()
        assert (nudge.wanted, rings) == (True, [1])
        nudge.tick()
        with accept(listener) as connection:
            assert connection.recv(1000) == REQUEST
            assert nudge.wanted  # until it is answered
            connection.send(b"HTTP/1.1 204 No Content\r\n\r\n")
            nudge.tick()
        assert not nudge.wanted
        nudge.came()
        assert rings == [1, 1]


def test_one_request_after_others_came_on_one_connection(listener: socket.socket, nudge: Nudge) -> None:
    nudge.came()
    nudge.tick()
    with accept(listener) as connection:
        for _ in range(3):
            assert connection.recv(1000) == REQUEST
            connection.send(b"HTTP/1.1 204 No Content\r\n\r\n")
            nudge.tick()  # it was answered, and nobody came: nothing is sent
            nudge.came()
            nudge.tick()
        assert connection.recv(1000) == REQUEST
        assert nobody_comes(listener)


def test_while_it_is_not_answered_more_are_sent_but_not_for_ever(listener: socket.socket, nudge: Nudge) -> None:
    nudge.came()
    for _ in range(MOST + 5):
        nudge.tick()
    connections = [accept(listener) for _ in range(MOST)]
    assert [connection.recv(1000) for connection in connections] == [REQUEST] * MOST
    assert nobody_comes(listener)
    for connection in connections:
        connection.send(b"HTTP/1.1 204 No Content\r\n\r\n")
    nudge.tick()
    nudge.came()
    nudge.tick()
    assert nobody_comes(listener)  # one was kept
    assert [connection.recv(1000) for connection in connections].count(REQUEST) == 1
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("reset", [False, True])
def test_one_that_met_a_closed_connection_is_sent_again(listener: socket.socket, nudge: Nudge, reset: bool) -> None:
    nudge.came()
    nudge.tick()
    with accept(listener) as connection:
        assert connection.recv(1000) == REQUEST
        connection.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        nudge.tick()
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    nudge.came()
    nudge.tick()  # lost
    nudge.tick()
    with accept(listener) as connection:
        assert connection.recv(1000) == REQUEST


@pytest.mark.parametrize(("everywhere", "host"), [("0.0.0.0", "127.0.0.1"), ("::", "::1")])
def test_who_listens_everywhere_is_reached_here(everywhere: str, host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        listener.settimeout(SECONDS)
        with closing(Nudge(everywhere, listener.getsockname()[1], ignored)) as nudge:
            nudge.came()
            nudge.tick()
            with accept(listener) as connection:
                assert connection.recv(1000) == REQUEST


def test_where_nobody_listens_it_says_so_once_and_tries_again(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with closing(Nudge(*address, ignored)) as nudge:
        nudge.came()
        nudge.tick()
        nudge.tick()
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        with socket.create_server(address) as listener:
            listener.settimeout(SECONDS)
            nudge.tick()
            with accept(listener) as connection:
                assert connection.recv(1000) == REQUEST


# -- what calls it --


class Watched:
    """A bell and a nudge in one: notes what is called, and what happens while the main thread waits."""

    def __init__(self, *meanwhile: Callable[["Watched"], None]) -> None:
        self.told: list[object] = []
        self.wanted = self.stopped = False
        self._meanwhile = list(meanwhile)

    def came(self) -> None:
        self.told.append("came")
        self.wanted = True

    def tick(self) -> None:
        self.told.append("tick")
        self.wanted = False

    def stop(self) -> None:
        self.stopped = True

    def wait(self, true: Callable[[], bool], seconds: float) -> bool:
        if not true():
            self.told.append("wait" if seconds == server.NUDGE_SECONDS else "sleep")
            self._meanwhile.pop(0)(self)
        return true()


def looked_after(*meanwhile: Callable[[Watched], None]) -> list[object]:
    """What the main thread did while these things happened, one in each of its waits."""
    watched: Any = Watched(*meanwhile)
    server._look_after(0, watched, watched, lambda: watched.stopped)
    return list(watched.told)


def nothing(_: Watched) -> None:
    pass


def test_one_ping_a_moment_after_those_that_came_together() -> None:
    told = looked_after(Watched.came, Watched.came, Watched.stop)
    assert told == ["sleep", "came", "wait", "came", "tick", "sleep"]


def test_after_each_sweep_there_is_a_ping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SWEEP_SECONDS", -1.0)
    assert looked_after(nothing, Watched.stop) == ["sleep", "came", "wait", "came"]


def test_no_ping_once_it_is_stopped() -> None:
    assert looked_after(Watched.came, Watched.stop) == ["sleep", "came", "wait"]


@pytest.mark.parametrize(
    ("method", "path", "came"), [("GET", "/health", 1), ("OPTIONS", "/tasks", 1), ("OPTIONS", "*", 0)]
)
def test_every_request_counts_but_the_ping_itself(method: str, path: str, came: int) -> None:
    watched: Any = Watched()
    asked = {"REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.input": None}
    answers: list[str] = []

    def start(status: str, headers: list[tuple[str, str]], error: Any = None) -> Any:
        answers.append(status)

    def app(environ: Any, begin: Any) -> list[bytes]:
        begin("200 OK", [])
        return [b"of the application"]

    body = server._careful(app, 0, watched)(asked, start)
    assert (answers, list(body)) == (["200 OK"], [b"of the application"]) if came else (["204 No Content"], [])
    assert watched.told == ["came"] * came


def test_a_server_pings_itself_and_leaves_no_connection(tmp_path: Path) -> None:
    """Beside the connection of the one who asks there is one more soon, to the server's own port."""
    process = Process(tmp_path / "queue.db").ready()
    try:
        process.ask("GET", "/health")
        wait_until(lambda: connections_to(process.port, process.process.pid) == 1)
    finally:
        assert process.stop() == 0
        process.close()


def connections_to(port: int, pid: int) -> int:
    """How many connections to a local port belong to a process."""
    inodes = {os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and f"socket:[{row[9]}]" in inodes for row in rows)
