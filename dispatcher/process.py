"""What the process does first and last, without the libraries that serve: the listening socket, the end."""

import logging
import os
import socket
import sys
from typing import NoReturn

BACKLOG = 2048
VANISHED_SECONDS = 60


class CannotListen(Exception):
    """The address is taken, or is not one of this host."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        super().__init__(f"cannot listen on {host}:{port}: {os.strerror(error.errno) if error.errno else error}")


def listen(host: str, port: int) -> socket.socket:
    """The listening socket (port 0: a free one), so that a second dispatcher fails before it touches anything."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG, reuse_port=False)
    except OSError as error:
        raise CannotListen(host, port, error) from None
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _notice_vanished_hosts(listener)
    return listener


def url_of(listener: socket.socket) -> str:
    """Where the listener is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _notice_vanished_hosts(listener: socket.socket) -> None:
    """Accepted connections inherit these (Linux)."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, VANISHED_SECONDS // 2)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, VANISHED_SECONDS // 6)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, VANISHED_SECONDS * 1000)


def leave(code: int) -> NoReturn:
    """Ends the process, when all that must be closed is closed.

    Not by `sys.exit`: threads of granian that come back while Python is being taken down would abort the process.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
