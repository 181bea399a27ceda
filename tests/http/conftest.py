"""Fixtures of the HTTP tests: the application over a store in a folder of its own, and dispatchers as processes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from http_helpers import Api, FakeClock, Process


@pytest.fixture
def make_api(tmp_path: Path) -> Iterator[Callable[..., Api]]:
    """Applications with settings of their own."""
    with ExitStack() as cleanup:

        def make(**settings: Any) -> Api:
            folder = tmp_path / f"api-{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            api = Api(folder, FakeClock(), **settings)
            cleanup.callback(api.close)
            return api

        yield make


@pytest.fixture
def api(make_api: Callable[..., Api]) -> Api:
    """The application, on a clock that stands still."""
    return make_api()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts dispatchers; all of them are ended."""
    with ExitStack() as cleanup:

        def run(db: Path | None = None, *argv: str, **options: Any) -> Process:
            process = Process(db or tmp_path / "queue.db", *argv, **options)
            cleanup.callback(process.close)
            return process

        yield run
