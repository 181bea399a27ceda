"""Fixtures of the tests of moving."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from made_once import empty_queue
from move_kit import HANDLERS
from postgres_server import Schemas
from warm import Cluster

from client.testing import LocalCluster
from dispatcher.store.sqlite import SqliteStore


@pytest.fixture
def database(schemas: Schemas) -> Iterator[str]:
    """The URL of an empty database."""
    yield schemas.new()
    schemas.give_back()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(empty_queue(tmp_path / "queue.db"))
    yield made
    made.close()


@pytest.fixture
def farm(tmp_path: Path, database: str) -> Iterator[Callable[..., LocalCluster]]:
    """Starts farms on files; all of them are ended, before the database goes."""
    with ExitStack() as cleanup:

        def start(workers: int = 0, **settings: str) -> LocalCluster:
            own = {"DISPATCHER_TOKEN": "", "DISPATCHER_HOST": "", "DATABASE_URL": "", "TASKS_PATH": str(HANDLERS)}
            own |= {"WORKER_HEARTBEAT_INTERVAL": "0.5", "CACHE_RETRY_INTERVAL": "0.2"}
            return cleanup.enter_context(Cluster(workers, settings={**own, **settings}, parent=tmp_path))

        yield start
