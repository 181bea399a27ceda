"""Real processes hurt at random moments of a seeded run; afterwards the accounts must balance (I1 to I7).

TASKMILL_SEED replays a seed; TASKMILL_FAULT_REPORT names a file to which each run appends its figures as JSON.
"""

from pathlib import Path

import pytest
from chaos import Plan, Run, report
from fault_farm import Farm
from overlapping import SEED, overlapping

SHORT = Plan(seconds=2.5, tasks=450)
LONG = Plan(seconds=150, tasks=36_000, workers=4, longest_pause=3.0, drain_seconds=90, least=10_000)


def _play(folder: Path, seed: str, plan: Plan, least: tuple[int, int] = (1, 1)) -> str:
    """The figures of a run without problems, with at least so many faults and acknowledged tasks."""
    with Farm(folder, plan.workers, concurrency=2) as farm:
        run = Run(farm, seed, plan)
        row, problems = run.play()
        logs = farm.logs() if problems else ""
        report(row, run.history, farm.executions())
    assert not problems, "\n".join([str(row), *problems[:20], logs])
    assert row.faults >= least[0]
    assert row.acknowledged >= least[1]
    return f"faults: {row}"


@overlapping
def test_what_was_acknowledged_comes_out_once(folder: Path) -> str:
    return _play(folder, "first", SHORT)


@overlapping
def test_what_was_acknowledged_comes_out_once_whatever_the_seed(folder: Path) -> str:
    return _play(folder, SEED, SHORT)


@pytest.mark.long
def test_ten_thousand_tasks_survive_a_hundred_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = _play(tmp_path, SEED, LONG, least=(100, 10_000))
    with capsys.disabled():
        print(f"\n{told}")  # noqa: T201
