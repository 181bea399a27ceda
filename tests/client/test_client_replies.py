"""Answers that bring nothing: those of strangers, and refusals."""

import socket
import threading

import pytest
from scripted_server import Answer, Server, reply

from client import transport as module
from client.transport import BadReply, Refused, Transport


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>login</html>", "not JSON"),
        (b'{"status": "success", "da', "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"status": "success", "data": NaN}', "NaN is not JSON"),
        (b'[{"status": "success"}]', "list in place of an object"),
        (b'"success"', "str in place of an object"),
        (b'{"status": "success"}', "without status success and data"),
        (b'{"status": "error", "data": 1}', "without status success and data"),
        (b'{"ok": true}', "without status success and data"),
    ],
)
def test_a_200_of_a_stranger_is_a_bad_reply(server: Server, transport: Transport, body: bytes, reason: str) -> None:
    server.answer(reply(body))
    with pytest.raises(BadReply, match=reason):
        transport.call("POST", "/submit-results", b"{}")


def test_what_is_not_http_is_a_bad_reply(server: Server, transport: Transport) -> None:
    server.answer(Answer(b"SSH-2.0-OpenSSH_9.2\r\n", "close"))
    with pytest.raises(BadReply, match="not HTTP"):
        transport.call("GET", "/stats")


def test_a_redirect_is_not_followed(server: Server, transport: Transport) -> None:
    server.answer(reply(b"", "302 FOUND", Location=f"{server.url}/login"))
    with pytest.raises(BadReply, match=r"a redirect \(HTTP 302\) to http://127.*/login"):
        transport.call("GET", "/stats")
    assert len(server.seen) == 1


@pytest.mark.parametrize("declared", [True, False])
def test_an_answer_beyond_the_cap_is_a_bad_reply(
    server: Server, transport: Transport, declared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_REPLY", 1000)
    head = b"Content-Length: 2000" if declared else b"Connection: close"
    server.answer(Answer(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + b"x" * 2000, "close"))
    with pytest.raises(BadReply, match="more than"):
        transport.call("GET", "/stats")


# --- refusals


def test_a_refusal_carries_all_that_was_said(server: Server, transport: Transport) -> None:
    body = {"status": "error", "code": "storage_full", "message": "the disk is full"}
    server.answer(reply(body, "507 Insufficient Storage", Retry_After="30"))
    with pytest.raises(Refused) as caught:
        transport.call("POST", "/submit-task", b"{}")
    error = caught.value
    assert (error.status, error.code, error.message) == (507, "storage_full", "the disk is full")
    assert error.retry_after == 30


@pytest.mark.parametrize("body", [b"<html>Bad Gateway</html>", b"", b"[1]", b'{"code": null}', b'{"mess'])
def test_a_refusal_of_a_stranger_has_a_code_and_a_message(server: Server, transport: Transport, body: bytes) -> None:
    server.answer(reply(body, "502 Bad Gateway"))
    with pytest.raises(Refused, match=r"Bad Gateway \(HTTP 502, http_502\)"):
        transport.call("GET", "/stats")


def test_the_classic_error_text_is_a_message_too(server: Server, transport: Transport) -> None:
    server.answer(reply({"error": "task_type is required"}, "400 BAD REQUEST"))
    with pytest.raises(Refused, match="task_type is required"):
        transport.call("POST", "/submit-task", b"{}")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2", 2.0), ("0.5", 0.5), ("-1", None), ("Fri, 31 Dec 1999 23:59:59 GMT", None), ("inf", None)],
)
def test_retry_after_is_seconds_or_nothing(
    server: Server, transport: Transport, text: str, seconds: float | None
) -> None:
    server.answer(reply(b"", "503 SERVICE UNAVAILABLE", Retry_After=text))
    with pytest.raises(Refused) as caught:
        transport.call("GET", "/stats")
    assert caught.value.retry_after == seconds


def test_an_answer_that_comes_before_the_whole_body_counts() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def refuse() -> None:
        sock, _ = listener.accept()
        with sock:
            sock.recv(1000)
            sock.sendall(reply({"code": "too_large", "message": "16 MiB"}, "413 CONTENT TOO LARGE").text)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(1_000_000):
                pass

    thread = threading.Thread(target=refuse)
    thread.start()
    transport = Transport(f"http://127.0.0.1:{listener.getsockname()[1]}")
    with pytest.raises(Refused, match="16 MiB"):
        transport.call("POST", "/submit-task", b"x" * 5_000_000)
    transport.close()
    thread.join()
    listener.close()
