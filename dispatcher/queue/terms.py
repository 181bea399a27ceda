"""The terms of the rules: lengths of leases, defaults, backoff. Milliseconds."""

import random
from dataclasses import dataclass

PROVISIONAL_MS = 10_000
GAP_MS, LEAST_GAP_MS = 5_000, 2_000  # the reaper passes every second
LONGEST_WAIT_MS = 50_000  # of a claim
FIRST_RETRY_MS = 2_000
LONGEST_RETRY_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Terms:
    """What the settings say about leases and attempts."""

    lease_ms: int = 120_000
    silence_ms: int = 60_000
    max_attempts: int = 3
    webhooks: bool = False  # whether anybody is told of ends
    webhook_url: str = ""  # who is told of every task's that names nobody

    @property
    def gap_ms(self) -> int:
        """More than this between two successful passes of the reaper was an absence: at most half of the shortest
        lease, so that what an absence leaves of it still covers the time since its last renewal."""
        return max(LEAST_GAP_MS, min(GAP_MS, self.lease_ms // 2, self.silence_ms // 2))

    @property
    def wait_ms(self) -> int:
        """A claim that waits no longer than this stands for the heartbeats of who holds nothing: the next one comes
        before its sender would be thought dead."""
        return min(LONGEST_WAIT_MS, self.silence_ms * 5 // 6)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a failed task waits for its next attempt: each time `factor` times longer, up to a cap, with jitter."""

    first_seconds: float = FIRST_RETRY_MS / 1000
    factor: float = 4
    max_seconds: float = LONGEST_RETRY_MS / 1000
    jitter: float = 0.2  # the part of it by which it may be shorter or longer

    def delay(self, attempt: int) -> int:
        """Milliseconds after an attempt has failed."""
        growth = self.factor ** min(attempt - 1, 100) if self.first_seconds else 0.0
        wait = min(self.first_seconds * growth, self.max_seconds)
        return int(1000 * wait * random.uniform(1 - self.jitter, 1 + self.jitter))  # noqa: S311  jitter, not a secret


BACKOFF = Backoff()  # 2 s, 8 s, 32 s … at most an hour, with jitter of a fifth
