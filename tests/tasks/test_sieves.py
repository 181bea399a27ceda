"""Every way to the primes gives the same primes, in whatever pieces."""

from math import isqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import odd_sieve, sieves

ENGINES = [odd_sieve.odd_sieve, sieves.trial_division]
EDGES = [0, 1, 2, 3, 4, 5, 8, 9, 10, 13, 14, 15, 24, 25, 26, 48, 49, 50, 120, 121, 122, 168, 169, 170, 288, 289, 290]


def naive(start, limit):
    return [n for n in range(max(start, 2), limit + 1) if all(n % d for d in range(2, isqrt(n) + 1))]


def collect(engine, start, limit):
    """The primes of all segments, after checking that the segments agree with themselves."""
    primes, end = [], start
    for segment in engine(start, limit):
        part = segment.primes()
        assert segment.count == len(part)
        assert segment.largest == (part[-1] if part else None)
        assert all(end <= prime < segment.end for prime in part)
        primes, end = primes + part, segment.end
    return primes


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("limit", EDGES)
def test_edges(engine, limit):
    assert collect(engine, 0, limit) == naive(0, limit)


@pytest.mark.parametrize("limit", EDGES)
def test_small_primes_at_edges(limit):
    assert sieves.small_primes(limit) == naive(0, limit)


def test_small_primes_of_nothing():
    assert sieves.small_primes(-1) == []


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64, 1000])
def test_odd_sieve_has_no_seams(monkeypatch, length):
    monkeypatch.setattr(odd_sieve, "FLAGS_PER_SEGMENT", length)
    for limit in (2 * length - 1, 2 * length, 2 * length + 1, 2 * length + 2, 1681, 2000):
        assert collect(odd_sieve.odd_sieve, 0, limit) == naive(0, limit)


@pytest.mark.parametrize("length", [1, 2, 3, 50])
def test_trial_division_has_no_seams(monkeypatch, length):
    monkeypatch.setattr(sieves, "TRIALS_PER_SEGMENT", length)
    for limit in (2 * length, 2 * length + 1, 1680, 1681, 1682):
        assert collect(sieves.trial_division, 0, limit) == naive(0, limit)


@settings(max_examples=200, deadline=None, database=None)
@given(st.integers(0, 5000), st.integers(0, 5000))
def test_any_range_agrees_with_the_definition(start, limit):
    expected = naive(start, limit)
    for engine in ENGINES:
        assert collect(engine, start, limit) == expected


@settings(max_examples=40, deadline=None, database=None)
@given(st.integers(0, 200_000))
def test_any_limit_gives_the_same_by_all_ways(limit):
    expected = sieves.small_primes(limit)
    for engine in ENGINES:
        assert collect(engine, 0, limit) == expected


@settings(max_examples=10, deadline=None, database=None)
@given(st.integers(10**8, 10**9), st.integers(0, 50_000))
def test_a_range_far_up_agrees(start, width):
    """Where every base prime is already past its square."""
    numbers = range(start, start + width + 1)
    composite = set()
    for prime in sieves.small_primes(isqrt(numbers[-1])):
        composite.update(numbers[-start % prime :: prime])
    assert collect(odd_sieve.odd_sieve, start, numbers[-1]) == [n for n in numbers if n not in composite]


@pytest.mark.parametrize("engine", ENGINES)
def test_going_on_from_any_segment_gives_the_rest(monkeypatch, engine):
    monkeypatch.setattr(odd_sieve, "FLAGS_PER_SEGMENT", 100)
    monkeypatch.setattr(sieves, "TRIALS_PER_SEGMENT", 100)
    seen = []
    for segment in engine(0, 3000):
        seen += segment.primes()
        assert seen + collect(engine, segment.end, 3000) == naive(0, 3000)


@pytest.mark.parametrize(
    ("exponent", "expected"),
    [(1, 4), (2, 25), (3, 168), (4, 1229), (5, 9592), (6, 78_498), (7, 664_579), (8, 5_761_455)],
)
def test_known_counts_of_the_sieve(exponent, expected):
    assert sum(segment.count for segment in odd_sieve.odd_sieve(0, 10**exponent)) == expected


@pytest.mark.parametrize(("exponent", "expected"), [(1, 4), (2, 25), (3, 168), (4, 1229), (5, 9592)])
def test_known_counts_of_trial_division(exponent, expected):
    assert sum(segment.count for segment in sieves.trial_division(0, 10**exponent)) == expected
