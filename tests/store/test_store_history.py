"""History for charts: what is written, summed, kept and forgotten, on every store."""

import pytest
from store_kit import SECOND, Mill

from dispatcher.model import End
from dispatcher.queue.history import KEPT_MS, LONG_MS, SHORT_MS, SPANS, Point, Recorder, histogram, percentile, series


def begun(mill: Mill) -> Recorder:
    """On the boundary of a minute."""
    mill.clock.wall = mill.clock.wall // LONG_MS * LONG_MS
    return Recorder(mill.queue)


def work(mill: Mill, good: int, bad: int = 0) -> None:
    for n in range(good + bad):
        mill.submit(max_attempts=1)
        lease = mill.lease()
        if n < good:
            mill.succeed(lease)
        else:
            mill.fail(lease)


def points(mill: Mill, span: str) -> list[Point]:
    return series(mill.queue, SPANS[span], mill.clock.wall)


def pass_by(mill: Mill, seconds: float, recorder: Recorder) -> None:
    for _ in range(int(seconds * SECOND) // SHORT_MS):
        mill.clock.forward(SHORT_MS / SECOND)
        recorder.record(mill.clock.wall)


def test_throughput_errors_and_backlog_are_written_and_read(mill: Mill) -> None:
    recorder = begun(mill)
    work(mill, good=15, bad=5)
    mill.submit()
    pass_by(mill, 10, recorder)
    last = points(mill, "5m")[-1]
    assert (last.per_second, last.failed_share, last.ready) == (2.0, 0.25, 1)
    assert last.run_p50 == pytest.approx(0.005, rel=0.1)
    assert last.wait_p95 is not None
    assert [len(points(mill, name)) for name in SPANS] == [30, 60, 144]


def test_a_minute_is_the_sum_of_its_parts(mill: Mill) -> None:
    recorder = begun(mill)
    for _ in range(6):
        work(mill, good=2)
        pass_by(mill, 10, recorder)
    assert points(mill, "1h")[-1].per_second == pytest.approx(12 / 60)
    mill.clock.forward(600)
    assert sum(point.per_second * 600 for point in points(mill, "24h")) == pytest.approx(12)


def test_it_outlives_a_restart_and_sums_over_dispatchers(mill: Mill) -> None:
    for recorder in (begun(mill), Recorder(mill.queue)):  # another run, another dispatcher: other rows
        work(mill, good=3)
        recorder.record(mill.clock.wall + SHORT_MS)
    mill.clock.forward(10)
    assert points(mill, "5m")[-1].per_second == pytest.approx(0.6)


def test_a_backlog_that_two_dispatchers_saw_counts_once(mill: Mill) -> None:
    first, second = begun(mill), Recorder(mill.queue)
    mill.submit()
    for recorder in (first, second):
        recorder.record(mill.clock.wall + SHORT_MS)
    mill.clock.forward(10)
    assert points(mill, "5m")[-1].ready == 1


def test_nothing_is_written_while_nothing_happens(mill: Mill) -> None:
    recorder = begun(mill)
    assert not recorder.record(mill.clock.wall)
    work(mill, good=1)
    assert recorder.record(mill.clock.wall + SHORT_MS)
    assert recorder.record(mill.clock.wall + 2 * SHORT_MS)  # the zero behind it
    assert not recorder.record(mill.clock.wall + 3 * SHORT_MS)


def test_old_rows_go(mill: Mill) -> None:
    recorder = begun(mill)
    work(mill, good=1)
    pass_by(mill, 10, recorder)
    mill.clock.forward(max(KEPT_MS.values()) / SECOND + 60)
    work(mill, good=1)
    pass_by(mill, 10, recorder)
    with mill.store.read() as reader:
        kept = [(step, len(reader.history(step // 1000, 0))) for step in (SHORT_MS, LONG_MS)]
    assert kept == [(SHORT_MS, 1), (LONG_MS, 1)]


def test_released_attempts_are_no_errors(mill: Mill) -> None:
    recorder = begun(mill)
    mill.submit()
    mill.give_back(mill.lease(), End.RELEASED)
    pass_by(mill, 10, recorder)
    assert points(mill, "5m")[-1].failed_share is None


@pytest.mark.parametrize("seconds", [0.0001, 0.004, 0.05, 1.0, 77.0, 86_400.0])
def test_percentiles_are_right_within_a_tenth(seconds: float) -> None:
    times = [seconds] * 95 + [seconds * 10] * 5
    assert percentile(histogram(times), 0.5) == pytest.approx(seconds, rel=0.1)
    assert percentile(histogram(times), 0.99) == pytest.approx(seconds * 10, rel=0.1)
    assert percentile(histogram([]), 0.5) is None
