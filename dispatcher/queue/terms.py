"""The terms of the rules: lengths of leases, defaults, backoff. Milliseconds."""

import random
from dataclasses import dataclass

PROVISIONAL_MS = 10_000
GAP_MS, LEAST_GAP_MS = 5_000, 2_000  # the reaper passes every second
FIRST_RETRY_MS = 2_000
LONGEST_RETRY_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Terms:
    """What the settings say about leases and attempts."""

    lease_ms: int = 120_000
    silence_ms: int = 60_000
    max_attempts: int = 3

    @property
    def gap_ms(self) -> int:
        """More than this between two successful passes of the reaper was an absence: at most half of the shortest
        lease, so that what an absence leaves of it still covers the time since its last renewal."""
        return max(LEAST_GAP_MS, min(GAP_MS, self.lease_ms // 2, self.silence_ms // 2))


def retry_delay(attempt: int) -> int:
    """How long a failed task waits for its next attempt: 2 s, 8 s, 32 s … at most an hour, with jitter of a fifth."""
    wait = min(FIRST_RETRY_MS * 4 ** min(attempt - 1, 10), LONGEST_RETRY_MS)
    return int(wait * random.uniform(0.8, 1.2))  # noqa: S311  jitter, not a secret
