"""Scenarios that mostly wait run side by side: see `overlapping.py`."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

pytest.register_assert_rewrite("chaos", "farm_faults", "fault_farm", "processes")

AT_A_TIME = 5  # farms; more would be slow to start, and times are measured


@pytest.fixture(scope="module")
def overlap(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[None]]]:
    """The scenarios of the module that were asked for, all started; by the names of their tests."""
    chosen = [item for item in request.session.items if item.module is request.module]  # type: ignore[attr-defined]
    scenarios = {item.name: item.function.scenario for item in chosen if hasattr(item.function, "scenario")}  # type: ignore[attr-defined]
    folders = {name: tmp_path_factory.mktemp("scenario") for name in scenarios}
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {name: pool.submit(scenario, folders[name]) for name, scenario in scenarios.items()}
