"""One exchange: what it returns, what it raises, and which connection it uses."""

import contextlib
import gc
import io
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_server import HANG_UP, LOOPBACK_PEM, SILENCE, Answer, Server, reply, success

from client.transport import Refused, Transport, Unreachable

ROOT = Path(__file__).resolve().parents[2]


def connections(server: Server) -> list[int]:
    return [seen.connection for seen in server.seen]


def test_a_success_envelope_gives_its_data(server: Server, transport: Transport) -> None:
    server.answer(success({"task_id": 7}))
    assert transport.call("POST", "/submit-task", b'{"task_type":"noop"}') == {"task_id": 7}
    (seen,) = server.seen
    assert (seen.method, seen.path, seen.body) == ("POST", "/submit-task", b'{"task_type":"noop"}')
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["authorization"] == "Bearer s3cret"
    assert seen.headers["host"] == server.url.removeprefix("http://")


def test_a_client_that_is_forgotten_leaves_no_socket_open(server: Server) -> None:
    server.answer(success(1))
    assert Transport(server.url).call("GET", "/anything") == 1
    gc.collect()  # a socket that is still open would warn now


@pytest.mark.parametrize("data", [None, [], "text", 0])
def test_data_may_be_any_json(server: Server, transport: Transport, data: Any) -> None:
    server.answer(success(data))
    assert transport.call("GET", "/anything") == data


def test_integers_of_any_size_stay_exact(server: Server, transport: Transport) -> None:
    server.answer(success(2**65))
    assert transport.call("GET", "/anything") == 2**65


def test_without_a_token_no_authorization_is_sent(server: Server) -> None:
    server.answer(success(None))
    transport = Transport(server.url)
    transport.call("GET", "/stats")
    transport.close()
    assert "authorization" not in server.seen[0].headers


def test_a_get_has_no_body(server: Server, transport: Transport) -> None:
    server.answer(success(None))
    transport.call("GET", "/stats")
    assert "content-length" not in server.seen[0].headers


@pytest.mark.parametrize("path", ["/health", "/get-task", "/health?full=1"])
def test_classic_replies_without_envelope_come_whole(server: Server, transport: Transport, path: str) -> None:
    server.answer(reply({"status": "healthy", "task": None}))
    assert transport.call("GET", path) == {"status": "healthy", "task": None}


def test_the_path_of_the_url_is_kept(server: Server) -> None:
    server.answer(success(None))
    transport = Transport(f"{server.url}/queue/")
    transport.call("GET", "/stats")
    transport.close()
    assert server.seen[0].path == "/queue/stats"


def test_proxies_of_the_environment_are_ignored(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    server.answer(success(1))
    transport = Transport(server.url)
    assert transport.call("GET", "/stats") == 1
    transport.close()


# --- connections


def test_a_connection_is_kept_and_used_again(server: Server, transport: Transport) -> None:
    server.answer(*[success(number) for number in range(3)])
    assert [transport.call("GET", "/stats") for _ in range(3)] == [0, 1, 2]
    assert connections(server) == [1, 1, 1]


def test_an_error_reply_keeps_the_connection(server: Server, transport: Transport) -> None:
    server.answer(reply({"code": "not_found"}, "404 NOT FOUND"), success(1))
    with pytest.raises(Refused):
        transport.call("GET", "/task/1")
    assert transport.call("GET", "/stats") == 1
    assert connections(server) == [1, 1]


def test_connection_close_is_heeded(server: Server, transport: Transport) -> None:
    server.answer(success(1, Connection="close"), success(2))
    assert [transport.call("GET", "/stats") for _ in range(2)] == [1, 2]
    assert connections(server) == [1, 2]


def test_a_reused_connection_that_dies_unanswered_is_replaced_once(server: Server, transport: Transport) -> None:
    server.answer(success(1), HANG_UP, success(2))
    assert [transport.call("POST", "/x", b"same") for _ in range(2)] == [1, 2]
    assert connections(server) == [1, 1, 2]
    assert [seen.body for seen in server.seen] == [b"same"] * 3


def test_a_file_is_sent_again_from_its_start(server: Server, transport: Transport) -> None:
    server.answer(success(1), HANG_UP, success(2))
    transport.call("GET", "/stats")
    spool = io.BytesIO(b"x" * 200_000)
    spool.seek(17)
    assert transport.call("PUT", "/result/1-5f", spool, content_type="image/png") == 2
    assert [len(seen.body) for seen in server.seen] == [0, 200_000, 200_000]
    assert server.seen[-1].headers["content-type"] == "image/png"


FORK = """
import os, sys
from client.transport import Transport
transport = Transport(sys.argv[1])
transport.call("GET", "/before")
child = os.fork()
transport.call("GET", "/parent" if child else "/child")
os._exit(0 if not child else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_fork_never_asks_on_the_connection_of_its_parent(server: Server) -> None:
    server.answer(success(1), success(2), success(3))
    subprocess.run([sys.executable, "-c", FORK, server.url], cwd=ROOT, check=True, timeout=30)
    used = {seen.path: seen.connection for seen in server.seen}
    assert used == {"/before": 1, "/parent": 1, "/child": 2}


class Changing(io.BytesIO):
    """A file that becomes longer or shorter as soon as its size was asked for."""

    def __init__(self, before: bytes, after: bytes) -> None:
        super().__init__(before)
        self._after = after

    def seek(self, offset: int, whence: int = 0, /) -> int:
        at = super().seek(offset, whence)
        if whence == io.SEEK_END:
            super().seek(0)
            self.write(self._after)
            self.truncate()
        return at


def test_of_a_file_that_grows_no_more_is_sent_than_was_said(server: Server, transport: Transport) -> None:
    server.answer(success(1), success(2), success(3))
    grown = Changing(b"x" * 100_000, b"x" * 100_000 + b"GET /never-asked HTTP/1.1\r\n\r\n")
    assert transport.call("PUT", "/result/1-5f", grown) == 1
    assert transport.call("GET", "/stats") == 2
    assert [seen.path for seen in server.seen] == ["/result/1-5f", "/stats"]


def test_a_file_that_becomes_shorter_is_told_at_once(server: Server, transport: Transport) -> None:
    with pytest.raises(Unreachable, match="shorter"):
        transport.call("PUT", "/result/1-5f", Changing(b"x" * 100_000, b"x" * 70_000))


def test_a_new_connection_that_dies_is_an_error_at_once(server: Server, transport: Transport) -> None:
    server.answer(HANG_UP, success(1))
    with pytest.raises(Unreachable, match="no answer"):
        transport.call("GET", "/stats")
    assert len(server.seen) == 1


def test_the_second_death_is_an_error(server: Server, transport: Transport) -> None:
    server.answer(success(1), HANG_UP, HANG_UP, success(2))
    transport.call("GET", "/stats")
    with pytest.raises(Unreachable):
        transport.call("GET", "/stats")
    assert len(server.seen) == 3


@pytest.mark.parametrize("tls", [False, True])
def test_renew_sends_again_what_waits_on_a_silent_socket(request: pytest.FixtureRequest, tls: bool) -> None:
    server: Server = request.getfixturevalue("tls_server" if tls else "server")
    transport, answers = Transport(server.url, ca_file=LOOPBACK_PEM), []
    server.answer(SILENCE, success("at last"), success("kept"))
    thread = threading.Thread(target=lambda: answers.append(transport.call("POST", "/get-tasks", b"{}", timeout=30)))
    thread.start()
    deadline = time.monotonic() + 5
    while not (transport._unanswered and server.seen):  # else the second request may come to the silence
        assert time.monotonic() < deadline
    transport.renew()
    thread.join(5)
    assert answers == ["at last"]
    assert [seen.body for seen in server.seen] == [b"{}", b"{}"]
    assert connections(server) == [1, 2]
    assert not transport._unanswered
    transport.renew()
    assert transport.call("GET", "/stats") == "kept"
    transport.close()


def test_an_idle_connection_with_something_to_say_is_not_used(server: Server, transport: Transport) -> None:
    late = Answer(success(1).text + b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
    server.answer(late, success(2))
    assert [transport.call("GET", "/stats") for _ in range(2)] == [1, 2]


def test_no_more_than_the_pool_size_stays_open(server: Server) -> None:
    transport = Transport(server.url, pool_size=1)
    server.answer(success(1), success(2), success(3))
    with transport.stream("/task/1/result", timeout=5) as first:
        assert transport.call("GET", "/stats") == 2
        b"".join(first)
    assert transport.call("GET", "/stats") == 3
    assert connections(server) == [1, 2, 2]
    transport.close()


def test_a_call_after_close_works_and_keeps_nothing_open(server: Server, transport: Transport) -> None:
    server.answer(success(1), success(2), success(3))
    transport.call("GET", "/stats")
    transport.close()
    assert [transport.call("GET", "/stats") for _ in range(2)] == [2, 3]
    assert connections(server) == [1, 2, 3]


def test_threads_do_not_share_a_connection(server: Server, transport: Transport) -> None:
    server.answer(*[success("x" * 1000)] * 40)
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.extend(transport.call("GET", "/stats") for _ in range(10)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["x" * 1000] * 40


# --- no answer


def test_a_closed_port_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unreachable, match=f"127.0.0.1:{port}: Connection refused"):
        Transport(f"http://127.0.0.1:{port}").call("GET", "/health")


def test_an_unknown_name_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(Unreachable, match="not known"):
        Transport("http://no-such-host.invalid").call("GET", "/health")


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"], ids=["nothing", "a part"])
def test_silence_is_unreachable_after_the_timeout(server: Server, transport: Transport, said: bytes) -> None:
    server.answer(Answer(said, "silence"))
    with pytest.raises(Unreachable, match=r"nothing within 0\.05 s"):
        transport.call("GET", "/stats", timeout=0.05)


def test_a_reused_connection_that_stays_silent_is_not_tried_again(server: Server, transport: Transport) -> None:
    server.answer(success(1), SILENCE)
    transport.call("GET", "/stats")
    with pytest.raises(Unreachable):
        transport.call("GET", "/stats", timeout=0.05)
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    "text",
    [
        b'HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"status": "succ',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n90\r\n{"status": "succ',
    ],
    ids=["length", "chunked"],
)
def test_a_connection_lost_within_the_answer_is_unreachable(server: Server, transport: Transport, text: bytes) -> None:
    server.answer(Answer(text, "close"))
    with pytest.raises(Unreachable):
        transport.call("GET", "/stats")


def _drip(listener: socket.socket, head: bytes) -> None:
    sock, _ = listener.accept()
    with sock, contextlib.suppress(OSError):
        sock.recv(1000)
        sock.sendall(head)
        while True:
            sock.sendall(b"x")
            time.sleep(0.02)


@pytest.mark.parametrize(
    "head",
    [b"Content-Length: 9999", b"Content-Length: 9999\r\nConnection: close", b"Connection: close"],
    ids=["kept", "closed", "unbounded"],
)
def test_an_answer_that_drips_is_given_up_at_its_deadline(head: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dripping = threading.Thread(target=_drip, args=(listener, b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n"))
        dripping.start()
        transport, started = Transport(f"http://127.0.0.1:{listener.getsockname()[1]}"), time.monotonic()
        with pytest.raises(Unreachable, match=r"nothing within 0\.2 s"):
            transport.call("GET", "/stats", timeout=0.2)
        assert time.monotonic() - started < 2
        transport.close()
        dripping.join()


def test_sending_has_the_time_of_the_call_not_that_of_connecting() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def dawdle() -> None:
        sock, _ = listener.accept()
        with sock:
            time.sleep(0.4)
            left = 20_000_000
            while left > 0:
                left -= len(sock.recv(1_000_000))
            sock.sendall(success(1).text)

    thread = threading.Thread(target=dawdle)
    thread.start()
    transport = Transport(f"http://127.0.0.1:{listener.getsockname()[1]}", connect_timeout=0.1)
    assert transport.call("PUT", "/result/1-5f", b"x" * 20_000_000) == 1
    transport.close()
    thread.join()
    listener.close()


# --- streams


def test_a_stream_comes_in_pieces_with_its_type(server: Server, transport: Transport) -> None:
    server.answer(reply(b"ab" * 100_000, Content_Type="image/png"), success(1))
    with transport.stream("/task/1/result", timeout=5) as stream:
        assert (stream.media_type, stream.size) == ("image/png", 200_000)
        pieces = list(stream)
    assert b"".join(pieces) == b"ab" * 100_000
    assert len(pieces) > 1
    assert transport.call("GET", "/stats") == 1
    assert connections(server) == [1, 1]


def test_a_chunked_stream_keeps_its_connection(server: Server, transport: Transport) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    server.answer(Answer(chunked), success(1))
    with transport.stream("/task/1/result", timeout=5) as stream:
        assert (b"".join(stream), stream.size, stream.media_type) == (b"abcde", None, "application/octet-stream")
    assert transport.call("GET", "/stats") == 1
    assert connections(server) == [1, 1]


def test_an_abandoned_stream_gives_up_its_connection(server: Server, transport: Transport) -> None:
    server.answer(reply(b"x" * 200_000), success(1))
    with transport.stream("/task/1/result", timeout=5) as stream:
        next(iter(stream))
    assert transport.call("GET", "/stats") == 1
    assert connections(server) == [1, 2]


def test_an_error_of_the_reader_is_not_taken_for_one_of_the_network(server: Server, transport: Transport) -> None:
    server.answer(reply(b"x" * 10))
    with pytest.raises(OSError, match="disk full"), transport.stream("/task/1/result", timeout=5):
        raise OSError("disk full")


def test_a_stream_may_be_refused(server: Server, transport: Transport) -> None:
    server.answer(reply({"code": "not_found", "message": "no such task"}, "404 NOT FOUND"))
    with pytest.raises(Refused, match="no such task"), transport.stream("/task/9/result", timeout=5):
        pass


# --- TLS


@pytest.fixture
def tls_server() -> Iterator[Server]:
    made = Server(tls=True)
    yield made
    made.close()


def test_https_is_verified_with_the_ca_file_of_the_setting(tls_server: Server, given: dict[str, str]) -> None:
    given["DISPATCHER_CA"] = str(LOOPBACK_PEM)
    tls_server.answer(success(1), success(2), HANG_UP, success(3))
    transport = Transport(tls_server.url, "s3cret")
    assert [transport.call("GET", "/stats") for _ in range(3)] == [1, 2, 3]
    transport.close()
    assert connections(tls_server) == [1, 1, 1, 2]


def test_https_of_a_stranger_is_refused(tls_server: Server) -> None:
    with pytest.raises(Unreachable, match=r"(?i:certificate.verify.failed)"):
        Transport(tls_server.url, "s3cret").call("GET", "/stats")
    assert not tls_server.seen


def test_the_certificate_must_name_the_host(tls_server: Server) -> None:
    url = tls_server.url.replace("127.0.0.1", "localhost")
    with pytest.raises(Unreachable):
        Transport(url, ca_file=LOOPBACK_PEM).call("GET", "/stats")
    assert not tls_server.seen


# --- what cannot be used


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:5000", "ftp://host", "http://", "http://host/?a=1", "http://host/#x", "http://a b/", "http://u:p@host"],
)
def test_a_url_that_names_no_dispatcher(url: str) -> None:
    with pytest.raises(ValueError, match="dispatcher"):
        Transport(url)


@pytest.mark.parametrize("token", ["two words", "line\r\nX-Injected: 1", "ümlaut", ""])
def test_a_token_that_no_header_can_carry(token: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII") as caught:
        Transport("http://127.0.0.1:5000", token)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize("path", ["stats", "/a b", "/x\r\nX-Injected: 1", "/ü", ""])
def test_a_path_that_no_request_line_can_carry(path: str) -> None:
    with pytest.raises(ValueError, match="not a path"):
        Transport("http://127.0.0.1:5000").call("GET", path)


def test_a_missing_ca_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Transport("https://127.0.0.1:5000", ca_file=tmp_path / "ca.pem")
