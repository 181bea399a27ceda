"""When ticks come: cron in time zones, with the hours that clocks leave out and repeat; and plain lengths of time."""

from datetime import datetime

import pytest

from dispatcher.errors import Invalid
from dispatcher.queue.ticks import Rule, checked_cron, spelled, zone_of

MINUTE, HOUR = 60_000, 3_600_000


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def ticks(cron: str, zone: str, start: str, number: int) -> list[str]:
    """The ticks after a moment, each computed from the one before, as the store does; in local time."""
    rule, moment, found = Rule(cron, zone, None), at(start), []
    for _ in range(number):
        tick = rule.after(moment, moment)
        assert tick is not None
        assert tick > moment
        moment = tick
        found.append(datetime.fromtimestamp(tick / 1000, zone_of(zone)).strftime("%d %H:%M%z"))
    return found


SPRING, AUTUMN = "2027-03-28T00:00+00:00", "2027-10-30T23:00+00:00"  # Berlin: 01:00 on both days


@pytest.mark.parametrize(
    ("cron", "start", "expected"),
    [
        # 02:00 to 03:00 does not exist: what was fixed for it comes at once after it, once
        ("30 2 * * *", SPRING, ["28 03:00+0200", "29 02:30+0200"]),
        ("0,30 2,3 * * *", SPRING, ["28 03:00+0200", "28 03:30+0200", "29 02:00+0200"]),
        # what a star starts follows the clock on the wall
        ("0 * * * *", SPRING, ["28 03:00+0200", "28 04:00+0200"]),
        ("*/20 2 * * *", SPRING, ["29 02:00+0200", "29 02:20+0200"]),
        # 02:00 to 03:00 comes twice: what was fixed for it comes the first time only
        ("30 2 * * *", AUTUMN, ["31 02:30+0200", "01 02:30+0100"]),
        ("0 3 * * *", AUTUMN, ["31 03:00+0100", "01 03:00+0100"]),
        ("0 * * * *", AUTUMN, ["31 02:00+0200", "31 02:00+0100", "31 03:00+0100"]),
        ("*/30 * * * *", AUTUMN, ["31 01:30+0200", "31 02:00+0200", "31 02:30+0200", "31 02:00+0100", "31 02:30+0100"]),
    ],
)
def test_clocks_that_change(cron: str, start: str, expected: list[str]) -> None:
    assert ticks(cron, "Europe/Berlin", start, len(expected)) == expected


def test_fixed_time_within_the_second_time_of_an_hour_is_over() -> None:
    """A dispatcher that starts then must not fire in the past, nor a second time."""
    within = at("2027-10-31T02:10:00+01:00")
    tick = Rule("30 2 * * *", "Europe/Berlin", None).after(within, 0)
    assert tick == at("2027-11-01T02:30:00+01:00")


def test_midnight_that_does_not_exist() -> None:
    assert ticks("0 0 * * *", "Africa/Cairo", "2027-04-29T12:00+00:00", 2) == ["30 01:00+0300", "01 00:00+0300"]


def test_half_an_hour_of_change() -> None:
    start = "2027-04-03T14:30+00:00"  # Lord Howe: 01:30+1100, and 02:00 becomes 01:30+1030
    assert ticks("0 * * * *", "Australia/Lord_Howe", start, 2) == ["04 02:00+1030", "04 03:00+1030"]


def test_days_and_names() -> None:
    assert ticks("0 9 * * MON-FRI", "UTC", "2026-11-27T09:00+00:00", 2) == ["30 09:00+0000", "01 09:00+0000"]
    assert ticks("0 0 L * *", "UTC", "2027-02-01T00:00+00:00", 1) == ["28 00:00+0000"]
    assert ticks("0 0 29 2 *", "UTC", "2026-01-01T00:00+00:00", 1) == ["29 00:00+0000"]


def test_a_tick_is_after_the_moment_whatever_its_milliseconds() -> None:
    rule = Rule("* * * * *", "UTC", None)
    start = at("2026-11-22T09:00:00+00:00")
    assert rule.after(start - 1, 0) == start
    assert rule.after(start, 0) == start + MINUTE
    assert rule.after(start + 999, 0) == start + MINUTE


@pytest.mark.parametrize(("moment", "tick"), [(0, 100), (999, 1000), (1000, 1900), (100_000, 100_900)])
def test_a_length_of_time_counts_from_its_anchor(moment: int, tick: int) -> None:
    assert Rule(None, "UTC", 900).after(moment, 1000) == tick


def test_ticks_up_to_a_moment() -> None:
    assert list(Rule(None, "UTC", 900).ticks(1000, 2800)) == [1000, 1900, 2800]


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("* * * *", "five fields"), ("* * * * * *", "five fields"), ("", "five fields"), ("60 * * * *", "bad minute"),
        ("* 24 * * *", "bad hour"), ("* * * FOO *", "bad month"), ("0 0 30 2 *", "bad day-of-month"),
        ("٣ * * * *", "bad minute"), ("*/0 * * * *", "bad minute"), ("5-1 * * * *", "bad minute"),
    ],
)  # fmt: skip
def test_bad_expressions_say_what_is_bad(expression: str, reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        checked_cron(expression)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "Europe", "/etc/localtime", "a\0b"])
def test_unknown_zones_are_refused(zone: str) -> None:
    with pytest.raises(Invalid, match="no time zone"):
        zone_of(zone)


def test_words() -> None:
    assert Rule("0 3 * * MON-FRI", "Europe/Berlin", None).words() == "At 03:00 on Monday through Friday (Europe/Berlin)"
    assert Rule(None, "UTC", 90 * MINUTE).words() == "every 1h30m"
    assert Rule("0 3 * * *", "Europe/Berlin", None).local(at("2026-11-26T02:00+00:00")) == "Thu 26 Nov 2026 03:00 CET"


@pytest.mark.parametrize(
    ("ms", "text"), [(900_000, "15m"), (5_400_000, "1h30m"), (86_400_000, "1d"), (1500, "1s500ms")]
)
def test_lengths_of_time_are_spelled_with_units(ms: int, text: str) -> None:
    assert spelled(ms) == text
