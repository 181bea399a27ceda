"""Fixtures of the CLI's tests."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cli_kit import Commands, Scripted
from warm import Cluster

from client.testing import LocalCluster
from common.settings import ROOT


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
            return cleanup.enter_context(Cluster(workers, settings={**unset, **settings}, parent=tmp_path))

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


@pytest.fixture
def add_task() -> Callable[..., dict[str, Any]]:
    """Runs add_task.py with --json; the object that it wrote."""

    def submit(cluster: LocalCluster, *words: str) -> dict[str, Any]:
        told = subprocess.run(
            [sys.executable, ROOT / "add_task.py", *words, "--json"],
            env={**os.environ, **cluster.env}, capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
        return dict(json.loads(told.stdout))

    return submit


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A dispatcher and a worker for all tests of a module, with the handlers in its HANDLERS: text by task type."""
    handlers = tmp_path_factory.mktemp("handlers")
    for task_type, text in request.module.HANDLERS.items():
        (handlers / f"{task_type}_task.py").write_text(text)
    unset = {"DISPATCHER_TOKEN": "", "DISPATCHER_HOST": "", "DATABASE_URL": "", "TASKS_PATH": str(handlers)}
    with Cluster(1, settings=unset, parent=tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture
def taskmill(run: Commands, cluster: LocalCluster) -> Commands:
    """The commands, asking that dispatcher."""
    run.use(cluster)
    return run
