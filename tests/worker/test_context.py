"""What a handler tells through its context is checked where it is told: a refused heartbeat would cost the worker all
its leases."""

from decimal import Decimal
from typing import Any

import pytest

from common.handlers.loglines import LINES
from common.json_profile import JsonError
from worker.children.context import Context
from worker.children.stopping import StopOrder
from worker.children.tasklog import TaskLog


@pytest.fixture
def sent() -> list[bytes]:
    return []


@pytest.fixture
def context(sent: list[bytes]) -> Context:
    return Context(None, sent.append, StopOrder())


BEYOND = 10**400
NO_NUMBERS = [("1", 2), (1, "2"), (None, 2), ([1], 2), (True, 2)]
WRONG = [*NO_NUMBERS, (BEYOND, 1), (1, BEYOND), (float("nan"), 1), (1, float("inf"))]


@pytest.mark.parametrize("told", WRONG, ids=range(len(WRONG)))
def test_progress_is_told_in_finite_numbers(context: Context, sent: list[bytes], told: tuple[Any, Any]) -> None:
    with pytest.raises(JsonError):
        context.progress(*told)
    context.end()
    assert sent == []


@pytest.mark.parametrize(
    ("told", "text"),
    [((1, 4), '{"done":1,"total":4}'), ((Decimal("0.5"), None), '{"done":0.5,"total":null}')],
)
def test_any_kind_of_number_and_an_unknown_total(context: Context, sent: list[bytes], told: Any, text: str) -> None:
    context.progress(*told)
    assert sent == [f'{{"progress":{text}}}'.encode()]


def test_of_a_giant_log_only_the_last_lines_are_looked_at() -> None:
    log, looked_at = TaskLog(), []

    class Line(str):
        def replace(self, *words: Any) -> str:  # type: ignore[override]
            looked_at.append(self)
            return str(self)

    class Text(str):
        def splitlines(self, keepends: bool = False) -> list[str]:
            return [Line(n) for n in range(10 * LINES)]

    log.add(Text())
    assert len(looked_at) == LINES
    assert log.take() == {"from": 9 * LINES, "lines": [str(n) for n in range(9 * LINES, 10 * LINES)]}
