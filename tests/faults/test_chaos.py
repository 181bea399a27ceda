"""Real processes hurt at random moments of a seeded run; afterwards the accounts must balance (I1 to I7).

TASKMILL_SEED replays a seed; TASKMILL_FAULT_REPORT names a file to which each run appends its figures as JSON.
"""

import os
import secrets
from pathlib import Path

import pytest
from chaos import Plan, Run, report
from fault_farm import Farm

SHORT = Plan(seconds=5, tasks=800)
LONG = Plan(seconds=270, tasks=14_000, workers=4, longest_pause=3.0, drain_seconds=90)
SEED = os.environ.get("TASKMILL_SEED") or secrets.token_hex(4)


def _play(folder: Path, seed: str, plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\nfaults: TASKMILL_SEED={seed}", flush=True)  # noqa: T201  at once, should the run hang
    with Farm(folder, plan.workers, concurrency=2) as farm:
        row, problems = Run(farm, seed, plan).play()
        logs = farm.logs() if problems else ""
    report(row)
    with capsys.disabled():
        print(f"faults: {row}")  # noqa: T201
    assert not problems, "\n".join([*problems[:20], logs])
    assert row.faults and row.acknowledged


@pytest.mark.parametrize("seed", ["first", SEED], ids=["fixed", "random"])
def test_what_was_acknowledged_comes_out_once(seed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _play(tmp_path, seed, SHORT, capsys)


@pytest.mark.long
def test_ten_thousand_tasks_survive_a_hundred_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _play(tmp_path, SEED, LONG, capsys)
