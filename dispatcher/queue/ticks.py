"""When a schedule's ticks come: cron expressions in a time zone, or one length of time after another.

Cron is Debian's (docs/decisions/0005-cron.md): five fields; a fixed time that a change of the clocks leaves out comes
at once after it, one that comes twice counts once; what a star starts follows the clock on the wall.
"""

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from dispatcher.errors import Invalid

UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms"))


class Rule(NamedTuple):
    """A cron expression in a zone, or (cron None) a length of time between ticks."""

    cron: str | None
    zone: str
    every_ms: int | None

    def after(self, moment: int, anchor: int) -> int | None:
        """The first tick after a moment, UTC milliseconds; None when there will be none. Ticks of a length of time lie
        whole lengths from the anchor."""
        if self.cron is None:
            every = self.every_ms or 1
            return anchor + ((moment - anchor) // every + 1) * every
        for tick in self._cron(datetime.fromtimestamp(moment / 1000, zone_of(self.zone))):
            at = int(tick.timestamp()) * 1000
            if at > moment:  # the hour that comes twice is counted from its first time
                return at
        return None

    def _cron(self, start: datetime) -> CronSim:
        try:
            return CronSim(self.cron or "", start)
        except CronSimError as error:
            raise Invalid("cron", f"{str(error).lower()} in {self.cron!r}") from None

    def ticks(self, first: int, last: int) -> Iterator[int]:
        """The ticks from `first`, which is one, up to `last`."""
        tick: int | None = first
        while tick is not None and tick <= last:
            yield tick
            tick = self.after(tick, first)

    def words(self) -> str:
        """What it says, for people."""
        if self.cron is None:
            return f"every {spelled(self.every_ms or 0)}"
        return f"{self._cron(datetime.now(timezone.utc)).explain()} ({self.zone})"

    def local(self, tick: int) -> str:
        """A tick as the clock in its zone shows it: `Thu 26 Nov 2026 03:00 CET`."""
        moment = datetime.fromtimestamp(tick / 1000, zone_of(self.zone))
        return moment.strftime("%a %d %b %Y %H:%M %Z" if self.cron else "%a %d %b %Y %H:%M:%S %Z")


def spelled(ms: int) -> str:
    """A length of time with units: 5_400_000 is `1h30m`."""
    parts = []
    for size, unit in UNITS:
        if ms >= size:
            parts.append(f"{ms // size}{unit}")
            ms %= size
    return "".join(parts)


def checked_cron(expression: str) -> str:
    """A cron expression that has ticks. Raises Invalid."""
    fields = expression.split()
    if len(fields) != 5:
        raise Invalid("cron", "must have five fields: minute, hour, day of month, month, day of week")
    if Rule(expression, "UTC", None).after(0, 0) is None:
        raise Invalid("cron", "never comes")
    return " ".join(fields)


def zone_of(name: str) -> ZoneInfo:
    """A time zone by its name. Raises Invalid."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise Invalid("zone", f"no time zone {name!r} is known here; write one like Europe/Berlin or UTC") from None
