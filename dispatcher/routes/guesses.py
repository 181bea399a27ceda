"""Wrong tokens: told in the log, and held up where many of them come from one address.

An address that has shown a right token is not held up: behind a proxy, or on a host with several workers, one that is
wrong must not shut out the others. What keeps guesses out is a long random token; this keeps them few, and seen.
"""

import ipaddress
import logging
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from dispatcher.errors import TooManyGuesses

log = logging.getLogger("taskmill.auth")
PERIOD_S = 60.0
MOST = 30  # wrong tokens of one address within the period
SOURCES = 1_000  # that are remembered, of either kind
LINES = 10  # in the log within the period
SUBNET = 64  # bits: who has one address of IPv6 has all of these


class Guesses:
    """Who has shown which tokens lately; `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._right: OrderedDict[str, None] = OrderedDict()
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()
        self._lines: deque[float] = deque(maxlen=LINES)

    def let(self, address: str) -> None:
        """Look at a token of this address. Raises TooManyGuesses instead when there were many wrong ones."""
        if not self._wrong or address in self._right:
            return
        with self._lock:
            when = self._wrong.get(source(address))
            left = PERIOD_S if when is None or len(when) < MOST else self._clock() - when[0]
        if left < PERIOD_S:
            raise TooManyGuesses(math.ceil(PERIOD_S - left))

    def was_right(self, address: str) -> None:
        """A token of this address was one of ours."""
        if address in self._right:
            return
        with self._lock:
            self._right[address] = None
            _shorten(self._right)

    def was_wrong(self, address: str) -> None:
        """A token of this address was none of ours."""
        with self._lock:
            name, now = source(address), self._clock()
            when = self._wrong.setdefault(name, deque(maxlen=MOST))
            while when and now - when[0] >= PERIOD_S:
                when.popleft()
            when.append(now)
            self._wrong.move_to_end(name)
            _shorten(self._wrong)
            if len(when) == 1:
                self._tell(now, "a wrong token came from %s", name)
            elif len(when) == MOST and address not in self._right:
                self._tell(now, "many wrong tokens come from %s: for a while no token from there is looked at", name)

    def _tell(self, now: float, text: str, name: str) -> None:
        if len(self._lines) < LINES or now - self._lines[0] >= PERIOD_S:
            self._lines.append(now)
            log.warning(text, name)


def source(address: str) -> str:
    """Whom an address stands for."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if found.version == 4:
        return address
    return str(found.ipv4_mapped or ipaddress.ip_network((found, SUBNET), strict=False))


def _shorten(sources: "OrderedDict[str, None] | OrderedDict[str, deque[float]]") -> None:
    if len(sources) > SOURCES:
        sources.popitem(last=False)
