"""Fixtures of the CLI's tests."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cli_kit import Commands, Scripted

from client.testing import LocalCluster


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Commands:
    """The command line, its settings free of this machine's own."""
    return Commands(monkeypatch, capsys, tmp_path)


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Callable[..., LocalCluster]]:
    """Starts farms; all of them are ended."""
    with ExitStack() as cleanup:

        def start(workers: int = 0, **settings: str) -> LocalCluster:
            unset = {"DISPATCHER_TOKEN": "", "DISPATCHER_HOST": "", "DATABASE_URL": ""}
            return cleanup.enter_context(LocalCluster(workers, settings={**unset, **settings}, parent=tmp_path))

        yield start


@pytest.fixture
def scripted() -> Iterator[Callable[..., Scripted]]:
    """Starts servers that answer what they were told to."""
    with ExitStack() as cleanup:

        def start(*answers: bytes) -> Scripted:
            made = Scripted(*answers)
            cleanup.callback(made.close)
            return made

        yield start
