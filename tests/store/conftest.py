"""Fixtures of the store's tests: every store that there is, on a clock that stands still."""

from collections.abc import Iterator
from pathlib import Path

import kept_sessions
import pytest
from postgres_server import Schemas
from store_kit import KINDS, FakeClock, MakeStore, Mill, PostgresKind, SqliteKind, StoreKind

from dispatcher.clock import Clock
from dispatcher.store.base import Store


@pytest.fixture
def postgres_kind(schemas: Schemas, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresKind]:
    kept_sessions.use(monkeypatch)
    yield PostgresKind(schemas)
    schemas.give_back()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> StoreKind:
    return SqliteKind() if request.param == "sqlite" else request.getfixturevalue("postgres_kind")


@pytest.fixture
def make_store(kind: StoreKind) -> Iterator[MakeStore]:
    """Opens a store; what a test leaves open is closed at its end."""
    opened: list[Store] = []

    def make(folder: Path, clock: Clock) -> Store:
        opened.append(kind.make(folder, clock))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(make_store: MakeStore, tmp_path: Path, clock: FakeClock) -> Store:
    return make_store(tmp_path, clock)


@pytest.fixture
def mill(store: Store, clock: FakeClock) -> Iterator[Mill]:
    made = Mill(store, clock)
    yield made
    made.queue.drain()


@pytest.fixture
def mills(postgres_kind: PostgresKind, tmp_path: Path, clock: FakeClock) -> Iterator[list[Mill]]:
    """Two dispatchers on one database; what a worker said to one counts for its numbers at the other."""
    made = [Mill(postgres_kind.make(tmp_path, clock), clock) for _ in range(2)]
    made[1]._numbers, made[1]._seqs = made[0]._numbers, made[0]._seqs
    yield made
    for mill in made:
        mill.queue.drain()
        mill.store.close()


@pytest.fixture
def url_of_mills(mills: list[Mill], schemas: Schemas) -> str:
    """The database that `mills` share."""
    return schemas.last
