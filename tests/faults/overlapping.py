"""Tests whose scenarios run at the same time: the fixture `overlap` (conftest.py) starts all of them together.

`overlapping` is for a scenario that has a farm of its own and spends most of its time waiting, `computing` for one that
only computes: that one runs in a process of its own, gives way to the farms, and must measure no times.
"""

import inspect
import os
import secrets
from collections.abc import Callable
from concurrent.futures import Future
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

SEED = os.environ.get("TASKMILL_SEED") or secrets.token_hex(4)
Scenario = Callable[..., Any]
_ASKED = ("request", "capsys", "overlap")


def overlapping(scenario: Scenario) -> Callable[..., None]:
    """The test of a scenario, which gets a folder, and its parameters if it is parametrized. What it returns is
    printed."""

    def test(
        request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str], overlap: dict[str, Future[Any]], **_: Any
    ) -> None:
        told = overlap[request.node.nodeid].result()
        if told is not None:
            with capsys.disabled():
                print(f"\n{told}")  # noqa: T201  the figures of a run

    own = [one for one in inspect.signature(scenario).parameters.values() if one.name != "folder"]
    asked = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in _ASKED]
    test.__name__, test.__doc__, test.__module__ = scenario.__name__, scenario.__doc__, scenario.__module__
    test.__signature__ = inspect.Signature([*own, *asked])  # type: ignore[attr-defined]
    test.scenario = scenario  # type: ignore[attr-defined]
    return test


def computing(scenario: Scenario) -> Callable[..., None]:
    """The same for a scenario that only computes."""
    test = overlapping(scenario)
    test.computes = True  # type: ignore[attr-defined]
    return test


def compute(module: str, name: str, folder: Path, parameters: dict[str, Any]) -> Any:
    """Runs the scenario of a test, in another process than pytest's: the test is what both know by name."""
    return getattr(import_module(module), name).scenario(folder, **parameters)
