"""One answer as it comes in, parsed by llhttp: what its head says, its body in pieces, and where it ends."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

_LONGEST_HEAD = 64 * 1024  # bytes that bring nothing of a body: of heads, of what stands around chunks


class Malformed(Exception):
    """What came is not HTTP."""


class Headers(Mapping[str, str]):
    """By name, in upper or lower case; the values of a name that stands there twice are joined by commas."""

    def __init__(self, lines: Iterable[tuple[bytes, bytes]]) -> None:
        self._values: dict[str, str] = {}
        for line in lines:
            name, value = (part.decode("latin-1").rstrip(" \t") for part in line)
            self._values[name.lower()] = f"{self[name]}, {value}" if name in self else value

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class Answer:
    """As much of an answer as has been fed. `on_…` are for the parser.

    `status` and `headers` hold once it is `headed`; interim answers (1xx) before it are skipped. When it is `whole`,
    `keep_alive` says whether its connection may serve another exchange.
    """

    status = 0
    headed = whole = keep_alive = False

    def __init__(self) -> None:
        self._lines: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._barren = 0
        self._parser = HttpResponseParser(self)

    @cached_property
    def headers(self) -> Headers:
        """Made only when asked for: most answers say all in their status and body."""
        return Headers(self._lines)

    @property
    def begun(self) -> bool:
        """Whether any byte of it came."""
        return self.headed or self._barren > 0

    @property
    def size(self) -> int | None:
        """Bytes of the body, where the head told."""
        told = self.headers.get("Content-Length")
        return None if told is None else int(told)

    def feed(self, data: bytes) -> None:
        """The next bytes of the connection; raises Malformed."""
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if isinstance(error.__context__, (KeyboardInterrupt, SystemExit)):  # a signal came within one of `on_…`
                raise error.__context__ from None
            if not self.whole:
                raise Malformed(str(error)) from error
            self.keep_alive = False  # something stands behind it: whatever that is, it answers nothing of ours
        self._barren = 0 if self._pieces or self.whole else self._barren + len(data)
        if self._barren > _LONGEST_HEAD:
            raise Malformed(f"a head of more than {_LONGEST_HEAD // 1024} KiB")

    def end(self) -> None:
        """The connection has ended; raises ConnectionError where that is not the end of the body."""
        if not self.begun:
            raise ConnectionError("Remote end closed connection without response")
        if not self.headed or "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            raise ConnectionError("the connection ended within the answer")
        self.on_message_complete()

    def taken(self) -> bytes:
        """What has come of the body since this was asked last."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)

    def on_message_begin(self) -> None:
        """Stops the parser at what stands behind the answer."""
        if self.whole:
            raise Malformed

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of the head; what stands behind a chunked body is passed over."""
        if not self.headed:
            self._lines.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is there; that of an interim answer is forgotten."""
        self.status = self._parser.get_status_code()
        if self.status < 200:
            self._lines.clear()
        else:
            self.headed, self.keep_alive = True, self._parser.should_keep_alive()

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """The end, unless this was an interim answer."""
        if self.headed:
            self.whole = True
            del self._parser  # the two hold each other, and would wait for the garbage collector
