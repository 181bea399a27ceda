"""Scenarios run side by side: see `overlapping.py`."""

import os
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from overlapping import SEED, compute

pytest.register_assert_rewrite("chaos", "farm_faults", "fault_farm", "processes", "several_farm", "several_faults")
AT_A_TIME = 5  # farms; more would be slow to start, and times are measured
POLITE = 10  # how far those that only compute give way (nice)


@pytest.fixture(scope="session")
def overlap(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Any]]]:
    """Every scenario of this session, by the id of its test, and over: no other test is disturbed by them."""
    items: list[Any] = [item for item in request.session.items if hasattr(getattr(item, "function", None), "scenario")]
    reporter: Any = request.config.pluginmanager.get_plugin("terminalreporter")
    reporter.write_line(f"\nfaults: {len(items)} scenarios, TASKMILL_SEED={SEED}")
    polite = ProcessPoolExecutor(1, get_context("spawn"), initializer=os.nice, initargs=(POLITE,))
    with polite as desk, ThreadPoolExecutor(AT_A_TIME) as yard:
        futures = {item.nodeid: _started(item, tmp_path_factory.mktemp("scenario"), yard, desk) for item in items}
        wait(futures.values())
        yield futures


def _started(item: Any, folder: Path, yard: Executor, desk: Executor) -> Future[Any]:
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    if hasattr(item.function, "computes"):
        return desk.submit(compute, item.module.__name__, item.originalname, folder, parameters)
    return yard.submit(item.function.scenario, folder, **parameters)
