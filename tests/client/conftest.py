"""Fixtures of the client's tests: no settings of this machine, and a scripted server."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from client_fakes import Dispatcher, FakeTime, FakeTransport
from scripted_server import Server

from client import cli
from client.client import Client
from client.retry import Retry
from client.transport import Transport
from common import settings


@pytest.fixture(autouse=True)
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The settings that are set: none, until a test puts some in."""
    values: dict[str, str] = {}
    monkeypatch.setattr(settings, "environment", lambda: values)
    return values


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def transport(server: Server) -> Iterator[Transport]:
    made = Transport(server.url, "s3cret")
    yield made
    made.close()


@pytest.fixture
def run() -> Callable[..., int]:
    """Runs a command line against a transport and returns the exit code, argparse's own included."""

    def run(argv: list[str], transport: FakeTransport | None = None, time: FakeTime | None = None) -> int:
        time = time or FakeTime()
        made: Any = transport or Dispatcher()

        def connect(url: str | None, patience: float) -> Client:
            return Client(url, transport=made, timing=time.timing, retry=Retry(0, time.timing))

        try:
            return cli.main(argv, connect, time.timing)
        except SystemExit as leaving:
            return int(leaving.code or 0)

    return run
