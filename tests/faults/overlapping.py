"""A test whose scenario needs a farm of its own and spends most of its time waiting: they run at the same time."""

import os
import secrets
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

SEED = os.environ.get("TASKMILL_SEED") or secrets.token_hex(4)
Scenario = Callable[[Path], Any]


def overlapping(scenario: Scenario) -> Callable[..., None]:
    """The test of a scenario, which gets a folder; the fixture `overlap` runs it together with the others. What it
    returns is printed."""

    def test(overlap: dict[str, Future[Any]], capsys: pytest.CaptureFixture[str]) -> None:
        told = overlap[scenario.__name__].result()
        if told is not None:
            with capsys.disabled():
                print(f"\n{told}")  # noqa: T201  the figures of a run

    test.__name__, test.__doc__, test.__module__ = scenario.__name__, scenario.__doc__, scenario.__module__
    test.scenario = scenario  # type: ignore[attr-defined]
    return test
