"""The small charts: their scale can be read in the narrow place beside the axis."""

import re

import pytest

from dispatcher.dashboard.charts import Line, chart

NARROW = 9  # characters


@pytest.mark.parametrize(
    ("highest", "ticks"),
    [
        (0.004, ["5 ms", "2.5 ms", "0"]),
        (38, ["50 s", "25 s", "0"]),
        (55, ["1 min", "30 s", "0"]),
        (90, ["2 min", "1 min", "0"]),
        (700, ["20 min", "10 min", "0"]),
        (40_000, ["1 d", "12 h", "0"]),
        (10 * 86400, ["10 d", "5 d", "0"]),
    ],
)
def test_lengths_of_time_are_said_shortly(highest: float, ticks: list[str]) -> None:
    drawn = str(chart("Time", [Line("median", "good", [0.001, highest])], "length", ("then", "now"), 0.001))
    said = re.findall(r'class="tick"[^>]*>([^<]*)<', drawn)
    assert said == ticks
    assert max(map(len, said)) <= NARROW
