"""A TCP relay before a dispatcher: it stands for one of several dispatchers, and can go, come and freeze."""

import selectors
import socket
import struct
import threading
from contextlib import suppress


class Relay:
    """Passes bytes between its own port and `target`, in a thread of its own."""

    def __init__(self, target: int) -> None:
        self._target, self.frozen = target, False
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self._port = taken.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.connections = 0
        self.start()

    def start(self) -> None:
        """Listens, on the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=128)
        self._wake, self._woken = socket.socketpair()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """As if its process were killed: nobody listens, every connection is reset."""
        self._wake.close()
        self._thread.join()

    def _run(self) -> None:
        with selectors.DefaultSelector() as self._ready:
            self._ready.register(self._listener, selectors.EVENT_READ)
            self._ready.register(self._woken, selectors.EVENT_READ)
            while all(self._turn(key.fileobj) for key, _ in self._ready.select()):
                pass
        for sock in list(self._peers):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        self._listener.close()
        self._woken.close()

    def _turn(self, sock: object) -> bool:
        if sock is self._woken:
            return False
        if sock is self._listener:
            self._accept()
        elif isinstance(sock, socket.socket) and sock in self._peers:
            self._pass(sock)
        return True

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            client.close()
            return
        self.connections += 1
        for sock, peer in ((client, server), (server, client)):
            self._peers[sock] = peer
            self._ready.register(sock, selectors.EVENT_READ)

    def _pass(self, sock: socket.socket) -> None:
        peer, data = self._peers[sock], b""
        with suppress(OSError):
            data = sock.recv(65536)
            if not self.frozen:
                peer.sendall(data)
        if not data:
            for one in (sock, peer):
                self._ready.unregister(one)
                del self._peers[one]
                one.close()
