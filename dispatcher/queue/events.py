"""Live events: what became of tasks, told to whoever listens.

An event says how something stands now, not what was done to it: of a task that changes twice within a moment the last
state is told. Ids of changed tasks come from the writer's hook and from the calls of `Queue`; a loop looks them up
and tells (`tell`). While nobody listens (and for a while after the last one left, so that he may come back and miss
nothing) the hooks look at one flag and do no more.

The newest events are kept once for all listeners. Who asks for the events behind one that is not kept any more is told
`reset`: look at everything again.
"""

import json
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from dispatcher.errors import TooManyStreams

KEPT = 10_000  # events
TOUCHED = 2_000  # changed tasks between two looks; of more the newest are told
LINGER_MS = 60_000
KEEP_ALIVE_S = 15.0


class Event(NamedTuple):
    """`data` is JSON text; `task_id` is None where it is about more than one task."""

    number: int
    kind: str
    data: str
    task_id: int | None = None


class Events:
    """Everything that is told, and who listens."""

    def __init__(self, most_streams: int = 1_000) -> None:
        self.heard = self.closed = False
        self.epoch = secrets.token_hex(4)  # numbers of another run say nothing here
        self.hurry: Callable[[], None] = lambda: None
        self.most_streams = most_streams
        self._turn = threading.Condition()
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self._last = self._whole_since = 0
        self._listening: Counter[int | None] = Counter()
        self._sources: Counter[str] = Counter()
        self._touched: deque[int] = deque(maxlen=TOUCHED)
        self._signs: dict[int | None, str] = {}
        self._left_at: int | None = None

    # who tells
    def touch(self, ids: Iterable[int]) -> None:
        """These tasks have changed; costs a look at a flag while nobody hears."""
        if self.heard:
            self._touched.extend(ids)

    def changed(self) -> list[int]:
        """The tasks that have changed since the last call, in order."""
        ids: dict[int, None] = {}
        with suppress(IndexError):
            for _ in range(TOUCHED):
                ids[self._touched.popleft()] = None
        return list(ids)

    def watched(self) -> list[int]:
        """The tasks that have listeners of their own."""
        with self._turn:
            return [task_id for task_id in self._listening if task_id is not None]

    def publish(self, kind: str, data: Any, task_id: int | None = None, unless_same: bool = False) -> bool:
        """Tell everybody; with `unless_same` only what differs from what was told last under this kind and task."""
        text = json.dumps(data, separators=(",", ":"))
        with self._turn:
            if task_id in self._listening or task_id is None:
                if unless_same and self._signs.get(task_id) == text:
                    return False
                self._signs[task_id] = text
            self._last += 1
            self._kept.append(Event(self._last, kind, text, task_id))
            self._turn.notify_all()
        return True

    def rest(self, now: int) -> None:
        """Stop to hear when the last listener has been gone for long (`now`: steady clock)."""
        with self._turn:
            if not self.heard or self._listening:
                self._left_at = None
            elif self._left_at is None:
                self._left_at = now
            elif now - self._left_at > LINGER_MS:
                self.heard = False
                self._touched.clear()

    def close(self) -> None:
        """A drain: all streams end."""
        with self._turn:
            self.closed = True
            self._turn.notify_all()

    # who listens
    def listen(self, task_id: int | None, last_id: str | None, source: str = "") -> "Stream":
        """The events (of one task) from now on, or behind one that was heard before. Who asks is the `source`: none may
        have more than half of the streams. Raises TooManyStreams."""
        with self._turn:
            if self.closed or self._listening.total() >= self.most_streams:
                raise TooManyStreams
            if source and self._sources[source] >= max(1, self.most_streams // 2):
                raise TooManyStreams(source)
            if not self.heard:  # between the last one told and the next one something may have been missed
                self._last += 1
                self._whole_since, self.heard = self._last, True
            self._listening[task_id] += 1
            self._sources[source] += 1
            self._signs.pop(task_id, None)  # how it stands is told anew
            number = self._number(last_id)
            whom = (task_id, source)
            stream = Stream(self, whom, self._last if number is None else number, last_id and number is None)
        self.hurry()
        return stream

    def streams(self) -> int:
        """How many listen."""
        return self._listening.total()

    def _number(self, last_id: str | None) -> int | None:
        """The number in an id, if everything behind it is still kept."""
        epoch, _, text = (last_id or "").partition("-")
        if epoch != self.epoch or not (text.isascii() and text.isdigit() and len(text) < 16):
            return None
        oldest = self._kept[0].number if self._kept else self._last + 1
        number = int(text)
        return number if max(self._whole_since, oldest - 1) <= number <= self._last else None

    def _leave(self, task_id: int | None, source: str) -> None:
        with self._turn:
            self._sources[source] -= 1
            self._sources += Counter()  # none stays at 0
            self._listening[task_id] -= 1
            if not self._listening[task_id]:
                del self._listening[task_id]
                self._signs.pop(task_id, None)

    def _behind(self, number: int) -> list[Event] | None:
        """The kept events behind a number; None when some are gone. Under the lock."""
        missing = self._last - number
        if missing > len(self._kept):
            return None if self._kept and self._kept[0].number > number + 1 else list(self._kept)
        return [event for event in list(self._kept)[-missing:] if event.number > number] if missing > 0 else []

    def _wait(self, number: int) -> list[Event] | None:
        with self._turn:
            self._turn.wait_for(lambda: self._last > number or self.closed, KEEP_ALIVE_S)
            return self._behind(number)


class Stream:
    """One listener: the text of server-sent events, piece by piece. `close` may be called twice."""

    def __init__(self, events: Events, whom: tuple[int | None, str], number: int, missed: Any) -> None:
        self._events, self._whom, self._number = events, whom, number
        self._task_id = whom[0]
        self._missed, self._open = bool(missed), True

    def __iter__(self) -> Iterator[str]:
        try:
            yield f"retry: 2000\n: taskmill\n\n{self._reset() if self._missed else ''}"
            said_at = time.monotonic()
            while not self._events.closed and self._open:
                found = self._events._wait(self._number)
                text = self._reset() if found is None else self._told(found)
                if text or time.monotonic() - said_at >= KEEP_ALIVE_S:
                    yield text or ": still here\n\n"  # so that it is noticed when nobody reads any more
                    said_at = time.monotonic()
        finally:
            self.close()

    def _reset(self) -> str:
        self._number = self._events._last
        return self._text(Event(self._number, "reset", "{}"))

    def _told(self, found: list[Event]) -> str:
        if found:
            self._number = found[-1].number
        mine = [event for event in found if self._task_id is None or event.task_id == self._task_id]
        return "".join(map(self._text, mine))

    def _text(self, event: Event) -> str:
        return f"id: {self._events.epoch}-{event.number}\nevent: {event.kind}\ndata: {event.data}\n\n"

    def close(self) -> None:
        """Listen no more."""
        if self._open:
            self._open = False
            self._events._leave(*self._whom)

    def __del__(self) -> None:
        self.close()
