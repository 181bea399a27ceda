"""A test whose scenario needs a farm of its own and spends its time waiting: those of a module run at the same time."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path


def overlapping(scenario: Callable[[Path], None]) -> Callable[[dict[str, Future[None]]], None]:
    """The test of a scenario, which gets a folder; the fixture `overlap` starts it together with the others."""

    def test(overlap: dict[str, Future[None]]) -> None:
        overlap[scenario.__name__].result()

    test.__name__, test.__doc__, test.__module__ = scenario.__name__, scenario.__doc__, scenario.__module__
    test.scenario = scenario  # type: ignore[attr-defined]
    return test
