"""The small rules that need no store: names of leases, orders, backoff, rates, schemas."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.errors import Invalid
from dispatcher.model import LeaseName, Orders
from dispatcher.queue.rates import Rates
from dispatcher.queue.schemas import Schemas
from dispatcher.queue.terms import BACKOFF, FIRST_RETRY_MS, LONGEST_RETRY_MS


@given(st.integers(0, 10**17), st.integers(0, 2**63 - 1))
def test_lease_names_survive_the_wire(task_id: int, token: int) -> None:
    lease = LeaseName(task_id, token)
    assert LeaseName.parse(str(lease)) == lease


@given(st.text(max_size=40) | st.from_regex(r"[0-9]{1,20}-[0-9a-fA-F_+ ]{14,18}", fullmatch=True))
def test_what_is_no_lease_name_is_none_or_in_range(text: str) -> None:
    found = LeaseName.parse(text)
    assert found is None or (found.task_id < 10**18 and found.token < 2**63 and text.endswith(f"{found.token:016x}"))


NONSENSE = [
    "", "-", "1", "1-", "-1-0000000000000000", "1-ffffffffffffffff", "1-00000000_0000000", "1-000000000000000A",
    "\u0661-0000000000000000", "1" * 19 + "-" + "0" * 16,
]  # fmt: skip


@pytest.mark.parametrize("text", NONSENSE)
def test_nonsense_is_no_lease_name(text: str) -> None:
    assert LeaseName.parse(text) is None


def test_orders_differ_by_what_they_say_not_by_its_order() -> None:
    assert not Orders(cancel=("a", "b")).differ(Orders(cancel=("b", "a")))
    assert Orders(cancel=("a",)).differ(Orders())
    assert Orders("stop").differ(Orders())


@pytest.mark.parametrize("attempt", [1, 2, 3, 10, 1000])
def test_backoff_grows_to_an_hour_with_a_fifth_of_jitter(attempt: int) -> None:
    middle = min(FIRST_RETRY_MS * 4 ** (attempt - 1), LONGEST_RETRY_MS)
    delays = {BACKOFF.delay(attempt) for _ in range(50)}
    assert all(0.79 * middle <= delay <= 1.21 * middle for delay in delays)
    assert len(delays) > 1


def test_rates_cover_a_minute() -> None:
    rates = Rates()
    rates.ended(60, 1000)
    rates.ended(60, 1000)
    assert rates.summary(1000)["finished_per_second"] == 2.0
    rates.ended(30, 1059)
    assert rates.summary(1059)["finished_per_second"] == 2.5
    assert rates.summary(1060)["finished_per_second"] == 0.5
    assert rates.summary(9000)["finished_per_second"] == 0.0


def test_percentiles() -> None:
    rates = Rates()
    assert rates.summary(0)["wait_seconds"] == {"p50": None, "p95": None, "p99": None}
    rates.ran([n / 100 for n in range(100)])
    assert rates.summary(0)["run_seconds"] == {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def test_schema_names_the_place_that_breaks_it() -> None:
    schemas = Schemas({"prime": '{"properties": {"ns": {"items": {"type": "integer"}}}}'})
    schemas.check("prime", {"ns": [1, 2]}, "task_data")
    schemas.check("unknown", {"ns": ["x"]}, "task_data")
    with pytest.raises(Invalid, match=r"task_data\.ns\[1\]"):
        schemas.check("prime", {"ns": [1, "x"]}, "task_data")


def test_schema_that_is_none_checks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    schemas = Schemas({"odd": '{"type": "no such type"}', "broken": "not json", "free": None})
    for name in ("odd", "broken", "free"):
        schemas.check(name, {"anything": 1}, "task_data")
    assert "odd" in caplog.text


def test_schema_that_changed_is_news() -> None:
    schemas = Schemas({"prime": "{}"})
    assert not schemas.is_news({"prime": "{}"})
    assert schemas.is_news({"prime": None})
    assert schemas.is_news({"noop": None})
