"""A TCP proxy between workers or clients and the dispatcher, which hurts the exchanges that pass through it.

It knows enough HTTP to tell requests and replies apart (by Content-Length), so a fault hits a whole exchange or a known
part of it. `proxy.fault` may be set at any time; it holds for requests that come and replies that leave from then on.

    none         passes
    delay        request and reply are held up to `seconds` each
    shuffle      the request is held up to `seconds`, so requests of several connections arrive out of order
    drop         the connection ends (FIN), nothing was forwarded
    half_close   half of the reply, then FIN; or FIN towards the dispatcher right behind the request
    reset        RST: before the request, behind it, or amid the reply
    lost         the request arrives, its reply is swallowed, then RST
    repeat       the request arrives two or three times, on connections of its own, before or after; one reply is passed
    one_way      requests arrive, replies do not, nothing is closed
    blackhole    half of the request arrives, no reply does, nothing is closed; new connections are accepted and ignored
"""

import asyncio
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

SILENT = ("one_way", "blackhole")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Fault:
    """What happens to a share of the requests, of all paths or of those that are named."""

    kind: str = "none"
    share: float = 1.0
    seconds: float = 0.1
    paths: tuple[str, ...] = ()


class Message(NamedTuple):
    """A request or a reply."""

    head: bytes
    body: bytes

    @property
    def path(self) -> str:
        return self.head.split(b" ", 2)[1].decode().partition("?")[0]

    def __bytes__(self) -> bytes:
        return self.head + self.body


class _Ended(Exception):
    """This connection is over; `reset`: by RST."""

    def __init__(self, reset: bool = False) -> None:
        self.reset = reset


class Proxy:
    """Listens while the `with` block lasts. `heard` is told each request and its reply, in a thread of our own; what it
    raises fails the test at the end of the block."""

    def __init__(self, port: int, seed: int = 0, heard: Callable[[Message, Message], None] = lambda q, a: None) -> None:
        self.fault, self.target, self.heard = Fault(), port, heard
        self.counts: Counter[str] = Counter()  # of the paths whose requests were hit
        self.arrivals: list[tuple[float, str]] = []  # when (monotonic) which path was forwarded to the dispatcher
        self.random = random.Random(seed)
        self.lines: dict[asyncio.Task[None], _Line] = {}
        self._background: set[asyncio.Task[Any]] = set()
        self._broken: list[Exception] = []
        self._loop = asyncio.new_event_loop()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")

    def __enter__(self) -> "Proxy":
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._serve, sock=self._listener))
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._broken:
            raise self._broken[0]

    def arrivals_since(self, when: float) -> list[tuple[float, str]]:
        """What was forwarded since then (monotonic)."""
        return [one for one in list(self.arrivals) if one[0] >= when]

    def cut(self) -> None:
        """RST to every connection that is open now."""
        self._call(self._end_lines())

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = self._loop.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def pick(self, path: str) -> Fault:
        """The fault for a request."""
        fault = self.fault
        hit = (not fault.paths or path in fault.paths) and self.random.random() < fault.share
        if not hit or fault.kind == "none":
            return Fault()
        self.counts[path] += 1
        return fault

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.lines[task] = line = _Line(self, reader, writer)
        reset = True
        try:
            await line.run()
        except _Ended as ended:
            reset = ended.reset
        except (OSError, asyncio.CancelledError):
            pass
        except Exception as error:
            self._broken.append(error)
        finally:
            line.end(reset)
            del self.lines[task]

    async def _end_lines(self) -> None:
        tasks = [*self.lines, *self._background]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _close(self) -> None:
        self._server.close()
        for _ in range(5):  # those accepted in the last moment become lines only now
            await asyncio.sleep(0)
            await self._end_lines()
        await self._server.wait_closed()


class _Line:
    """One connection from a client, and ours to the dispatcher that serves it."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.proxy, self.reader, self.writer = proxy, reader, writer
        self.server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self) -> None:
        """Until something ends it: raises _Ended or OSError."""
        if self.proxy.fault.kind == "blackhole" and not self.proxy.fault.paths:
            await self._mute()
        while True:
            request = await _read(self.reader)
            fault = self.proxy.pick(request.path)
            await getattr(self, f"_{fault.kind}")(request, fault)

    def end(self, reset: bool) -> None:
        for writer in (self.writer, *(self.server[1:] if self.server else ())):
            if reset:
                with suppress(OSError):  # closed already, with the dispatcher that was killed
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
            writer.close()

    # Steps

    async def _send(self, data: bytes) -> None:
        if self.server is None:
            self.server = await asyncio.open_connection("127.0.0.1", self.proxy.target)
        self.server[1].write(data)
        await self.server[1].drain()

    async def _ask(self, request: Message) -> Message:
        await self._send(bytes(request))
        assert self.server is not None
        self.proxy.arrivals.append((time.monotonic(), request.path))
        reply = await _read(self.server[0])
        self.proxy.heard(request, reply)
        return reply

    async def _answer(self, data: bytes) -> None:
        if self.proxy.fault.kind in SILENT and not self.proxy.fault.paths:  # whatever held when the request came
            await self._mute()
        self.writer.write(data)
        await self.writer.drain()

    async def _mute(self) -> None:
        """Reads and forgets, until the client gives up."""
        while await self.reader.read(65536):
            pass
        raise _Ended

    async def _hold(self, seconds: float) -> None:
        await asyncio.sleep(self.proxy.random.uniform(0, seconds))

    async def _copy(self, request: Message, seconds: float) -> None:
        """The same request once more; nobody hears the reply."""
        await self._hold(seconds)
        other = _Line(self.proxy, self.reader, self.writer)
        try:
            await other._ask(request)
        except (_Ended, OSError):
            pass
        finally:
            if other.server:
                other.server[1].close()

    # Faults

    async def _none(self, request: Message, fault: Fault) -> None:
        await self._answer(bytes(await self._ask(request)))

    async def _delay(self, request: Message, fault: Fault) -> None:
        await self._hold(fault.seconds)
        reply = await self._ask(request)
        await self._hold(fault.seconds)
        await self._answer(bytes(reply))

    async def _shuffle(self, request: Message, fault: Fault) -> None:
        await self._hold(fault.seconds)
        await self._none(request, fault)

    async def _drop(self, request: Message, fault: Fault) -> None:
        raise _Ended

    async def _half_close(self, request: Message, fault: Fault) -> None:
        if self.proxy.random.random() < 0.5:
            await self._send(bytes(request))
            assert self.server is not None
            self.server[1].write_eof()
            await self._answer(bytes(await _read(self.server[0])))
            raise _Ended
        reply = bytes(await self._ask(request))
        await self._answer(reply[: len(reply) // 2])
        self.writer.write_eof()
        await self._mute()

    async def _reset(self, request: Message, fault: Fault) -> None:
        place = self.proxy.random.randrange(3)
        if place == 1:
            await self._send(bytes(request))
        elif place == 2:
            reply = bytes(await self._ask(request))
            await self._answer(reply[: len(reply) // 2])
        raise _Ended(reset=True)

    async def _lost(self, request: Message, fault: Fault) -> None:
        await self._ask(request)
        raise _Ended(reset=True)

    async def _repeat(self, request: Message, fault: Fault) -> None:
        before, after = self.proxy.random.choice([(1, 0), (0, 1), (1, 1), (0, 2)])
        for _ in range(before):
            self.proxy.spawn(self._copy(request, 0))
        await self._hold(fault.seconds)
        await self._none(request, fault)
        for _ in range(after):
            self.proxy.spawn(self._copy(request, 3 * fault.seconds))

    async def _one_way(self, request: Message, fault: Fault) -> None:
        await self._ask(request)
        await self._mute()

    async def _blackhole(self, request: Message, fault: Fault) -> None:
        await self._send(request.head + request.body[: len(request.body) // 2])
        await self._mute()


async def _read(reader: asyncio.StreamReader) -> Message:
    """The next request or reply; raises _Ended when there is no whole one."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        return Message(head, await reader.readexactly(int(length[1])) if length else b"")
    except asyncio.IncompleteReadError:
        raise _Ended from None
