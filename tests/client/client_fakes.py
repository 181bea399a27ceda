"""Transports that answer from functions, and a clock that only moves when somebody sleeps."""

import json
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from client.bodies import spelt_out
from client.client import Client
from client.errors import Refused
from client.retry import Timing


class FakeTransport:
    """`answers` has one function per path without its query, called with (path, parsed body).

    An answer that is an exception is raised.
    """

    url = "http://fake:5000"

    def __init__(self, **answers: Callable[[str, Any], Any]) -> None:
        self.answers = {f"/{name.replace('_', '-')}": answer for name, answer in answers.items()}
        self.calls: list[tuple[str, str, Any]] = []
        self.timeouts: list[float] = []
        self.closed = False

    def call(self, method: str, path: str, body: bytes | None = None, *, timeout: float = 30.0) -> Any:
        fields = None if body is None else json.loads(body)
        self.calls.append((method, path, fields))
        self.timeouts.append(timeout)
        answer = self._answer(path)(path, fields)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    @contextmanager
    def stream(self, path: str, *, timeout: float) -> Any:
        body, media_type = self.call("GET", path)
        yield Pieces([body[:3], body[3:]], media_type)

    def close(self) -> None:
        self.closed = True

    def bodies(self, path: str) -> list[Any]:
        return [fields for _, called, fields in self.calls if called == path]

    def _answer(self, path: str) -> Callable[[str, Any], Any]:
        plain = path.partition("?")[0]
        known = [name for name in self.answers if plain == name or plain.startswith(f"{name}/")]
        if not known:
            raise Refused(404, "not_found", f"nothing at {path}")
        return self.answers[max(known, key=len)]


class Pieces(list[bytes]):
    """A stream of two pieces."""

    def __init__(self, pieces: list[bytes], media_type: str) -> None:
        super().__init__(pieces)
        self.media_type = media_type


class FakeTime:
    """Time passes by sleeping only; jitter is the largest it may be."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.jitters: list[tuple[float, float]] = []
        self.timing = Timing(now=lambda: self.now, sleep=self._sleep, uniform=self._uniform)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def _uniform(self, low: float, high: float) -> float:
        self.jitters.append((low, high))
        return high


def in_turn(*answers: Any) -> Callable[[str, Any], Any]:
    """Answers one after another, the last one for ever."""
    left = list(answers)
    return lambda path, fields: left.pop(0) if len(left) > 1 else left[0]


def client(transport: FakeTransport, time: FakeTime | None = None, retry_seconds: float = 60.0) -> Client:
    return Client(transport=transport, timing=(time or FakeTime()).timing, retry_seconds=retry_seconds)  # type: ignore[arg-type]


def ended(task_id: int, status: str = "completed", **fields: Any) -> dict[str, Any]:
    return {"task_id": task_id, "status": status, **fields}


class Dispatcher(FakeTransport):
    """Takes every submit, numbering from 1; `active` workers; `rounds` are the answers to the waiting."""

    def __init__(self, active: int = 1, rounds: list[list[dict[str, Any]]] | None = None) -> None:
        self.active, self.rounds, self.submitted = active, rounds or [], []
        self.running: list[dict[str, Any]] = []
        super().__init__(
            submit_task=lambda _, fields: {"task_id": self._store([fields])[0], "created": True},
            submit_tasks=lambda _, fields: {"task_ids": self._store(list(spelt_out(fields["tasks"])))},
            stats=lambda *_: {"active_workers": self.active},
            wait_tasks=lambda *_: {"tasks": self.rounds.pop(0), "open": 1},
            tasks=lambda *_: {"tasks": self.running, "next_cursor": None},
        )

    def _store(self, tasks: list[dict[str, Any]]) -> list[int]:
        first = len(self.submitted) + 1
        self.submitted += tasks
        return list(range(first, len(self.submitted) + 1))
