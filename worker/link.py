"""The worker's line to its dispatcher: one attempt per call, and what is known of the dispatcher's health.

Of several dispatchers an attempt is one at each until one answers; only when none does is there a silence.

All threads call through one Link, so an outage is logged once when it starts and once when it ends. The first call that
is answered again tells everybody who waits for that; so does the heartbeat that is no longer refused, while a report or
claim may have been refused for its own sake. After a silence what still waits for an answer is sent once more, since
its connection may be dead without a word.
"""

import json
import logging
import random
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol

from client.transport import Refused, TransportError

log = logging.getLogger(__name__)
FORBIDDEN = (401, 403)
GENERAL = (*FORBIDDEN, 429, 502, 503, 504, 507)  # refusals that concern the moment or the worker, not the one request
_PULSE = "/heartbeat"


class Caller(Protocol):
    """What is used of client.transport.Transport, or of a Failover over several."""

    @property
    def url(self) -> str: ...

    def call(
        self,
        method: str,
        path: str,
        body: bytes | BinaryIO | None = None,
        *,
        timeout: float = 30.0,
        content_type: str = "application/json",
    ) -> Any: ...

    def renew(self) -> None: ...

    def close(self) -> None: ...


class Link:
    """Calls the dispatcher; `on_silence` and `on_return` (set by the wiring) run in the thread whose call was not
    answered, or was answered again."""

    def __init__(self, transport: Caller, on_return: Callable[[], None] = lambda: None) -> None:
        self._transport = transport
        self.silent = False  # the last call got no answer
        self.unwelcome = False  # the last one said that this worker has no right to ask
        self._refused: dict[str, int] = {}
        self.on_return = on_return
        self.on_silence: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        """Where the dispatcher is; of several, the current one."""
        return self._transport.url

    def post(self, path: str, body: dict[str, Any], timeout: float) -> Any:
        """The reply's `data`; raises TransportError."""
        return self.call("POST", path, json.dumps(body).encode(), timeout)

    def call(
        self, method: str, path: str, body: bytes | BinaryIO, timeout: float, content_type: str = "application/json"
    ) -> Any:
        """The reply's `data`; raises TransportError."""
        try:
            data = self._transport.call(method, path, body, timeout=timeout, content_type=content_type)
        except Refused as error:
            self._answered()
            self.unwelcome = error.status in FORBIDDEN or error.code == "wrong_tokens"
            self._note_refusal(path, error)
            raise
        except TransportError as error:
            self._note_silence(error)
            raise
        self._answered()
        self.unwelcome = False
        if self._refused.pop(path, None):
            log.info("%s is accepted again", path)
            if path == _PULSE:
                self.on_return()
        return data

    def renew(self) -> None:
        """What waits for an answer is sent once more, to the current dispatcher, wherever it waits."""
        self._transport.renew()

    def close(self) -> None:
        self._transport.close()

    def _answered(self) -> None:
        if self.silent:
            self.silent = False
            log.info("the dispatcher answers again")
            self._transport.renew()
            self.on_return()

    def _note_silence(self, error: TransportError) -> None:
        if not self.silent:
            self.silent = True
            log.warning("%s; what runs goes on, outcomes are kept", error)
            self.on_silence()

    def _note_refusal(self, path: str, error: Refused) -> None:
        if error.status in GENERAL and self._refused.get(path) != error.status:
            self._refused[path] = error.status
            log.warning("%s is refused: %s", path, error)


def note_move(left: str, error: TransportError, url: str) -> None:
    """Of several dispatchers, another one is used from now on."""
    log.warning("the dispatcher at %s is left (%s); going on with the one at %s", left, error, url)


class Backoff:
    """Full jitter between `first` and `longest` seconds, its ceiling doubling with each failure in a row."""

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest, self._failures = first, longest, 0

    def reset(self) -> None:
        self._failures = 0

    def next(self, at_least: float = 0.0) -> float:
        """Seconds to wait after one more failure; `at_least` is what a Retry-After asked for."""
        self._failures += 1
        ceiling = min(self._longest, self._first * 2 ** min(self._failures, 20))
        return at_least + random.uniform(self._first, ceiling)  # noqa: S311 -- jitter, not a secret
