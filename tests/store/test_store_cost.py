"""A claim costs what it takes, not what lies beside it (DESIGN section 7.3)."""

import statistics
import time
from pathlib import Path

import pytest
from store_kit import DAY, FakeClock, MakeStore, Mill

CROWD = 20_000
LONG_CROWD = 50_000
ROUNDS = 60
PER_CLAIM = 20
RATIO = 1.5  # a missing index would cost many times as much
ATTEMPTS = 3  # on a machine that others use, too


def crowded(mill: Mill, crowd: int) -> None:
    """Tasks of types that nobody serves, and future ones at top priority of the type that is served."""
    for n in range(5):
        mill.submit(crowd // 5, f"foreign-{n}", priority=9)
    for _ in range(5):
        mill.submit(crowd // 5, "wanted", priority=9, delay_ms=DAY)


def one_claim(mill: Mill) -> float:
    began = time.perf_counter()
    tasks = mill.claim("ann", PER_CLAIM, task_types=["wanted"]).tasks
    took = time.perf_counter() - began
    assert len(tasks) == PER_CLAIM
    return took


def medians(mills: list[Mill]) -> list[float]:
    """Claims of each in turn, so that a busy machine is busy for all."""
    took: list[list[float]] = [[] for _ in mills]
    for mill in mills:
        mill.submit(ROUNDS * PER_CLAIM, "wanted")
    for _ in range(ROUNDS):
        for mill, times in zip(mills, took, strict=True):
            times.append(one_claim(mill))
    return [statistics.median(times) for times in took]


@pytest.mark.parametrize("crowd", [CROWD, pytest.param(LONG_CROWD, marks=pytest.mark.long)])
def test_claims_are_not_slowed_by_what_cannot_be_taken(
    make_store: MakeStore, tmp_path: Path, clock: FakeClock, crowd: int
) -> None:
    for side in ("alone", "crowded"):
        (tmp_path / side).mkdir()
    alone, full = (Mill(make_store(tmp_path / side, clock), clock) for side in ("alone", "crowded"))
    crowded(full, crowd)
    ratios = []
    for _ in range(ATTEMPTS):
        bare, slowed = medians([alone, full])
        ratios.append(slowed / bare)
        if ratios[-1] <= RATIO:
            return
    raise AssertionError(f"claims beside {2 * crowd} others cost {ratios} times as much")
