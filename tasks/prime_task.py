"""prime: all primes up to a limit.

Payload: `limit`; `method` "sieve" or "trial_division" (without it the setting PRIMES_DEFAULT_METHOD); `return_primes`
true to have up to a million primes listed in the result, false for none, absent for a list when it is short.
"""

import os
import time
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from tasks import sieves
from tasks.context import Cancelled, Context, Pulse, Ticker
from tasks.fields import Fields, choice, flag, shown, whole_number

METHODS = ("sieve", "trial_division")
MAX_LIMIT = 100_000_000
SHORT_LIST = 10_000
LONGEST_LIST = 1_000_000

PAYLOAD_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "limit": {"type": "integer", "minimum": 0},
        "method": {"enum": [*METHODS, None]},
        "return_primes": {"type": ["boolean", "null"]},
    },
    "required": ["limit"],
}


@dataclass(frozen=True, slots=True)
class Order:
    """A checked payload."""

    limit: int
    method: str
    return_primes: bool | None

    @property
    def room(self) -> int:
        """The longest list of primes that the result may carry."""
        if self.return_primes is None:
            return SHORT_LIST
        return LONGEST_LIST if self.return_primes else 0


@dataclass(slots=True)
class Tally:
    """What is known of all numbers below `next`; `primes` is None when a list is unwanted or has grown too long."""

    next: int
    count: int
    largest: int | None
    primes: list[int] | None

    def add(self, segment: sieves.Segment, room: int) -> None:
        """Takes in the segment that starts at `next`."""
        self.next = segment.end
        self.count += segment.count
        self.largest = segment.largest or self.largest
        if self.count > room:
            self.primes = None
        if self.primes is not None:
            self.primes += segment.primes()


def execute(payload: dict[str, Any], context: Context) -> dict[str, Any]:
    """The primes up to and including `limit`: count, largest, the list where it fits, and how they were found.

    Times are seconds of this attempt. Raises ValueError for a payload that it will not compute, and Cancelled.
    """
    began = time.perf_counter()
    order = read_order(payload)
    tally, resumed = _first_tally(order, context.checkpoint_state)
    resume_time = time.perf_counter() - began if resumed else 0.0
    engine_name, engine = _engine(order.method)
    checkpoint_time = _search(order, engine, tally, context)
    return {
        "count": tally.count,
        "largest": tally.largest,
        "limit": order.limit,
        "method": order.method,
        "engine": engine_name,
        **_listing(order, tally),
        "computation_time": time.perf_counter() - began,
        "was_resumed": resumed,
        "checkpoint_time": checkpoint_time,
        "resume_time": resume_time,
    }


def read_order(payload: Fields) -> Order:
    """The payload, checked against the settings of this moment; raises ValueError."""
    limit = whole_number(payload, "limit", low=0)
    highest = _max_limit()
    if limit > highest:
        raise ValueError(f"limit {shown(limit)} is above PRIMES_MAX_LIMIT={highest}")
    return Order(limit, _method(payload), flag(payload, "return_primes"))


def _max_limit() -> int:
    text = os.environ.get("PRIMES_MAX_LIMIT", "").strip()
    try:
        return int(text) if text else MAX_LIMIT
    except ValueError:
        raise ValueError(f"setting PRIMES_MAX_LIMIT={text}: not a whole number") from None


def _method(payload: Fields) -> str:
    given = payload.get("method")
    if given is not None:
        return choice(given, "method", METHODS)
    default = os.environ.get("PRIMES_DEFAULT_METHOD", "").strip()
    return choice(default, "setting PRIMES_DEFAULT_METHOD", METHODS) if default else METHODS[0]


def _first_tally(order: Order, state: Any) -> tuple[Tally, bool]:
    """The tally to begin with, and whether it comes from an earlier attempt's checkpoint."""
    if not _usable(state, order):
        return Tally(0, 0, None, [] if order.room else None), False
    following, count = state["next"], state["primes_count"]
    # A checkpoint stays small: a list short enough for the result is made again faster than it is sent.
    primes = sieves.small_primes(following - 1) if count <= order.room and order.room else None
    return Tally(following, count, state["largest"], primes), True


def _usable(state: Any, order: Order) -> bool:
    """Whether a checkpoint belongs to this order and has the form that `_save` gives it."""
    if not isinstance(state, dict) or (state.get("method"), state.get("limit")) != (order.method, order.limit):
        return False
    return all(isinstance(state.get(name), int) for name in ("next", "primes_count", "largest"))


def _engine(method: str) -> tuple[str, sieves.Engine]:
    if method == "trial_division":
        return "python", sieves.trial_division
    try:
        import_module("primesieve")
    except ImportError:
        from tasks.odd_sieve import odd_sieve  # here, for the sake of numpy's 0.1 s

        return "numpy", odd_sieve
    return "primesieve", sieves.primesieve_sieve


def _search(order: Order, engine: sieves.Engine, tally: Tally, context: Context) -> float:
    """Completes the tally; seconds spent in saving checkpoints. A cancelled search saves one, then raises Cancelled."""
    ticker, saving, spent = Ticker(context, order.limit), Pulse(1.0), 0.0
    for segment in engine(tally.next, order.limit):
        tally.add(segment, order.room)
        try:
            ticker.tick(min(tally.next - 1, order.limit))
        except Cancelled:
            _save(order, tally, context)
            raise
        if saving.due():
            spent += _save(order, tally, context)
    return spent


def _save(order: Order, tally: Tally, context: Context) -> float:
    began = time.perf_counter()
    state = {"method": order.method, "limit": order.limit, "next": tally.next}
    context.checkpoint({**state, "primes_count": tally.count, "largest": tally.largest})
    return time.perf_counter() - began


def _listing(order: Order, tally: Tally) -> dict[str, Any]:
    """The list of primes, or why a list that was not declined is left out."""
    if tally.primes is not None:
        return {"primes": tally.primes}
    if order.return_primes is False:
        return {}
    reason = f"{tally.count} primes are more than the {order.room} that a result lists"
    return {"primes_omitted": reason + ("" if order.return_primes else " unless return_primes is true")}
