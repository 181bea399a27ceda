"""Rules for every test: nothing is skipped, and tests marked `long` run only with `--long`. One PostgreSQL for all."""

import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeVar

import kept_sessions
import made_once
import pytest
import warm
from hypothesis import settings
from postgres_server import Schemas, running

from common import garbage

GIVEN = "TASKMILL_TEST_DATABASE"  # what the user named; processes of the tests choose for themselves
if "DATABASE_URL" in os.environ:
    os.environ[GIVEN] = os.environ.pop("DATABASE_URL")
R = TypeVar("R", pytest.TestReport, pytest.CollectReport)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests marked `long` too")


def pytest_configure(config: pytest.Config) -> None:
    """How many examples a generated test has that names no number of its own; a machine may pause in any of them."""
    settings.register_profile("level", max_examples=200 if config.getoption("--long") else 50, deadline=None)
    settings.load_profile("level")


def pytest_collection_finish() -> None:
    """Thousands of tests and all modules stay: nobody need look through them again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(garbage.AFTER, 20, 20)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in set(long)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _refuse_skip((yield))


def _refuse_skip(report: R) -> R:
    """A test that did not run must not look like one that passed."""
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which is not allowed here: {report.longrepr}"
    return report


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory."""
    with made_once.folder() as folder:
        yield folder


@pytest.fixture(scope="session", autouse=True)
def forge() -> Iterator[None]:
    """What forks warm processes does not outlive the tests."""
    yield
    warm.close()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The server that DATABASE_URL names, or one of our own."""
    if given := os.environ.get(GIVEN):
        yield given
        return
    with running() as server:
        yield server.url


@pytest.fixture(scope="session")
def schemas(postgres_url: str) -> Iterator[Schemas]:
    made = Schemas(postgres_url)
    yield made
    kept_sessions.close()
    made.close()
