"""Fixtures of the HTTP tests: the application over a store in a folder of its own, and dispatchers as processes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from http_helpers import Api, FakeClock, Process, WarmProcess


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
        yield partial(_run, Process, cleanup, tmp_path)


@pytest.fixture
def run_warm(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """The same, for those who do not look at the start."""
    with ExitStack() as cleanup:
        yield partial(_run, WarmProcess, cleanup, tmp_path)


def _run(
    kind: type[Process], cleanup: ExitStack, folder: Path, db: Path | None = None, *argv: str, **more: Any
) -> Process:
    process = kind(db or folder / "queue.db", *argv, **more)
    cleanup.callback(process.close)
    return process
