"""Live events of a dispatcher (`GET /events`): what becomes of tasks, as it happens."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

from client.errors import BadReply, Refused, Rejected, TransportError
from client.retry import Timing
from client.transport import Exchanges

SILENCE_S = 45.0  # three times what a living dispatcher is silent for
PAUSES_S = (0.0, 0.5, 1.0, 2.0, 5.0)  # before the next try; the last one again and again
LONGEST_LINE = 2**20


class Event(NamedTuple):
    """One event: `kind` is task, counts or reset (something was missed: look at everything again)."""

    kind: str
    data: dict[str, Any]
    id: str


class EventCalls:
    """Mixed into `Client`."""

    _transport: Exchanges
    _timing: Timing

    def events(self, task_id: int | None = None, *, after: str | None = None) -> Iterator[Event]:
        """What becomes of tasks (of one task: how it stands, then each change), as it happens and without an end.

        Reconnects by itself and goes on behind the last event (or behind the id `after`); where events may have been
        missed comes one of kind `reset`. An event says how a task stands now: of quick changes only the last is told.
        Each generator holds a connection, and a thread of the dispatcher. Raises Rejected, say for an unknown task.
        """
        path = "/events" if task_id is None else f"/task/{task_id}/events"
        failures = 0
        while True:
            query = f"?{urlencode({'after': after})}" if after else ""
            try:
                with self._transport.stream(path + query, timeout=SILENCE_S) as stream:
                    for event in parsed(_lines(stream, self._transport.url)):
                        after, failures = event.id or after, 0
                        yield event
            except Refused as error:
                if error.status < 500 and error.status != 429:
                    raise Rejected(error) from None
            except TransportError:
                pass
            self._timing.sleep(PAUSES_S[min(failures, len(PAUSES_S) - 1)])
            failures += 1

    def watch(self, task_id: int | None = None, *, after: str | None = None) -> Iterator[Event]:
        """The same as `events`, by the name that other systems use."""
        return self.events(task_id, after=after)


def parsed(lines: Iterable[str]) -> Iterator[Event]:
    """The events in the lines of a stream."""
    said: dict[str, str] = {}
    for line in lines:
        if not line:
            if "data" in said:
                yield Event(said.get("event", "message"), json.loads(said["data"]), said.get("id", ""))
            said = {}
            continue
        name, _, value = line.partition(":")
        said[name] = value.removeprefix(" ")


def _lines(pieces: Iterable[bytes], url: str) -> Iterator[str]:
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        if len(rest) > LONGEST_LINE:
            raise BadReply(url, "a line of events without an end")
        yield from (line.decode("utf-8") for line in whole)
