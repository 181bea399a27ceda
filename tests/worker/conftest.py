"""What every test of the worker leaves behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.disk import Database


@pytest.fixture(autouse=True)
def closed_databases(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """None that is open: a handler may write on every descriptor below 256, and its pipe is to be among them."""
    opened, init = list[Database](), Database.__init__

    def note(database: Database, folder: Path) -> None:
        init(database, folder)
        opened.append(database)

    monkeypatch.setattr(Database, "__init__", note)
    yield
    for database in opened:
        database.close()
