"""How numbers, times and states are said to people."""

from datetime import datetime, timezone

from markupsafe import Markup, escape

NOTHING = "\N{EN DASH}"
STATES = {"in_progress": "running"}
ORDERS = {"sleep": "asleep", "stop": "stopping"}
SCALE = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def number(n: float | None) -> str:
    """1,234,567; what is not whole with as many digits as say something."""
    if n is None:
        return NOTHING
    if n == int(n):
        return f"{int(n):,}"
    return f"{n:,.0f}" if n >= 100 else f"{n:.1f}" if n >= 10 else f"{n:.2g}" if n < 1 else f"{n:.2f}".rstrip("0")


def share(part: float | None) -> str:
    """A share in percent."""
    if part is None:
        return NOTHING
    percent = part * 100
    return f"{percent:.0f} %" if percent >= 10 or percent == 0 else f"{percent:.1f} %"


def duration(seconds: float | None) -> str:
    """A length of time in its largest unit that fits, or two of them."""
    if seconds is None:
        return NOTHING
    if seconds < 1:
        return "0 s" if seconds <= 0 else f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    for place, (unit, name) in enumerate(SCALE):
        if seconds >= unit:
            whole, rest = divmod(int(seconds), int(unit))
            below, below_name = SCALE[place + 1] if place + 1 < len(SCALE) else (1.0, "s")
            part = rest // int(below)
            return f"{whole} {name} {part} {below_name}" if part and whole < 10 else f"{whole} {name}"
    return ""


def moment(ms: int | None) -> str:
    """A wall time in UTC, to the second."""
    if ms is None:
        return NOTHING
    return datetime.fromtimestamp(ms / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def ago(ms: int | None, now: int) -> Markup:
    """How long ago, or in how long, as an element that says the moment too."""
    if ms is None:
        return escape(NOTHING)
    away = (now - ms) / 1000
    said = "just now" if abs(away) < 1 else f"in {_about(-away)}" if away < 0 else f"{_about(away)} ago"
    exact = datetime.fromtimestamp(ms / 1000, timezone.utc).isoformat(timespec="seconds")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(exact, moment(ms), said)


def _about(seconds: float) -> str:
    return duration(float(int(seconds)))


def size(n: int | None) -> str:
    """Bytes."""
    if n is None:
        return NOTHING
    if n < 1024:
        return f"{n} bytes"
    amount, unit = float(n), ""
    for unit in ("KiB", "MiB", "GiB"):  # noqa: B007  the last one counts
        amount /= 1024
        if amount < 1024:
            break
    return f"{amount:.1f} {unit}"


def state_word(state: str) -> str:
    """A state as the pages call it."""
    return STATES.get(state, state)


def order_word(state: str) -> str:
    """What a worker is that was ordered so."""
    return ORDERS.get(state, state)
