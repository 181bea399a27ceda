"""The only requests that the dispatcher makes by itself: webhooks, to addresses that its users name.

Whoever may submit must not reach through the dispatcher what only the dispatcher can reach (server-side request
forgery). So a host is resolved once, an address that is not public is refused unless WEBHOOK_ALLOW names its network,
and the connection goes to that very address. Redirects are not followed, no proxy is asked, of the answer no more than
its status line is looked at, and everything together has one deadline.
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from urllib.parse import SplitResult, urlsplit

LIMIT_S = 15.0  # of one delivery, after its name was resolved
CONNECT_S = 5.0
LONGEST = 2048  # characters of a URL
MOST_BYTES = 16 * 1024  # of an answer
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Iterable[str]]
UNICAST = ipaddress.ip_network(
    "2000::/3"
)  # what is public of IPv6; `is_global` takes old site-local ones for that, too
# addresses that carry another one within them, which is not looked at
TUNNELS = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")))
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |\r|\n)")


class NotDelivered(Exception):
    """A delivery failed; the message says why."""


class Deadline:
    """How much of the time is left."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self, most: float = LIMIT_S) -> float:
        """Seconds, above 0. Raises NotDelivered when there are none."""
        left = min(self._end - time.monotonic(), most)
        if left <= 0:
            raise NotDelivered("no answer in time")
        return left


def fault_of(url: str) -> str | None:
    """Why a URL cannot be delivered to, as far as its text tells; None: it can."""
    if not re.fullmatch(r"https?://[!-~]+", url) or len(url) > LONGEST:
        return f"must be an http or https URL of at most {LONGEST} printable ASCII characters"
    try:
        parts = urlsplit(url)
        complete = bool(parts.hostname) and parts.port != 0
    except ValueError:
        complete = False
    if not complete:
        return "must name a host, and a port from 1 to 65535 or none"
    return "must hold no user, no password and no fragment" if parts.username is not None or parts.fragment else None


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks and addresses, like 10.0.0.0/8 or ::1. Raises ValueError."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def key_of(secret: str) -> bytes:
    """The key in a secret: `whsec_` and base64, or else the text itself. Raises ValueError."""
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise ValueError("must be base64 after whsec_") from None


def signature(key: bytes, delivery: str, timestamp: int, body: bytes) -> str:
    """As Standard Webhooks wants it: `v1,` and the HMAC-SHA256 of id, timestamp and body in base64."""
    signed = f"{delivery}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def resolved(host: str, port: int) -> list[str]:
    """The addresses of a host. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class Poster:
    """Posts signed JSON; `allow` are networks that may be reached though they are not public."""

    def __init__(self, key: bytes, allow: Sequence[Network] = (), agent: str = "taskmill", resolve: Resolve = resolved):
        self._key, self._allow, self._agent, self._resolve = key, allow, agent, resolve

    def post(self, url: str, delivery: str, body: str, limit_s: float = LIMIT_S) -> None:
        """Deliver. Raises NotDelivered unless the answer is 2xx."""
        if fault := fault_of(url):
            raise NotDelivered(fault)
        try:
            parts = urlsplit(url)
            address = self._address(parts)
            request = self._request(parts, delivery, body.encode())
            status = self._exchange(parts, address, request, Deadline(limit_s))
        except (OSError, ValueError) as error:  # an error of TLS is an OSError, a timeout too
            raise NotDelivered(f"{type(error).__name__}: {error}") from None
        if not 200 <= status < 300:
            raise NotDelivered(f"the answer was {status}")

    def _address(self, parts: SplitResult) -> str:
        """The address to connect to, looked up once."""
        found = list(dict.fromkeys(self._resolve(parts.hostname or "", _port(parts))))
        for text in found:
            if self.is_allowed(ipaddress.ip_address(text)):
                return text
        raise NotDelivered(f"{parts.hostname} is not a public address (WEBHOOK_ALLOW)")

    def is_allowed(self, address: Address) -> bool:
        """Whether a delivery may go there."""
        if isinstance(address, ipaddress.IPv6Address):
            address = address.ipv4_mapped or address
        if any(address in network for network in self._allow if network.version == address.version):
            return True
        tunnelled = any(address in network for network in TUNNELS if network.version == address.version)
        unicast = address.version == 4 or address in UNICAST
        return address.is_global and unicast and not address.is_multicast and not tunnelled

    def _request(self, parts: SplitResult, delivery: str, body: bytes) -> bytes:
        now = int(time.time())
        headers = {
            "Host": parts.netloc,
            "User-Agent": self._agent,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            "webhook-id": delivery,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(self._key, delivery, now, body),
        }
        target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        return _head(target, headers) + body

    def _exchange(self, parts: SplitResult, address: str, request: bytes, deadline: Deadline) -> int:
        with socket.create_connection((address, _port(parts)), deadline.left(CONNECT_S)) as connection:
            if parts.scheme == "http":
                return _ask(connection, request, deadline)
            context = ssl.create_default_context()
            connection.settimeout(deadline.left())
            with context.wrap_socket(connection, server_hostname=parts.hostname) as secured:
                return _ask(secured, request, deadline)


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _head(target: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _ask(connection: socket.socket, request: bytes, deadline: Deadline) -> int:
    """Send, and read as far as the status line of the final answer."""
    connection.settimeout(deadline.left())
    connection.sendall(request)
    received = b""
    while (status := _status(received)) is None:
        connection.settimeout(deadline.left())
        piece = connection.recv(4096)
        received += piece
        if not piece or len(received) > MOST_BYTES:
            raise NotDelivered("the answer is not HTTP")
    return status


def _status(received: bytes) -> int | None:
    """The status of the final answer in what was received; interim ones are passed over."""
    while found := STATUS.match(received):
        if not found[1].startswith(b"1"):
            return int(found[1])
        received = received.partition(b"\r\n\r\n")[2]
    return None
