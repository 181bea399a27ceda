"""Two kinds of plot as SVG text, with nothing to install: bars, and lines."""

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, LEFT, RIGHT, TOP, ROW, HEIGHT = 720, 170, 110, 44, 28, 260
COLOURS = ("#2a6f97", "#e07a2f", "#4b8f4e", "#8c4b8f")
STYLE = "font-family='sans-serif' font-size='13' fill='#333'"


def bars(title: str, values: Mapping[str, float], unit: str) -> str:
    """One bar for each name, the first one in another colour."""
    longest, room, parts = max(values.values()), WIDTH - LEFT - RIGHT, []
    for n, (name, value) in enumerate(values.items()):
        y, length = TOP + n * ROW, max(1.0, room * value / longest)
        parts += [
            text(LEFT - 8, y + 15, name, "end"),
            f"<rect x='{LEFT}' y='{y}' width='{length:.0f}' height='{ROW - 8}' fill='{COLOURS[0 if n == 0 else 1]}'/>",
            text(LEFT + length + 6, y + 15, f"{shown(value)} {unit}", "start"),
        ]
    return drawing(title, TOP + len(values) * ROW + 10, parts)


def lines(title: str, curves: Mapping[str, Sequence[tuple[float, float]]], axes: tuple[str, str]) -> str:
    """One curve for each name through its points; both axes begin at 0."""
    points = [point for curve in curves.values() for point in curve]
    width, bottom = WIDTH - LEFT - RIGHT, TOP + HEIGHT
    right, top = (max(point[i] for point in points) for i in (0, 1))

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return LEFT + width * point[0] / right, bottom - HEIGHT * point[1] / top

    parts = [f"<path d='M{LEFT} {TOP}V{bottom}H{LEFT + width}' fill='none' stroke='#999'/>"]
    parts += [text(place((x, 0))[0], bottom + 18, shown(x)) for x in sorted({point[0] for point in points})]
    for colour, (name, curve) in zip(COLOURS, curves.items(), strict=False):
        placed = [place(point) for point in curve]
        path = " ".join(f"{x:.0f},{y:.0f}" for x, y in placed)
        parts.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
        parts += [text(x, y - 6, shown(point[1])) for (x, y), point in zip(placed, curve, strict=True)]
        parts.append(text(placed[-1][0] + 8, placed[-1][1] + 14, name, "start", colour))
    parts += [text(LEFT + width / 2, bottom + 38, axes[0]), text(LEFT - 12, TOP + 4, axes[1], "end")]
    return drawing(title, bottom + 50, parts)


def text(x: float, y: float, words: str, anchor: str = "middle", colour: str = "#333") -> str:
    return f"<text x='{x:.0f}' y='{y:.0f}' text-anchor='{anchor}' fill='{colour}'>{escape(words)}</text>"


def drawing(title: str, height: float, parts: Sequence[str]) -> str:
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height:.0f}' {STYLE}>"
    ground = f"<rect width='{WIDTH}' height='{height:.0f}' fill='#fff'/>"
    return "\n".join([head, ground, f"<text x='12' y='24' font-size='16'>{escape(title)}</text>", *parts, "</svg>", ""])


def shown(value: float) -> str:
    """Three digits that matter."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
