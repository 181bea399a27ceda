"""A proxy before PostgreSQL that hurts it where users would be hurt: injected failures, forbidden features, cut lines.

It understands as much of the protocol as it needs: where a request begins and ends, and the text of its statement. A
request that shall fail is replaced by one that raises the wanted error in the server itself, so that the transaction is
as broken as it would really be. A COMMIT can be cut off before it is sent, after it, or just before its answer arrives.
"""

import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

PROLOGUES = (80877103, 80877104)  # SSLRequest, GSSENCRequest: answered by one byte
CUTS = ("before", "after", "unheard")
# what engines that speak PostgreSQL's protocol do not all have
UNSUPPORTED = re.compile(r"\b(LISTEN|UNLISTEN|NOTIFY|pg_notify|pg_(try_)?advisory\w*)\b", re.IGNORECASE)
DDL = re.compile(r"^\s*(CREATE|ALTER|DROP|TRUNCATE)\b", re.IGNORECASE)


class Plan:
    """What is done to whom, decided by a seed; counts what was done."""

    def __init__(
        self, seed: str = "", failures: float = 0.0, cuts: float = 0.0, forbid: re.Pattern[str] | None = None
    ) -> None:
        self.rng = random.Random(seed)
        self.failures, self.cuts, self.forbid = failures, cuts, forbid
        self.states = ("40001", "40001", "40P01")  # what a statement that shall fail fails with
        self.done: Counter[str] = Counter()
        self.statements = 0
        self._lock = threading.Lock()

    def error_for(self, sql: str, in_transaction: bool) -> str | None:
        """The SQLSTATE with which a statement shall fail."""
        with self._lock:
            self.statements += 1
            if self.forbid and (self.forbid.search(sql) or (in_transaction and DDL.match(sql))):
                self.done["forbidden"] += 1
                return "0A000"
            if sql.upper().startswith("ROLLBACK") or self.rng.random() >= self.failures:
                return None
            self.done["failure"] += 1
            return self.rng.choice(self.states)

    def cut_for(self, sql: str) -> str | None:
        """Where around a COMMIT the line shall be cut."""
        with self._lock:
            if sql.upper() != "COMMIT" or self.rng.random() >= self.cuts:
                return None
            cut = self.rng.choice(CUTS)
            self.done[f"cut {cut}"] += 1
            return cut


class Proxy:
    """Listens on a free port of this machine; `url` is what to use instead of the server's."""

    def __init__(self, url: str, plan: Plan) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 5432)
        self.plan = plan
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._lines: set[_Line] = set()
        self._lock = threading.Lock()
        self.away = False  # True: no line is accepted
        self._closed = False
        port = self._listener.getsockname()[1]
        user = f"{parts.username}@" if parts.username else ""
        query = f"{parts.query}&sslmode=disable" if parts.query else "sslmode=disable"
        self.url = urlunsplit((parts.scheme, f"{user}127.0.0.1:{port}", parts.path, query, ""))
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @contextmanager
    def gone(self) -> Iterator[None]:
        """The database is away for a while: every line is cut, none is accepted."""
        self.away = True
        self.cut_all()
        try:
            yield
        finally:
            self.away = False

    def cut_all(self) -> None:
        """Cut every line."""
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            line.cut()

    def close(self) -> None:
        self._closed = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self.cut_all()
        for line in list(self._lines):
            line.join()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
                if self.away:
                    client.close()
                    continue
                server = socket.create_connection(self._target)
            except OSError:
                continue
            line = _Line(client, server, self.plan)
            with self._lock:
                self._lines = {one for one in self._lines if one.lives()} | {line}
            line.start()


class _Line:
    """One connection: a thread for each direction."""

    def __init__(self, client: socket.socket, server: socket.socket, plan: Plan) -> None:
        self._client, self._server, self._plan = client, server, plan
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._prepared: dict[bytes, str] = {}
        self._in_transaction = False
        self._deaf = False  # the next answer is not delivered: the line is cut instead
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._requests, self._answers)]
        self._left, self._lock = len(self._threads), threading.Lock()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def lives(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(5)

    def cut(self) -> None:
        for end in (self._client, self._server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _requests(self) -> None:
        with suppress(OSError, EOFError, struct.error):
            self._greet()
            for sql, request in self._each_request():
                if not self._pass_on(sql, request):
                    break
        self._end()

    def _greet(self) -> None:
        """The start: a length and a code without a type; encryption is asked for and refused before it."""
        while True:
            head = _exactly(self._client, 8)
            length, code = struct.unpack("!II", head)
            self._server.sendall(head + _exactly(self._client, length - 8))
            if code not in PROLOGUES:
                return

    def _each_request(self) -> Iterator[tuple[str, bytes]]:
        """Whole requests: a simple query, or all up to a Sync, with the statement's text."""
        gathered, sql = b"", ""
        while True:
            kind = _exactly(self._client, 1)
            head = _exactly(self._client, 4)
            body = _exactly(self._client, struct.unpack("!I", head)[0] - 4)
            gathered += kind + head + body
            sql = self._text(kind, body) or sql
            if kind in b"QSX":
                yield sql, gathered
                gathered, sql = b"", ""
            elif kind not in b"PBDECH":  # passwords and copied data
                self._server.sendall(gathered)
                gathered = b""

    def _text(self, kind: bytes, body: bytes) -> str | None:
        if kind == b"Q":
            return body.rstrip(b"\0").decode()
        if kind == b"P":
            name, query, _ = body.split(b"\0", 2)
            self._prepared[name] = query.decode()
            return self._prepared[name]
        if kind == b"B":
            return self._prepared.get(body.split(b"\0", 2)[1])
        return None

    def _pass_on(self, sql: str, request: bytes) -> bool:
        """False when the line is to be cut."""
        state = self._plan.error_for(sql, self._in_transaction) if sql else None
        if state:
            self._server.sendall(_raising(state))
            return True
        cut = self._plan.cut_for(sql)
        if cut == "before":
            return False
        self._deaf = cut == "unheard"
        self._server.sendall(request)
        return cut != "after"

    def _answers(self) -> None:
        with suppress(OSError, EOFError):
            while data := self._server.recv(65536):
                if self._deaf:
                    break
                self._in_transaction = data[-1:] in b"TE" and data[-6:-5] == b"Z"
                self._client.sendall(data)
        self._end()

    def _end(self) -> None:
        self.cut()
        with self._lock:
            self._left -= 1
            last = not self._left
        if last:
            self._client.close()
            self._server.close()


def _exactly(end: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        part = end.recv(size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return parts


def _raising(state: str) -> bytes:
    sql = f"DO $$ BEGIN RAISE EXCEPTION 'injected' USING ERRCODE = '{state}'; END $$".encode() + b"\0"
    return b"Q" + struct.pack("!I", len(sql) + 4) + sql


@contextmanager
def proxied(url: str, plan: Plan) -> Iterator[Proxy]:
    """A proxy for a while."""
    proxy = Proxy(url, plan)
    try:
        yield proxy
    finally:
        proxy.close()
