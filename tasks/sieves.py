"""Ways to the primes of a range; the sieve that needs numpy stands apart, in odd_sieve.py.

Each way is a generator of segments that follow one another without a gap from `start` to `limit`, so that its caller
can stop, show progress or save a checkpoint between two of them, and go on later from `Segment.end`.
"""

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import compress
from math import isqrt

PRIMESIEVE_STEP = 200_000_000  # about 20 ms of work
TRIALS_PER_SEGMENT = 2_000


@dataclass(frozen=True, slots=True)
class Segment:
    """The primes of one stretch of numbers; every prime below `end` is in it or before it."""

    end: int
    count: int
    largest: int | None
    primes: Callable[[], list[int]]  # to be called before the next segment is asked for


Engine = Callable[[int, int], Iterator[Segment]]


def small_primes(limit: int) -> list[int]:
    """All primes up to `limit`, in memory of one byte a number: for limits up to some ten millions."""
    flags = bytearray([1]) * (limit + 1)
    flags[:2] = bytes(len(flags[:2]))
    for number in range(2, isqrt(max(limit, 0)) + 1):
        if flags[number]:
            flags[number * number :: number] = bytes(len(range(number * number, limit + 1, number)))
    return list(compress(range(limit + 1), flags))


def primesieve_sieve(start: int, limit: int) -> Iterator[Segment]:
    """The primesieve library, in one thread unless OMP_NUM_THREADS says otherwise; ImportError without it."""
    import primesieve

    threads = os.environ.get("OMP_NUM_THREADS", "")
    primesieve.set_num_threads(int(threads) if threads.isdecimal() and int(threads) else 1)
    for low in range(max(start, 2), limit + 1, PRIMESIEVE_STEP):
        last = min(low + PRIMESIEVE_STEP - 1, limit)
        count = int(primesieve.count_primes(low, last))
        largest = int(primesieve.nth_prime(-1, last + 1)) if count else None
        yield Segment(last + 1, count, largest, partial(_primesieve_primes, low, last))


def _primesieve_primes(low: int, last: int) -> list[int]:
    import primesieve

    primes: list[int] = primesieve.primes(low, last).tolist()
    return primes


def trial_division(start: int, limit: int) -> Iterator[Segment]:
    """Divides every odd number by the odd primes up to its root, which were found in the same way."""
    if limit < 2:
        return
    if start <= 2:
        yield _listed_segment(3, [2])
    divisors = [prime for part in trial_division(0, isqrt(limit)) for prime in part.primes()][1:]
    low = max(start, 3) | 1
    while low <= limit:
        # Up to the square of its first number, no divisor of a stretch can be one of its numbers.
        stop = min(low + 2 * TRIALS_PER_SEGMENT, low * low, limit + 1)
        enough = divisors[: bisect_right(divisors, isqrt(stop - 1))]
        yield _listed_segment(stop, _indivisible(range(low, stop, 2), enough))
        low = stop | 1


def _indivisible(numbers: Iterable[int], divisors: list[int]) -> list[int]:
    found = []
    for number in numbers:
        for divisor in divisors:
            if number % divisor == 0:
                break
        else:
            found.append(number)
    return found


def _listed_segment(end: int, primes: list[int]) -> Segment:
    return Segment(end, len(primes), primes[-1] if primes else None, lambda: primes)
