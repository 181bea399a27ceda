"""Several dispatchers over one store, used like one: with the interface of a Transport, over one Transport each.

All threads talk to the same dispatcher, the current one, for as long as it answers: what a worker has claimed there is
renewed and reported there. When it does not answer, or answers that it cannot serve now, the call that noticed tries
the others, once each and at once (every request of ours is idempotent by name, so a repeat is harmless), and the one
that answers becomes the current one for everybody. A thread that fails at the old one later just goes there.

The order in which the dispatchers are tried is drawn by lot for each object: so workers are spread at their start,
and spread over the others when one goes.

What still waits at a dispatcher that was left goes on waiting if that one had answered, with a refusal: a dispatcher
that stops answers what it holds. One that only fails, say without its database, does not: `renew` gives up what stays
there, and a worker calls it for its waiting claim. If it was silent, this may be a claim that would hang on a dead
socket for half a minute; it is given up, and its thread sends it to the current one. To be sure that none is missed
which is about to begin, the Transport that was left in silence is done with for good, and a new one stands in its
place.
"""

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO, TypeVar

from client.errors import BadReply, NoneAnswered, Refused, TransportError, Unreachable
from client.transport import Stream, Transport

T = TypeVar("T")
Moved = Callable[[str, TransportError, str], None]
_ELSEWHERE = (502, 503, 504)  # refusals that speak of this dispatcher or its proxy, not of the request


class Failover:
    """Exchanges with whichever of several dispatchers answers; safe for many threads.

    `on_move` hears once of every move: the URL that was left, why, and the URL of the new current one.
    """

    def __init__(self, lines: Sequence[Transport], on_move: Moved = lambda left, error, url: None) -> None:
        self._lines = tuple(random.sample(lines, len(lines)))  # the current one, then the others as they are tried
        self._moving = threading.Lock()
        self._on_move = on_move

    @property
    def url(self) -> str:
        """Where the current dispatcher is."""
        return self._lines[0].url

    def call(
        self,
        method: str,
        path: str,
        body: bytes | BinaryIO | None = None,
        *,
        timeout: float = 30.0,
        content_type: str = "application/json",
    ) -> Any:
        """As `Transport.call`, `timeout` for each dispatcher; raises when none has answered."""
        return self._first(lambda line: line.call(method, path, body, timeout=timeout, content_type=content_type))

    @contextmanager
    def stream(self, path: str, *, timeout: float) -> Iterator[Stream]:
        """As `Transport.stream`; once the body has begun it stays with its dispatcher."""
        with ExitStack() as opened:
            yield self._first(lambda line: opened.enter_context(line.stream(path, timeout=timeout)))

    def renew(self) -> None:
        """As `Transport.renew` at the current one; what waits at another is given up, for here is one that answers."""
        with self._moving:
            current, *others = self._lines
            self._lines = (current, *(line.successor() for line in others))
        current.renew()
        for line in others:
            line.retire()

    def close(self) -> None:
        """Closes all idle sockets; a call after this still works, on a socket of its own."""
        for line in self._lines:
            line.close()

    def _first(self, attempt: Callable[[Transport], T]) -> T:
        """The answer of the first dispatcher that has one, be it a refusal of the request."""
        failed: dict[str, TransportError] = {}
        lines = self._lines
        while line := next((line for line in lines if line.url not in failed), None):
            try:
                answer = attempt(line)
            except TransportError as error:
                if not _of_this_dispatcher(error):
                    self._move(lines, line, failed)
                    raise
                failed[line.url] = error
                lines = self._lines  # another thread may know better by now
            else:
                self._move(lines, line, failed)
                return answer
        raise _summary(failed)

    def _move(self, seen: tuple[Transport, ...], line: Transport, failed: dict[str, TransportError]) -> None:
        """Makes `line` the current one, unless another thread has moved since `seen` was looked at."""
        if line is seen[0]:
            return
        with self._moving:
            if self._lines is not seen:
                return
            at = seen.index(line)
            turned = seen[at:] + seen[:at]
            silent = {url for url, error in failed.items() if isinstance(error, Unreachable)}
            self._lines = tuple(one.successor() if one.url in silent else one for one in turned)
            self._on_move(seen[0].url, failed[seen[0].url], line.url)
        for one in seen:
            if one.url in failed:
                _leave(one, failed[one.url])


def connect(
    urls: Iterable[str], token: str | None = None, on_move: Moved = lambda left, error, url: None
) -> Transport | Failover:
    """The way to the dispatchers at these URLs; to a single one, a plain Transport. Raises as Transport does."""
    lines = {line.url: line for line in (Transport(url, token) for url in urls)}
    return Failover(list(lines.values()), on_move) if len(lines) > 1 else next(iter(lines.values()))


def _of_this_dispatcher(error: TransportError) -> bool:
    """Whether another dispatcher may answer where this one did not."""
    return isinstance(error, (Unreachable, BadReply)) or (isinstance(error, Refused) and error.status in _ELSEWHERE)


def _leave(line: Transport, error: TransportError) -> None:
    if isinstance(error, Unreachable):
        line.retire()
    else:
        line.close()


def _summary(failed: dict[str, TransportError]) -> TransportError:
    """What to raise when all have failed: the word of a dispatcher before silence, silence before what strangers say.

    A refusal may name the time to come back, and unlike a stranger's answer both are worth another try.
    """
    errors, where = list(failed.values()), ", ".join(failed)
    for error in reversed(errors):
        if isinstance(error, Refused):
            return Refused(error.status, error.code, f"{where}: {error.message}", error.retry_after)
    return NoneAnswered(errors) if any(isinstance(error, Unreachable) for error in errors) else errors[-1]
