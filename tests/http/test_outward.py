"""What the dispatcher asks of others: signed, bounded in every way, and never of an address that it must not reach."""

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest
from hook_receiver import Receiver
from http_helpers import ROOT

from dispatcher import outward
from dispatcher.outward import NotDelivered, Poster, fault_of, key_of, networks, signature

KEY = b"a key of the tests"
LOOPBACK = networks(["127.0.0.0/8", "::1"])
PEM = ROOT / "tests" / "client" / "loopback.pem"


@pytest.fixture
def receive() -> Iterator[Callable[..., Receiver]]:
    with ExitStack() as cleanup:

        def make(*statuses: int) -> Receiver:
            receiver = Receiver(*statuses)
            cleanup.callback(receiver.close)
            return receiver

        yield make


@pytest.fixture
def scripted() -> Iterator[Callable[..., int]]:
    """A port that answers one connection with these pieces, whatever it is asked, and then keeps still."""
    with ExitStack() as cleanup:

        def serve(*pieces: bytes, context: ssl.SSLContext | None = None) -> int:
            listener = cleanup.enter_context(socket.create_server(("127.0.0.1", 0)))
            over = threading.Event()

            def run() -> None:
                connection, _ = listener.accept()
                with connection, suppress(ssl.SSLError):
                    secured = context.wrap_socket(connection, server_side=True) if context else connection
                    with secured:
                        secured.recv(65536)
                        for piece in pieces:
                            secured.sendall(piece)
                        over.wait(10)

            thread = threading.Thread(target=run, daemon=True)
            thread.start()
            cleanup.callback(thread.join)
            cleanup.callback(over.set)
            return int(listener.getsockname()[1])

        yield serve


def poster(*allow: str) -> Poster:
    return Poster(KEY, networks(allow) if allow else LOOPBACK)


def test_it_arrives_signed(receive: Callable[..., Receiver]) -> None:
    receiver = receive()
    poster().post(receiver.url("/a/b?c=d"), "msg_1", '{"a": "ü"}')
    (came,) = receiver.received
    assert came.path == "/a/b?c=d"
    assert came.told == {"a": "ü"}
    assert came.is_signed_with(KEY)
    assert not came.is_signed_with(b"another")
    assert came.delivery == "msg_1"
    assert came.headers["content-type"] == "application/json"


def test_the_signature_is_the_one_of_standard_webhooks() -> None:
    """The example of their page."""
    key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    assert signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == (
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 404, 410, 500, 503])
def test_any_answer_but_2xx_is_a_failure_and_no_redirect_is_followed(
    receive: Callable[..., Receiver], status: int
) -> None:
    receiver = receive(status)
    with pytest.raises(NotDelivered, match=str(status)):
        poster().post(receiver.url(), "msg_1", "{}")
    assert len(receiver.received) == 1


NOT_PUBLIC = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "100.100.100.200", "192.0.0.170", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
    "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::", "2001::1", "::127.0.0.1", "2001:db8::1",
    "fec0::1", "feff::1", "200::1", "4000::1", "5f00::1",
]  # fmt: skip


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_public_is_never_connected_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("it connects")

    monkeypatch.setattr(socket, "create_connection", connect)
    guarded = Poster(KEY, (), resolve=lambda host, port: [address])
    with pytest.raises(NotDelivered, match="not a public address"):
        guarded.post("http://hooks.example/x", "msg_1", "{}")


@pytest.mark.parametrize("address", ["93.184.216.34", "1.1.1.1", "2606:4700::1111"])
def test_public_addresses_are_allowed(address: str) -> None:
    assert Poster(KEY).is_allowed(ipaddress.ip_address(address))


def test_an_allowed_network_is_reached_and_no_other() -> None:
    guarded = poster("10.1.0.0/16")
    assert guarded.is_allowed(ipaddress.ip_address("10.1.2.3"))
    assert guarded.is_allowed(ipaddress.ip_address("::ffff:10.1.2.3"))
    assert not guarded.is_allowed(ipaddress.ip_address("10.2.2.3"))
    assert not guarded.is_allowed(ipaddress.ip_address("127.0.0.1"))


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"])
def test_other_spellings_of_this_machine_are_seen_through(host: str) -> None:
    with pytest.raises(NotDelivered):
        Poster(KEY).post(f"http://{host}:9/", "msg_1", "{}")


def test_a_name_is_looked_up_once_and_that_address_is_connected_to(receive: Callable[..., Receiver]) -> None:
    """Whoever answers differently the second time (DNS rebinding) gains nothing."""
    receiver, answers = receive(), iter([["10.0.0.1", "127.0.0.1"], ["169.254.169.254"]])
    guarded = Poster(KEY, LOOPBACK, resolve=lambda host, port: next(answers))
    guarded.post(receiver.url(host="hooks.example"), "msg_1", "{}")
    (came,) = receiver.received
    assert came.headers["host"] == f"hooks.example:{receiver.port}"
    assert next(answers) == ["169.254.169.254"]


@pytest.mark.parametrize("pieces", [[], [b"HTTP/1.1 2"], [b"HTTP/1.1 103 Early\r\n\r\n"]])
def test_everything_together_has_one_deadline(scripted: Callable[..., int], pieces: list[bytes]) -> None:
    with pytest.raises(NotDelivered, match=r"time"):
        poster().post(f"http://127.0.0.1:{scripted(*pieces)}/", "msg_1", "{}", limit_s=0.2)


def test_bytes_that_drip_do_not_move_the_deadline() -> None:
    moments = iter([0.0, 0.1, 0.2])
    deadline = outward.Deadline(0)
    with pytest.raises(NotDelivered, match="in time"):
        deadline.left(next(moments))


@pytest.mark.parametrize("pieces", [[b"SSH-2.0-x\r\n" + b"x" * 32768], [b"HTTP/1.1 103 x\r\n" + b"a: b\r\n" * 8192]])
def test_no_more_is_read_than_a_status_line_may_need(scripted: Callable[..., int], pieces: list[bytes]) -> None:
    with pytest.raises(NotDelivered, match="not HTTP"):
        poster().post(f"http://127.0.0.1:{scripted(*pieces)}/", "msg_1", "{}")


def test_an_interim_answer_is_not_the_answer(scripted: Callable[..., int]) -> None:
    pieces = (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 ", b"204 No Content\r\n\r\n")
    poster().post(f"http://127.0.0.1:{scripted(*pieces)}/", "msg_1", "{}")


def test_a_certificate_is_checked(scripted: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    answer = b"HTTP/1.1 200 OK\r\n\r\n"
    with pytest.raises(NotDelivered, match="CERTIFICATE"):
        poster().post(f"https://127.0.0.1:{scripted(answer, context=context)}/", "msg_1", "{}")
    monkeypatch.setenv("SSL_CERT_FILE", str(PEM))
    poster().post(f"https://127.0.0.1:{scripted(answer, context=context)}/", "msg_1", "{}")


def test_nobody_who_refuses_or_is_not_there_raises_anything_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}/", "http://no-such-host.invalid/", "https://127.0.0.1:1/"):
        with pytest.raises(NotDelivered):
            poster().post(url, "msg_1", "{}")


BAD_URLS = ["", "hooks.example", "ftp://x/", "file:///etc/passwd", "http://", "http:///x", "http://[x/", "http://x:0/",
            "http://x:65536/", "http://x:y/", "http://a:b@x/", "http://a@x/", "http://x/#f", "http://x/a b",
            "http://x/\r\nHost: y", "http://ü.example/", "gopher://x", "//x", "http://" + "x" * 2048]  # fmt: skip


@pytest.mark.parametrize("url", BAD_URLS)
def test_urls_that_cannot_be_delivered_to(url: str) -> None:
    assert fault_of(url)


@pytest.mark.parametrize("url", ["http://x", "https://x.example:8443/a/b?c=%20d", "http://[2606:4700::1111]/"])
def test_urls_that_can(url: str) -> None:
    assert fault_of(url) is None


def test_secrets() -> None:
    assert key_of("plain text") == b"plain text"
    assert key_of("whsec_AAEC") == b"\0\1\2"
    with pytest.raises(ValueError, match="base64"):
        key_of("whsec_???")
