"""Keep-alive sockets to one address. Thread-safe; knows nothing of HTTP."""

import select
import socket
import ssl
import threading
from pathlib import Path
from urllib.parse import SplitResult


class Sockets:
    """Opens sockets to one host and keeps at most `size` idle ones, the latest used first."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, *, size: int, connect_timeout: float) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._size, self._connect_timeout = size, connect_timeout
        self._lock = threading.Lock()
        self._idle: list[socket.socket] = []
        self._closed = False

    def idle(self) -> socket.socket | None:
        """A socket that was used before and seems alive, or None."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                sock = self._idle.pop()
            if not _readable(sock):
                return sock
            sock.close()

    def open(self) -> socket.socket:
        """A new socket; raises OSError."""
        sock = socket.create_connection((self._host, self._port), self._connect_timeout)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return self._tls.wrap_socket(sock, server_hostname=self._host) if self._tls else sock
        except BaseException:
            sock.close()
            raise

    def give(self, sock: socket.socket) -> None:
        """Takes back a socket on which everything was read."""
        with self._lock:
            if not self._closed and len(self._idle) < self._size:
                self._idle.append(sock)
                return
        sock.close()

    def close(self) -> None:
        """Closes the idle sockets; those in use are closed when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for sock in idle:
            sock.close()


def _readable(sock: socket.socket) -> bool:
    """Whether an idle socket has something to say: its end, or an answer nobody asked for. Both make it unfit."""
    watch = select.poll()
    watch.register(sock, select.POLLIN)
    return bool(watch.poll(0))


def tls_context(url: SplitResult, ca_file: Path | None) -> ssl.SSLContext | None:
    """For https a context that verifies certificate and host name, with the CA file if one is given."""
    return ssl.create_default_context(cafile=str(ca_file) if ca_file else None) if url.scheme == "https" else None
