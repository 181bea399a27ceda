"""Sees to it that granian forgets no request (docs/decisions/0014-forgotten-requests.md).

granian starts a thread when more requests are queued than threads are idle. A thread that has just taken one, or is
about to end, counts as idle for an instant more, and a request that comes in that very instant gets no thread of its
own. Mostly the next thread that has time takes it; but where all of them wait (claims do, for up to 50 s), it lies
there until another request comes and is counted. So after others one more soon comes from ourselves, and now and then
anyway.
"""

import logging
import socket
from collections.abc import Callable

log = logging.getLogger(__name__)

REQUEST = b"OPTIONS * HTTP/1.1\r\nHost: taskmill\r\n\r\n"  # what HTTP has for a ping
MOST = 8  # unanswered ones: more would only queue up
CONNECT_SECONDS = 1.0
SELF = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  where who listens everywhere is reached


class Nudge:
    """Requests of our own to the server at this address; `ring` is called when there is something to do."""

    def __init__(self, host: str, port: int, ring: Callable[[], None]) -> None:
        self._address, self._ring = (SELF.get(host, host), port), ring
        self._due = self._said = False
        self._free: list[socket.socket] = []
        self._unanswered: list[socket.socket] = []

    def came(self) -> None:
        """Note that a request has come."""
        if not self._due:
            self._due = True
            self._ring()

    @property
    def wanted(self) -> bool:
        """Whether a tick would do something."""
        return self._due or bool(self._unanswered)

    def tick(self) -> None:
        """Send one if others have come since the last one, or that lies there itself."""
        for connection in self._unanswered[:]:
            self._hear(connection)
        if self.wanted and len(self._unanswered) < MOST:
            self._due = False
            self._send()

    def close(self) -> None:
        """Send no more."""
        for connection in (*self._free, *self._unanswered):
            connection.close()

    def _hear(self, connection: socket.socket) -> None:
        try:
            answered = bool(connection.recv(4096))
        except BlockingIOError:
            return
        except OSError:
            answered = False
        self._unanswered.remove(connection)
        if answered and not self._free:
            self._free.append(connection)
            return
        connection.close()
        if not answered:  # the server had closed it: that one was none
            self._due = True

    def _send(self) -> None:
        try:
            connection = self._free.pop() if self._free else self._connected()
            self._unanswered.append(connection)
            connection.send(REQUEST)  # to one that was closed: the next tick hears of it
            self._said = False
        except OSError as error:
            self._due = True
            if not self._said:
                log.warning("cannot reach ourselves; a request may lie unanswered until the next one comes: %s", error)
            self._said = True

    def _connected(self) -> socket.socket:
        connection = socket.create_connection(self._address, CONNECT_SECONDS)
        connection.setblocking(False)
        return connection
