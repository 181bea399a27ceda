"""Scenarios that mostly wait run side by side: see `overlapping.py`."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest
from overlapping import SEED

pytest.register_assert_rewrite("chaos", "farm_faults", "fault_farm", "processes")
AT_A_TIME = 4  # farms; more would be slow to start, and times are measured


@pytest.fixture(scope="session")
def overlap(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Any]]]:
    """Every scenario of this session, by the name of its test, and over: no other test is disturbed by them."""
    found = [(item.name, getattr(item, "function", None)) for item in request.session.items]
    scenarios = {name: function.scenario for name, function in found if hasattr(function, "scenario")}
    reporter: Any = request.config.pluginmanager.get_plugin("terminalreporter")
    reporter.write_line(f"\nfaults: {len(scenarios)} scenarios, TASKMILL_SEED={SEED}")
    folders = {name: tmp_path_factory.mktemp("scenario") for name in scenarios}
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        futures = {name: pool.submit(scenario, folders[name]) for name, scenario in scenarios.items()}
        wait(futures.values())
        yield futures
