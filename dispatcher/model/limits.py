"""What limits a queue, and how far it is used up."""

from typing import NamedTuple

HALF_A_SECOND = 500  # milliseconds


class Rate(NamedTuple):
    """So many starts in a stretch of `ms`, kept as the moment `full_at` (microseconds, steady clock) at which a bucket
    that is filled steadily will be full; it holds `burst` starts."""

    starts: int
    ms: int

    @property
    def burst(self) -> int:
        """How many may start at once after a rest: a tenth, or half a second's worth, at least one."""
        return max(1, self.starts // 10, min(self.starts, self.starts * HALF_A_SECOND // self.ms))

    def cost(self, n: int) -> int:
        """How much later the bucket is full for n starts, in microseconds."""
        return -(-n * self.ms * 1000 // self.starts)

    def left(self, full_at: int, now: int) -> int:
        """How many may start now (milliseconds, steady clock)."""
        return max(0, (self.cost(self.burst) - max(0, full_at - now * 1000)) * self.starts // (self.ms * 1000))

    def spent(self, full_at: int, now: int, n: int) -> int:
        """When the bucket is full after n starts."""
        return max(full_at, now * 1000) + self.cost(n)

    def moment(self, full_at: int, n: int) -> int:
        """From when on n may start (milliseconds, steady clock), should none start before."""
        return -((self.cost(self.burst) - self.cost(n) - full_at) // 1000)

    def within(self, full_at: int, now: int) -> int:
        """That moment, or the end of a whole stretch from now, should that come before: neither an older, slower rate
        nor a clock that was set holds starts up for longer."""
        return min(full_at, (now + self.ms) * 1000)


class QueueSettings(NamedTuple):
    """How a queue is run; None: no limit. The column order of `queues`."""

    queue: str
    paused: bool = False
    max_running: int | None = None
    rate_count: int | None = None  # tasks that may start in each `rate_ms`
    rate_ms: int | None = None
    weight: int | None = None  # its part of a claim beside other queues; None is 1
    max_waiting: int | None = None
    key_running: int | None = None  # of each key
    key_rate_count: int | None = None  # tasks of each key that may start in each `key_rate_ms`
    key_rate_ms: int | None = None

    @property
    def rate(self) -> Rate | None:
        """The rate of the queue."""
        return None if self.rate_count is None or self.rate_ms is None else Rate(self.rate_count, self.rate_ms)

    @property
    def key_rate(self) -> Rate | None:
        """The rate of each of its keys."""
        if self.key_rate_count is None or self.key_rate_ms is None:
            return None
        return Rate(self.key_rate_count, self.key_rate_ms)


class QueueUse(NamedTuple):
    """How far a queue's limits are used up; `bucket` and `bucket_at` are what `spend` stored last."""

    running: int
    waiting: int
    bucket: int | None = None
    bucket_at: int | None = None


class KeyUse(NamedTuple):
    """How far the limits of a task's key are used up: its tasks that are ready or leased, those of them that are ready,
    and its rate's `full_at`."""

    key: str
    active: int
    ready: int
    full_at: int
