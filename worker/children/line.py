"""The line of a child: tasks on their way to it, each of which can be taken back until the child begins it.

A line is two channels. The *texts* of tasks come in groups, a packet of JSON for each group. A *ticket* for each task,
its number in four bytes, comes after its text, through a pipe of which the supervisor keeps both ends: whoever reads a
ticket has the task. So texts travel many at a time, and yet each task is one's or the other's, whatever the child does.
"""

import os
import socket
from collections.abc import Sequence

from worker.children.work import TEXT_BYTES, TICKET

MOST = 1000  # tasks in one packet; a pipe takes their tickets whole, or not at all
LONGEST = TEXT_BYTES - len("[]")  # text of one task
_ROOM = 1024 * 1024  # bytes of packets on their way


class Line:
    """The supervisor's side. Nothing here blocks. Raises OSError when the system gives no descriptors."""

    def __init__(self) -> None:
        # The child's ends stay open here, too, so that nothing fails while the end of a child is not noticed yet.
        self._texts, self._childs_texts = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._texts.setblocking(False)
        self._texts.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM)
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        self._taken, self._given = os.fdopen(reader, "rb", buffering=0), os.fdopen(writer, "wb", buffering=0)
        self.childs = self._childs_texts.fileno(), reader  # what the child is to inherit: texts, tickets

    def put(self, texts: Sequence[str], numbers: Sequence[int]) -> int:
        """Put tasks at the end; how many there was room for. The texts are ASCII, each of at most LONGEST."""
        count = _fitting(texts)
        tickets = b"".join(map(TICKET.pack, numbers[:count]))
        try:
            self._texts.send(f"[{','.join(texts[:count])}]".encode())
        except BlockingIOError:
            return 0
        return count if self._given.write(tickets) else 0  # a text without its ticket is passed over

    def take_back(self) -> set[int]:
        """The numbers of the tasks that the child has not taken; it will not get them any more."""
        back: set[int] = set()
        while tickets := self._taken.read(TICKET.size * MOST):
            back.update(number for (number,) in TICKET.iter_unpack(tickets))
        return back

    def close(self) -> None:
        """The end of the line: a child that has passed all of it exits."""
        for end in (self._texts, self._childs_texts, self._taken, self._given):
            end.close()


def _fitting(texts: Sequence[str]) -> int:
    """How many of these one packet holds."""
    room = LONGEST + len(",")
    for count, text in enumerate(texts[:MOST]):
        room -= len(text) + len(",")
        if room < 0:
            return count
    return min(len(texts), MOST)
