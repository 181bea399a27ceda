"""Small charts as SVG, drawn by the server: no script, and a sentence for those who do not see them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from dispatcher.dashboard.words import duration, number, share

WIDE, HIGH = 400, 132
LEFT, RIGHT, TOP, BOTTOM = 46, 6, 8, 20
DAY = 86400.0
# seconds whose halves are short to say, too: the place beside the axis is narrow
LENGTHS = (60.0, 120.0, 240.0, 600.0, 1200.0, 3600.0, 7200.0, 14400.0, 28800.0, DAY, 2 * DAY)
UNITS: dict[str, Callable[[float], str]] = {"number": number, "length": duration, "share": share}


class Line(NamedTuple):
    """One row of values, None where nothing was measured; `tone` is its class in the style sheet."""

    label: str
    tone: str
    values: Sequence[float | None]


def chart(title: str, lines: Sequence[Line], unit: str, ends: tuple[str, str], least: float = 1.0) -> Markup:
    """A chart whose scale begins at 0 and is never smaller than `least`; `ends` name the ends of the time axis."""
    say = UNITS[unit]
    top = _top(max([v for line in lines for v in line.values if v is not None] + [least]), unit)
    parts = [_grid(top, say(top), say(top / 2)), _axis(ends)]
    for place, line in enumerate(lines):
        parts.append(_drawn(line, top, filled=place == 0))
    spoken = f"{title}. " + " ".join(_spoken(line, say) for line in lines)
    head = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDE, HIGH, spoken)
    return head + Markup("").join(parts) + Markup("</svg>")


def _spoken(line: Line, say: Callable[[float], str]) -> str:
    known = [v for v in line.values if v is not None]
    if not known:
        return f"{line.label}: nothing measured."
    return f"{line.label}: last {say(known[-1])}, highest {say(max(known))}."


def _top(value: float, unit: str) -> float:
    if unit != "length" or value <= LENGTHS[0] * 5 / 6:
        return _nice(value)
    return next((length for length in LENGTHS if length >= value), DAY * _nice(value / DAY))


def _nice(value: float) -> float:
    """The next larger number of the form 1, 2 or 5 times a power of ten."""
    power = 1.0
    while power > value:
        power /= 10
    while power * 10 <= value:
        power *= 10
    return next((power * step for step in (1, 2, 5) if power * step >= value), power * 10)


def _x(place: int, n: int) -> float:
    return LEFT + (WIDE - LEFT - RIGHT) * (place / max(n - 1, 1))


def _y(value: float, top: float) -> float:
    return HIGH - BOTTOM - (HIGH - TOP - BOTTOM) * min(value / top, 1.0)


def _grid(top: float, high: str, half: str) -> Markup:
    rows = ((top, high), (top / 2, half), (0.0, "0"))
    line = Markup(
        '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/><text class="tick" x="{}" y="{:.1f}">{}</text>'
    )
    return Markup("").join(
        line.format(LEFT, WIDE - RIGHT, _y(v, top), _y(v, top), LEFT - 6, _y(v, top) + 3.5, said) for v, said in rows
    )


def _axis(ends: tuple[str, str]) -> Markup:
    begin = Markup('<text class="end first" x="{}" y="{}">{}</text>').format(LEFT, HIGH - 5, ends[0])
    return begin + Markup('<text class="end" x="{}" y="{}">{}</text>').format(WIDE - RIGHT, HIGH - 5, ends[1])


def _drawn(line: Line, top: float, filled: bool) -> Markup:
    drawn = Markup("")
    for run in _runs(line.values):
        places = [(_x(i, len(line.values)), _y(v, top)) for i, v in run]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        if len(places) == 1:
            drawn += Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="1.8"/>').format(line.tone, *places[0])
            continue
        if filled:
            floor, (first, last) = _y(0.0, top), (places[0][0], places[-1][0])
            closed = f"M{first:.1f} {floor:.1f}L{path}L{last:.1f} {floor:.1f}Z"
            drawn += Markup('<path class="area {}" d="{}"/>').format(line.tone, closed)
        drawn += Markup('<path class="line {}" d="M{}"/>').format(line.tone, escape(path))
    return drawn


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """The stretches without a gap."""
    runs: list[list[tuple[int, float]]] = [[]]
    for place, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((place, value))
    return [run for run in runs if run]
