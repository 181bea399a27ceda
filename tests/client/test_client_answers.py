"""What stands on the wire: answers in odd pieces, without an end, with too much; and what is sent."""

import io
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, repeat

import pytest
from scripted_server import LOOPBACK_PEM, SILENCE, Answer, Server, _tls, reply, success

from client import urls
from client.answers import Answer as Parsed
from client.answers import Malformed
from client.connections import Address, Connection, Request, Unanswered
from client.transport import BadReply, Refused, Transport, Unreachable

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = b'{"status": "success", "data": 7}'
WHOLE = {
    "length": HEAD + b"Content-Length: 32\r\n\r\n" + BODY,
    "chunks": CHUNKED + b"10\r\n" + BODY[:16] + b"\r\n10;name=value\r\n" + BODY[16:] + b"\r\n0\r\nTrailer: 1\r\n\r\n",
    "interim": b"HTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\n\r\n" + success(7).text,
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n" * 2 + success(7).text,
}
STRANGERS = {
    "mail": b"220 mail.example.com ESMTP\r\n",
    "page": b"<html>an answer of HTTP/0.9</html>",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x0a",
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00d",
    "status": b"HTTP/1.1 OK\r\n\r\n",
    "length": HEAD + b"Content-Length: -1\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    "length and chunks": HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    "chunk": CHUNKED + b"2\r\n{}\r\nmore\r\n",
    "upgrade": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nx",
}
ENDLESS = {
    "one header": (HEAD + b"X: ", b"x"),
    "headers": (HEAD, b"X-Header: value\r\n"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\nX: 1\r\n\r\n"),
    "name of a chunk": (CHUNKED + b"2\r\n{}\r\n3;", b"x"),
    "trailers": (CHUNKED + b"2\r\n{}\r\n0\r\n", b"X-Trailer: value\r\n"),
}


def fed(text: bytes, size: int) -> tuple[Parsed, bytes]:
    """The answer in these bytes when so many come at a time, and its body."""
    answer = Parsed()
    parts = []
    for at in range(0, len(text), size):
        answer.feed(text[at : at + size])
        parts.append(answer.taken())
    return answer, b"".join(parts)


@pytest.mark.parametrize(
    "place", ["on_message_begin", "on_header", "on_headers_complete", "on_body", "on_message_complete"]
)
@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_a_signal_amid_an_answer_is_no_bad_answer(
    place: str, end: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise end

    monkeypatch.setattr(Parsed, place, interrupted)
    with pytest.raises(end):
        Parsed().feed(WHOLE["length"])


@contextmanager
def peer(serve: Callable[[socket.socket], None], tls: bool = False) -> Iterator[str]:
    """The URL of one who does this with the first connection; when the client goes away, that is all right."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            sock, _ = listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is held back is lost when it goes
            with suppress(OSError), sock, _tls(sock) if tls else sock as stream:
                serve(stream)

        thread = threading.Thread(target=run)
        thread.start()
        yield f"http{'s' if tls else ''}://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(5)
        assert not thread.is_alive()


# --- parsing


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("text", WHOLE.values(), ids=WHOLE)
def test_an_answer_may_come_in_any_pieces(text: bytes, size: int) -> None:
    answer, body = fed(text, size)
    assert (answer.status, body, answer.whole, answer.keep_alive) == (200, BODY, True, True)
    assert "Trailer" not in answer.headers


@pytest.mark.parametrize("text", WHOLE.values(), ids=WHOLE)
def test_an_answer_that_is_cut_anywhere_is_none(text: bytes) -> None:
    for at in range(len(text)):
        answer, _ = fed(text[:at], 1000)
        with pytest.raises(ConnectionError):
            answer.end()
        assert not answer.whole


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    answer, body = fed(HEAD + b"\r\n" + BODY, 7)
    assert (body, answer.size, answer.whole) == (BODY, None, False)
    answer.end()
    assert (answer.whole, answer.keep_alive) == (True, False)


def test_headers_are_found_in_any_case_and_joined() -> None:
    headers = fed(HEAD + b"Via: 1.1 a\r\ndate: now \t\r\nvia: 1.1 \xfc\r\nContent-Length: 0\r\n\r\n", 1000)[0].headers
    assert (headers["Date"], headers["VIA"], len(headers)) == ("now", "1.1 a, 1.1 ü", 3)
    assert headers.get("Location") is None
    assert list(headers) == ["via", "date", "content-length"]


@pytest.mark.parametrize("status", [b"204 NO CONTENT", b"304 NOT MODIFIED"])
def test_some_answers_have_no_body_whatever_they_say(status: bytes) -> None:
    answer, body = fed(b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\n", 1000)
    assert (body, answer.whole, answer.keep_alive) == (b"", True, True)


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("text", STRANGERS.values(), ids=STRANGERS)
def test_what_is_not_http_is_told_at_once(text: bytes, size: int) -> None:
    with pytest.raises(Malformed):
        fed(text, size)


# --- on a connection


@pytest.mark.parametrize("text", WHOLE.values(), ids=WHOLE)
def test_a_connection_serves_again_whatever_the_form(server: Server, transport: Transport, text: bytes) -> None:
    server.answer(Answer(text), success(8))
    assert [transport.call("GET", "/stats") for _ in range(2)] == [7, 8]
    assert server.connections == 1


@pytest.mark.parametrize("head", [HEAD, HEAD + b"Connection: close\r\n", b"HTTP/1.0 200 OK\r\n"])
def test_the_end_of_the_connection_may_be_that_of_the_body(server: Server, transport: Transport, head: bytes) -> None:
    server.answer(Answer(head + b"\r\n" + BODY, "close"), success(8))
    assert [transport.call("GET", "/stats") for _ in range(2)] == [7, 8]
    assert server.connections == 2


@pytest.mark.parametrize("surplus", [b"x", b"HTTP/1.1 200 OK", success(666).text, b"\0" * 100], ids=range(4))
@pytest.mark.parametrize("close", [{}, {"Connection": "close"}], ids=["kept", "closed"])
def test_what_stands_behind_an_answer_is_never_taken_for_one(
    server: Server, transport: Transport, surplus: bytes, close: dict[str, str]
) -> None:
    server.answer(Answer(success(7, **close).text + surplus), success(8))
    assert [transport.call("GET", "/stats") for _ in range(2)] == [7, 8]
    assert server.connections == 2


def test_a_kept_connection_that_ended_meanwhile_is_replaced(server: Server, transport: Transport) -> None:
    server.answer(Answer(success(7).text, "close"), success(8))
    assert [transport.call("POST", "/x", b"{}") for _ in range(2)] == [7, 8]
    assert server.connections == 2


def test_an_answer_that_has_begun_is_not_asked_for_again(server: Server, transport: Transport) -> None:
    server.answer(success(7), Answer(HEAD[:9], "close"), success(8))
    transport.call("GET", "/stats")
    with pytest.raises(Unreachable, match="ended within the answer"):
        transport.call("GET", "/stats")
    assert len(server.seen) == 2


def test_the_connection_used_last_is_used_first(server: Server, transport: Transport) -> None:
    server.answer(reply(b"x"), success(7), success(8))
    with transport.stream("/task/1/result", timeout=5) as stream:
        transport.call("GET", "/stats")
        b"".join(stream)
    transport.call("GET", "/stats")
    assert [seen.connection for seen in server.seen] == [1, 2, 1]


@pytest.mark.parametrize("text", STRANGERS.values(), ids=STRANGERS)
def test_a_stranger_is_a_bad_reply(server: Server, transport: Transport, text: bytes) -> None:
    server.answer(Answer(text))
    with pytest.raises(BadReply, match="not HTTP"):
        transport.call("GET", "/stats")


@pytest.mark.parametrize(("begin", "more"), ENDLESS.values(), ids=ENDLESS)
def test_what_never_comes_to_a_body_is_given_up(begin: bytes, more: bytes) -> None:
    def flood(sock: socket.socket) -> None:
        sock.recv(1000)
        for text in chain([begin], repeat(more * 1000)):
            sock.sendall(text)

    with peer(flood) as url, pytest.raises(BadReply, match="more than 64 KiB"):
        Transport(url).call("GET", "/stats")


@pytest.mark.parametrize("tls", [False, True])
def test_who_answers_early_and_goes_is_heard(tls: bool) -> None:
    def refuse(sock: socket.socket) -> None:
        sock.recv(1000)
        sock.sendall(reply({"code": "too_large", "message": "16 MiB"}, "413 CONTENT TOO LARGE").text)

    with peer(refuse, tls) as url, pytest.raises(Refused, match="16 MiB"):
        Transport(url, ca_file=LOOPBACK_PEM).call("PUT", "/result/1-5f", io.BytesIO(b"x" * 20_000_000))


def test_a_connection_that_did_not_take_the_whole_request_is_not_kept() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(success(7).text)
    theirs.close()
    connection = Connection(ours, Unanswered())
    answer = connection.ask(Request(b"head", b"body"), 5.0)
    connection.close()
    assert (answer.taken(), answer.whole, answer.keep_alive) == (BODY, True, False)


def test_two_threads_may_give_up_what_many_wait_for(server: Server) -> None:
    transport, heard = Transport(server.url), []
    server.answer(*[SILENCE] * 4)

    def wait() -> None:
        with pytest.raises(Unreachable, match="given up for another dispatcher") as caught:
            transport.call("POST", "/get-tasks", b"{}", timeout=30)
        heard.append(caught.value)

    waiting = [threading.Thread(target=wait) for _ in range(4)]
    for thread in waiting:
        thread.start()
    deadline = time.monotonic() + 5
    while len(transport._unanswered) < 4 or len(server.seen) < 4:
        assert time.monotonic() < deadline
    leaving = [threading.Thread(target=transport.retire) for _ in range(2)]
    for thread in leaving:
        thread.start()
    for thread in waiting + leaving:
        thread.join(5)
    assert len(heard) == 4
    assert not transport._unanswered
    assert server.connections == 4


def test_a_peer_that_never_agrees_on_tls_has_the_time_to_connect() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(Unreachable, match=r"no connection within 0\.05 s"):
            Transport(url, connect_timeout=0.05).call("GET", "/stats")


# --- what is sent


@pytest.mark.parametrize(
    ("body", "sent"),
    [(None, [b"head"]), (b"", [b"head"]), (b"body", [b"headbody"]), (b"x" * 10**6, [b"head", b"x" * 10**6])],
)
def test_a_head_and_a_small_body_go_out_together(body: bytes | None, sent: list[bytes]) -> None:
    assert list(Request(b"head", body).pieces()) == sent


def test_nothing_waits_for_the_word_of_the_peer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = Address("127.0.0.1", listener.getsockname()[1], 1.0, None).open()
    with sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_who_waits_for_an_answer_learns_that_the_other_host_has_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = Address("127.0.0.1", listener.getsockname()[1], 1.0, None).open()
    with sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if sys.platform == "linux":
            names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
            idle, between, most = (sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names)
            assert idle + between * most <= 40


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://Queue.example", "queue.example", 80),
        ("http://[::1]:81/path", "::1", 81),
        ("http://[fe80::1%25eth0]:82", "fe80::1%eth0", 82),
    ],
)
def test_an_address_is_that_of_the_url(url: str, host: str, port: int) -> None:
    assert Address.of(urls.parts(url), 5.0, None) == (host, port, 5.0, None)


def test_an_ipv6_address_stands_in_brackets() -> None:
    listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    heard: list[bytes] = []

    def answer() -> None:
        sock, _ = listener.accept()
        with sock:
            heard.append(sock.recv(1000))
            sock.sendall(success(7).text)

    with listener:
        thread = threading.Thread(target=answer)
        thread.start()
        port = listener.getsockname()[1]
        transport = Transport(f"http://[::1]:{port}/queue")
        assert transport.call("GET", "/stats") == 7
        transport.close()
        thread.join(5)
    assert heard[0].startswith(f"GET /queue/stats HTTP/1.1\r\nHost: [::1]:{port}\r\n".encode())


@pytest.mark.parametrize(("method", "media_type"), [("GET /", "x"), ("P\r\n", "x"), ("PUT", "a\r\nX: 1"), ("PUT", "ü")])
def test_nothing_can_be_put_into_a_head(method: str, media_type: str) -> None:
    with pytest.raises(ValueError, match="not a method and a media type"):
        Transport("http://127.0.0.1:5000").call(method, "/x", b"", content_type=media_type)


def test_a_name_that_no_host_can_have_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="no name of a host"):
        Transport(f"http://{'x' * 70}.example").call("GET", "/stats")
