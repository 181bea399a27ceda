"""The requests that the dispatcher makes of itself, so that granian forgets none (dispatcher/nudge.py)."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

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


def test_one_that_met_a_closed_connection_is_sent_again(listener: socket.socket, nudge: Nudge) -> None:
    nudge.came()
    nudge.tick()
    with accept(listener) as connection:
        assert connection.recv(1000) == REQUEST
        connection.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        nudge.tick()
    nudge.came()
    nudge.tick()  # lost
    nudge.tick()
    with accept(listener) as connection:
        assert connection.recv(1000) == REQUEST


def test_where_nobody_listens_it_tries_again_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with closing(Nudge(*address, ignored)) as nudge:
        nudge.came()
        nudge.tick()
        with socket.create_server(address) as listener:
            listener.settimeout(SECONDS)
            nudge.tick()
            with accept(listener) as connection:
                assert connection.recv(1000) == REQUEST
